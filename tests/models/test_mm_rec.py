"""MM-Rec against a reference implementation of its equations, and its invariants."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import gmmrec
from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.models.mm_rec import MMRec, MMRecConfig
from gmmrec.tasks.query import Batch, HistoryQuery
from gmmrec.testing import I, U, checkerboard, toy_graph

D, WORDS, REGIONS = 8, 4, 5


def data(*, seed: int = 0, without: tuple[str, ...] = ()) -> Dataset:
    """Items with words and regions, some of them missing, for two items all of one modality."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.rand(I, WORDS, generator=generator) < 0.7
    regions = torch.rand(I, REGIONS, generator=generator) < 0.7
    words[:6], regions[:6], regions[6], words[7] = True, True, False, False
    features = {
        "regions": FeatureTable("regions", torch.randn(I, REGIONS, 6, generator=generator), regions),
        "words": FeatureTable("words", torch.randn(I, WORDS, 7, generator=generator), words),
    }
    for name in without:
        features[name] = replace(features[name], mask=torch.zeros_like(features[name].mask))
    return replace(checkerboard(U, I)[0], features=features)


GRAPH = toy_graph(data())
TEXT, IMAGE = 1, 0  # modalities are ordered by name: regions, words


def model_of(*, graph=GRAPH, **settings) -> MMRec:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MMRec(graph.schema, MMRecConfig(**{"dim": D, "num_heads": 2, **settings}))
        for parameter in model.parameters():  # including biases and scales
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def query_of(rows: list[list[int]]) -> HistoryQuery:
    width = max(1, *map(len, rows))
    items = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    return HistoryQuery(
        torch.arange(len(rows)), items, torch.tensor([[False] * (width - len(row)) + [True] * len(row) for row in rows])
    )


@torch.no_grad()
def scores_of(model: MMRec, query: HistoryQuery, candidates: Tensor | None = None, graph=GRAPH) -> Tensor:
    return model.score(model.encode(graph), query, torch.arange(I) if candidates is None else candidates)


HISTORIES = [[0, 1, 2], [5, 3, 9, 6, 7], [6], [7, 8, 10, 11]]


def slow_news(model: MMRec, item: int) -> list[Tensor | None]:
    """One vector per modality in float64, from the equations; None if the modality is missing."""
    weight = {name: p.detach().double() for name, p in model.named_parameters()}

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ weight[f"{name}.weight"].T + weight[f"{name}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        if not len(x):
            return x
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return x * weight[f"{name}.weight"] + weight[f"{name}.bias"]

    sides: list[Tensor] = []
    for n, name in enumerate(model.names):
        table = GRAPH.features[name]
        tokens = table.values[item][table.mask[item]].double()
        if len(tokens):
            parts = linear(f"streams.{n}.encode.project", tokens / tokens.norm(dim=1, keepdim=True))
            parts = torch.cat([parts.mean(0, keepdim=True) + weight[f"streams.{n}.whole"], parts])
            sides.append(norm(f"streams.{n}.norm", parts))
        else:
            sides.append(torch.empty(0, D, dtype=torch.double))
    heads = model.config.num_heads
    for step in range(model.config.num_layers):
        new = []
        for side, tokens, other in (("left", *sides), ("right", *sides[::-1])):
            at = f"layers.{step}.0.{side}"
            query, key, value = (
                linear(f"{at}.attention.{part}", x) for part, x in (("query", tokens), ("key", other), ("value", other))
            )
            context = torch.zeros_like(tokens)
            for h in range(heads if len(other) else 0):
                part = slice(h * D // heads, (h + 1) * D // heads)
                logits = query[:, part] @ key[:, part].T / math.sqrt(D // heads)
                context[:, part] = logits.softmax(1) @ value[:, part]
            mixed = norm(f"{at}.norm", tokens + linear(f"{at}.attention.output", context))
            fed = linear(f"{at}.feed.2", F.gelu(linear(f"{at}.feed.0", mixed)))
            new.append(norm(f"{at}.hidden_norm", mixed + fed))
        sides = new
    vectors: list[Tensor | None] = []
    for n, tokens in enumerate(sides):
        y = linear(f"streams.{n}.project", tokens)
        shares = (y @ weight[f"streams.{n}.gate.logits.0.weight"][0]).softmax(0)
        vectors.append(shares @ y if len(tokens) else None)
    return vectors


def slow_reader(model: MMRec, history: list[int], item: int) -> tuple[Tensor, Tensor]:
    """Return the reader vector for a candidate, and the score."""
    reader = torch.zeros(D, dtype=torch.double)
    candidate = slow_news(model, item)
    clicks = [slow_news(model, click) for click in history]
    for query in candidate:
        for n in range(len(candidate)):
            present = [click[n] for click in clicks if click[n] is not None]
            if query is not None and present:
                stack = torch.stack(present)
                reader = reader + (stack @ query).softmax(0) @ stack
    total = sum((vector for vector in candidate if vector is not None), torch.zeros(D, dtype=torch.double))
    return reader, reader @ total


def test_scores_match_the_reference():
    model = model_of()
    scores = scores_of(model, query_of(HISTORIES))
    for row, history in enumerate(HISTORIES):
        for item in (0, 4, 6, 7, 12):
            assert scores[row, item].item() == pytest.approx(slow_reader(model, history, item)[1].item(), rel=1e-4, abs=1e-4)


def test_shapes():
    model = model_of()
    encoded = model.encode(GRAPH)
    assert encoded.news.vectors.shape == (I, 2, D)
    assert encoded["item"].shape == (I, D)
    query = query_of(HISTORIES)
    assert scores_of(model, query).shape == (4, I)
    assert scores_of(model, query, torch.zeros(4, 3, dtype=torch.long)).shape == (4, 3)
    clicks = encoded.news.vectors[query.items]
    assert model.look(clicks, query=encoded.news.vectors[:6].expand(4, 6, 2, D)).shape == (4, 6, D)


def test_co_attention_sums_to_one_over_present_tokens():
    model = model_of()
    rows = torch.arange(I)
    sides = [stream.tokens(GRAPH.features[name], rows) for name, stream in zip(model.names, model.streams, strict=True)]
    (left, left_mask), (right, right_mask) = sides
    _, weights = model.layers[0][0](left, right, left_mask, right_mask, return_weights=True)
    for shares, mask, other in ((weights[0], left_mask, right_mask), (weights[1], right_mask, left_mask)):
        assert bool((shares.masked_select(~other[:, None, None, :].expand_as(shares)) == 0).all())
        both = mask & other.any(1, keepdim=True)
        total = shares.sum(-1).transpose(1, 2)[both]
        torch.testing.assert_close(total, torch.ones_like(total))


def test_padding_of_tokens_and_clicks_changes_nothing():
    model, query = model_of(), query_of(HISTORIES)
    expected = scores_of(model, query)
    dataset = data()
    padded = {
        name: FeatureTable(name, F.pad(table.values, (0, 0, 0, 3), value=9.0), F.pad(table.mask, (0, 3)))
        for name, table in dataset.features.items()
    }
    torch.testing.assert_close(scores_of(model, query, graph=toy_graph(replace(dataset, features=padded))), expected)
    padding = torch.full((4, 2), 3)
    wider = replace(query, items=torch.cat([padding, query.items], 1), mask=torch.cat([padding < 0, query.mask], 1))
    torch.testing.assert_close(scores_of(model, wider), expected)


def test_single_click_has_weight_one():
    model = model_of()
    encoded = model.encode(GRAPH).detach()
    news = encoded["item"]  # r^t + r^p
    scores = model.score(encoded, query_of([[2]]), torch.arange(6))[0]
    torch.testing.assert_close(scores, 2 * news[:6] @ news[2])
    reader = model.look(encoded.news.vectors[torch.tensor([[2]])], query=encoded.news.vectors[None, :6])
    torch.testing.assert_close(reader, (2 * news[2]).expand(1, 6, D))


def test_scores_are_invariant_to_the_order_of_clicks():
    model = model_of()
    torch.testing.assert_close(scores_of(model, query_of([[3, 1, 9, 8]])), scores_of(model, query_of([[8, 9, 3, 1]])))


def test_scores_are_invariant_to_swapping_text_and_image():
    model, query = model_of(), query_of(HISTORIES)
    encoded = model.encode(GRAPH)
    news = encoded.news._replace(vectors=encoded.news.vectors.flip(1), present=encoded.news.present.flip(1))
    swapped = replace(encoded, news=news)
    candidates = torch.arange(I)
    torch.testing.assert_close(model.score(swapped, query, candidates), model.score(encoded, query, candidates))


def test_scores_are_independent_of_other_candidates():
    model, query = model_of(), query_of(HISTORIES)
    whole = scores_of(model, query)
    for others in ([4, 0, 1], [4, 12, 7, 3, 6]):
        torch.testing.assert_close(scores_of(model, query, torch.tensor(others))[:, 0], whole[:, 4])


def test_weights_sum_to_one_over_valid_clicks_and_an_empty_history_scores_zero():
    model, query = model_of(), query_of([[0, 1, 2], [5, 3], []])
    encoded = model.encode(GRAPH)
    vectors = encoded.news.vectors
    _, weights = model.look(vectors[query.items], query.mask[..., None], vectors[None, :6], return_weights=True)  # [B, C, M', N, M]
    assert bool((weights.masked_select(~query.mask[:, None, None, :, None].expand_as(weights)) == 0).all())
    torch.testing.assert_close(weights[:2].sum(3), torch.ones(2, 6, 2, 2))
    scores = scores_of(model, query)
    assert bool((scores[2] == 0).all())
    assert bool(torch.isfinite(scores).all())


def test_without_images_only_the_text_stream_contributes():
    graph = toy_graph(data(without=("regions",)))
    model = model_of()
    encoded = model.encode(graph)
    assert not bool(encoded.news.present[:, IMAGE].any())
    assert bool((encoded.news.vectors[:, IMAGE] == 0).all())
    assert all(bool(torch.isfinite(value).all()) for value in encoded.values())
    for layer in model.layers:  # equals a context of zeros
        attention = layer[0].right.attention
        attention.forward = lambda tokens, *_, block=attention, **__: (block.output(torch.zeros_like(tokens)), None)
    torch.testing.assert_close(model.encode(GRAPH).news.vectors[:, TEXT], encoded.news.vectors[:, TEXT])
    assert bool(torch.isfinite(scores_of(model_of(), query_of(HISTORIES), graph=graph)).all())


def test_one_modality_has_no_co_attention_and_three_have_all_pairs():
    dataset = data()
    alone = toy_graph(replace(dataset, features={"words": dataset.features["words"]}))
    model = model_of(graph=alone)
    assert len(model.layers) == 0
    encoded = model.encode(alone)
    assert encoded.news.vectors.shape == (I, 1, D)
    torch.testing.assert_close(
        model.score(encoded, query_of([[2]]), torch.arange(6))[0], encoded["item"][:6] @ encoded["item"][2]
    )  # one weight map instead of four
    image = FeatureTable("image", torch.randn(I, 5, generator=torch.Generator().manual_seed(3)))
    three = toy_graph(replace(dataset, features={**dataset.features, "image": image}))
    model = model_of(graph=three)
    assert model.pairs == [(0, 1), (0, 2), (1, 2)]
    assert scores_of(model, query_of(HISTORIES), graph=three).shape == (4, I)
    assert model.attention(model.encode(three), query_of([[2]]), torch.tensor([0]))["image"].shape == (1,)


def test_switches_remove_modules():
    query = query_of(HISTORIES)
    mean = model_of(attention="mean")
    encoded = mean.encode(GRAPH)
    history = HISTORIES[0]  # items with all modalities: 0, 1 and 2
    expected = 2 * encoded["item"][:6] @ encoded["item"][history].mean(0)
    torch.testing.assert_close(mean.score(encoded, query, torch.arange(6))[0], expected)
    separate = model_of(co_attention=False)
    assert len(separate.layers) == 0
    assert len(list(separate.parameters())) < len(list(model_of().parameters()))
    other = toy_graph(data(without=("regions",)))
    torch.testing.assert_close(separate.encode(other).news.vectors[:, TEXT], separate.encode(GRAPH).news.vectors[:, TEXT])
    vectors = model_of().encode(GRAPH).news.vectors
    assert not torch.allclose(vectors[:, TEXT], model_of().encode(other).news.vectors[:, TEXT])
    assert model_of(scaled=True).look.scale == pytest.approx(D**-0.5)
    assert model_of().look.scale == 1.0


def test_loss_is_a_softmax_over_the_positive_and_its_negatives():
    model, query = model_of(), query_of(HISTORIES)
    positive, negative = torch.tensor([4, 1, 13, 2]), torch.tensor([[5, 6], [7, 8], [9, 10], [0, 0]])
    batch = Batch(query, positive, negative)
    whole = scores_of(model, query)
    picked = torch.cat([whole.gather(1, positive[:, None]), whole.gather(1, negative)], 1)
    terms = model.loss(GRAPH, batch)
    torch.testing.assert_close(terms["softmax"], -picked.log_softmax(1)[:, 0].mean())
    assert set(terms) == {"softmax"}


def test_unscaled_products_are_small_at_initialisation():
    """Otherwise the first losses are far above those of random guessing."""
    torch.manual_seed(0)
    model = MMRec(GRAPH.schema, MMRecConfig(dim=64)).eval()
    assert float(scores_of(model, query_of(HISTORIES)).std(1).mean()) < 1


def test_only_items_in_the_batch_are_encoded(monkeypatch):
    model, seen = model_of(), []
    encode = model._news
    monkeypatch.setattr(model, "_news", lambda graph, rows: seen.append(rows.tolist()) or encode(graph, rows))
    model.loss(GRAPH, Batch(query_of([[3, 9], [9]]), torch.tensor([4, 4]), torch.tensor([[5], [3]])))
    assert seen == [[0, 3, 4, 5, 9]]  # 0 pads the short history


def test_chunking_of_news_and_candidates_changes_nothing(monkeypatch):
    model, query = model_of(), query_of(HISTORIES)
    expected, vectors = scores_of(model, query), model.encode(GRAPH).news.vectors
    monkeypatch.setattr("gmmrec.models.mm_rec.CELLS", 300)
    torch.testing.assert_close(model.encode(GRAPH).news.vectors, vectors)
    torch.testing.assert_close(scores_of(model, query), expected)


def test_long_histories_are_truncated_to_the_newest_items():
    model = model_of(max_length=3)
    torch.testing.assert_close(scores_of(model, query_of([[9, 8, 1, 2, 3]])), scores_of(model, query_of([[1, 2, 3]])))


def test_attention_returns_token_and_click_weights():
    model, query = model_of(), query_of(HISTORIES)
    encoded = model.encode(GRAPH)
    items = torch.tensor([0, 4, 6, 12])
    attention = model.attention(encoded, query, items)
    assert set(attention) == {"words", "regions", "user:history", "user:history_items"}
    for name in ("words", "regions"):
        mask = GRAPH.features[name].mask[items]
        assert attention[name].shape == mask.shape
        assert bool((attention[name][~mask] == 0).all())
        torch.testing.assert_close(attention[name].sum(1), mask.any(1).float())
    torch.testing.assert_close(attention["user:history"].sum(1), torch.ones(4))
    assert attention["user:history_items"].tolist() == query.items.masked_fill(~query.mask, -1).tolist()
    clicks = encoded.news.vectors[query.items]
    present = encoded.news.present[query.items] & query.mask[..., None]
    maps = model.look(clicks, present, encoded.news.vectors[items][:, None], return_weights=True)[1][:, 0]
    torch.testing.assert_close(attention["user:history"][0], maps[0].sum((0, 2)) / 4)


def test_reader_vectors_depend_on_the_candidate():
    model = model_of()
    reader = slow_reader(model, [0, 1, 2], 4)[0], slow_reader(model, [0, 1, 2], 5)[0]
    assert not torch.allclose(*reader, rtol=1e-3)


def test_missing_features_raise_an_error_with_a_remedy():
    with pytest.raises(ValueError, match="MM-Rec needs at least one modality"):
        MMRec(toy_graph(replace(data(), features={})).schema)
    with pytest.raises(ValueError, match="attention"):
        MMRecConfig(attention="none")
    with pytest.raises(ValueError, match="num_heads must divide the width 6"):
        MMRec(GRAPH.schema, MMRecConfig(dim=6, num_heads=4))


def test_train_and_evaluate_on_impressions(tmp_path):
    generator = np.random.default_rng(0)
    lines = []
    for n in range(300):  # clicked items are below 60
        history, (clicked, skipped) = generator.permutation(60)[:3], generator.permutation(60)[:2]
        time = f"11/{1 + n // 20}/2019 {1 + n % 10}:00:00 {'AP'[n // 10 % 2]}M"
        lines.append(f"{n}\tu{n % 30}\t{time}\t{' '.join(map(str, history))}\t{60 + skipped}-0 {clicked}-1")
    (tmp_path / "behaviors.tsv").write_text("\n".join(lines))
    np.savez(tmp_path / "image_feat.npz", ids=np.arange(120), values=np.eye(120)[:, :8] + (np.arange(120) < 60)[:, None])
    run = gmmrec.fit(str(tmp_path), "mm-rec", dim=16, epochs=6, lr=0.01, batch_size=64, out=tmp_path / "run")
    assert run.report["test"]["impressions/auc"] > 0.95
    assert run.config.monitor == "impressions/auc"
    again = gmmrec.load(tmp_path / "run")
    assert again.evaluate_all("test")["impressions"].mean()["auc"] == pytest.approx(run.report["test"]["impressions/auc"])
    assert len(again.recommend(histories=[[1, 2]], k=3)) == 3
