from dataclasses import replace

import pytest
import torch

import gmmrec.ensemble.blend
from gmmrec.data.features import FeatureTable
from gmmrec.ensemble.blend import Blend, BlendConfig, reciprocal_ranks, standardize
from gmmrec.ensemble.graphs import merge, view
from gmmrec.ensemble.member import Member
from gmmrec.models.freedom import FREEDOM, FROZEN, FREEDOMConfig
from gmmrec.models.lightgcn import LightGCN, LightGCNConfig
from gmmrec.models.mgat import MGAT, MGATConfig
from gmmrec.models.popularity import Popularity
from gmmrec.runs.checkpoint import load_model, save_model
from gmmrec.tasks.query import UserQuery
from gmmrec.testing import I, U, checkerboard, score_all, toy_graph, training_batch
from gmmrec.typing import USER_ITEM

INF = torch.inf


def trained(model_class, config, seed=0):
    torch.manual_seed(seed)
    graph = toy_graph()
    model = model_class(graph.schema, config).eval()
    with torch.no_grad():
        return model, model.prepare(graph)


@pytest.fixture(scope="module")
def pairs():
    """Models with their prepared graphs; the two of FREEDOM have different relations of the same name."""
    return [
        trained(LightGCN, LightGCNConfig(dim=8)),
        trained(FREEDOM, FREEDOMConfig(dim=4, knn=2), 1),
        trained(FREEDOM, FREEDOMConfig(dim=4, knn=9), 2),
        trained(MGAT, MGATConfig(dim=4, modality_dim=4), 3),
    ]


def blended(pairs, weights, scale="standard"):
    graph = merge([graph for _, graph in pairs])
    return Blend.of([model for model, _ in pairs], graph.schema, weights, scale), graph


def test_standardised_by_hand():
    scores = torch.tensor([[1.0, 2.0, 3.0, 6.0], [0.1, 0.1, 0.1, 0.1], [-INF, 4.0, 8.0, -INF], [-INF] * 4])
    found = standardize(scores)  # first row: mean 3, squares 4 + 1 + 0 + 9, deviation sqrt(14 / 4)
    torch.testing.assert_close(found[0], torch.tensor([-2.0, -1.0, 0.0, 3.0]) / 3.5**0.5)
    assert found[1].tolist() == [0.0] * 4
    assert found[2].tolist() == [-INF, -1.0, 1.0, -INF]
    assert found[3].tolist() == [-INF] * 4
    torch.testing.assert_close(standardize(scores[:1]), found[:1])  # without minus infinity


def test_ranks_by_hand():
    scores = torch.tensor([[0.5, 0.9, 0.5, -INF, 0.1], [torch.nan, 1.0, 2.0, 3.0, 4.0]])
    found = reciprocal_ranks(scores)
    assert found[0].tolist() == pytest.approx([1 / 62, 1 / 61, 1 / 62, -INF, 1 / 64])
    assert bool(found[1, 0].isnan())


@pytest.mark.parametrize("scale", ["standard", "ranks"])
def test_a_score_is_the_weighted_sum_over_the_parts(pairs, scale):
    weights = [0.5, 0.2, 0.2, 0.1]
    model, graph = blended(pairs, weights, scale)
    expected = torch.zeros(U, I, dtype=torch.float64)
    for (part, own_graph), weight in zip(pairs, weights, strict=True):
        for user, row in enumerate(score_all(part, own_graph).double()):
            if scale == "standard":
                expected[user] += weight * (row - row.mean()) / row.std(correction=0)
            else:
                expected[user] += weight / torch.tensor([60 + 1 + sum(row > s) for s in row.tolist()])
    torch.testing.assert_close(score_all(model, graph).double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", ["standard", "ranks"])
def test_a_score_does_not_depend_on_candidates_or_blocks(pairs, scale, monkeypatch):
    model, graph = blended(pairs, [1, 2, 3, 4], scale)
    whole, encoded = score_all(model, graph), model.encode(graph)
    users = UserQuery(torch.tensor([4, 0, 4, 9, 1]))
    candidates = torch.tensor([[3, 3, 16], [1, 0, 2], [5, 6, 7], [0, 1, 2], [8, 4, 0]])
    for cells in (2**24, 2 * I, 1):
        monkeypatch.setattr(gmmrec.ensemble.blend, "CELLS", cells)
        torch.testing.assert_close(model.score(encoded, users, torch.tensor([7, 2])), whole[users.user][:, [7, 2]])
        torch.testing.assert_close(model.score(encoded, users, candidates), whole[users.user].gather(1, candidates))
    everybody = UserQuery(torch.arange(U))
    monkeypatch.setattr(gmmrec.ensemble.blend, "CELLS", 2**24)
    assert torch.equal(model.score(encoded, everybody, torch.tensor([7, 2])), whole[:, [7, 2]])  # bit for bit in the same block


@pytest.mark.parametrize("scale", ["standard", "ranks"])
def test_a_blend_of_one_ranks_as_the_model(pairs, scale):
    for model, graph in pairs:
        alone, alone_graph = blended([(model, graph)], [1.0], scale)
        assert alone_graph.schema.relations == graph.schema.relations
        ranking = score_all(alone, alone_graph).argsort(dim=1, descending=True, stable=True)
        assert torch.equal(ranking, score_all(model, graph).argsort(dim=1, descending=True, stable=True))


def test_every_member_sees_its_own_relations(pairs):
    model, graph = blended(pairs, [1] * 4)
    source, name, target = FROZEN
    assert set(graph.schema.relations) == {
        *pairs[0][1].schema.relations,
        (source, f"1/{name}", target),
        (source, f"2/{name}", target),
    }
    for position, (part, own_graph) in enumerate(pairs):
        seen = view(graph, position, part.schema)
        assert set(seen.schema.relations) == set(own_graph.schema.relations)
        assert torch.equal(part.encode(seen)["item"], part.encode(own_graph)["item"])
    ends = graph.edges(USER_ITEM).edge_index.as_tensor()
    assert torch.equal(ends, pairs[0][1].edges(USER_ITEM).edge_index.as_tensor())
    prepared = model.prepare(toy_graph())
    assert set(prepared.schema.relations) == set(graph.schema.relations)
    assert torch.equal(score_all(model, prepared), score_all(model, graph))


def test_features_of_all_members_are_merged():
    dataset = checkerboard(U, I)[0]
    only = {name: replace(dataset, features={name: dataset.features[name]}) for name in ("image", "text")}
    parts = []
    for name, part in only.items():
        graph = toy_graph(part)
        torch.manual_seed(0)
        model = MGAT(graph.schema, MGATConfig(dim=4, modality_dim=4)).eval()
        parts.append((model, graph))
        assert graph.schema.modalities() == (name,)
    model, graph = blended(parts, [1, 1])
    assert graph.schema.modalities() == ("image", "text")
    expected = sum(standardize(score_all(part, own)) for part, own in parts)
    torch.testing.assert_close(score_all(model, graph), expected)


def test_items_are_compared_by_the_weighted_mean_of_cosines(pairs):
    weights = [0.5, 0.1, 0.3, 0.1]
    model, graph = blended(pairs, weights)
    vectors = model.encode(graph)["item"]
    expected = sum(
        weight * torch.cosine_similarity(own[:, None], own[None], dim=-1)
        for weight, own in zip(weights, [part.encode(g)["item"] for part, g in pairs], strict=True)
    )
    torch.testing.assert_close(torch.cosine_similarity(vectors[:, None], vectors[None], dim=-1), expected)


def test_members_of_weight_zero_are_skipped(pairs, monkeypatch):
    model, graph = blended(pairs, [1, 0, 0, 1])
    monkeypatch.setattr(FREEDOM, "encode", lambda self, graph: pytest.fail("was asked"))
    assert bool(score_all(model, graph).isfinite().all())


def test_scores_of_minus_infinity_are_kept(pairs, monkeypatch):
    model, graph = blended(pairs[:2], [0.9, 0.1])
    score = FREEDOM.score
    monkeypatch.setattr(FREEDOM, "score", lambda *a: score(*a).index_fill(1, torch.tensor([5]), -INF))
    ruled_out = score_all(model, graph) == -INF
    assert bool(ruled_out[:, 5].all())
    assert int(ruled_out.sum()) == U


def test_it_is_rebuilt_from_one_file(pairs, tmp_path):
    model, graph = blended(pairs, [0.4, 0.3, 0.2, 0.1], "ranks")
    save_model(model, tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    assert isinstance(again, Blend)
    assert (again.config.weights, again.config.scale) == ((0.4, 0.3, 0.2, 0.1), "ranks")
    assert torch.equal(score_all(again, graph), score_all(model, graph))


def test_nothing_is_trained(pairs):
    model, graph = blended(pairs, [1] * 4)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    batch = training_batch(checkerboard(U, I)[0].interactions, torch.Generator().manual_seed(0))
    assert model.loss(graph, batch) == {}
    assert pairs[0][0].users.requires_grad  # the models themselves are unchanged


def test_other_features_or_nodes_are_refused(pairs):
    dataset = checkerboard(U, I)[0]
    other = FeatureTable("text", dataset.features["text"].values + 1)
    graphs = [pairs[0][1], toy_graph(replace(dataset, features={**dataset.features, "text": other}))]
    with pytest.raises(ValueError, match="features 'text' of graph 1 differ from those of earlier graphs"):
        merge(graphs)
    with pytest.raises(ValueError, match="graphs 1 and 0 differ in their numbers of nodes"):
        merge([pairs[0][1], toy_graph(checkerboard(U, I + 1)[0])])


def test_what_cannot_be_a_part_is_refused(pairs):
    model, _ = blended(pairs, [1] * 4)
    with pytest.raises(ValueError, match="a Blend cannot be a member of an ensemble"):
        Member.of(model)


def test_a_member_of_a_class_from_outside_is_named_by_its_path(pairs):
    class Mine(Popularity):
        pass

    _, graph = blended(pairs, [1] * 4)
    member = Member.of(Mine(graph.schema))
    assert member.model == f"{__name__}:test_a_member_of_a_class_from_outside_is_named_by_its_path.<locals>.Mine"
    assert type(member.build()) is Mine
    with pytest.raises(ValueError, match="comes from outside gmmrec and is not imported by its name alone"):
        replace(member, model_class=None).build()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": (1.0,)}, "one weight per model, but has 2 models and 1 weights"),
        ({"weights": (1.0, -0.5)}, r"weights\[1\] must be 0 or more, but is -0.5"),
        ({"weights": (0.0, 0.0)}, r"at least one weight must be greater than 0, but weights are \[0.0, 0.0\]"),
        ({"weights": (1.0, 1.0), "scale": "minmax"}, "scale must be one of 'standard', 'ranks', but is 'minmax'"),
    ],
)
def test_impossible_settings_are_refused(pairs, settings, message):
    parts = tuple(Member.of(model) for model, _ in pairs[:2])
    with pytest.raises(ValueError, match=message):
        BlendConfig(parts, **settings)
