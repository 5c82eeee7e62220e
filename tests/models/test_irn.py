import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gmmrec.data.features import FeatureTable
from gmmrec.data.ragged import RaggedSets
from gmmrec.graph.fold_in import with_new_users
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.graph.sampling import sample_subgraph
from gmmrec.models.irn import DRAWN, IRN, IRNConfig
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.testing import I, U, checkerboard, score_all, training_batch, with_mask
from gmmrec.typing import ITEM_USER
from tests.memory import Largest
from tests.models.slow_irn import HIDDEN, D, build, history_of, slow_content, slow_weights

FORMS = [("mean", "both"), ("interest", "concat"), ("interest", "prod"), ("interest", "both")]
ALL_USERS = UserQuery(torch.arange(U))


def score_histories(model: IRN, graph: MultimodalGraph, histories: list[list[int]]) -> Tensor:
    """Return the scores of new users with these histories for all items."""
    counts = torch.tensor([len(h) for h in histories])
    indptr = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])
    values = torch.tensor([j for h in histories for j in h], dtype=torch.long)
    extended = with_new_users(graph, RaggedSets(indptr, values))
    with torch.no_grad():
        return model.score(model.encode(extended), UserQuery(U + torch.arange(len(histories))), torch.arange(I))


# Scores and losses against the equations


@pytest.mark.parametrize("beta", [0.5, 1.0])
@pytest.mark.parametrize(("attention", "pair"), FORMS)
def test_scores_equal_the_dense_formula(attention, pair, beta) -> None:
    dataset = with_mask(checkerboard(U, I)[0], "text", torch.tensor([3, 7]))  # item 3 has neither image nor text
    model, graph = build(dataset, attention=attention, pair=pair, beta=beta)
    scores = score_all(model, graph).double()
    for user, item in [(0, 0), (1, 3), (2, 7), (5, 11), (22, 16)]:
        expected = float(slow_weights(model, graph, item, history_of(graph, user))[1].detach())
        assert float(scores[user, item]) == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(
    "settings",
    [{"share": "gate"}, {"share": "none"}, {"ids": False}, {"num_layers": 1}, {"num_layers": 3}, {"unit_features": False}],
    ids=str,
)
def test_every_form_of_content_equals_the_dense_formula(settings) -> None:
    dataset = with_mask(checkerboard(U, I)[0], "text", torch.tensor([3, 7]))
    model, graph = build(dataset, **settings)
    scores = score_all(model, graph).double()
    for user, item in [(1, 3), (2, 7), (5, 11)]:
        expected = float(slow_weights(model, graph, item, history_of(graph, user))[1].detach())
        assert float(scores[user, item]) == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(("attention", "pair"), FORMS)
def test_loss_equals_the_dense_formula(attention, pair) -> None:
    model, graph = build(attention=attention, pair=pair, l2=0.3)
    positive = torch.tensor([history_of(graph, user)[1] for user in (0, 5, 2)])
    batch = Batch(UserQuery(torch.tensor([0, 5, 2])), positive, torch.tensor([[1, 3], [2, 0], [5, 7]]))
    entropies, squares = [], 0.0
    with torch.no_grad():
        encoded = model.encode(graph)
    for user, items in zip(batch.query.user.tolist(), batch.candidates.tolist(), strict=True):
        for position, item in enumerate(items):
            y = slow_weights(model, graph, item, history_of(graph, user))[1]
            entropies.append(float(F.softplus(y if position else -y).detach()))
            squares += float(encoded["item"][item].square().sum())
        squares += float(encoded.item_past[items[0]].square().sum())
    terms = {name: float(term.detach()) for name, term in model.loss(graph, batch).items()}
    assert set(terms) == {"bce", "l2"}
    assert terms["bce"] == pytest.approx(sum(entropies) / len(entropies), rel=1e-5)
    assert terms["l2"] == pytest.approx(0.3 * squares / (2 * len(batch)), rel=1e-5)


@pytest.mark.parametrize("beta", [0.5, 1.0])
@pytest.mark.parametrize(("attention", "pair"), FORMS)
def test_full_ranking_and_pairs_have_equal_scores_and_gradients(attention, pair, beta) -> None:
    model, graph = build(attention=attention, pair=pair, beta=beta)
    results = []
    for candidates in (torch.arange(I), torch.arange(I).expand(U, I)):
        model.zero_grad()
        scores = model.score(model.encode(graph), ALL_USERS, candidates)
        scores.square().sum().backward()
        results.append([scores.detach(), *(p.grad.clone() for p in model.parameters())])
    for whole, pairs in zip(*results, strict=True):
        torch.testing.assert_close(whole, pairs, rtol=1e-4, atol=1e-3)


# Invariants


@pytest.mark.parametrize(("attention", "pair"), FORMS)
def test_vectors_of_all_pairs_are_never_materialised(attention, pair, monkeypatch) -> None:
    monkeypatch.setattr("gmmrec.nn.fusion.interest.CACHED", 1)
    model, graph = build(attention=attention, pair=pair)
    with Largest() as largest:
        score_all(model, graph)
    assert largest.numel < I * I * HIDDEN < U * I * D  # pairs are of items and history items, without users


def test_target_is_excluded_from_its_own_history() -> None:
    model, graph = build()
    with_target, without = score_histories(model, graph, [[0, 4, 6, 11], [0, 6, 11]])
    torch.testing.assert_close(with_target[4], without[4])
    assert not bool((with_target - without).abs()[[0, 1, 2, 3, 5, 6]].lt(1e-4).any())  # it matters to other targets
    with torch.no_grad():
        pairs = model.score(model.encode(graph), ALL_USERS, torch.arange(I).expand(U, I))
    torch.testing.assert_close(pairs, score_all(model, graph))  # also when pairs are formed, as in training


def test_positive_is_excluded_from_its_history_in_training() -> None:
    """Check a user with one item: the loss of that item does not depend on its vector as a history item."""
    dataset, _ = checkerboard(U, I)
    log = dataset.interactions
    selected = (log.user != 2) | (log.item == log.item[log.user == 2][0])
    model, graph = build(replace(dataset, interactions=log.take(selected)), l2=0.0)
    item = int(log.item[log.user == 2][0])
    batch = Batch(UserQuery(torch.tensor([2])), torch.tensor([item]), torch.tensor([[1, 5]]))
    for negative, is_read in ((batch.positive[:, None], False), (batch.negative, True)):
        model.zero_grad()
        model.loss(graph, replace(batch, negative=negative))["bce"].backward()
        assert bool(model.past.grad[item].any()) == is_read


def test_histories_are_sets_and_empty_ones_leave_the_bias() -> None:
    model, graph = build()
    history, permuted, empty = score_histories(model, graph, [[0, 4, 6, 11], [11, 0, 6, 4], []])
    torch.testing.assert_close(history, permuted)
    torch.testing.assert_close(empty, model.bias.detach())
    all_empty = score_histories(model, graph, [[], []])
    torch.testing.assert_close(all_empty, model.bias.detach().expand(2, -1))
    long = score_histories(model, graph, [[0, 4], list(range(I))])[0]  # padding to the longest history changes nothing
    torch.testing.assert_close(long, score_histories(model, graph, [[0, 4]])[0])


@pytest.mark.parametrize("beta", [0.3, 0.5, 1.0])
def test_weights_sum_to_the_softmax_denominator_to_the_power_of_one_minus_beta(beta) -> None:
    model, graph = build(beta=beta)
    history = [0, 4, 6, 11]
    a, _ = slow_weights(model, graph, 5, history)
    encoded = model.encode(graph)
    tokens, target = encoded.item_past[history][None], encoded["item"][[5]]
    weights = model.interest(tokens, None, target, return_weights=True)[1][0].double()
    torch.testing.assert_close(weights, torch.stack([a[j] for j in history]), rtol=1e-4, atol=1e-6)
    total = model.interest.logits(tokens, target).double().exp().sum()
    torch.testing.assert_close(weights.sum(), total ** (1 - beta))


def test_zero_logits_and_beta_1_give_fism() -> None:
    model, graph = build(beta=1.0)
    mean, _ = build(beta=1.0, attention="mean")
    with torch.no_grad():
        model.interest.logit.weight.zero_()
        mean.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("interest")})
        encoded = model.encode(graph)
    scores = score_all(model, graph)
    torch.testing.assert_close(score_all(mean, graph), scores)
    for user, item in itertools.product((0, 1, 7), range(I)):
        rest = [j for j in history_of(graph, user) if j != item]
        fism = model.bias[item] + encoded["item"][item] @ encoded.item_past[rest].mean(0)
        torch.testing.assert_close(scores[user, item], fism.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("share", ["none", "scalar", "gate"])
def test_towers_without_sharing_are_independent(share) -> None:
    model, graph = build(share=share)
    features = [graph.features[name].unit.clone().requires_grad_() for name in model.names]
    outputs = tower_outputs(model, graph, features)
    for m in range(len(features)):
        gradients = torch.autograd.grad(outputs[:, m].sum(), features, allow_unused=True, retain_graph=True)
        assert gradients[m] is not None
        assert any(g is not None and bool(g.any()) for o, g in enumerate(gradients) if o != m) == (share != "none")
    torch.testing.assert_close(outputs[5].double(), slow_content(model, graph, 5)[0], rtol=1e-4, atol=1e-5)


def test_identity_matrices_share_nothing() -> None:
    model, graph = build(share="scalar")
    other, _ = build(share="none")
    with torch.no_grad():
        for stitch in (model.stitch, *(layer.stitch for layer in model.fuse.layers)):
            stitch.share.copy_(torch.eye(2))
        other.load_state_dict({k: v for k, v in model.state_dict().items() if "stitch" not in k})
    assert torch.equal(score_all(model, graph), score_all(other, graph))


def test_single_modality_is_an_mlp() -> None:
    dataset, _ = checkerboard(U, I)
    model, graph = build(replace(dataset, features={"text": dataset.features["text"]}), share="none", ids=False)
    layers = [model.first[0].project, torch.nn.ReLU(), model.fuse.layers[0].towers[0], torch.nn.ReLU(), model.fuse.fuse.project]
    with torch.no_grad():
        torch.testing.assert_close(model.encode(graph)["item"], torch.nn.Sequential(*layers)(graph.features["text"].unit))


@pytest.mark.parametrize(("attention", "pair"), FORMS)
def test_shapes(attention, pair) -> None:
    model, graph = build(attention=attention, pair=pair)
    encoded = model.encode(graph)
    assert tower_outputs(model, graph).shape == (I, 2, D)
    assert encoded["item"].shape == encoded.item_past.shape == (I, D)
    weights = model.attention(encoded, UserQuery(torch.tensor([0, 1])), torch.tensor([5, 6]))
    longest = max(len(history_of(graph, user)) for user in (0, 1))
    assert weights["user:history"].shape == weights["user:history_items"].shape == (2, longest)
    assert score_all(model, graph).shape == (U, I)


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_large_logits_give_finite_scores_and_gradients(beta) -> None:
    """Exact values are checked in tests/nn/fusion/test_interest.py."""
    model, graph = build(beta=beta)
    with torch.no_grad():
        model.interest.logit.weight.mul_(1e4)
    assert bool(torch.isfinite(score_all(model, graph)).all())
    batch = training_batch(checkerboard(U, I)[0].interactions, torch.Generator().manual_seed(0))
    torch.stack(list(model.loss(graph, batch).values())).sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())


def tower_outputs(model: IRN, graph: MultimodalGraph, features: list[Tensor] | None = None) -> Tensor:
    """Return the tower outputs, computed by the model's modules."""
    tables = features or [graph.features[name].unit for name in model.names]
    x = [torch.relu(layer(table)) for layer, table in zip(model.first, tables, strict=True)]
    present = torch.stack([graph.features[name].present for name in model.names], 1)
    return model.fuse.forward_levels(model.stitch(torch.stack(x, 1), present), present)


# Long histories, new users, explanations, modalities, settings


def test_epochs_subsample_long_histories_only() -> None:
    model, graph = build(max_history=4)
    drawn = model.begin_epoch(graph, torch.Generator().manual_seed(0))
    redrawn = model.begin_epoch(graph, torch.Generator().manual_seed(1))
    before, after = (g.edges(kind).edge_index.as_tensor() for g, kind in ((graph, ITEM_USER), (drawn, DRAWN)))
    for user in range(U):
        history, part = (set(e[0][e[1] == user].tolist()) for e in (before, after))
        assert part <= history
        assert len(part) == min(4, len(history))
    assert not torch.equal(after, redrawn.edges(DRAWN).edge_index.as_tensor())
    assert torch.equal(drawn.edges(ITEM_USER).edge_index.as_tensor(), before)
    assert torch.equal(score_all(model, drawn), score_all(model, graph))  # ranking uses whole histories
    assert build(max_history=I)[0].begin_epoch(graph, torch.Generator()) is graph


def test_history_items_are_sampled_uniformly() -> None:
    model, graph = build(max_history=3)
    generator, counts = torch.Generator().manual_seed(0), torch.zeros(I)
    for _ in range(400):
        item, user = model.begin_epoch(graph, generator).edges(DRAWN).edge_index.as_tensor()
        counts += torch.bincount(item[user == 0], minlength=I)
    history = history_of(graph, 0)
    expected = 400 * 3 / len(history)
    assert float((counts[history] - expected).abs().max()) < 5 * math.sqrt(expected)
    assert int(counts.sum()) == 1200


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_subsampled_histories_are_extrapolated(beta) -> None:
    """Check that the loss does not change with subsampling if all history items have equal vectors."""
    dataset = checkerboard(U, I)[0]
    model, graph = build(with_mask(with_mask(dataset, "image", torch.arange(I)), "text", torch.arange(I)), beta=beta, max_history=4)
    with torch.no_grad():
        model.past.copy_(model.past[:1].expand_as(model.past))
    batch = training_batch(dataset.interactions, torch.Generator().manual_seed(0))
    whole = model.loss(graph, batch)["bce"]
    sampled = model.loss(model.begin_epoch(graph, torch.Generator().manual_seed(0)), batch)["bce"]
    torch.testing.assert_close(sampled, whole)


def test_loss_on_a_sampled_subgraph_equals_the_whole_graph() -> None:
    model, graph = build(max_history=4)
    graph = model.begin_epoch(graph, torch.Generator().manual_seed(0))
    positive = torch.tensor([history_of(graph, user)[1] for user in (4, 2)])
    batch = Batch(UserQuery(torch.tensor([4, 2])), positive, torch.tensor([[1, 3], [5, 7]]))
    seeds = {"user": batch.query.user, "item": batch.candidates.flatten()}
    part, positions = sample_subgraph(graph, seeds, [-1], torch.Generator().manual_seed(0))
    item = positions["item"].view(2, 3)
    actual = model.loss(part, Batch(UserQuery(positions["user"]), item[:, 0], item[:, 1:]))
    for name, term in model.loss(graph, batch).items():
        torch.testing.assert_close(actual[name], term)


def test_new_users_are_scored_like_users_with_the_same_history() -> None:
    model, graph = build()
    histories = [history_of(graph, user) for user in (0, 7)]
    torch.testing.assert_close(score_histories(model, graph, histories), score_all(model, graph)[[0, 7]])


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_attention_is_the_normalised_history_weights(beta) -> None:
    model, graph = build(beta=beta)
    users, items = torch.tensor([0, 1, 7]), torch.tensor([5, history_of(graph, 1)[0], 2])
    with torch.no_grad():
        attention = model.attention(model.encode(graph), UserQuery(users), items)
    for row, (user, item) in enumerate(zip(users.tolist(), items.tolist(), strict=True)):
        a, _ = slow_weights(model, graph, item, history_of(graph, user))
        total = sum(a.values())
        rows = attention["user:history_items"][row]
        assert rows[rows >= 0].tolist() == history_of(graph, user)
        for j, weight in zip(rows.tolist(), attention["user:history"][row].tolist(), strict=True):
            assert weight == pytest.approx(float((a[j] / total).detach()) if j in a else 0.0, rel=1e-4)
    assert attention["user:history"].sum(1).tolist() == pytest.approx([1.0, 1.0, 1.0])


@pytest.mark.parametrize("names", [("audio",), ("audio", "image", "text", "video")])
def test_any_modalities_are_accepted_including_tokens(names) -> None:
    generator = torch.Generator().manual_seed(0)
    features = {name: FeatureTable(name, torch.rand(I, 3, generator=generator)) for name in names}
    features[names[-1]] = FeatureTable(names[-1], torch.rand(I, 2, 5, generator=generator))
    model, graph = build(replace(checkerboard(U, I)[0], features=features))
    assert bool(torch.isfinite(score_all(model, graph)).all())


def test_missing_features_are_refused() -> None:
    with pytest.raises(ValueError, match="IRN needs at least one modality of the items"):
        build(replace(checkerboard(U, I)[0], features={}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": "vector"}, "share must be one of 'scalar', 'gate', 'none'"),
        ({"attention": "max"}, "attention must be one of 'interest', 'mean'"),
        ({"pair": "none"}, "pair must be one of 'concat', 'prod', 'both'"),
        ({"beta": 0.0}, "beta must be greater than 0"),
        ({"beta": 1.5}, "beta must be at most 1, but is 1.5"),
        ({"max_history": 0}, "max_history must be greater than 0"),
    ],
    ids=str,
)
def test_invalid_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        IRNConfig(**settings)
