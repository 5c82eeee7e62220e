"""UVCAN against a reference implementation; co-attention is tested in tests/nn/fusion/test_co_attention.py."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import gmmrec.models.uvcan as module
from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.uvcan import UVCAN, UVCANConfig
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.testing import I, U, checkerboard, score_all, toy_graph, with_mask
from tests.memory import Largest

D = 8
FORMS = [
    {},
    {"score": "additive"},
    {"accumulate": False, "prediction": "steps_sum"},
    {"start": "first", "hidden": 3, "steps": 2},
    {"prediction": "mlp", "share_steps": True},
    {"two_level": True},
    {"two_level": True, "score": "additive", "start": "first"},
    {"two_level": True, "item_attention": False},
    {"user_attention": False},
    {"item_attention": False, "unit_features": False},
    {"attention": "mean", "start": "first"},
    {"attention": "mean", "two_level": True},
    {"steps": 0, "two_level": True, "start": "first"},
]


def rich() -> Dataset:
    """The checkerboard with image crops, some of them missing, and two user modalities."""
    generator = torch.Generator().manual_seed(0)
    dataset, _ = checkerboard(U, I)
    crops, likes = torch.randn(I, 3, 5, generator=generator), torch.randn(U, 2, 3, generator=generator)
    crops_mask, likes_mask = torch.rand(I, 3, generator=generator) < 0.7, torch.rand(U, 2, generator=generator) < 0.7
    crops_mask[7], crops_mask[8], likes_mask[5] = False, True, True
    users = {
        "user_profile": FeatureTable("user_profile", torch.randn(U, 4, generator=generator), torch.arange(U) != 2, "user"),
        "user_likes": FeatureTable("user_likes", likes, likes_mask, "user"),
    }
    return replace(dataset, features={**dataset.features, "crops": FeatureTable("crops", crops, crops_mask), **users})


def build(dataset: Dataset | None = None, **settings) -> tuple[UVCAN, MultimodalGraph]:
    torch.manual_seed(0)
    graph = toy_graph(dataset or rich())
    return UVCAN(graph.schema, UVCANConfig(**{"dim": D, "init_std": 1.0, **settings})).eval(), graph


def batch() -> Batch[UserQuery]:
    generator = torch.Generator().manual_seed(0)
    user, positive = torch.randint(U, (9,), generator=generator), torch.randint(I, (9,), generator=generator)
    return Batch(UserQuery(user), positive, torch.randint(I, (9, 2), generator=generator))


def exact(parameter: Tensor) -> Tensor:
    return parameter.detach().double()


def slow_tokens(model: UVCAN, graph: MultimodalGraph, side: str, row: int) -> list[list[tuple[tuple[str, int], Tensor]]]:
    """Return the present tokens of the ID and every modality, each with its name and index."""
    table, encoders = (model.users, model.encode_user) if side == "user" else (model.items, model.encode_item)
    groups = [[(("id", 0), exact(table[row]))]]
    for name, encoder in zip(model.names[side], encoders, strict=True):
        features, group = graph.features[name], []
        for t in range(features.mask.shape[1] if features.mask.dim() == 2 else 1):
            at = (row, t) if features.mask.dim() == 2 else row
            if features.mask[at]:
                x = features.values[at].double()
                x = x / x.norm() if model.config.unit_features else x
                group.append(((name, t), exact(encoder.project.weight) @ x + exact(encoder.project.bias)))
        groups.append(group)
    return groups


def mean(vectors: list[Tensor]) -> Tensor:
    return sum(vectors) / len(vectors)


def slow_weights(attention: torch.nn.Module | None, tokens: list[Tensor], guide: Tensor) -> list[float]:
    if attention is None:
        return [1 / len(tokens)] * len(tokens)
    logits = []
    for x in tokens:
        a, b = exact(attention.token.weight) @ x, exact(attention.guide.weight) @ guide
        hidden = torch.tanh(a) * torch.tanh(b) if attention.score == "product" else torch.tanh(a + b)
        logits.append(math.exp(float(exact(attention.logit.weight[0]) @ hidden)))
    return [logit / sum(logits) for logit in logits]


def slow_pair(model: UVCAN, graph: MultimodalGraph, user: int, item: int) -> tuple[float, dict[tuple[str, int], float]]:
    """Return the score of one pair in float64, and the weights of the last step by token name and index."""
    config = model.config
    left = [pair for group in slow_tokens(model, graph, "user", user) for pair in group]
    groups = slow_tokens(model, graph, "item", item)
    begins_with_ids = config.start == "first" and config.attention == "co"
    start = (lambda x: x[0]) if begins_with_ids else mean
    users, inside = [x for _, x in left], {}
    if config.two_level:
        first, right = start(users), []
        for group in groups:
            shares = slow_weights(model.fine if len(group) > 1 else None, [x for _, x in group], first) if group else []
            inside |= {name: share for (name, _), share in zip(group, shares, strict=True)}
            if group:
                right.append(((group[0][0][0], -1), sum(s * x for s, (_, x) in zip(shares, group, strict=True))))
    else:
        right = [pair for group in groups for pair in group]
    items = [x for _, x in right]
    user_memory, item_memory = start(users), start(items)
    products = [float(user_memory @ item_memory)]
    steps = config.steps if config.attention == "co" else 0
    beta, alpha = ([1.0] + [0.0] * (len(x) - 1) if begins_with_ids else [1 / len(x)] * len(x) for x in (users, items))
    for k in range(steps):
        at = [list(side)[k % len(side)] if len(side) else None for side in (model.attend.left, model.attend.right)]
        beta, alpha = slow_weights(at[0], users, item_memory), slow_weights(at[1], items, user_memory)
        read_user = sum(w * x for w, x in zip(beta, users, strict=True))
        read_item = sum(w * x for w, x in zip(alpha, items, strict=True))
        user_memory, item_memory = (
            (user_memory + read_user, item_memory + read_item) if config.accumulate else (read_user, read_item)
        )
        products.append(float(user_memory @ item_memory))
    weights = {(f"user:{name}", t): w for ((name, t), _), w in zip(left, beta, strict=True)}
    outer = {name: w for (name, _), w in zip(right, alpha, strict=True)}
    weights |= {name: outer[name[0], -1] * inner for name, inner in inside.items()} if config.two_level else outer
    if config.prediction == "mlp":
        layer, _, out = model.predict
        hidden = (exact(layer.weight) @ torch.cat([user_memory, item_memory, user_memory * item_memory]) + exact(layer.bias)).clamp(
            min=0
        )
        return float(exact(out.weight[0]) @ hidden), weights
    return (sum(products) if config.prediction == "steps_sum" else products[-1]), weights


def all_weights(model: UVCAN, graph: MultimodalGraph) -> dict[str, Tensor]:
    """Return the weights of all pairs ``[U * I]`` or ``[U * I, T]``."""
    with torch.no_grad():
        user, item = torch.arange(U).repeat_interleave(I), torch.arange(I).repeat(U)
        return model.attention(model.encode(graph), UserQuery(user), item)


def total(weights: dict[str, Tensor], *, users: bool) -> Tensor:
    parts = [w if w.dim() == 2 else w[:, None] for name, w in weights.items() if name.startswith("user:") == users]
    return torch.cat(parts, dim=1).sum(1)


# Reference


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_scores_and_weights_match_the_reference(settings) -> None:
    model, graph = build(**settings)
    scores, weights = score_all(model, graph), all_weights(model, graph)
    for user, item in [(0, 0), (2, 3), (5, 7), (9, 8), (22, 16)]:  # with and without images, crops, profiles
        score, expected = slow_pair(model, graph, user, item)
        assert float(scores[user, item]) == pytest.approx(score, rel=1e-4, abs=1e-4)
        for name, actual in weights.items():
            for t, weight in enumerate(actual[user * I + item].reshape(-1).tolist()):
                assert weight == pytest.approx(expected.get((name, t), 0.0), abs=1e-5)


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_chunks_and_candidates_per_query_change_nothing(settings, monkeypatch) -> None:
    for dataset in (rich(), checkerboard(U, I)[0]):
        model, graph = build(dataset, **settings)
        whole = score_all(model, graph)
        with monkeypatch.context() as patch:
            patch.setattr(module, "CELLS", U * D * 3)
            torch.testing.assert_close(score_all(model, graph), whole)
            candidates = torch.randint(I, (U, 5), generator=torch.Generator().manual_seed(0))
            with torch.no_grad():
                actual = model.score(model.encode(graph), UserQuery(torch.arange(U)), candidates)
        torch.testing.assert_close(actual, whole.gather(1, candidates))


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_vectors_of_all_pairs_are_never_materialised(settings, monkeypatch) -> None:
    monkeypatch.setattr(module, "CELLS", 1)
    model, graph = build(**settings)
    with Largest() as largest:
        score_all(model, graph)
    assert largest.numel < U * I * D


@pytest.mark.parametrize("loss", ["bpr", "bce"])
@pytest.mark.parametrize("settings", [{}, {"two_level": True}], ids=str)
def test_loss_matches_the_reference(settings, loss) -> None:
    model, graph = build(loss=loss, l2=0.3, **settings)
    triples = batch()
    terms = {name: float(term.detach()) for name, term in model.loss(graph, triples).items()}
    values, squares = [], 0.0
    for user, items in zip(triples.query.user.tolist(), triples.candidates.tolist(), strict=True):
        scores = [slow_pair(model, graph, user, item)[0] for item in items]
        squares += float(exact(model.users[user]).square().sum()) + sum(float(exact(model.items[i]).square().sum()) for i in items)
        if loss == "bpr":
            values += [math.log1p(math.exp(scores[k] - scores[0])) for k in (1, 2)]
        else:
            values += [math.log1p(math.exp(-scores[0])), *(math.log1p(math.exp(s)) for s in scores[1:])]
    assert terms[loss] == pytest.approx(sum(values) / len(values), rel=1e-4)
    assert terms["l2"] == pytest.approx(0.3 * squares / (2 * len(triples)), rel=1e-5)


@pytest.mark.parametrize("settings", [form for form in FORMS if form.get("steps", 3)], ids=str)
@pytest.mark.parametrize("plain", [True, False], ids=["ids", "profiles"])
def test_every_parameter_gets_a_gradient(settings, plain) -> None:
    if plain and settings.get("two_level"):
        pytest.skip("two levels need a modality of several tokens")
    model, graph = build(checkerboard(U, I)[0] if plain else rich(), **settings)
    torch.stack(list(model.loss(graph, batch()).values())).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


# Invariants


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_weights_sum_to_one_on_both_sides_and_are_zero_for_missing_tokens(settings) -> None:
    model, graph = build(**settings)
    weights = all_weights(model, graph)
    assert list(weights) == ["user:id", "user:user_profile", "user:user_likes", "id", "image", "text", "crops"]
    shapes = {name: tuple(w.shape[1:]) for name, w in weights.items()}
    assert (shapes["user:user_profile"], shapes["user:user_likes"], shapes["image"], shapes["crops"]) == ((), (2,), (), (3,))
    for side in (True, False):
        torch.testing.assert_close(total(weights, users=side), torch.ones(U * I))
    for name in ("image", "crops"):
        by_item = weights[name].unflatten(0, (U, I))
        assert bool((by_item[:, ~graph.features[name].mask] == 0).all())


@pytest.mark.parametrize("settings", [{"attention": "mean", "start": "first"}, {"steps": 0}], ids=str)
def test_without_steps_scores_are_products_of_means_and_there_are_no_attention_parameters(settings) -> None:
    model, graph = build(**settings)
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"users", "items", "encode_user", "encode_item"}
    with torch.no_grad():
        encoded = model.encode(graph)
    torch.testing.assert_close(score_all(model, graph), encoded["user"] @ encoded["item"].T)


@pytest.mark.parametrize("dataset", [rich(), checkerboard(U, I)[0]], ids=["profiles", "ids"])
def test_attention_to_a_video_depends_on_the_user(dataset) -> None:
    model, graph = build(dataset)
    weights = all_weights(model, graph)
    for name in ("id", "text"):
        by_user = weights[name].unflatten(0, (U, I))
        assert bool(((by_user[1:] - by_user[0]).abs().amax(1) > 1e-4).all())


@pytest.mark.parametrize("score", ["product", "additive"])
def test_zero_guide_weights_give_user_independent_attention(score) -> None:
    model, graph = build(score=score)
    for attention in model.attend.right:
        torch.nn.init.zeros_(attention.guide.weight)
    weights = all_weights(model, graph)
    count = model.encode(graph).item_tokens.present.sum(1)
    for name in ("id", "text"):
        by_user = weights[name].unflatten(0, (U, I))
        torch.testing.assert_close(by_user, by_user[:1].expand(U, I))
        assert torch.allclose(by_user[0], 1 / count) == (score == "product")


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_scores_are_invariant_to_the_order_of_crops(settings) -> None:
    dataset, order = rich(), torch.tensor([2, 0, 1])
    crops = dataset.features["crops"]
    reordered = FeatureTable("crops", crops.values[:, order], crops.mask[:, order])
    model, graph = build(dataset, **settings)
    other, other_graph = build(replace(dataset, features={**dataset.features, "crops": reordered}), **settings)
    torch.testing.assert_close(score_all(other, other_graph), score_all(model, graph))
    before, after = all_weights(model, graph), all_weights(other, other_graph)
    torch.testing.assert_close(after["crops"], before["crops"][:, order])


def test_single_user_token_has_weight_one_and_accumulates() -> None:
    model, graph = build(checkerboard(U, I)[0], item_attention=False, steps=2)
    with torch.no_grad():
        expected = (3 * model.users) @ (3 * model.encode(graph)["item"]).T
    torch.testing.assert_close(score_all(model, graph), expected)
    assert bool((all_weights(model, graph)["user:id"] == 1).all())


@pytest.mark.parametrize("settings", FORMS, ids=str)
@pytest.mark.parametrize("side", ["user", "item"])
def test_fully_missing_modality_changes_nothing(side, settings) -> None:
    model, graph = build(**settings)
    count = U if side == "user" else I
    none = FeatureTable("smell", torch.randn(count, 2, 3), torch.zeros(count, 2, dtype=torch.bool), side)
    dataset = rich()
    other, other_graph = build(replace(dataset, features={**dataset.features, "smell": none}), **settings)
    assert other.load_state_dict(model.state_dict(), strict=False).unexpected_keys == []
    torch.testing.assert_close(score_all(other, other_graph), score_all(model, graph))
    weights = all_weights(other, other_graph)
    assert bool((weights["smell" if side == "item" else "user:smell"] == 0).all())


# Missing content, settings


def test_item_without_interactions_is_scored_by_its_features_alone() -> None:
    dataset = rich()
    dataset = replace(dataset, interactions=dataset.interactions.take(dataset.interactions.item != 4))
    model, graph = build(dataset)
    before = score_all(model, graph)
    with torch.no_grad():
        model.items[4] = 100.0
    assert torch.equal(score_all(model, graph), before)
    assert bool((all_weights(model, graph)["id"].unflatten(0, (U, I))[:, 4] == 0).all())


def test_items_and_users_without_any_token_score_zero() -> None:
    dataset = checkerboard(U, I)[0]
    for name in ("image", "text"):
        dataset = with_mask(dataset, name, torch.tensor([4]))
    rest = (dataset.interactions.item != 4) & (dataset.interactions.user != 6)
    model, graph = build(replace(dataset, interactions=dataset.interactions.take(rest)))
    scores = score_all(model, graph)
    assert bool((scores[:, 4] == 0).all())
    assert bool((scores[6] == 0).all())
    assert bool((scores[:4, :4] != 0).all())


def test_missing_features_raise_an_error_with_a_remedy() -> None:
    with pytest.raises(ValueError, match="UVCAN needs at least one modality of the items"):
        build(replace(rich(), features={}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention": "self"}, "attention must be one of 'co', 'mean'"),
        ({"score": "dot"}, "score must be one of 'product', 'additive'"),
        ({"start": "last"}, "start must be one of 'mean', 'first'"),
        ({"prediction": "cosine"}, "prediction must be one of 'inner', 'steps_sum', 'mlp'"),
        ({"loss": "hinge"}, "loss must be one of 'bpr', 'bce'"),
        ({"steps": -1}, "steps must be 0 or more"),
        ({"hidden": 0}, "hidden must be greater than 0"),
        ({"l2": -1.0}, "l2 must be 0 or more"),
    ],
    ids=str,
)
def test_invalid_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        UVCANConfig(**settings)
