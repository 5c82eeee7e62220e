"""MARank against a reference implementation of its equations, and its invariants."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import gmmrec
from gmmrec.data.interactions import Interactions
from gmmrec.data.split import Split
from gmmrec.models.marank import MARank, MARankConfig, recent
from gmmrec.tasks.inputs import BatchConfig, TaskInputs
from gmmrec.tasks.next_item import NextItemTask
from gmmrec.tasks.query import Batch, HistoryQuery
from gmmrec.testing import I, U, toy_graph

L, D, K = 6, 8, 2


def model_of(*, seed: int = 0, **settings) -> MARank:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MARank(toy_graph().schema, MARankConfig(**{"dim": D, "init_std": 0.3, **settings})).eval()


def query_of(num: int = 7, length: int = L, *, full: bool = True) -> HistoryQuery:
    generator = torch.Generator().manual_seed(0)
    items = torch.randint(I, (num, length), generator=generator)
    mask = torch.arange(length) >= torch.arange(num)[:, None] % length
    return HistoryQuery(torch.arange(num) % U, items, torch.ones_like(mask) if full else mask)


@torch.no_grad()
def scores_of(model: MARank, query: HistoryQuery) -> Tensor:
    return model.score(model.encode(toy_graph()), query, torch.arange(I))


@torch.no_grad()
def parts_of(model: MARank, query: HistoryQuery):
    """Return h, the output of the MLP, and the weights."""
    encoded = model.encode(toy_graph())
    read, weights = model._read(encoded["user"][query.user], encoded["item"][:, -D:], query)
    return read, model.mix(read), weights


def slow_score(model: MARank, user: int, history: list[int], item: int) -> Tensor:
    """Compute one score in float64 from the equations."""
    table = {name: p.detach().double() for name, p in model.named_parameters()}
    history = history[-L:] + [history[-1]] * (L - len(history))  # right-padded, as in the code
    u, e = table["users"][user], [table["context_items"][j] for j in history]

    def attention(name: str, rows: list[Tensor], guide: Tensor | None) -> Tensor:
        logits = []
        for row in rows:
            inner = table[f"{name}.token.weight"] @ row + table[f"{name}.token.bias"]
            inner = inner if guide is None else inner + table[f"{name}.guide.weight"] @ guide
            logits.append(torch.sigmoid(table[f"{name}.logit.weight"][0] @ torch.tanh(inner)))
        return torch.softmax(torch.stack(logits), 0)

    def layer(name: str, x: Tensor) -> Tensor:
        return torch.relu(table[f"{name}.weight"] @ x + table[f"{name}.bias"] + x)

    weights = attention("read.inside.0", e, u)
    read = [sum(a * row for a, row in zip(weights, e, strict=True)) + e[-1]]
    anchor, rows = u, e
    for k in range(1, K + 1):
        anchor = layer(f"read.anchor.layers.{k - 1}", anchor)
        rows = [layer(f"read.tokens.layers.{k - 1}", row) for row in rows]
        weights = attention(f"read.inside.{k}", rows, anchor)
        read.append(sum(a * row for a, row in zip(weights, rows, strict=True)))
    order = attention("read.between", read, None)
    h = x = sum(b * z for b, z in zip(order, read, strict=True))
    for p in range(2):
        x = layer(f"mix.layers.{p}", x)
    return u @ table["items"][item] + (x + h) @ table["context_items"][item]


def test_scores_and_loss_match_the_reference():
    model, query = model_of(), query_of(full=False)
    histories = [items[mask].tolist() for items, mask in zip(query.items, query.mask, strict=True)]
    users = query.user.tolist()
    expected = torch.stack(
        [torch.stack([slow_score(model, u, h, i) for i in range(I)]) for u, h in zip(users, histories, strict=True)]
    )
    torch.testing.assert_close(scores_of(model, query).double(), expected, rtol=1e-5, atol=1e-5)
    batch = Batch(query, torch.arange(7), torch.arange(14).view(7, 2) + 2)
    terms = {name: term.detach().double() for name, term in model.loss(toy_graph(), batch).items()}
    scores = expected.gather(1, batch.candidates)
    torch.testing.assert_close(terms["bpr"], -torch.sigmoid(scores[:, :1] - scores[:, 1:]).log().mean(), rtol=1e-5, atol=1e-5)
    read, mixed, _ = parts_of(model, query)
    parts = [model.users[query.user], model.items[batch.candidates], model.context_items[batch.candidates], read, mixed]
    squares = sum(part.detach().double().square().sum() for part in parts)
    torch.testing.assert_close(terms["l2"], 5e-4 * squares / 7, rtol=1e-5, atol=1e-7)


def test_shapes_and_sums():
    query = query_of()
    read, mixed, weights = parts_of(model_of(), query)
    assert read.shape == mixed.shape == (7, D)
    assert weights.token.shape == (7, K + 1, L)
    assert weights.order.shape == (7, K + 1)
    torch.testing.assert_close(weights.token.sum(-1), torch.ones(7, K + 1))
    torch.testing.assert_close(weights.order.sum(-1), torch.ones(7))


def test_sigmoid_logits_bound_the_weights():
    weights = parts_of(model_of(init_std=100.0), query_of())[2]
    assert float(weights.token.min()) > 0.0685 - 1e-4
    assert float(weights.token.max()) < 0.3522 + 1e-4
    assert float(weights.order.min()) > 0.1554 - 1e-4
    assert float(weights.order.max()) < 0.5761 + 1e-4
    assert bool((weights.token.amax(-1) / weights.token.amin(-1) <= math.e + 1e-5).all())
    assert float(weights.token.max()) > 0.2  # far from uniform, so that the bounds are tight


@torch.no_grad()
def test_with_zero_matrices_order_zero_is_the_mean_plus_the_newest_item():
    model, query = model_of(orders=0), query_of()
    for name, parameter in model.read.named_parameters():
        if name.endswith("weight"):
            parameter.zero_()
    read, _, weights = parts_of(model, query)
    items = model.context_items[query.items]
    torch.testing.assert_close(weights.token, torch.full((7, 1, L), 1 / L))
    torch.testing.assert_close(read, items.mean(1) + items[:, -1])


@torch.no_grad()
def test_with_zero_matrices_and_biases_the_state_is_h_plus_its_relu():
    model, query = model_of(), query_of()
    for parameter in (*model.read.parameters(), *model.mix.parameters()):
        parameter.zero_()
    read, mixed, weights = parts_of(model, query)
    items = model.context_items[query.items]
    rectified = items.relu().mean(1)
    torch.testing.assert_close(weights.order, torch.full((7, 3), 1 / 3))
    torch.testing.assert_close(read, (items.mean(1) + items[:, -1] + 2 * rectified) / 3)
    assert torch.equal(mixed, read.relu())
    long_term = model.users[query.user] @ model.items.T
    torch.testing.assert_close(scores_of(model, query), long_term + (read + read.relu()) @ model.context_items.T)


@torch.no_grad()
def test_scores_depend_on_the_newest_item_but_not_on_the_order_of_older_ones():
    model, query = model_of(), query_of()
    query = replace(query, items=torch.stack([torch.randperm(I, generator=torch.Generator().manual_seed(n))[:L] for n in range(7)]))
    shuffled = replace(query, items=query.items[:, [3, 0, 4, 2, 1, 5]])
    swapped = replace(query, items=query.items[:, [5, 1, 2, 3, 4, 0]])
    torch.testing.assert_close(scores_of(model, shuffled), scores_of(model, query))
    assert not torch.allclose(scores_of(model, swapped), scores_of(model, query))
    model.read.shortcut = None  # only z_0 depends on which item is the newest
    torch.testing.assert_close(scores_of(model, swapped), scores_of(model, query))


@torch.no_grad()
def test_long_term_score_is_independent_of_the_history():
    model, query = model_of(), query_of()
    before, other = scores_of(model, query), torch.randn_like(model.items)
    expected = model.users[query.user] @ (other - model.items).T
    model.items.copy_(other)
    torch.testing.assert_close(scores_of(model, query) - before, expected, rtol=1e-4, atol=1e-5)
    again = replace(query, items=(query.items + 5) % I)
    model.items.copy_(torch.zeros_like(other))
    without = scores_of(model, again)
    model.items.copy_(other)
    torch.testing.assert_close(scores_of(model, again) - without, model.users[query.user] @ other.T, rtol=1e-4, atol=1e-5)


def test_dropout_is_active_in_training_only():
    model, query = model_of(), query_of()
    assert torch.equal(scores_of(model, query), scores_of(model, query))
    assert not torch.equal(scores_of(model.train(), query), scores_of(model, query))


def test_negatives_are_never_training_items_of_the_user():
    generator = torch.Generator().manual_seed(0)
    log = Interactions(torch.randint(U, (150,), generator=generator), torch.randint(I, (150,), generator=generator))
    task = NextItemTask(TaskInputs(Split(log, log, log), U, I, BatchConfig(num_negatives=3), settings=MARankConfig()))
    known = set(zip(log.user.tolist(), log.item.tolist(), strict=True))
    for _ in range(5):
        for _, batch in task.batches(None, generator):
            assert batch.query.items.shape[1] <= L
            drawn = zip(batch.query.user.repeat_interleave(3).tolist(), batch.negative.flatten().tolist(), strict=True)
            assert not known & set(drawn)


def test_short_histories_are_padded_with_their_newest_item_and_long_ones_truncated():
    model, query = model_of(), query_of(full=False)
    explicit = torch.stack([torch.where(mask, items, items[-1]) for items, mask in zip(query.items, query.mask, strict=True)])
    full = HistoryQuery(query.user, explicit, torch.ones_like(query.mask))
    assert torch.equal(scores_of(model, query), scores_of(model, full))
    longer = HistoryQuery(query.user, torch.cat([(explicit + 1) % I, explicit], 1), torch.ones(7, 2 * L, dtype=torch.bool))
    assert torch.equal(scores_of(model, longer), scores_of(model, full))
    assert recent(query.items[:, -2:], query.mask[:, -2:], 3)[0].tolist() == explicit[:, -2:][:, [1, 0, 1]].tolist()


def test_an_empty_history_leaves_the_long_term_score():
    model, query = model_of(), query_of()
    none = replace(query, mask=torch.zeros_like(query.mask))
    with torch.no_grad():
        torch.testing.assert_close(scores_of(model, none), model.users[query.user] @ model.items.T)
    assert bool((scores_of(model_of(long_term=False), none) == 0).all())


def test_without_long_term_there_is_a_single_item_table():
    model, query = model_of(long_term=False), query_of()
    assert model.items is None
    read, mixed, _ = parts_of(model, query)
    with torch.no_grad():
        torch.testing.assert_close(scores_of(model, query), (read + mixed) @ model.context_items.T)
    terms = model.loss(toy_graph(), Batch(query, torch.arange(7), torch.arange(7)[:, None] + 8))
    sum(terms.values()).backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


@pytest.mark.parametrize("settings", [{"attention": "mean"}, {"orders": 0}, {"num_layers": 0}, {"shortcut": False}])
def test_every_parameter_of_every_ablation_gets_a_gradient(settings):
    model = model_of(**settings).train()
    terms = model.loss(toy_graph(), Batch(query_of(), torch.arange(7), torch.arange(7)[:, None] + 8))
    sum(terms.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


def test_mean_attention_is_uniform():
    model, query = model_of(attention="mean"), query_of()
    weights = parts_of(model, query)[2]
    torch.testing.assert_close(weights.token, torch.full((7, 3, L), 1 / L))
    torch.testing.assert_close(weights.order, torch.full((7, 3), 1 / 3))


def test_attention_credits_padding_copies_to_the_newest_item():
    model, query = model_of(), query_of(full=False)
    with torch.no_grad():
        attention = model.attention(model.encode(toy_graph()), query, torch.zeros(7, dtype=torch.long))
    shares, rows = attention["user:history"], attention["user:history_items"]
    whole = parts_of(model, query)[2].shares
    torch.testing.assert_close(shares.sum(1), torch.ones(7))
    assert torch.equal(rows, query.items.masked_fill(~query.mask, -1))
    for n in range(7):
        missing = int((~query.mask[n]).sum())
        torch.testing.assert_close(shares[n, missing : L - 1], whole[n, missing : L - 1])
        torch.testing.assert_close(shares[n, -1], whole[n, :missing].sum() + whole[n, -1])
        assert not bool(shares[n, :missing].any())
    empty = replace(query, mask=torch.zeros_like(query.mask))
    with torch.no_grad():
        attention = model.attention(model.encode(toy_graph()), empty, torch.zeros(7, dtype=torch.long))
    assert not bool(attention["user:history"].any())


def test_invalid_settings_are_refused():
    with pytest.raises(ValueError, match="attention"):
        MARankConfig(attention="max")
    with pytest.raises(ValueError, match="max_length"):
        MARankConfig(max_length=0)
    with pytest.raises(ValueError, match="init_std"):
        MARankConfig(init_std=0)


def test_train_save_load_and_recommend(tmp_path):
    run = gmmrec.fit(
        gmmrec.load_dataset("movies-small", k_core=30),
        "marank",
        out=tmp_path / "run",
        split={"strategy": "leave_last_out"},
        dim=8,
        epochs=1,
        progress=False,
    )
    assert run.report["test"]["recall@20"] > 0
    loaded = gmmrec.Run.load(tmp_path / "run")
    films = run.vocabularies["item"].ids(torch.tensor([3, 1, 4]))
    assert len(loaded.recommend(histories=[films], k=5)) == 5
