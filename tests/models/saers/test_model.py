import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.saers import SAERS, SAERSConfig
from gmmrec.nn.pairs import BLOCK_CELLS
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.testing import I, U, checkerboard, score_all, toy_graph
from tests.memory import Largest

D, A, R = 8, 4, 5
GIVEN = {"slots": "given", "regions": "parts", "num_slots": A}
LEARNED = {"regions": "parts", "num_slots": 3}
ALL = {"num_slots": 3}
FORMS = [GIVEN, {**GIVEN, "score": "bilinear"}, LEARNED, ALL, {**GIVEN, "attribute_vectors": False}]
NOTHING, ONE = 5, 7  # items without attributes and with a single one


def data() -> Dataset:
    """The checkerboard with four attributes per image, some of which do not apply."""
    dataset, _ = checkerboard(U, I)
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(I, A, generator=generator) < 0.7
    mask[:, 0], mask[NOTHING], mask[ONE, 1:] = True, False, False
    parts = FeatureTable("parts", torch.randn(I, A, R, generator=generator), mask)
    return replace(dataset, features={**dataset.features, "parts": parts})


def build(dataset: Dataset | None = None, **settings) -> tuple[SAERS, MultimodalGraph]:
    torch.manual_seed(0)
    graph = toy_graph(dataset or data())
    model = SAERS(graph.schema, SAERSConfig(**{"dim": D, "init_std": 0.7, **settings})).eval()
    with torch.no_grad():
        model.offsets.normal_()
    return model, graph


def pairs() -> tuple[UserQuery, Tensor]:
    user, item = torch.cartesian_prod(torch.arange(U), torch.arange(I)).unbind(1)
    return UserQuery(user), item


def batch() -> Batch[UserQuery]:
    generator = torch.Generator().manual_seed(0)
    user, positive = torch.randint(U, (9,), generator=generator), torch.randint(I, (9,), generator=generator)
    return Batch(UserQuery(user), positive, torch.randint(I, (9, 2), generator=generator))


def slow(model: SAERS, graph: MultimodalGraph, user: int, item: int) -> tuple[float, dict[str, list[float]], list[float]]:
    """Return score, token weights by modality and attribute weights of one pair, in float64."""
    weight = {name: p.detach().double() for name, p in model.named_parameters()}
    config = model.config
    tokens, positions = [], []
    for m, name in enumerate(model.tables):
        table = graph.features[name]
        for k, x in enumerate(table.values[item].double().view(-1, table.dim)):
            if table.mask[item].view(-1)[k]:
                x = x / x.norm() if config.unit_features else x
                if model.project is not None:
                    x = weight[f"project.{m}.weight"] @ x + weight[f"project.{m}.bias"]
                tokens.append(x)
                positions.append((name, k))
    given = config.slots == "given"
    shares = torch.eye(len(tokens)).double()
    slots, kinds = tokens, [k for _, k in positions]
    if not given and tokens:
        v, kinds = torch.stack(tokens), list(range(config.num_slots))
        logits = weight["gather.slots"] @ (v @ weight["gather.key.weight"].T).T / math.sqrt(D)
        shares = logits.softmax(1)
        slots = list(shares @ (v @ weight["gather.value.weight"].T))
    t = weight["tastes"][user]
    z = [weight["attend.value.weight"] @ s + weight["attend.value.bias"] for s in slots]
    if config.attribute_vectors:
        z = [x + weight["attend.attributes"][k] for x, k in zip(z, kinds, strict=True)]
    x = float(weight["offsets"][item]) + float(weight["users"][user] @ weight["items"][item])
    image = graph.features[model.image]
    if image.present[item]:
        f = image.pooled[item].double()
        x += float(weight["visual"][user] @ weight["embed"] @ (f / f.norm() if config.unit_features else f))
    token_weights = {
        name: [0.0] * graph.features[name].values[0].view(-1, graph.features[name].dim).shape[0] for name in model.tables
    }
    attributes = [0.0] * (A if given else config.num_slots)
    if z:
        if config.attention == "mean":
            logits = torch.zeros(len(z)).double()
        elif config.score == "bilinear":
            logits = torch.stack([(weight["attend.query.weight"] @ t) @ a for a in z])
        else:
            query = weight["attend.query.weight"] @ t + weight["attend.query.bias"]
            logits = torch.stack(
                [weight["attend.logit.weight"][0] @ (query + weight["attend.key.weight"] @ a).clamp(min=0) for a in z]
            )
        al = logits.softmax(0)
        x += float(t @ sum(share * a for share, a in zip(al, z, strict=True)))
        for k, share in zip(kinds, al.tolist(), strict=True):
            attributes[k] = share
        for (name, k), share in zip(positions, (al @ shares).tolist(), strict=True):
            token_weights[name][k] = share
    return x, token_weights, attributes


# Invariants


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_weights_sum_to_one_over_attributes_that_apply(settings) -> None:
    model, graph = build(**settings)
    query, item = pairs()
    with torch.no_grad():
        encoded = model.encode(graph)
        weights = model.attribute_weights(encoded, query, item)
        semantic = model.attend.score_rows(encoded["user"][:, -D:], encoded.slots.values, encoded.slots.present, torch.arange(I))
    present = encoded.slots.present[item]
    assert weights.shape == (U * I, model.config.num_slots)
    assert bool((weights >= 0).all())
    assert bool((weights[~present] == 0).all())
    torch.testing.assert_close(weights.sum(1), present.any(1).float())
    if "regions" in settings:
        assert not bool(present[item == NOTHING].any())
        assert bool((semantic[:, NOTHING] == 0).all())
    assert bool(torch.isfinite(semantic).all())


@pytest.mark.parametrize("score", ["mlp", "bilinear"])
def test_equal_attributes_have_uniform_weights(score) -> None:
    dataset = data()
    parts = dataset.features["parts"]
    same = FeatureTable("parts", parts.values[:, :1].expand(-1, A, -1).clone(), parts.mask)
    model, graph = build(
        replace(dataset, features={**dataset.features, "parts": same}), **GIVEN, score=score, attribute_vectors=False
    )
    query, item = pairs()
    with torch.no_grad():
        encoded = model.encode(graph)
        weights = model.attribute_weights(encoded, query, item)
        fused = model.attend(torch.nn.functional.normalize(same.values, dim=-1)[item], same.mask[item], model.tastes[query.user])
    present = same.mask[item].any(1)
    expected = same.mask[item] / same.mask[item].sum(1, keepdim=True).clamp(min=1)
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(fused[present], encoded.slots.values[item, 0][present])


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_weights_depend_on_the_user_unless_the_query_matrix_is_zero(settings) -> None:
    model, graph = build(**settings)
    query, item = UserQuery(torch.arange(U)), torch.zeros(U, dtype=torch.int64)
    with torch.no_grad():
        weights = model.attribute_weights(model.encode(graph), query, item)
        differs = (weights[1:] - weights[0]).abs().amax(1) > 1e-4
        assert float(differs.float().mean()) > 0.8  # the ReLU may be inactive for a user
        model.attend.query.weight.zero_()
        weights = model.attribute_weights(model.encode(graph), query, item)
    torch.testing.assert_close(weights, weights[:1].expand(U, -1))


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_masked_attributes_change_nothing(settings) -> None:
    model, graph = build(**settings)
    changed = MultimodalGraph(graph.data, graph.schema)
    parts = changed.features["parts"]  # tables zero masked values; undo it
    object.__setattr__(parts, "values", parts.values.masked_fill(~parts.mask.unsqueeze(-1), 9.0))
    assert torch.equal(score_all(model, changed), score_all(model, graph))
    first, second = (model.loss(g, batch())["bpr"] for g in (graph, changed))
    assert torch.equal(first, second)


def test_loss_is_ln_2_for_equal_scores_and_decreases_with_the_positive_score() -> None:
    model, graph = build(**GIVEN)
    triples = replace(batch(), negative=batch().positive[:, None])
    assert float(model.loss(graph, triples)["bpr"].detach()) == pytest.approx(math.log(2))
    triples = Batch(UserQuery(torch.tensor([0])), torch.tensor([2]), torch.tensor([[3]]))
    before = float(model.loss(graph, triples)["bpr"].detach())
    with torch.no_grad():
        model.offsets[2] += 1
    assert float(model.loss(graph, triples)["bpr"].detach()) < before


# The extraction network is tested in test_semantic_extraction.py


@pytest.mark.parametrize("settings", [*FORMS, {**GIVEN, "attention": "mean"}], ids=str)
def test_top_attributes_are_sorted_apply_and_match_the_reference(settings) -> None:
    model, graph = build(**settings)
    query, item = UserQuery(torch.tensor([0, 1, 2, 3])), torch.tensor([0, NOTHING, ONE, 4])
    with torch.no_grad():
        encoded = model.encode(graph)
        actual, weights = model.top_attributes(encoded, query, item, 3)
    assert actual.shape == weights.shape == (4, 3)
    for row in range(4):
        *_, attributes = slow(model, graph, int(query.user[row]), int(item[row]))
        order = sorted((a for a, share in enumerate(attributes) if share > 0), key=lambda a: -attributes[a])[:3]
        assert sorted(actual[row].tolist()) == sorted(order + [-1] * (3 - len(order)))
        assert weights[row].tolist() == pytest.approx([attributes[a] for a in order] + [0.0] * (3 - len(order)), abs=1e-6)
        assert [attributes[a] for a in actual[row].tolist() if a >= 0] == pytest.approx(
            weights[row][: len(order)].tolist(), abs=1e-6
        )


# The whole model, switches, settings


@pytest.mark.parametrize("unit_features", [True, False])
@pytest.mark.parametrize("settings", [*FORMS, {**GIVEN, "attention": "mean"}, {**ALL, "attention": "mean"}], ids=str)
def test_scores_and_token_weights_match_the_dense_reference(settings, unit_features) -> None:
    model, graph = build(**settings, unit_features=unit_features)
    scores = score_all(model, graph).double()
    query, item = UserQuery(torch.tensor([0, 0, 1, 2, 5])), torch.tensor([0, 3, NOTHING, ONE, 11])
    with torch.no_grad():
        weights = model.attention(model.encode(graph), query, item)
    assert list(weights) == list(model.tables)
    for row, (user, i) in enumerate(zip(query.user.tolist(), item.tolist(), strict=True)):
        x, tokens, attributes = slow(model, graph, user, i)
        assert float(scores[user, i]) == pytest.approx(x, abs=1e-5)
        for name, actual in weights.items():
            assert actual[row].view(-1).tolist() == pytest.approx(tokens[name], abs=1e-5)
        total = sum(float(actual[row].sum()) for actual in weights.values())
        assert total == pytest.approx(float(any(attributes)), abs=1e-5)
    if settings.get("regions") is None:
        assert [weights[name].dim() for name in ("image", "text", "parts")] == [1, 1, 2]


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_vectors_of_all_pairs_are_never_materialised(settings, monkeypatch) -> None:
    monkeypatch.setattr("gmmrec.nn.fusion.attribute.CELLS", 1)
    monkeypatch.setitem(BLOCK_CELLS, "cpu", 1)
    model, graph = build(**settings)
    with Largest() as largest:
        score_all(model, graph)
    assert largest.numel < U * I * D


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_loss_matches_the_dense_reference(settings) -> None:
    model, graph = build(**settings, l2=0.3)
    triples = batch()
    terms = []
    for user, items in zip(triples.query.user.tolist(), triples.candidates.tolist(), strict=True):
        positive, *negatives = (slow(model, graph, user, item)[0] for item in items)
        terms += [math.log1p(math.exp(negative - positive)) for negative in negatives]
    user = triples.query.user
    squares = sum(float(table[user].detach().square().sum()) for table in (model.users, model.visual, model.tastes))
    squares += sum(float(table[triples.candidates].detach().square().sum()) for table in (model.items, model.offsets))
    actual = {name: float(term.detach()) for name, term in model.loss(graph, triples).items()}
    assert actual == pytest.approx({"bpr": sum(terms) / len(terms), "l2": 0.3 * squares / (2 * len(triples))}, rel=1e-5)


def test_switches_remove_their_parameters() -> None:
    def names(**settings) -> set[str]:
        return {name.split(".")[0] for name, _ in build(**settings)[0].named_parameters()}

    whole = names(**LEARNED)
    assert whole - names(**LEARNED, semantic_space=False) == {"tastes", "gather", "attend"}
    assert whole - names(**LEARNED, global_space=False) == {"visual", "embed"}
    assert whole - names(**LEARNED, ids=False) == {"users", "items"}
    assert whole - names(**GIVEN) == {"gather"}
    model, _ = build(**LEARNED, attention="mean")
    assert not any(part in name for name, _ in model.named_parameters() for part in ("attend.query", "attend.key", "attend.logit"))


@pytest.mark.parametrize("off", ["semantic_space", "global_space", "ids"])
@pytest.mark.parametrize("attention", ["preference", "mean"])
def test_switch_removes_its_score_term(off, attention) -> None:
    model, graph = build(**GIVEN, attention=attention)
    other, _ = build(**GIVEN, attention=attention, **{off: False})
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            parameter.copy_(model.get_parameter(name))
        encoded = model.encode(graph)
        part = {
            "ids": model.users @ model.items.T,
            "global_space": model.visual @ (graph.features["image"].unit @ model.embed.T).T,
            "semantic_space": model.attend.score(model.tastes, encoded.slots.values, encoded.slots.present),
        }[off]
        torch.testing.assert_close(score_all(other, graph), score_all(model, graph) - part, rtol=1e-4, atol=1e-5)
        loss = float(other.loss(graph, batch())["bpr"])
        scores = other.score(other.encode(graph), batch().query, batch().candidates)
    assert loss == pytest.approx(float(torch.nn.functional.softplus(scores[:, 1:] - scores[:, :1]).mean()), rel=1e-5)


def test_item_without_interactions_is_scored_by_its_features_alone() -> None:
    dataset = data()
    model, graph = build(replace(dataset, interactions=dataset.interactions.take(dataset.interactions.item != 4)), **GIVEN)
    before = score_all(model, graph)[:, 4]
    with torch.no_grad():
        model.items[4], model.offsets[4] = 9.0, 9.0
    assert torch.equal(score_all(model, graph)[:, 4], before)


def test_image_modality_is_the_named_one_then_image_then_the_first() -> None:
    assert build()[0].image == "image"
    assert build(image="parts")[0].image == "parts"
    dataset = data()
    features = {name: dataset.features[name] for name in ("parts", "text")}
    model, graph = build(replace(dataset, features=features))
    assert model.image == "parts"  # the mean of its tokens
    assert bool(torch.isfinite(score_all(model, graph)).all())


def test_invalid_use_is_refused() -> None:
    with pytest.raises(ValueError, match="SAERS needs at least one modality of the items"):
        build(replace(data(), features={}))
    with pytest.raises(ValueError, match="the items have no modality 'part'; choose one of image, text, parts"):
        build(regions="part")
    with pytest.raises(ValueError, match="slots 'given' needs the modality whose tokens are attributes; name it in regions"):
        build(slots="given")
    with pytest.raises(ValueError, match="are all off"):
        build(semantic_space=False, global_space=False, ids=False)
    model, graph = build(**{**GIVEN, "num_slots": 9})
    with pytest.raises(ValueError, match="'parts' has 4 attributes, but num_slots is 9; set num_slots to 4"):
        model.encode(graph)
    model, graph = build(semantic_space=False)
    with pytest.raises(ValueError, match="without a semantic space there are no attributes"):
        model.attention(model.encode(graph), UserQuery(torch.tensor([0])), torch.tensor([0]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention": "max"}, "attention must be one of 'preference', 'mean'"),
        ({"slots": "none"}, "slots must be one of 'learned', 'given'"),
        ({"score": "dot"}, "score must be one of 'mlp', 'bilinear'"),
        ({"num_slots": 0}, "num_slots must be greater than 0"),
        ({"l2": -1.0}, "l2 must be 0 or more"),
    ],
    ids=str,
)
def test_invalid_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        SAERSConfig(**settings)
