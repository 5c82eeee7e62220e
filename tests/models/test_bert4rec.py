"""BERT4Rec against slow reference implementations of the paper and the released code."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gmmrec.data.split import Split
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.bert4rec import BERT4Rec, BERT4RecConfig
from gmmrec.tasks.inputs import TaskInputs
from gmmrec.tasks.next_item import HistoryConfig, NextItemTask
from gmmrec.tasks.query import Batch, HistoryQuery
from gmmrec.testing import I, U, asked, checkerboard, score_all, toy_graph
from tests.nn.fusion.checks import layer_norm, softmax

D, L = 8, 6
ALL = torch.arange(I)
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1], [0, 0, 0, 1, 1, 1]]).bool()
ITEMS = torch.randint(I, MASK.shape, generator=torch.Generator().manual_seed(0))
QUERY = HistoryQuery(torch.arange(len(MASK)), ITEMS, MASK)
POSITIVE = torch.tensor([3, 9, 16, 0])
HIDDEN = torch.tensor([[0, 1, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 0, 0]]).bool()
BATCH = Batch(QUERY, POSITIVE, torch.zeros(len(MASK), 1, dtype=torch.long))


def build(**settings) -> tuple[BERT4Rec, MultimodalGraph]:
    torch.manual_seed(0)
    graph = toy_graph()
    model = BERT4Rec(graph.schema, BERT4RecConfig(**{"dim": D, "init_std": 0.5, **settings})).double().eval()
    torch.nn.init.normal_(model.bias)
    return model, graph


def slow_states(model: BERT4Rec, vectors: list[Tensor]) -> list[Tensor]:
    """Section 3 of the paper for one unpadded sequence, oldest first, in loops over positions and heads."""
    stack, heads = model.transformer, model.config.num_heads
    size = D // heads
    count = len(vectors)
    x = [layer_norm(v + stack.positions.table[count - 1 - t], stack.norm) for t, v in enumerate(vectors)]
    for layer in stack.encoder.layers:
        attention, outputs = layer.attention, []
        for target in x:
            messages = []
            for h in range(heads):
                part = slice(h * size, (h + 1) * size)
                logits = [attention.query(target)[part] @ attention.key(source)[part] / math.sqrt(size) for source in x]
                weights = softmax(logits)
                messages.append(sum(w * attention.value(source)[part] for w, source in zip(weights, x, strict=True)))
            s = layer_norm(target + attention.output(torch.cat(messages)), layer.norm)
            inner = layer.ffn[0](s)
            outputs.append(layer_norm(s + layer.ffn[2](inner * (1 + torch.erf(inner / math.sqrt(2))) / 2), layer.ffn_norm))
        x = outputs
    return x


def slow_logits(model: BERT4Rec, items: list[int], hidden: list[bool]) -> list[Tensor]:
    """Equation 7 at every position."""
    states = slow_states(model, [model.hidden[0] if h else model.items[i] for i, h in zip(items, hidden, strict=True)])
    logits = []
    for state in states:
        inner = model.head.project(state)
        targets = layer_norm(inner * (1 + torch.erf(inner / math.sqrt(2))) / 2, model.head.norm)
        logits.append(torch.stack([targets @ item for item in model.items]) + model.bias)
    return logits


def test_scores_equal_the_slow_version() -> None:
    model, graph = build()
    expected = []
    for items, mask in zip(ITEMS, MASK, strict=True):
        history = items[mask].tolist()
        expected.append(slow_logits(model, [*history, 0], [False] * len(history) + [True])[-1])
    torch.testing.assert_close(model.score(model.encode(graph), QUERY, ALL), torch.stack(expected))


def test_loss_and_gradients_equal_the_slow_version() -> None:
    model, graph = build()
    model.masker = lambda mask: HIDDEN
    total = 0.0
    for items, mask, positive, hidden in zip(ITEMS, MASK, POSITIVE, HIDDEN, strict=True):
        sequence = [*items[mask].tolist(), int(positive)]
        masked = hidden[-len(sequence) :].tolist()
        for logits, item, is_masked in zip(slow_logits(model, sequence, masked), sequence, masked, strict=True):
            if is_masked:
                total = total + logits.exp().sum().log() - logits[item]
    loss = model.loss(graph, BATCH)["cloze"]
    torch.testing.assert_close(loss, total / HIDDEN.sum())
    for actual, expected in zip(
        torch.autograd.grad(loss, list(model.parameters())),
        torch.autograd.grad(total / HIDDEN.sum(), list(model.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(actual, expected)


# Invariants


def tokens_of(model: BERT4Rec) -> Tensor:
    return model.items[ITEMS].detach()


def test_shapes_and_attention_rows() -> None:
    model, _ = build()
    assert model.transformer(tokens_of(model), MASK).shape == (*MASK.shape, D)
    positions = torch.tensor([3, 11, 17])
    logits = model.head(model.transformer(tokens_of(model), MASK, positions)) @ model.items.t() + model.bias
    assert logits.shape == (3, I)
    weights = model.transformer.weights(tokens_of(model), MASK)
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]).double())
    assert bool((weights.masked_select(~MASK[:, None, None].expand_as(weights)) == 0).all())


def test_padding_changes_nothing() -> None:
    model, graph = build()
    other = replace(QUERY, items=torch.where(MASK, ITEMS, I - 1 - ITEMS))
    assert not torch.equal(other.items, ITEMS)
    states = [model.transformer(model.items[query.items], MASK)[MASK] for query in (QUERY, other)]
    torch.testing.assert_close(*states)
    encoded = model.encode(graph)
    torch.testing.assert_close(model.score(encoded, other, ALL), model.score(encoded, QUERY, ALL))


def test_later_items_change_earlier_states() -> None:
    model, _ = build()
    changed = tokens_of(model)
    changed[:, -1] *= -1
    assert bool((model.transformer(changed, MASK)[0, :-1] - model.transformer(tokens_of(model), MASK)[0, :-1]).abs().gt(1e-6).all())


def test_masked_positions_do_not_see_their_items() -> None:
    model, graph = build()
    model.masker = lambda mask: HIDDEN
    outputs = []
    model.head.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    model.loss(graph, BATCH)
    other = Batch(
        replace(QUERY, items=torch.where(HIDDEN[:, :-1], (ITEMS + 5) % I, ITEMS)),
        torch.where(HIDDEN[:, -1], (POSITIVE + 5) % I, POSITIVE),
        BATCH.negative,
    )
    model.loss(graph, other)
    assert torch.equal(*outputs)
    model.loss(graph, replace(BATCH, query=replace(QUERY, items=(ITEMS + 5) % I)))
    assert not torch.allclose(outputs[2], outputs[0])


def test_order_does_not_matter_without_positions() -> None:
    model, _ = build()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    x = tokens_of(model)
    assert not torch.allclose(model.transformer(x[:, order], MASK[:, order]), model.transformer(x, MASK)[:, order])
    torch.nn.init.zeros_(model.transformer.positions.table)
    torch.testing.assert_close(model.transformer(x[:, order], MASK[:, order]), model.transformer(x, MASK)[:, order])


def test_input_and_output_share_one_table_of_items() -> None:
    model, graph = build()
    assert [tuple(p.shape) for p in model.parameters() if len(p) == I] == [(I, D), (I,)]
    encoded = model.encode(graph)
    assert encoded["item"] is model.items
    assert model.score(encoded, QUERY, ALL).shape == (len(MASK), I)
    item, before = int(ITEMS[2, -1]), model.score(encoded, QUERY, ALL)
    with torch.no_grad():
        model.items[item] *= -2.0
    after = model.score(model.encode(graph), QUERY, ALL)
    others = torch.tensor([i for i in range(I) if i != item])
    assert not torch.allclose(after[2, others], before[2, others])  # as input
    without = ~((item == ITEMS) & MASK).any(1)
    assert bool(without.any())
    assert torch.equal(after[without][:, others], before[without][:, others])
    assert bool((after[without, item] - before[without, item]).abs().gt(1e-6).all())  # as output


@pytest.mark.parametrize("mask_prob", [0.1, 0.2, 0.6])
def test_number_of_masked_items_follows_the_formula(mask_prob) -> None:
    model, _ = build(mask_prob=mask_prob, max_masked=3, last_copy=0.0)
    mask = torch.cat([MASK, torch.ones(len(MASK), 1).bool()], 1)
    expected = [min(max(math.floor(mask_prob * n + 0.5), 1), 3) for n in (7, 5, 2, 4)]
    assert model.masker(mask).sum(1).tolist() == expected
    model, _ = build(mask_prob=mask_prob, last_copy=1.0)
    last = torch.zeros_like(mask)
    last[:, -1] = True
    assert torch.equal(model.masker(mask), last)


# Windows, attention, settings


def test_every_event_is_in_one_window_by_default() -> None:
    assert isinstance(BERT4RecConfig(), HistoryConfig)
    log = checkerboard(U, I)[0].interactions
    task = NextItemTask(TaskInputs(Split(log, log, log), U, I, settings=BERT4RecConfig()))
    batches = [batch for _, batch in task.batches(None, torch.Generator().manual_seed(0))]
    assert sum(int(batch.query.mask.sum()) + len(batch) for batch in batches) == len(log)


def test_long_histories_keep_the_newest_items() -> None:
    model, graph = build(max_length=3)
    encoded = model.encode(graph)
    newest = HistoryQuery(QUERY.user, ITEMS[:, -3:], MASK[:, -3:])
    assert torch.equal(model.score(encoded, QUERY, ALL), model.score(encoded, newest, ALL))
    assert model.attention(encoded, QUERY, POSITIVE)["user:history"].shape == (len(MASK), 3)
    masks = []
    model.masker = lambda mask: masks.append(mask) or mask
    model.loss(graph, BATCH)
    assert masks[0].shape == (len(MASK), 4)


def test_attention_is_that_of_the_masked_position() -> None:
    model, graph = build()
    encoded = model.encode(graph)
    attention = model.attention(encoded, QUERY, POSITIVE)
    torch.testing.assert_close(attention["user:history"].sum(1) + attention["user:hidden"], torch.ones(len(MASK)).double())
    assert torch.equal(attention["user:history_items"], ITEMS.masked_fill(~MASK, -1))
    assert bool((attention["user:history"][~MASK] == 0).all())
    tokens, mask = model._with_mask_token(encoded, ITEMS, MASK)
    torch.testing.assert_close(attention["user:history"], model.transformer.weights(tokens, mask)[:, :, -1, :-1].mean(1))


def test_scoring_masks_nothing() -> None:
    model, graph = build()
    assert torch.equal(score_all(model, graph), score_all(model, graph))
    query = asked(model, torch.arange(U))
    model.train()
    torch.manual_seed(0)
    first = model.loss(graph, BATCH)["cloze"]
    assert not torch.equal(first, model.loss(graph, BATCH)["cloze"])  # other masks, other dropout
    assert bool(torch.isfinite(model.score(model.encode(graph), query, ALL)).all())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask_prob": 0.0}, "mask_prob must be greater than 0"),
        ({"mask_prob": 1.5}, "mask_prob must lie between 0 and 1"),
        ({"last_copy": -0.1}, "last_copy must lie between 0 and 1"),
        ({"max_masked": 0}, "max_masked must be greater than 0"),
        ({"stride": 0}, "stride must be greater than 0"),
    ],
    ids=str,
)
def test_invalid_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        BERT4RecConfig(**settings)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="num_heads must divide the width 8, but is 3"):
        build(num_heads=3)
