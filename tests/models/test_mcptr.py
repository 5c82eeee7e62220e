import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import gmmrec
from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.data.interactions import Interactions
from gmmrec.data.ragged import RaggedSets
from gmmrec.data.split import Split
from gmmrec.graph.build import build_graph
from gmmrec.graph.co_interaction import co_interaction_graph
from gmmrec.graph.fold_in import with_new_users
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.mcptr import MCPTR, SHARED_ITEMS, SHARED_USERS, MCPTRConfig
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.testing import I, U, checkerboard, permuted, score_all, toy_graph, with_mask


def with_reviews(seed: int = 0) -> Dataset:
    """The checkerboard with up to three reviews per user: user 0 has one, user 1 none."""
    dataset, _ = checkerboard(U, I, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(U, 3, generator=generator) < 0.7
    mask[0], mask[1] = torch.tensor([False, True, False]), False
    mask[2:, 0] = True
    reviews = FeatureTable("user_reviews", torch.randn(U, 3, 5, generator=generator), mask, "user")
    return replace(dataset, features={**dataset.features, "user_reviews": reviews})


def build(dataset: Dataset, **settings) -> tuple[MCPTR, MultimodalGraph]:
    torch.manual_seed(0)
    graph = toy_graph(dataset)
    model = MCPTR(graph.schema, MCPTRConfig(**{"dim": 8, "neighbors": 4, **settings}))
    with torch.no_grad():
        return model.eval(), model.prepare(graph)


def batch(size: int = 12) -> Batch[UserQuery]:
    generator = torch.Generator().manual_seed(0)
    user, positive = torch.randint(U, (size,), generator=generator), torch.randint(I, (size,), generator=generator)
    return Batch(UserQuery(user), positive, torch.randint(I, (size, 2), generator=generator))


def matrix(edge_index: Tensor, weight: Tensor, size: int) -> Tensor:
    """A dense float64 matrix ``[target, source]``."""
    dense = torch.zeros(size, size, dtype=torch.float64)
    dense[edge_index[1], edge_index[0]] = weight.double()
    return dense


def interaction_matrix(dataset: Dataset) -> Tensor:
    interacted = torch.zeros(U, I, dtype=torch.float64)
    interacted[dataset.interactions.user, dataset.interactions.item] = 1
    return interacted


def normalised(weights: Tensor) -> Tensor:
    root = weights.sum(1).clamp(min=1e-12).rsqrt()
    return root[:, None] * weights * root


# Invariants


def test_graphs_are_symmetric_without_self_loops() -> None:
    _, graph = build(with_reviews(), neighbors=3)
    for kind, size in ((SHARED_ITEMS, U), (SHARED_USERS, I)):
        edge_index, weight = graph.edges(kind)
        dense = matrix(edge_index.as_tensor(), weight, size)
        torch.testing.assert_close(dense, dense.T)
        assert not bool(dense.diagonal().any())
        assert bool((dense > 0).sum(1).max() > 3)  # also chosen by others


@pytest.mark.parametrize("weights", ["count", "binary", "cosine"])
def test_weights_are_dot_products_of_binary_rows(weights: str) -> None:
    dataset = with_reviews()
    interacted = interaction_matrix(dataset)
    for node_type, rows in (("user", interacted), ("item", interacted.T)):
        common = (rows @ rows.T).fill_diagonal_(0)
        if weights == "cosine":
            common = common / (rows.sum(1)[:, None] * rows.sum(1)).sqrt().clamp(min=1e-12)
        expected = (common > 0).double() if weights == "binary" else common
        actual = co_interaction_graph(toy_graph(dataset), node_type, k=100, weights=weights)
        torch.testing.assert_close(matrix(*actual, len(rows)), normalised(expected), rtol=1e-5, atol=1e-6)


def test_top_k_edges_are_symmetrised_by_union() -> None:
    dataset = with_reviews()
    rows = interaction_matrix(dataset).T
    common = (rows @ rows.T).fill_diagonal_(0)
    chosen = torch.zeros(I, I, dtype=torch.float64)
    for i in range(I):
        for j in sorted(range(I), key=lambda j: (-float(common[i, j]), j))[:3]:
            chosen[i, j] = common[i, j]
    actual = co_interaction_graph(toy_graph(dataset), "item", k=3)
    torch.testing.assert_close(matrix(*actual, I), normalised(torch.maximum(chosen, chosen.T)), rtol=1e-5, atol=1e-6)


def test_a_held_out_interaction_changes_no_edge() -> None:
    dataset, relevant = checkerboard(U, I)
    held_out = Interactions(*torch.nonzero(relevant, as_tuple=True))
    edges = []
    for test in (held_out, held_out.take(torch.arange(0))):
        graph = build_graph(dataset, Split(dataset.interactions, test, test))
        prepared = MCPTR(graph.schema).prepare(graph)
        edges.append([prepared.edges(kind) for kind in (SHARED_ITEMS, SHARED_USERS)])
    for one, other in zip(*edges, strict=True):
        assert torch.equal(one.edge_index.as_tensor(), other.edge_index.as_tensor())
        assert torch.equal(one.weight, other.weight)


def test_attention_over_reviews_sums_to_one_and_a_single_review_is_its_own_mean() -> None:
    model, graph = build(with_reviews())
    table, encoder = graph.features["user_reviews"], model.user_texts[0]
    with torch.no_grad():
        texts, beta = encoder(table.values, table.mask, torch.arange(U), return_weights=True)
        torch.testing.assert_close(beta.sum(1), table.present.float())
        torch.testing.assert_close(texts[0], encoder.project(table.values[0, 1]))  # a single review is the text
        users = model.encode(graph)["user"]
    assert bool(torch.isfinite(users).all())


def test_user_without_reviews_is_represented_by_the_graph_alone() -> None:
    model, graph = build(with_reviews())
    table = graph.features["user_reviews"]
    present = torch.stack([torch.ones(U, dtype=torch.bool), table.present], dim=1)
    tokens = torch.randn(U, 2, 8)
    with torch.no_grad():
        _, weights = model.fuse_user(tokens, present, return_weights=True)
        alone = model.fuse_user(tokens[1:2, :1], None)
        torch.testing.assert_close(model.fuse_user(tokens, present)[1:2], alone)
    assert weights[1].tolist() == [1.0, 0.0]
    data = graph.data.clone()
    data["user"].user_reviews = data["user"].user_reviews + 5.0  # including masked values
    with torch.no_grad():
        changed = model.encode(MultimodalGraph(data, graph.schema))["user"] - model.encode(graph)["user"]
    assert float(changed[1].abs().max()) == 0
    assert bool(changed[0].any())


def test_attention_between_modalities_sums_to_one_over_present_ones() -> None:
    dataset = with_mask(with_reviews(), "image", torch.tensor([2, 5]))
    model, graph = build(dataset)
    present = torch.stack([graph.features[name].present for name in ("image", "text")] + [torch.ones(I, dtype=torch.bool)], dim=1)
    with torch.no_grad():
        _, weights = model.fuse_item(torch.randn(I, 3, 8), present, return_weights=True)
    torch.testing.assert_close(weights.sum(1), torch.ones(I))
    assert bool((weights[~present] == 0).all())
    assert int((~present).sum()) == 3  # item 3 never had an image


def test_scores_are_invariant_to_the_order_of_modalities() -> None:
    dataset = with_reviews()
    model, graph = build(dataset)
    other, other_graph = build(replace(dataset, features=dict(reversed(dataset.features.items()))))
    weights = model.state_dict()
    swapped = {
        name: weights[name.replace("project.0", "project.x").replace("project.1", "project.0").replace("project.x", "project.1")]
        for name in weights
        if name.startswith("project.")
    }
    other.load_state_dict({**weights, **swapped})
    assert other.schema.modalities() == ("text", "image")
    with torch.no_grad():
        expected, actual = model.encode(graph), other.encode(other_graph)
    for node_type in ("user", "item"):
        torch.testing.assert_close(actual[node_type], expected[node_type])


def test_contrast_of_identical_vectors_is_ln_b() -> None:
    model, graph = build(with_reviews(), contrast_weight=1.0)
    tokens = {name: torch.ones(7, 8) for name in ("text", "image")}
    items = torch.tensor([0, 4, 5, 6, 7, 8, 9])  # both modalities present
    same = model._contrast(graph, items, tokens, torch.arange(7))
    assert float(same) == pytest.approx(math.log(7))
    matching = {name: torch.eye(7, 8) for name in ("text", "image")}
    assert float(model._contrast(graph, items, matching, torch.arange(7))) < math.log(7) - 1


def test_contrast_trains_only_the_two_projections() -> None:
    model, graph = build(with_reviews(), contrast_weight=1.0)
    model.loss(graph, batch())["contrast"].backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert reached == {"project.0.weight", "project.0.bias", "project.1.weight", "project.1.bias"}


def test_contrast_counts_every_positive_once_and_skips_items_with_a_missing_modality() -> None:
    model, graph = build(with_mask(with_reviews(), "text", torch.tensor([5])), contrast_weight=0.5, temperature=0.3)
    positive = torch.tensor([4, 4, 0, 5, 3, 9])  # item 3 has no image, item 5 no text
    actual = model.loss(graph, Batch(UserQuery(torch.arange(6)), positive, torch.tensor([[7]] * 6)))["contrast"]
    unit = {}
    for name, project in zip(("image", "text"), model.project, strict=True):
        z = project(graph.features[name].values[[0, 4, 9]]).detach().double()
        unit[name] = z / z.norm(dim=1, keepdim=True)
    similar = (unit["text"] @ unit["image"].T / 0.3).exp()
    expected = (
        -sum(math.log(similar[i, i] / similar[i].sum()) + math.log(similar[i, i] / similar[:, i].sum()) for i in range(3)) / 6
    )
    assert float(actual.detach()) == pytest.approx(0.5 * expected, rel=1e-5)


def test_cross_entropy_at_zero_logits_is_ln_2() -> None:
    model, graph = build(with_reviews())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert float(model.loss(graph, batch())["bce"].detach()) == pytest.approx(math.log(2))


def test_cross_entropy_matches_the_reference() -> None:
    model, graph = build(with_reviews())
    triples, logits = batch(), score_all(model, graph).double()
    total = 0.0
    for user, row in zip(triples.query.user.tolist(), triples.candidates.tolist(), strict=True):
        for position, item in enumerate(row):
            probability = 1 / (1 + math.exp(-float(logits[user, item])))
            total -= math.log(probability if position == 0 else 1 - probability)
    assert float(model.loss(graph, triples)["bce"].detach()) == pytest.approx(total / 36, rel=1e-5)


def test_second_stage_starts_from_the_exact_vectors(tmp_path) -> None:
    dataset = checkerboard(40, 30)[0]
    quick = {"dim": 8, "batch_size": 64, "progress": False}
    first = gmmrec.fit(dataset, "mcptr", epochs=3, num_negatives=4, out=tmp_path / "first", **quick)
    weights = (tmp_path / "first" / "model.safetensors").read_bytes()
    with torch.no_grad():
        vectors = gmmrec.load(tmp_path / "first").model.encode(first.graph)
    start = gmmrec.fit(dataset, "lightgcn", num_layers=0, l2=0.0, lr=1e-30, epochs=1, init_from=tmp_path / "first", **quick)
    assert torch.equal(start.model.users, vectors["user"])
    assert torch.equal(start.model.items, vectors["item"])
    second = gmmrec.fit(dataset, "lightgcn", num_layers=0, lr=0.01, epochs=3, init_from=tmp_path / "first", **quick)
    assert not torch.equal(second.model.users, vectors["user"])
    assert {name for name, _ in second.model.named_parameters()} == {"users", "items"}  # no content modules are trained
    assert (tmp_path / "first" / "model.safetensors").read_bytes() == weights


def test_permuting_permutes_scores() -> None:
    dataset, generator = with_reviews(), torch.Generator().manual_seed(2)
    user, item = torch.randperm(U, generator=generator), torch.randperm(I, generator=generator)
    old = torch.argsort(user)
    reviews = dataset.features["user_reviews"]
    moved = permuted(replace(dataset, features={n: t for n, t in dataset.features.items() if t.node_type == "item"}), user, item)
    moved_reviews = FeatureTable("user_reviews", reviews.values[old], reviews.mask[old], "user")
    model, graph = build(dataset, neighbors=30)
    other, other_graph = build(replace(moved, features={**moved.features, "user_reviews": moved_reviews}), neighbors=30)
    with torch.no_grad():
        other.users[user], other.items[item] = model.users, model.items
    torch.testing.assert_close(score_all(other, other_graph)[user][:, item], score_all(model, graph), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("missing", ["no table", "all masked"])
def test_contrast_is_skipped_without_images(missing: str) -> None:
    dataset = with_reviews()
    if missing == "no table":
        dataset = replace(dataset, features={name: table for name, table in dataset.features.items() if name != "image"})
    else:
        dataset = with_mask(dataset, "image", torch.arange(I))
    model, graph = build(dataset)
    terms = model.loss(graph, batch())
    assert set(terms) == ({"bce"} if missing == "no table" else {"bce", "contrast"})
    assert missing == "no table" or float(terms["contrast"]) == 0
    terms["bce"].backward()
    assert bool(torch.isfinite(score_all(model, graph)).all())
    tokens = torch.stack([model.project[-1](graph.features["text"].values), graph_of_items(model, graph)], dim=1)
    torch.testing.assert_close(model.encode(graph)["item"], model.fuse_item(tokens))


def graph_of_items(model: MCPTR, graph: MultimodalGraph) -> Tensor:
    edge_index, weight = graph.edges(SHARED_USERS)
    dense = matrix(edge_index.as_tensor(), weight, I).float()
    return (model.items + dense @ model.items + dense @ dense @ model.items) / 3


# The whole model, settings


@pytest.mark.parametrize("fusion", ["self_attention", "mean"])
def test_vectors_match_the_dense_reference(fusion: str) -> None:
    dataset = with_mask(with_reviews(), "text", torch.tensor([3, 7]))  # item 3 has neither text nor image
    model, graph = build(dataset, fusion=fusion)
    model = model.double()

    def fused(tokens: list[Tensor], module) -> Tensor:
        x = torch.stack(tokens)  # [M, D]
        if fusion == "mean":
            return x.mean(0)
        q, k, v = (layer.weight for layer in (module.query, module.key, module.value))
        attention = ((x @ q.T) @ (x @ k.T).T / math.sqrt(8)).softmax(1)
        return (attention @ (x @ v.T) + x).mean(0)

    smoothed = {}
    for kind, table, size in ((SHARED_ITEMS, model.users, U), (SHARED_USERS, model.items, I)):
        edge_index, weight = graph.edges(kind)
        dense = matrix(edge_index.as_tensor(), weight, size)
        smoothed[kind] = (table + dense @ table + dense @ dense @ table) / 3
    with torch.no_grad():
        encoded = model.float().encode(graph)
        model = model.double()
        for item in range(I):
            tokens = [
                project(graph.features[name].values[item].double())
                for name, project in zip(("image", "text"), model.project, strict=True)
                if bool(graph.features[name].present[item])
            ]
            expected = fused([*tokens, smoothed[SHARED_USERS][item]], model.fuse_item)
            torch.testing.assert_close(encoded["item"][item].double(), expected, rtol=1e-4, atol=1e-5)
        table, encoder = graph.features["user_reviews"], model.user_texts[0]
        for user in range(U):
            tokens = [smoothed[SHARED_ITEMS][user]]
            if bool(table.present[user]):
                texts = encoder.project(table.values[user][table.mask[user]].double())
                beta = encoder.attend.logits[0](texts).softmax(0)
                tokens.append((beta * texts).sum(0))
            expected = fused(tokens, model.fuse_user)
            torch.testing.assert_close(encoded["user"][user].double(), expected, rtol=1e-4, atol=1e-5)


def test_without_reviews_a_user_is_their_graph_embedding() -> None:
    model, graph = build(checkerboard(U, I)[0])
    assert model.fuse_user is None
    edge_index, weight = graph.edges(SHARED_ITEMS)
    dense = matrix(edge_index.as_tensor(), weight, U).float()
    expected = (model.users + dense @ model.users + dense @ dense @ model.users) / 3
    torch.testing.assert_close(model.encode(graph)["user"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [{"graph_layer": "attention"}, {"fusion": "attention"}, {"fusion": "concat"}, {"edge_weights": "cosine", "l2": 1e-4}],
)
def test_every_parameter_gets_a_gradient_under_other_settings(settings) -> None:
    model, graph = build(with_reviews(), **settings)
    torch.stack(list(model.loss(graph, batch(40)).values())).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


def test_without_layers_there_are_no_graphs() -> None:
    model, graph = build(with_reviews(), num_layers=0)
    assert not {SHARED_ITEMS, SHARED_USERS} & set(graph.schema.relations)
    assert bool(torch.isfinite(score_all(model, graph)).all())


def test_new_user_is_the_mean_of_their_items() -> None:
    model, graph = build(with_reviews())
    histories = RaggedSets(torch.tensor([0, 3, 4]), torch.tensor([1, 4, 6, 2]))
    with torch.no_grad():
        before, after = model.encode(graph), model.encode(with_new_users(graph, histories))
    torch.testing.assert_close(after["user"][U], before["item"][[1, 4, 6]].mean(0))
    torch.testing.assert_close(after["user"][U + 1], before["item"][2])
    torch.testing.assert_close(after["user"][:U], before["user"])


def test_l2_term_is_the_squared_l2_norm_of_all_parameters() -> None:
    model, graph = build(with_reviews(), l2=0.5)
    expected = 0.5 * sum(float(p.detach().double().square().sum()) for p in model.parameters())
    assert float(model.loss(graph, batch())["l2"].detach()) == pytest.approx(expected, rel=1e-5)


def test_missing_features_and_unknown_contrast_modalities_are_refused() -> None:
    with pytest.raises(ValueError, match="MCPTR needs at least one modality of the items"):
        build(replace(checkerboard(U, I)[0], features={}))
    with pytest.raises(ValueError, match="contrast names 'audio', but the modalities of the items are 'image', 'text'"):
        build(with_reviews(), contrast=("text", "audio"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"neighbors": 0}, "neighbors must be greater than 0"),
        ({"edge_weights": "jaccard"}, "edge_weights must be one of 'count', 'cosine', 'binary'"),
        ({"graph_layer": "gcn"}, "graph_layer must be one of 'light', 'attention'"),
        ({"fusion": "sum"}, "fusion must be one of"),
        ({"contrast": ("text", "text")}, "contrast must name two different modalities"),
        ({"temperature": 0.0}, "temperature must be greater than 0"),
    ],
    ids=str,
)
def test_invalid_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        MCPTRConfig(**settings)
