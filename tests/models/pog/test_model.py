"""POG and FOM agree with a slow version in double precision, and keep what the paper promises."""

from dataclasses import replace

import pytest
import torch

from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.lightgcn import LightGCN
from gmmrec.models.pog.model import POG, POGConfig, left_pad
from gmmrec.tasks.query import Batch, OutfitQuery
from gmmrec.testing import I, U, checkerboard, toy_graph
from tests.models.pog.slow import (
    SMALL,
    built,
    had,
    perceptron,
    question,
    rows_of,
    scores_of,
    slow_gen,
    slow_guess,
    slow_items,
    weights_of,
)


@pytest.mark.parametrize(
    "settings", [{"personal": False}, {}, {"repeats": True}, {"positions": True}, {"repeats": True, "positions": True}]
)
@pytest.mark.parametrize("space", ["item", "model"])
def test_scores_match_the_reference(settings, space):
    model, graph = built(score_space=space, **settings)
    personal = model.config.personal
    query = question()
    x = slow_items(model, graph)
    targets = x if space == "item" else perceptron(weights_of(model), "gen.transition" if personal else "fom.transition", x)
    expected = [
        targets @ slow_guess(model, x, items, history) + had(model, history)
        for items, history in zip(rows_of(query.outfit, query.outfit_mask), rows_of(query.history, query.history_mask), strict=True)
    ]
    torch.testing.assert_close(scores_of(model, graph, query).double(), torch.stack(expected), rtol=1e-4, atol=1e-5)


def example() -> Batch[OutfitQuery]:
    query = question()
    positive = torch.stack([next(i for i in torch.arange(I) if i not in row) for row in query.outfit])
    return Batch(query, positive, torch.tensor([[I - 1, 2]]).expand(len(query), 2))


def test_fom_loss_is_the_log_loss_of_the_masked_item_over_the_batch_without_its_outfit():
    model, graph = built(personal=False, dropout=0.0)
    batch = example()
    x, told = slow_items(model, graph), rows_of(batch.query.outfit, batch.query.outfit_mask)
    everything = {i for row in told for i in row} | set(batch.positive.tolist()) | set(batch.negative.flatten().tolist())
    losses = []
    for items, positive in zip(told, batch.positive.tolist(), strict=True):
        candidates = sorted(everything - set(items))
        chances = (x[candidates] @ slow_guess(model, x, items, [])).log_softmax(0)
        losses.append(-chances[candidates.index(positive)])
    torch.testing.assert_close(model.loss(graph, batch)["log_loss"].double(), torch.stack(losses).mean(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("settings", [{}, {"repeats": True, "positions": True}])
def test_pog_loss_is_the_mean_log_loss_over_next_items_and_the_end(settings):
    model, graph = built(dropout=0.0, shuffle=False, **settings)
    batch = example()
    w, x = weights_of(model), slow_items(model, graph)
    told, known = (
        rows_of(*pair) for pair in ((batch.query.outfit, batch.query.outfit_mask), (batch.query.history, batch.query.history_mask))
    )
    everything = {i for row in told for i in row} | set(batch.positive.tolist()) | set(batch.negative.flatten().tolist())
    losses = []
    for items, history, positive in zip(told, known, batch.positive.tolist(), strict=True):
        whole = [*items, positive]
        guesses = slow_gen(w, x[whole], x[history], model.config)
        steps = []
        for t in range(len(whole) + 1):
            candidates = sorted(everything - set(whole[:t]))
            logits = torch.cat([x[candidates] @ guesses[t] + had(model, history)[candidates], w["end"][None] @ guesses[t]])
            steps.append(-logits.log_softmax(0)[candidates.index(whole[t]) if t < len(whole) else -1])
        losses.append(torch.stack(steps).mean())
    torch.testing.assert_close(model.loss(graph, batch)["log_loss"].double(), torch.stack(losses).mean(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("settings", [{"personal": False}, {"repeats": True}])
def test_compatibility_is_the_mean_log_probability_of_every_item_given_the_others(settings):
    model, graph = built(**settings)
    query = question()
    query = query.take(torch.nonzero(query.outfit_mask.sum(1) > 1).flatten())
    x = slow_items(model, graph)
    told, known = rows_of(query.outfit, query.outfit_mask), rows_of(query.history, query.history_mask)
    expected = [
        sum(
            float((x @ slow_guess(model, x, [j for j in items if j != i], history) + had(model, history)).log_softmax(0)[i])
            for i in items
        )
        / len(items)
        for items, history in zip(told, known, strict=True)
    ]
    with torch.no_grad():
        found = model.compatibility(model.encode(graph), query)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------------------ what is promised


def test_fom_is_invariant_to_the_order_of_other_items():
    model, graph = built(personal=False)
    query, order = question(), torch.randperm(5, generator=torch.Generator().manual_seed(3))
    other = replace(query, outfit=query.outfit[:, order], outfit_mask=query.outfit_mask[:, order])
    torch.testing.assert_close(scores_of(model, graph, query), scores_of(model, graph, other), rtol=1e-4, atol=1e-5)


def test_masked_item_is_not_read():
    model, graph = built(personal=False)
    query = question().take(torch.tensor([0]))
    hidden = int(query.outfit[0, 2])
    with torch.no_grad():
        encoded = model.encode(graph)
        noisy = encoded["item"].clone()
        noisy[hidden] = 100.0
        rest = query.without(torch.tensor([0]), torch.tensor([2]))
        candidates = torch.arange(I)
        found = model.score(replace(encoded, nodes={"item": noisy}), rest, candidates)
        assert torch.equal(found, model.score(encoded, rest, candidates))
        told = model.score(replace(encoded, nodes={"item": noisy}), query, candidates)
        assert not torch.equal(told, model.score(encoded, query, candidates))


@pytest.mark.parametrize("personal", [True, False])
def test_padding_changes_nothing(personal):
    model, graph = built(personal=personal)
    query = question()
    nothing = torch.full((6, 3), I - 1)
    absent = torch.zeros(6, 3, dtype=torch.bool)
    for position in (0, 1):  # in front and behind
        wider = OutfitQuery(
            query.user,
            torch.cat([nothing, query.outfit][:: 1 - 2 * position], 1),
            torch.cat([absent, query.outfit_mask][:: 1 - 2 * position], 1),
            torch.cat([nothing, query.history][:: 1 - 2 * position], 1),
            torch.cat([absent, query.history_mask][:: 1 - 2 * position], 1),
        )
        torch.testing.assert_close(scores_of(model, graph, wider), scores_of(model, graph, query), rtol=1e-4, atol=1e-5)


def test_empty_history_equals_no_history():
    model, graph = built()
    query = question()
    empty = replace(query, history_mask=torch.zeros_like(query.history_mask))
    none = replace(query, history=None, history_mask=None)
    expected = scores_of(model, graph, none)
    assert bool(torch.isfinite(expected).all())
    torch.testing.assert_close(scores_of(model, graph, empty), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(scores_of(model, graph, query)[0], expected[0])


def test_gen_loads_all_weights_of_fom_exactly():
    fom, _ = built(personal=False)
    pog, _ = built(seed=1)
    before = {name: value.clone() for name, value in pog.state_dict().items()}
    assert pog.start_from(fom)
    after, theirs = pog.state_dict(), fom.state_dict()
    for name, value in theirs.items():
        assert torch.equal(after["start" if name == "fom.unknown" else name.replace("fom.", "gen.")], value)
    silent = [name for name in after if ".context.output" in name]
    assert not any(bool(after[name].any()) for name in silent)
    kept = [name for name in after if (".context" in name and name not in silent) or name.split(".")[0] in ("per", "end")]
    assert len(kept) > 20
    assert all(torch.equal(after[name], before[name]) for name in kept)


def test_one_layer_pog_scores_like_its_fom_at_initialisation():
    fom, graph = built(personal=False, num_layers=1)
    pog, _ = built(seed=1, num_layers=1)
    before = scores_of(pog, graph, question())
    pog.start_from(fom)
    expected = scores_of(fom, graph, question())
    torch.testing.assert_close(scores_of(pog, graph, question()), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(before, expected, rtol=1e-4, atol=1e-4)


def test_candidates_per_query_score_as_in_the_full_catalogue():
    model, graph = built(repeats=True)
    query, candidates = question(), torch.stack([torch.randperm(I)[:6] for _ in range(6)])
    with torch.no_grad():
        found = model.score(model.encode(graph), query, candidates)
        some = model.score(model.encode(graph), query, torch.tensor([5, 1, 8]))
    expected = scores_of(model, graph, query)
    torch.testing.assert_close(found, expected.gather(1, candidates))
    torch.testing.assert_close(some, expected[:, [5, 1, 8]])


def test_predictions_depend_only_on_earlier_items():
    model, graph = built(positions=True)
    items = model.encode(graph)["item"].detach()
    outfit, mask = torch.randn(3, 4, 8), torch.arange(4) >= torch.tensor([[0], [1], [3]])
    history, told = items[torch.randint(I, (3, 2))], torch.tensor([[True, True], [False, True], [False, False]])
    with torch.no_grad():
        expected, there = model._generate(outfit, mask, history, told)
        for t in range(4):
            other = outfit.clone()
            other[:, t:] += 3
            found, _ = model._generate(other, mask, history, told)
            assert torch.equal(found[:, : t + 1], expected[:, : t + 1])
            assert not torch.allclose(found[0, t + 1], expected[0, t + 1])
    assert torch.equal(there.sum(1), mask.sum(1) + 1)


def test_long_histories_are_truncated_to_the_newest_items():
    for settings in ({}, {"positions": True, "repeats": True}):
        model, graph = built(max_length=3, **settings)
        query = question()
        expected = scores_of(model, graph, replace(query, history=query.history[:, -3:], history_mask=query.history_mask[:, -3:]))
        torch.testing.assert_close(scores_of(model, graph, query), expected)


def test_stages_start_from_each_other():
    first, graph = built(learn="items")
    torch.manual_seed(0)
    start = scores_of(first, graph, question())
    optimizer = torch.optim.Adam(first.parameters(), lr=0.05)
    values = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = first.loss(graph, example())["triplet"]
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert sum(values[-5:]) < 0.3 * sum(values[:5])
    assert not torch.equal(scores_of(first, graph, question()), start)
    fom, _ = built(personal=False, freeze_items=True)
    assert fom.start_from(first)
    with torch.no_grad():
        assert torch.equal(fom.encode(graph)["item"], first.encode(graph)["item"])
    fom.loss(graph, example())["log_loss"].backward()
    assert fom.items.grad is None
    again, _ = built(seed=5)
    other, _ = built(seed=6)
    assert again.start_from(other)
    assert torch.equal(scores_of(again, graph, question()), scores_of(other, graph, question()))


def test_without_attention_items_and_histories_are_averaged():
    model, graph = built(attention="mean")
    query, x = question(), slow_items(model, graph)
    w = weights_of(model)
    for n, (items, history) in enumerate(
        zip(rows_of(query.outfit, query.outfit_mask), rows_of(query.history, query.history_mask), strict=True)
    ):
        mean, taste = (x[rows].mean(0) if rows else torch.zeros(8, dtype=torch.float64) for rows in (items, history))
        guess = w["guess.weight"] @ mean + w["guess.bias"] + w["taste.weight"] @ taste
        torch.testing.assert_close(scores_of(model, graph, query)[n].double(), x @ guess, rtol=1e-4, atol=1e-5)
    model.loss(graph, example())["log_loss"].backward()


def test_untrained_items_have_no_id_embedding():
    model, graph = built(ids=True)
    cold = MultimodalGraph(graph.data.clone(), graph.schema)
    cold.data["item"].degree = cold.data["item"].degree * (torch.arange(I) != 4)
    with torch.no_grad():
        expected = model.encode(graph)["item"]
        expected[4] -= model.items[4]
        torch.testing.assert_close(model.encode(cold)["item"], expected)


def test_left_pad_moves_missing_items_to_the_left():
    items, mask = torch.arange(40).view(4, 10), torch.rand(4, 10, generator=torch.Generator().manual_seed(0)) < 0.5
    torch.manual_seed(0)
    for shuffle in (False, True):
        moved, there = left_pad(items, mask, shuffle=shuffle)
        assert there.tolist() == mask.sort(dim=1).values.tolist()
        for row in range(4):
            expected, found = items[row][mask[row]].tolist(), moved[row][there[row]].tolist()
            assert sorted(found) == expected
            assert shuffle or found == expected
    assert left_pad(items, mask, shuffle=True)[0].tolist() != left_pad(items, mask, shuffle=True)[0].tolist()


def test_invalid_input_is_refused():
    _, graph = built()
    for settings, words in (
        ({"learn": "items", "category": "kind"}, "needs the modality 'kind'"),
        ({"attention": "mean", "score_space": "model"}, "set score_space: item"),
        ({"num_heads": 5}, "num_heads must divide"),
    ):
        with pytest.raises(ValueError, match=words):
            POG(graph.schema, POGConfig(**{**SMALL, **settings}))
    with pytest.raises(ValueError, match="set ids: true"):
        POG(toy_graph(replace(checkerboard(U, I)[0], features={})).schema, POGConfig(ids=False))
    model, _ = built()
    other = LightGCN(graph.schema, LightGCN.config_class())
    with pytest.raises(ValueError, match="pog starts from an earlier stage of pog"):
        model.start_from(other)
    wider, _ = built(dim=16)
    with pytest.raises(ValueError, match="other items, features or widths"):
        model.start_from(wider)


def test_only_pog_scores_the_end():
    model, graph = built()
    query, x = question(), slow_items(model, graph)
    found = model.end_score(model.encode(graph), query)
    for n, (items, history) in enumerate(
        zip(rows_of(query.outfit, query.outfit_mask), rows_of(query.history, query.history_mask), strict=True)
    ):
        expected = slow_guess(model, x, items, history) @ weights_of(model)["end"]
        torch.testing.assert_close(found[n].double(), expected, rtol=1e-4, atol=1e-5)
    assert built(personal=False)[0].end_score(model.encode(graph), query) is None
