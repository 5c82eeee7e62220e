"""POG and FOM against a reference implementation in float64, and their invariants."""

from dataclasses import replace

import pytest
import torch

from gmmrec.data.split import split_dataset
from gmmrec.graph.build import build_graph
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.lightgcn import LightGCN
from gmmrec.models.pog.model import POG, POGConfig, left_pad
from gmmrec.tasks.query import Batch, OutfitQuery
from gmmrec.testing import I, U, checkerboard, toy_graph
from tests.models.pog.slow import (
    SMALL,
    build,
    make_query,
    perceptron,
    repeat_bonus,
    rows_of,
    scores_of,
    slow_gen,
    slow_items,
    slow_prediction,
    weights_of,
)


@pytest.mark.parametrize(
    "settings", [{"personal": False}, {}, {"repeats": True}, {"positions": True}, {"repeats": True, "positions": True}]
)
@pytest.mark.parametrize("space", ["item", "model"])
def test_scores_match_the_reference(settings, space):
    model, graph = build(score_space=space, **settings)
    personal = model.config.personal
    query = make_query()
    x = slow_items(model, graph)
    targets = x if space == "item" else perceptron(weights_of(model), "gen.transition" if personal else "fom.transition", x)
    expected = [
        targets @ slow_prediction(model, x, items, history) + repeat_bonus(model, history)
        for items, history in zip(rows_of(query.outfit, query.outfit_mask), rows_of(query.history, query.history_mask), strict=True)
    ]
    torch.testing.assert_close(scores_of(model, graph, query).double(), torch.stack(expected), rtol=1e-4, atol=1e-5)


def make_batch() -> Batch[OutfitQuery]:
    query = make_query()
    positive = torch.stack([next(i for i in torch.arange(I) if i not in row) for row in query.outfit])
    return Batch(query, positive, torch.tensor([[I - 1, 2]]).expand(len(query), 2))


def test_fom_loss_is_the_log_loss_of_the_masked_item_over_the_batch_without_its_outfit():
    model, graph = build(personal=False, dropout=0.0)
    batch = make_batch()
    x, outfits = slow_items(model, graph), rows_of(batch.query.outfit, batch.query.outfit_mask)
    in_batch = {i for row in outfits for i in row} | set(batch.positive.tolist()) | set(batch.negative.flatten().tolist())
    losses = []
    for items, positive in zip(outfits, batch.positive.tolist(), strict=True):
        candidates = sorted(in_batch - set(items))
        log_probabilities = (x[candidates] @ slow_prediction(model, x, items, [])).log_softmax(0)
        losses.append(-log_probabilities[candidates.index(positive)])
    torch.testing.assert_close(model.loss(graph, batch)["log_loss"].double(), torch.stack(losses).mean(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("settings", [{}, {"repeats": True, "positions": True}])
def test_pog_loss_is_the_mean_log_loss_over_next_items_and_the_end(settings):
    model, graph = build(dropout=0.0, shuffle=False, **settings)
    batch = make_batch()
    w, x = weights_of(model), slow_items(model, graph)
    outfits, histories = (
        rows_of(*pair) for pair in ((batch.query.outfit, batch.query.outfit_mask), (batch.query.history, batch.query.history_mask))
    )
    in_batch = {i for row in outfits for i in row} | set(batch.positive.tolist()) | set(batch.negative.flatten().tolist())
    losses = []
    for items, history, positive in zip(outfits, histories, batch.positive.tolist(), strict=True):
        whole = [*items, positive]
        predictions = slow_gen(w, x[whole], x[history], model.config)
        steps = []
        for t in range(len(whole) + 1):
            candidates = sorted(in_batch - set(whole[:t]))
            logits = torch.cat(
                [x[candidates] @ predictions[t] + repeat_bonus(model, history)[candidates], w["end"][None] @ predictions[t]]
            )
            steps.append(-logits.log_softmax(0)[candidates.index(whole[t]) if t < len(whole) else -1])
        losses.append(torch.stack(steps).mean())
    torch.testing.assert_close(model.loss(graph, batch)["log_loss"].double(), torch.stack(losses).mean(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("settings", [{"personal": False}, {"repeats": True}])
def test_compatibility_is_the_mean_log_probability_of_every_item_given_the_others(settings):
    model, graph = build(**settings)
    query = make_query()
    query = query.take(torch.nonzero(query.outfit_mask.sum(1) > 1).flatten())
    x = slow_items(model, graph)
    outfits, histories = rows_of(query.outfit, query.outfit_mask), rows_of(query.history, query.history_mask)
    expected = [
        sum(
            float(
                (x @ slow_prediction(model, x, [j for j in items if j != i], history) + repeat_bonus(model, history)).log_softmax(
                    0
                )[i]
            )
            for i in items
        )
        / len(items)
        for items, history in zip(outfits, histories, strict=True)
    ]
    with torch.no_grad():
        actual = model.compatibility(model.encode(graph), query)
    torch.testing.assert_close(actual, torch.tensor(expected), rtol=1e-4, atol=1e-5)


# Invariants


def test_fom_is_invariant_to_the_order_of_other_items():
    model, graph = build(personal=False)
    query, order = make_query(), torch.randperm(5, generator=torch.Generator().manual_seed(3))
    other = replace(query, outfit=query.outfit[:, order], outfit_mask=query.outfit_mask[:, order])
    torch.testing.assert_close(scores_of(model, graph, query), scores_of(model, graph, other), rtol=1e-4, atol=1e-5)


def test_masked_item_is_not_read():
    model, graph = build(personal=False)
    query = make_query().take(torch.tensor([0]))
    hidden = int(query.outfit[0, 2])
    with torch.no_grad():
        encoded = model.encode(graph)
        noisy = encoded["item"].clone()
        noisy[hidden] = 100.0
        rest = query.without(torch.tensor([0]), torch.tensor([2]))
        candidates = torch.arange(I)
        masked = model.score(replace(encoded, nodes={"item": noisy}), rest, candidates)
        assert torch.equal(masked, model.score(encoded, rest, candidates))
        visible = model.score(replace(encoded, nodes={"item": noisy}), query, candidates)
        assert not torch.equal(visible, model.score(encoded, query, candidates))


@pytest.mark.parametrize("personal", [True, False])
def test_padding_changes_nothing(personal):
    model, graph = build(personal=personal)
    query = make_query()
    padding = torch.full((6, 3), I - 1)
    absent = torch.zeros(6, 3, dtype=torch.bool)
    for position in (0, 1):  # left and right
        wider = OutfitQuery(
            query.user,
            torch.cat([padding, query.outfit][:: 1 - 2 * position], 1),
            torch.cat([absent, query.outfit_mask][:: 1 - 2 * position], 1),
            torch.cat([padding, query.history][:: 1 - 2 * position], 1),
            torch.cat([absent, query.history_mask][:: 1 - 2 * position], 1),
        )
        torch.testing.assert_close(scores_of(model, graph, wider), scores_of(model, graph, query), rtol=1e-4, atol=1e-5)


def test_empty_history_equals_no_history():
    model, graph = build()
    query = make_query()
    empty = replace(query, history_mask=torch.zeros_like(query.history_mask))
    none = replace(query, history=None, history_mask=None)
    expected = scores_of(model, graph, none)
    assert bool(torch.isfinite(expected).all())
    torch.testing.assert_close(scores_of(model, graph, empty), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(scores_of(model, graph, query)[0], expected[0])


def test_gen_loads_all_weights_of_fom_exactly():
    fom, _ = build(personal=False)
    pog, _ = build(seed=1)
    before = {name: value.clone() for name, value in pog.state_dict().items()}
    assert pog.start_from(fom)
    after, source = pog.state_dict(), fom.state_dict()
    for name, value in source.items():
        assert torch.equal(after["start" if name == "fom.unknown" else name.replace("fom.", "gen.")], value)
    zeroed = [name for name in after if ".context.output" in name]
    assert not any(bool(after[name].any()) for name in zeroed)
    kept = [name for name in after if (".context" in name and name not in zeroed) or name.split(".")[0] in ("per", "end")]
    assert len(kept) > 20
    assert all(torch.equal(after[name], before[name]) for name in kept)


def test_one_layer_pog_scores_like_its_fom_at_initialisation():
    fom, graph = build(personal=False, num_layers=1)
    pog, _ = build(seed=1, num_layers=1)
    before = scores_of(pog, graph, make_query())
    pog.start_from(fom)
    expected = scores_of(fom, graph, make_query())
    torch.testing.assert_close(scores_of(pog, graph, make_query()), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(before, expected, rtol=1e-4, atol=1e-4)


def test_candidates_per_query_score_as_in_the_full_catalogue():
    model, graph = build(repeats=True)
    query, candidates = make_query(), torch.stack([torch.randperm(I)[:6] for _ in range(6)])
    with torch.no_grad():
        actual = model.score(model.encode(graph), query, candidates)
        subset = model.score(model.encode(graph), query, torch.tensor([5, 1, 8]))
    expected = scores_of(model, graph, query)
    torch.testing.assert_close(actual, expected.gather(1, candidates))
    torch.testing.assert_close(subset, expected[:, [5, 1, 8]])


def test_predictions_depend_only_on_earlier_items():
    model, graph = build(positions=True)
    items = model.encode(graph)["item"].detach()
    outfit, mask = torch.randn(3, 4, 8), torch.arange(4) >= torch.tensor([[0], [1], [3]])
    history, history_mask = items[torch.randint(I, (3, 2))], torch.tensor([[True, True], [False, True], [False, False]])
    with torch.no_grad():
        expected, steps_mask = model._generate(outfit, mask, history, history_mask)
        for t in range(4):
            other = outfit.clone()
            other[:, t:] += 3
            actual, _ = model._generate(other, mask, history, history_mask)
            assert torch.equal(actual[:, : t + 1], expected[:, : t + 1])
            assert not torch.allclose(actual[0, t + 1], expected[0, t + 1])
    assert torch.equal(steps_mask.sum(1), mask.sum(1) + 1)


def test_long_histories_are_truncated_to_the_newest_items():
    for settings in ({}, {"positions": True, "repeats": True}):
        model, graph = build(max_length=3, **settings)
        query = make_query()
        expected = scores_of(model, graph, replace(query, history=query.history[:, -3:], history_mask=query.history_mask[:, -3:]))
        torch.testing.assert_close(scores_of(model, graph, query), expected)


def test_stages_start_from_each_other():
    first, graph = build(learn="items")
    torch.manual_seed(0)
    start = scores_of(first, graph, make_query())
    optimizer = torch.optim.Adam(first.parameters(), lr=0.05)
    values = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = first.loss(graph, make_batch())["triplet"]
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert sum(values[-5:]) < 0.3 * sum(values[:5])
    assert not torch.equal(scores_of(first, graph, make_query()), start)
    fom, _ = build(personal=False, freeze_items=True)
    assert fom.start_from(first)
    with torch.no_grad():
        assert torch.equal(fom.encode(graph)["item"], first.encode(graph)["item"])
    fom.loss(graph, make_batch())["log_loss"].backward()
    assert fom.items.grad is None
    again, _ = build(seed=5)
    other, _ = build(seed=6)
    assert again.start_from(other)
    assert torch.equal(scores_of(again, graph, make_query()), scores_of(other, graph, make_query()))


def test_without_attention_items_and_histories_are_averaged():
    model, graph = build(attention="mean")
    query, x = make_query(), slow_items(model, graph)
    w = weights_of(model)
    for n, (items, history) in enumerate(
        zip(rows_of(query.outfit, query.outfit_mask), rows_of(query.history, query.history_mask), strict=True)
    ):
        mean, taste = (x[rows].mean(0) if rows else torch.zeros(8, dtype=torch.float64) for rows in (items, history))
        prediction = w["guess.weight"] @ mean + w["guess.bias"] + w["taste.weight"] @ taste
        torch.testing.assert_close(scores_of(model, graph, query)[n].double(), x @ prediction, rtol=1e-4, atol=1e-5)
    model.loss(graph, make_batch())["log_loss"].backward()


def test_untrained_items_have_no_id_embedding():
    model, graph = build(ids=True)
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
        padded, padded_mask = left_pad(items, mask, shuffle=shuffle)
        assert padded_mask.tolist() == mask.sort(dim=1).values.tolist()
        for row in range(4):
            expected, actual = items[row][mask[row]].tolist(), padded[row][padded_mask[row]].tolist()
            assert sorted(actual) == expected
            assert shuffle or actual == expected
    assert left_pad(items, mask, shuffle=True)[0].tolist() != left_pad(items, mask, shuffle=True)[0].tolist()


def test_invalid_input_is_refused():
    _, graph = build()
    for settings, words in (
        ({"learn": "items", "category": "kind"}, "needs the modality 'kind'"),
        ({"attention": "mean", "score_space": "model"}, "set score_space: item"),
        ({"num_heads": 5}, "num_heads must divide"),
    ):
        with pytest.raises(ValueError, match=words):
            POG(graph.schema, POGConfig(**{**SMALL, **settings}))
    with pytest.raises(ValueError, match="set ids: true"):
        POG(toy_graph(replace(checkerboard(U, I)[0], features={})).schema, POGConfig(ids=False))
    model, _ = build()
    other = LightGCN(graph.schema, LightGCN.config_class())
    with pytest.raises(ValueError, match="pog starts from an earlier stage of pog"):
        model.start_from(other)
    wider, _ = build(dim=16)
    with pytest.raises(ValueError, match="other items, features or widths"):
        model.start_from(wider)


def test_only_pog_scores_the_end():
    model, graph = build()
    query, x = make_query(), slow_items(model, graph)
    actual = model.stop_score(model.encode(graph), query)
    for n, (items, history) in enumerate(
        zip(rows_of(query.outfit, query.outfit_mask), rows_of(query.history, query.history_mask), strict=True)
    ):
        expected = slow_prediction(model, x, items, history) @ weights_of(model)["end"]
        torch.testing.assert_close(actual[n].double(), expected, rtol=1e-4, atol=1e-5)
    assert build(personal=False)[0].stop_score(model.encode(graph), query) is None


@pytest.mark.parametrize("name", ["items", "clip.large", ""])
def test_a_modality_may_have_a_name_that_no_module_may(name):
    """The vectors are those of the same features under a plain name."""

    def vectors(modality: str) -> torch.Tensor:
        dataset, _ = checkerboard()
        features = {modality: replace(dataset.features["image"], name=modality)}
        graph = build_graph(replace(dataset, features=features), split_dataset(dataset))
        torch.manual_seed(0)
        return POG(graph.schema, POGConfig(**SMALL))._vectors(graph, None)

    assert torch.equal(vectors(name), vectors("image"))
