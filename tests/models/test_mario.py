import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.evaluation.modality import average_difference
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.mario import MARIO, MARIOConfig
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.testing import I, U, checkerboard, score_all, toy_graph, train, with_mask
from gmmrec.typing import USER_ITEM

D = 8
FORMS = list(itertools.product(("additive", "dot"), ("scalar", "vector")))
NAMES = ("image", "text", "interaction")


def build(dataset: Dataset | None = None, **settings) -> tuple[MARIO, MultimodalGraph]:
    torch.manual_seed(0)
    graph = toy_graph(dataset or checkerboard(U, I)[0])
    return MARIO(graph.schema, MARIOConfig(**{"dim": D, **settings})).eval(), graph


def complete() -> Dataset:
    """The checkerboard without a missing image."""
    dataset, _ = checkerboard(U, I)
    values = torch.rand(I, 6, generator=torch.Generator().manual_seed(0))
    return replace(dataset, features={**dataset.features, "image": FeatureTable("image", values)})


def batch() -> Batch[UserQuery]:
    generator = torch.Generator().manual_seed(0)
    user, positive = torch.randint(U, (9,), generator=generator), torch.randint(I, (9,), generator=generator)
    return Batch(UserQuery(user), positive, torch.randint(I, (9, 2), generator=generator))


def slow_item(model: MARIO, graph: MultimodalGraph, user: int, item: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return weights ``[M, d]`` and tokens ``[M, d]`` of present modalities, the item and the user of one pair, in float64."""
    u = model.users[user].detach().double()
    tokens = []
    for name, encoder in zip(model.names, model.encoders, strict=True):
        table = graph.features[name]
        if table.mask[item]:
            x = table.values[item].double()
            x = x / x.norm() if model.config.unit_features else x
            for layer in (encoder.project, *encoder.rest):
                if isinstance(layer, torch.nn.Linear):
                    x = layer.weight.detach().double() @ x + layer.bias.detach().double()
                    x = torch.where(x > 0, x, 0.01 * x)
            tokens.append(x)
    tokens.append(model.items[item].detach().double())
    v = torch.stack(tokens)
    fuse = model.fuse
    wq, wk = fuse.query.weight.detach().double(), fuse.key.weight.detach().double()
    if model.config.attention == "additive":
        hidden = torch.tanh(torch.stack([torch.cat([wq, wk], 1) @ torch.cat([u, row]) for row in v]) + fuse.query.bias.detach())
        logits = hidden @ fuse.logit.weight.detach().double().T
    else:
        logits = (wq @ u) * (v @ wk.T)
        logits = logits if model.config.granularity == "vector" else logits.sum(1, keepdim=True) / math.sqrt(D)
    weights = logits.softmax(0).expand_as(v)
    return weights, v, (weights * v).sum(0), u


# Invariants


@pytest.mark.parametrize(("attention", "granularity"), FORMS)
def test_shapes(attention, granularity) -> None:
    model, graph = build(attention=attention, granularity=granularity)
    weights = model.modality_weights(graph, torch.arange(4), torch.arange(4)[:, None])
    assert set(weights) == set(NAMES)
    assert {tuple(w.shape) for w in weights.values()} == {(4, 1) if granularity == "scalar" else (4, 1, D)}
    tokens, present = model._tokens(graph, model.items)
    view = model.fuse.seen(model.users[:4], tokens, present, torch.arange(4)[:, None])
    assert view.shape == (4, 1, D)
    assert [tuple(decoded.shape) for decoded in model.decode(view[:, 0])] == [(4, 6), (4, 4)]


@pytest.mark.parametrize(("attention", "granularity"), FORMS)
def test_weights_are_not_negative_and_sum_to_one(attention, granularity) -> None:
    model, graph = build(attention=attention, granularity=granularity)
    weights = torch.stack(list(model.modality_weights(graph, torch.arange(U), torch.arange(I)).values()))
    assert bool((weights >= 0).all())
    torch.testing.assert_close(weights.sum(0), torch.ones_like(weights[0]))


@pytest.mark.parametrize(("attention", "granularity"), FORMS)
def test_users_weigh_the_same_item_differently(attention, granularity) -> None:
    model, graph = build(attention=attention, granularity=granularity, init_std=1.0)
    weights = model.modality_weights(graph, torch.tensor([0, 1]), torch.tensor([5]))
    assert all(float((w[0] - w[1]).detach().abs().max()) > 1e-4 for w in weights.values())


@pytest.mark.parametrize("attention", ["additive", "dot"])
def test_zero_logits_give_uniform_weights(attention) -> None:
    model, graph = build(complete(), attention=attention)
    with torch.no_grad():
        (model.fuse.logit if attention == "additive" else model.fuse.key).weight.zero_()
        for weights in model.modality_weights(graph, torch.arange(U), torch.arange(I)).values():
            assert torch.equal(weights, torch.full((U, I), 1 / 3))
        tokens = model.encode(graph).item_tokens
    torch.testing.assert_close(score_all(model, graph), model.users.detach() @ tokens.mean(1).T)


@pytest.mark.parametrize("attention", ["additive", "dot"])
def test_scalar_weights_give_convex_combinations_of_modalities(attention) -> None:
    model, graph = build(attention=attention, init_std=1.0)
    with torch.no_grad():
        encoded = model.encode(graph)
        tokens, present = encoded.item_tokens, encoded.item_present
        view = model.fuse.seen(encoded["user"], tokens, present, torch.arange(I).expand(U, I))
        weights = torch.stack(list(model.modality_weights(graph, torch.arange(U), torch.arange(I)).values()), -1)
    longest = tokens.norm(dim=-1).masked_fill(~present, 0).amax(1)
    assert bool((view.norm(dim=-1) <= longest * (1 + 1e-5)).all())
    torch.testing.assert_close(view, torch.einsum("bcm,cmd->bcd", weights, tokens.masked_fill(~present[..., None], 0)))


@pytest.mark.parametrize("backbone", ["mf", "lightgcn"])
@pytest.mark.parametrize(("attention", "granularity"), FORMS)
def test_full_ranking_matches_scores_of_pairs(attention, granularity, backbone) -> None:
    model, graph = build(attention=attention, granularity=granularity, backbone=backbone, init_std=1.0)
    with torch.no_grad():
        encoded = model.encode(graph)
        user, item = torch.randint(U, (40,)), torch.randint(I, (40,))
        pairs = model.score(encoded, UserQuery(user), item[:, None])
        view = model.fuse.seen(encoded["user"][user], encoded.item_tokens, encoded.item_present, item[:, None])
    expected = (encoded["user"][user] * view[:, 0]).sum(-1)
    torch.testing.assert_close(pairs[:, 0], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(score_all(model, graph)[user, item], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("unit_features", [True, False])
@pytest.mark.parametrize("encoder_layers", [1, 2])
@pytest.mark.parametrize(("attention", "granularity"), FORMS)
def test_scores_match_the_dense_reference(attention, granularity, encoder_layers, unit_features) -> None:
    settings = {"attention": attention, "granularity": granularity, "encoder_layers": encoder_layers}
    dataset = with_mask(checkerboard(U, I)[0], "text", torch.tensor([3, 7]))  # item 3 has neither image nor text
    model, graph = build(dataset, **settings, unit_features=unit_features, init_std=1.0)
    scores = score_all(model, graph).double()
    for user, item in [(0, 0), (1, 3), (2, 7), (5, 11)]:
        _, _, view, u = slow_item(model, graph, user, item)
        assert float(scores[user, item]) == pytest.approx(float(u @ view), abs=1e-5)


def test_modality_preserving_loss_reaches_all_parameters_but_not_the_features() -> None:
    model, graph = build(complete())
    data = graph.data.clone()
    for name in ("image", "text"):
        data["item"][name].requires_grad_()
    model.loss(MultimodalGraph(data, graph.schema), batch())["mp"].backward()
    unreached = [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert unreached == []
    assert len(model.decode.decoders) == 2  # none for the interactions
    raw = [data["item"][name] for name in ("image", "text")]
    for x in raw:  # gradients so far came through the encoders
        x.grad = None
    model.decode.loss(torch.randn(I, D), raw, torch.ones(I, 2, dtype=torch.bool)).backward()
    assert all(x.grad is None for x in raw)


def test_zero_mp_weight_removes_the_decoders_without_changing_scores() -> None:
    model, graph = build(mp_weight=0.1)
    other, _ = build(mp_weight=0.0)
    assert set(other.loss(graph, batch())) == {"bpr", "l2"}
    assert not any("decode" in name for name, _ in other.named_parameters())  # no untrained parameters
    assert torch.equal(score_all(model, graph), score_all(other, graph))


@pytest.mark.parametrize(("attention", "granularity"), FORMS)
def test_missing_modality_has_zero_weight_and_the_others_are_renormalised(attention, granularity) -> None:
    whole, graph = build(complete(), attention=attention, granularity=granularity)
    items = torch.tensor([2, 9])
    model, part = build(with_mask(complete(), "text", items), attention=attention, granularity=granularity)
    users = torch.arange(U)
    before, after = whole.modality_weights(graph, users, items), model.modality_weights(part, users, items)
    assert bool((after["text"] == 0).all())
    rest = before["image"] + before["interaction"]
    for name in ("image", "interaction"):
        torch.testing.assert_close(after[name], before[name] / rest)


@pytest.mark.parametrize("seed", range(3))
def test_modality_preserving_loss_preserves_similarities(seed) -> None:
    """The exact properties of the metric are in tests/evaluation/test_modality.py."""
    differences = []
    for weight in (0.0, 1.0):
        dataset, _ = checkerboard(U, I, seed=seed)
        model, graph = build(dataset, mp_weight=weight, unit_features=False)
        train(model, graph, dataset.interactions, epochs=100)
        with torch.no_grad():
            vectors = model.encode(graph)["item"]
        differences.append([average_difference(vectors, graph.features[name]) for name in ("image", "text")])
    assert all(preserved < free for free, preserved in zip(*differences, strict=True))


# The loss, item vectors, missing modalities, settings


@pytest.mark.parametrize("distance", ["cosine", "squared"])
def test_loss_matches_the_dense_reference(distance) -> None:
    dataset = with_mask(checkerboard(U, I)[0], "text", torch.tensor([0, 7]))
    model, graph = build(dataset, mp_distance=distance, mp_weight=0.5, l2=0.3)
    triples = batch()
    bpr, distances, squares = [], [], 0.0
    for user, items in zip(triples.query.user.tolist(), triples.candidates.tolist(), strict=True):
        scores = []
        for position, item in enumerate(items):
            _, _, view, u = slow_item(model, graph, user, item)
            scores.append(float(u @ view))
            squares += float(model.items[item].detach().square().sum())
            if position:
                continue
            squares += float(u.square().sum())
            for name, decoder in zip(model.names, model.decode.decoders, strict=True):
                if graph.features[name].mask[item]:
                    hidden = (decoder[0].weight.detach().double() @ view + decoder[0].bias.detach().double()).clamp(min=0)
                    f = decoder[2].weight.detach().double() @ hidden + decoder[2].bias.detach().double()
                    g = graph.features[name].values[item].double()
                    cosine = f @ g / (f.norm() * g.norm())
                    distances.append(float(1 - cosine if distance == "cosine" else (f - g).square().mean()))
        bpr += [math.log1p(math.exp(scores[k] - scores[0])) for k in (1, 2)]
    terms = {name: float(term.detach()) for name, term in model.loss(graph, triples).items()}
    assert terms["bpr"] == pytest.approx(sum(bpr) / len(bpr), rel=1e-5)
    assert terms["mp"] == pytest.approx(0.5 * sum(distances) / len(distances), rel=1e-5)
    assert terms["l2"] == pytest.approx(0.3 * squares / (2 * len(triples)), rel=1e-5)


@pytest.mark.parametrize(("attention", "granularity"), FORMS)
def test_item_vector_is_the_mean_over_its_users(attention, granularity) -> None:
    model, graph = build(attention=attention, granularity=granularity, init_std=1.0)
    actual = model.encode(graph)["item"].double()
    edge_index = graph.edges(USER_ITEM).edge_index.as_tensor()
    for item in (0, 3, 8):
        users = edge_index[0][edge_index[1] == item].tolist()
        expected = torch.stack([slow_item(model, graph, user, item)[2] for user in users]).mean(0)
        torch.testing.assert_close(actual[item], expected, rtol=0, atol=1e-5)


def test_item_without_interactions_is_scored_by_its_features_alone() -> None:
    dataset = complete()
    dataset = replace(dataset, interactions=dataset.interactions.take(dataset.interactions.item != 4))
    model, graph = build(dataset)
    weights = model.modality_weights(graph, torch.arange(U), torch.tensor([4]))
    assert bool((weights["interaction"] == 0).all())
    with torch.no_grad():
        encoded = model.encode(graph)
    torch.testing.assert_close(encoded["item"][4], encoded.item_tokens[4, :2].mean(0))


def test_missing_features_contribute_no_decoder_loss() -> None:
    model, graph = build(with_mask(with_mask(checkerboard(U, I)[0], "image", torch.arange(I)), "text", torch.arange(I)))
    assert float(model.loss(graph, batch())["mp"].detach()) == 0


@pytest.mark.parametrize("names", [("audio",), ("audio", "image", "text", "video")])
def test_any_modalities_are_accepted(names) -> None:
    generator = torch.Generator().manual_seed(0)
    dataset, _ = checkerboard(U, I)
    features = {name: FeatureTable(name, torch.rand(I, 3, generator=generator)) for name in names}
    model, graph = build(replace(dataset, features=features))
    assert set(model.modality_weights(graph, torch.arange(2), torch.arange(3))) == {*names, "interaction"}
    assert bool(torch.isfinite(score_all(model, graph)).all())


def test_lightgcn_backbone_propagates_the_tables() -> None:
    model, graph = build(backbone="lightgcn", num_layers=1)
    with torch.no_grad():
        users = model.encode(graph)["user"]
        expected = model.propagate.conv((model.items, model.users), *graph.bipartite.to_user)
    torch.testing.assert_close(users, (model.users.detach() + expected) / 2)


def test_missing_features_raise_an_error_with_a_remedy() -> None:
    with pytest.raises(ValueError, match="MARIO needs at least one modality of the items"):
        build(replace(complete(), features={}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention": "cosine"}, "attention must be one of 'additive', 'dot'"),
        ({"backbone": "gat"}, "backbone must be one of 'mf', 'lightgcn'"),
        ({"encoder_layers": 0}, "encoder_layers must be greater than 0"),
        ({"mp_weight": -1.0}, "mp_weight must be 0 or more"),
        ({"decoder_hidden": -1}, "decoder_hidden must be 0 or more"),
    ],
    ids=str,
)
def test_invalid_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        MARIOConfig(**settings)
