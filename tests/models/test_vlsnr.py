"""VLSNR against a reference implementation of its equations, and its invariants."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models import vlsnr
from gmmrec.models.vlsnr import VLSNR, VLSNRConfig
from gmmrec.nn.sequence import attentional_gru
from gmmrec.tasks.query import Batch, HistoryQuery
from gmmrec.testing import I, U, checkerboard, toy_graph, with_mask
from tests.nn.fusion.checks import layer_norm, softmax

D, B, L = 8, 6, 5
FORMS: list[dict[str, Any]] = [
    {},
    {"recurrence": "input"},
    {"recurrence": "post"},
    {"recurrence": "plain"},
    {"recurrence": "none"},
    {"long_term": False},
    {"recurrence": "post", "long_term": False},
    {"recurrence": "plain", "long_term": False},
    {"self_attention": False},
    {"positions": False},
    {"num_layers": 0},
    {"hidden": 3},
    {"ids": True},
    {"attention": "mean"},
    {"attention": "mean", "recurrence": "post"},
]
MASK = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 1, 1, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0], [0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]).bool()


def build(dataset: Dataset | None = None, **settings) -> tuple[VLSNR, MultimodalGraph]:
    torch.manual_seed(0)
    graph = toy_graph(dataset or checkerboard(U, I)[0])
    model = VLSNR(graph.schema, VLSNRConfig(**{"dim": D, "num_heads": 2, "max_length": 7, **settings})).eval()
    for name, parameter in model.named_parameters():
        parameter.data.mul_(8 if "positions" in name else 1.5)
    return model, graph


def make_query(seed: int = 0) -> HistoryQuery:
    generator = torch.Generator().manual_seed(seed)
    return HistoryQuery(torch.arange(B), torch.randint(I, (B, L), generator=generator), MASK)


def scores_of(model: VLSNR, graph: MultimodalGraph, query: HistoryQuery, candidates: Tensor) -> Tensor:
    with torch.no_grad():
        return model.score(model.encode(graph), query, candidates)


def readers(model: VLSNR, graph: MultimodalGraph, query: HistoryQuery, candidates: Tensor) -> Tensor:
    """Return the reader vectors ``[B, C, d]``, or ``[B, 1, d]``."""
    with torch.no_grad():
        news = model.encode(graph)["item"]
        return model._reader(model._clicks(news, query.items, query.mask), news[candidates].unsqueeze(0))


# Reference implementation in float64


def affine(layer: nn.Linear, x: Tensor) -> Tensor:
    y = layer.weight.detach().double() @ x
    return y if layer.bias is None else y + layer.bias.detach().double()


def heads(attention: Any, x: list[Tensor], values: list[Tensor], num_heads: int = 2) -> list[Tensor]:
    size, outputs = D // num_heads, []
    q, k, v = ([affine(layer, t) for t in y] for layer, y in ((attention.query, x), (attention.key, x), (attention.value, values)))
    for one in q:
        contexts = []
        for h in range(num_heads):
            part = slice(h * size, (h + 1) * size)
            shares = softmax([one[part] @ other[part] / math.sqrt(size) for other in k])
            contexts.append(sum(share * value[part] for share, value in zip(shares, v, strict=True)))
        outputs.append(affine(attention.output, torch.cat(contexts)))
    return outputs


def norm(x: Tensor, layer: nn.LayerNorm) -> Tensor:
    return layer_norm(x, layer).detach()


def slow_news(model: VLSNR, graph: MultimodalGraph, item: int) -> Tensor:
    tokens, full = [], model.config.attention == "full"
    if model.items is not None:
        tokens.append(model.items[item].detach().double())
    for name, encoder in zip(model.names, model.encode_tokens, strict=True):
        table = graph.features[name]
        if table.mask[item]:
            x = table.values[item].double()
            tokens.append(affine(encoder.project, x / x.norm()))
    for layer in model.fuse.read.layers:
        tokens = [
            norm(x + messages, layer.norm) for x, messages in zip(tokens, heads(layer.attention, tokens, tokens), strict=True)
        ]
    if not full:
        return sum(tokens) / len(tokens)
    first, _, last = model.fuse.pool.logits[0]
    shares = softmax([affine(last, torch.tanh(affine(first, x)))[0] for x in tokens])
    return sum(share * x for share, x in zip(shares, tokens, strict=True))


def slow_step(gru: Any, h: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    (wz, wr, wg), (bz, br, bg) = (p.detach().double().chunk(3) for p in (gru.input.weight, gru.input.bias))
    uz, ur = gru.gates.weight.detach().double().chunk(2)
    z, r = torch.sigmoid(wz @ h + uz @ g + bz), torch.sigmoid(wr @ h + ur @ g + br)
    return z, torch.tanh(wg @ h + gru.made.weight.detach().double() @ (r * g) + bg)


def slow_recurrence(model: VLSNR, clicks: list[Tensor], c: Tensor) -> Tensor:
    gru, form, full = model.recur, model.config.recurrence, model.config.attention == "full"
    state_weights = [1 / len(clicks)] * len(clicks)
    shares = state_weights
    if full and form in ("update", "input"):
        shares = softmax([affine(gru.relevance, h) @ c / math.sqrt(D) for h in clicks])
    g, states = torch.zeros(gru.hidden).double(), []
    for h, share in zip(clicks, shares, strict=True):
        z, candidate = slow_step(gru, share * h if form == "input" else h, g)
        z = share * z if form == "update" else z
        g = (1 - z) * g + z * candidate
        states.append(g)
    if form != "post":
        return g
    if full:
        state_weights = softmax([affine(gru.logit, torch.tanh(affine(gru.key, g) + affine(gru.query, c)))[0] for g in states])
    return sum(share * g for share, g in zip(state_weights, states, strict=True))


def slow_score(model: VLSNR, graph: MultimodalGraph, history: list[int], item: int) -> float:
    if not history:
        return 0.0
    c, clicks = slow_news(model, graph, item), [slow_news(model, graph, i) for i in history]
    if model.mix is not None:
        positioned = clicks
        if model.mix.positions is not None:
            table = model.mix.positions.table.detach().double()
            positioned = [x + table[len(clicks) - 1 - position] for position, x in enumerate(clicks)]
        clicks = [
            norm(x + messages, model.mix.norm)
            for x, messages in zip(clicks, heads(model.mix.hear, positioned, positioned), strict=True)
        ]
    parts = [] if model.recur is None else [slow_recurrence(model, clicks, c)]
    if model.config.long_term:
        shares = [1 / len(clicks)] * len(clicks)
        if model.relevance is not None:
            shares = softmax([affine(model.relevance, h) @ c / math.sqrt(D) for h in clicks])
        parts.append(sum(share * h for share, h in zip(shares, clicks, strict=True)))
    return float(affine(model.join, torch.cat(parts)) @ c)


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_scores_match_the_reference(settings) -> None:
    (model, graph), query, candidates = build(**settings), make_query(), torch.tensor([0, 3, 8, 16])
    actual = scores_of(model, graph, query, candidates)
    expected = [[slow_score(model, graph, query.items[b][MASK[b]].tolist(), c) for c in candidates.tolist()] for b in range(B)]
    torch.testing.assert_close(actual.double(), torch.tensor(expected).double(), rtol=1e-4, atol=1e-5)


def test_loss_is_a_softmax_over_the_positive_and_its_negatives() -> None:
    (model, graph), query = build(), make_query()
    positive, negative = torch.tensor([1, 3, 5, 7, 9, 11]), torch.arange(12).view(B, 2)
    with torch.no_grad():
        terms = model.loss(graph, Batch(query, positive, negative))
    losses = []
    for b in range(B):
        history = query.items[b][MASK[b]].tolist()
        scores = [slow_score(model, graph, history, c) for c in (int(positive[b]), *negative[b].tolist())]
        losses.append(math.log(sum(map(math.exp, scores))) - scores[0])
    assert set(terms) == {"softmax"}
    assert float(terms["softmax"]) == pytest.approx(sum(losses) / B, rel=1e-4)


# Invariants; those of the recurrence are tested with the layers


def test_shapes() -> None:
    (model, graph), query, candidates = build(), make_query(), torch.arange(9)
    with torch.no_grad():
        encoded = model.encode(graph)
        clicks = model._clicks(encoded["item"], query.items, query.mask)
    assert encoded["item"].shape == (I, D)
    assert clicks.values.shape == (B, L, D)
    assert readers(model, graph, query, candidates).shape == (B, 9, D)
    assert scores_of(model, graph, query, candidates).shape == (B, 9)
    assert scores_of(model, graph, query, torch.arange(18).view(B, 3) % I).shape == (B, 3)


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_weights_sum_to_one_and_padding_has_zero_weight(settings) -> None:
    (model, graph), query, items = build(**settings), make_query(), torch.tensor([0, 3, 8, 3, 16, 5])
    with torch.no_grad():
        encoded = model.encode(graph)
        actual = model.attention(encoded, query, items)
    tokens = torch.stack([weights for name, weights in actual.items() if not name.startswith("user:")])
    torch.testing.assert_close(tokens.sum(0), torch.ones(B))
    assert bool((actual["image"][[1, 3]] == 0).all())  # item 3 has no image
    over_clicks = [actual[name] for name in ("user:history", "user:long_term") if name in actual]
    assert len(over_clicks) == (model.config.recurrence not in ("plain", "none")) + model.config.long_term
    for weights in over_clicks:
        assert bool((weights[~MASK] == 0).all())
        torch.testing.assert_close(weights.sum(1), MASK.any(1).float())
    for name in ("user:history_items", "user:long_term_items"):
        if name in actual:
            assert torch.equal(actual[name], query.items.masked_fill(~MASK, -1))
    other = replace(query, items=torch.where(MASK, query.items, (query.items + 1) % I))
    assert torch.equal(scores_of(model, graph, other, items), scores_of(model, graph, query, items))


@pytest.mark.parametrize("recurrence", ["update", "input", "post", "plain"])
def test_order_matters_only_through_recurrence_and_positions(recurrence) -> None:
    query, candidates = make_query(), torch.arange(I)
    full = MASK.all(1)
    query = query.take(full.nonzero().flatten())
    flipped = replace(query, items=query.items.flip(1))

    def difference(**settings) -> float:
        model, graph = build(**settings)
        change = readers(model, graph, flipped, candidates) - readers(model, graph, query, candidates)
        return float(change.abs().amax(-1).min())

    assert difference(recurrence=recurrence, long_term=False, positions=False) > 1e-4
    assert difference(recurrence="none") > 1e-4
    model, graph = build(recurrence="none", positions=False)
    torch.testing.assert_close(readers(model, graph, flipped, candidates), readers(model, graph, query, candidates))


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_scores_are_independent_of_other_candidates(settings) -> None:
    (model, graph), query = build(**settings), make_query()
    whole = scores_of(model, graph, query, torch.arange(I))
    for c in (0, 3, 16):
        torch.testing.assert_close(scores_of(model, graph, query, torch.tensor([c])), whole[:, [c]])
    candidates = torch.stack([torch.randperm(I, generator=torch.Generator().manual_seed(b))[:4] for b in range(B)])
    torch.testing.assert_close(scores_of(model, graph, query, candidates), whole.gather(1, candidates))


def test_reader_vector_depends_on_the_candidate() -> None:
    (model, graph), query = build(), make_query()
    vectors = readers(model, graph, query, torch.arange(I))[0]
    assert float((vectors[0] - vectors[1:]).abs().amax(1).min()) > 1e-3


def test_scores_are_invariant_to_the_order_of_modalities() -> None:
    """Permute tokens with their projections, and thereby with their type embeddings."""
    model, graph = build()
    dataset = checkerboard(U, I)[0]
    swapped_model, other = build(replace(dataset, features=dict(reversed(dataset.features.items()))))
    assert swapped_model.names == model.names[::-1]
    swapped = {}
    for name, value in model.state_dict().items():
        start, *rest = name.split(".", 2)
        swapped[f"{start}.{1 - int(rest[0])}.{rest[1]}" if start == "encode_tokens" else name] = value
    swapped_model.load_state_dict(swapped)
    with torch.no_grad():
        torch.testing.assert_close(swapped_model.encode(other)["item"], model.encode(graph)["item"])


def test_news_without_an_image_are_encoded_from_text_alone() -> None:
    dataset = checkerboard(U, I)[0]
    (both, graph), (alone, text) = build(), build(replace(dataset, features={"text": dataset.features["text"]}))
    weights = both.state_dict()
    alone.load_state_dict(
        {name.replace("encode_tokens.1", "encode_tokens.0"): w for name, w in weights.items() if "encode_tokens.0" not in name}
    )
    with torch.no_grad():
        actual, expected = both.encode(graph)["item"], alone.encode(text)["item"]
    torch.testing.assert_close(actual[3], expected[3])  # the item without an image
    assert not torch.allclose(actual[4], expected[4])
    with torch.no_grad():
        without_images = both.encode(toy_graph(with_mask(dataset, "image", torch.arange(I))))["item"]
    torch.testing.assert_close(without_images, expected)


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_empty_history_gives_a_zero_reader(settings) -> None:
    (model, graph), query = build(**settings), make_query()
    assert bool((readers(model, graph, query, torch.arange(I))[3] == 0).all())
    assert bool((scores_of(model, graph, query, torch.arange(I))[3] == 0).all())
    empty = replace(query, mask=torch.zeros_like(MASK))
    assert bool((scores_of(model, graph, empty, torch.arange(I)) == 0).all())
    batch = Batch(empty, torch.arange(B), torch.arange(B, 2 * B).unsqueeze(1))
    sum(model.loss(graph, batch).values()).backward()
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())


# Chunks, histories, modalities, settings


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_chunks_change_neither_scores_nor_gradients(settings, monkeypatch) -> None:
    (model, graph), query = build(**settings), make_query()
    whole = scores_of(model, graph, query, torch.arange(I))
    batch = Batch(query, torch.arange(B), torch.arange(12).view(B, 2))

    def gradients() -> list[Tensor | None]:
        model.zero_grad()
        sum(model.loss(graph, batch).values()).backward()
        return [p.grad for p in model.parameters()]

    expected = gradients()
    for module, name in ((vlsnr, "CELLS"), (attentional_gru, "CELLS"), (attentional_gru, "CACHED")):
        monkeypatch.setattr(module, name, 1)
    torch.testing.assert_close(scores_of(model, graph, query, torch.arange(I)), whole)
    torch.testing.assert_close(gradients(), expected)


def test_every_item_in_the_batch_is_encoded_once(monkeypatch) -> None:
    (model, graph), query, seen = build(), make_query(), []
    encode = model._news
    monkeypatch.setattr(model, "_news", lambda graph, rows: seen.append(rows) or encode(graph, rows))
    model.loss(graph, Batch(query, torch.arange(B), torch.arange(12).view(B, 2)))
    (rows,) = seen
    assert rows.numel() == rows.unique().numel() <= I


def test_long_histories_are_truncated_to_the_newest_items() -> None:
    (model, graph), query = build(max_length=3), make_query()
    shorter = replace(query, items=query.items[:, -3:], mask=query.mask[:, -3:])
    assert torch.equal(scores_of(model, graph, query, torch.arange(I)), scores_of(model, graph, shorter, torch.arange(I)))


def test_multi_token_modalities_are_attended_token_by_token() -> None:
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(I, 4, generator=generator) < 0.6
    features = {
        "regions": FeatureTable("regions", torch.rand(I, 4, 5, generator=generator), mask),
        "audio": FeatureTable("audio", torch.rand(I, 3, generator=generator)),
    }
    model, graph = build(replace(checkerboard(U, I)[0], features=features))
    with torch.no_grad():
        encoded = model.encode(graph)
        actual = model.attention(encoded, make_query(), torch.arange(B))
    assert actual["regions"].shape == (B, 4)
    assert torch.equal(actual["regions"] > 0, mask[:B])
    torch.testing.assert_close(actual["regions"].sum(1) + actual["audio"], torch.ones(B))


def test_untrained_ids_have_zero_weight() -> None:
    dataset = checkerboard(U, I)[0]
    cold = replace(dataset, interactions=dataset.interactions.take(dataset.interactions.item != 4))
    model, graph = build(cold, ids=True)
    with torch.no_grad():
        actual = model.attention(model.encode(graph), make_query(), torch.tensor([4, 5, 4, 5, 4, 5]))["id"]
    assert torch.equal(actual > 0, torch.tensor([False, True] * 3))


def test_missing_features_raise_an_error_with_a_remedy() -> None:
    bare = replace(checkerboard(U, I)[0], features={})
    with pytest.raises(ValueError, match="VLSNR needs at least one modality of the items"):
        build(bare)
    model, graph = build(bare, ids=True)
    assert bool(torch.isfinite(scores_of(model, graph, make_query(), torch.arange(I))).all())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recurrence": "lstm"}, "recurrence must be one of"),
        ({"attention": "none"}, "attention must be one of 'full', 'mean'"),
        ({"hidden": 0}, "hidden must be greater than 0"),
        ({"max_length": 0}, "max_length must be greater than 0"),
        ({"num_layers": -1}, "num_layers must be 0 or more"),
        ({"recurrence": "none", "long_term": False}, "leaves nothing of a history"),
    ],
    ids=str,
)
def test_invalid_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        VLSNRConfig(**settings)
