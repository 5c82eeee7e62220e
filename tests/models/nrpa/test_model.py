"""NRPA against a dense reference implementation in float64, and its invariants."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import gmmrec
from gmmrec.data.dataset import Dataset
from gmmrec.data.interactions import Interactions
from gmmrec.data.reviews import TrainingTexts
from gmmrec.data.split import Split
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.graph.build import build_graph
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.bias import Bias, BiasConfig
from gmmrec.models.nrpa.model import NRPA, NRPAConfig, Reader
from gmmrec.tasks.query import Batch, RatingQuery
from gmmrec.testing import rated_checkerboard
from gmmrec.typing import ITEM_USER, USER_ITEM

SMALL = {"word_dim": 5, "num_filters": 6, "dim": 4, "attention_dim": 3, "factors": 2, "dropout": 0.0, "max_reviews": 50}
SETTINGS = [
    {},
    {"personalised": "words"},
    {"personalised": "reviews"},
    {"personalised": "none"},
    {"attention": "mean"},
    {"biases": False},
    {"window": 1},
]
U, I = 10, 8  # noqa: E741


def training_graph(dataset: Dataset) -> MultimodalGraph:
    empty = dataset.interactions.take(torch.arange(0))
    return build_graph(dataset, Split(dataset.interactions, empty, empty))


def numbered(dataset: Dataset) -> Dataset:
    """Return the data set with its words numbered as in the graph."""
    return replace(dataset, reviews=TrainingTexts(dataset.reviews, dataset.interactions).reviews)


def build(**settings) -> tuple[NRPA, MultimodalGraph, Dataset]:
    """Build a float64 model with random weights, and a graph in which one review is missing."""
    dataset, _ = rated_checkerboard(U, I)
    review = dataset.interactions.review.clone()
    review[3] = -1
    dataset = numbered(replace(dataset, interactions=replace(dataset.interactions, review=review)))
    graph = training_graph(dataset)
    torch.manual_seed(0)
    model = NRPA(graph.schema, NRPAConfig(**{**SMALL, **settings}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.7)
    return model.double().eval(), graph, dataset


def batch_of(dataset: Dataset, index: Tensor | None = None) -> Batch[RatingQuery]:
    log = dataset.interactions if index is None else dataset.interactions.take(index)
    return Batch(RatingQuery(log.user), log.item, log.item.new_empty(len(log), 0), rating=log.weight.double())


def slow_words(reader: Reader, table: Tensor, tokens: Tensor, node: int) -> tuple[Tensor, Tensor]:
    """Compute d_j and alpha of one review, word by word."""
    words = [int(t) for t in tokens if t > 0]
    vectors = [table[w - 1] for w in words]
    half = reader.config.window // 2
    z = []
    for k in range(len(words)):
        total = reader.context.bias
        for s in range(-half, half + 1):
            if 0 <= k + s < len(words):
                total = total + vectors[k + s] @ reader.context.weight[s + half]
        z.append(total.clamp(min=0))
    z = torch.stack(z)
    if reader.words is None:
        alpha = z.new_full((len(z),), 1 / len(z))
    else:
        u = reader.ids[node] if reader.config.personalised in ("both", "words") else reader.everyone[0]
        q = (reader.words.query.weight @ u + reader.words.query.bias).clamp(min=0)
        alpha = torch.softmax(torch.stack([q @ reader.words.harmony.weight.T @ row for row in z]), 0)
    return alpha @ z, alpha


def slow_vector(model: NRPA, reader: Reader, dataset: Dataset, node: int, without: int | None) -> Tensor:
    """Compute p of one node from its reviews, except the one shared with node ``without``."""
    log = dataset.interactions
    nodes, other = (log.user, log.item) if reader.kind == "user" else (log.item, log.user)
    rows = [
        int(log.review[e])
        for e in range(len(log))
        if int(nodes[e]) == node and int(other[e]) != without and int(log.review[e]) >= 0
    ]
    d = [slow_words(reader, model.table, dataset.reviews.tokens[row], node)[0] for row in rows]
    if not d:
        return torch.zeros(reader.config.num_filters, dtype=torch.float64)
    d = torch.stack(d)
    if reader.reviews is None:
        return d.mean(0)
    u = reader.ids[node] if reader.config.personalised in ("both", "reviews") else reader.everyone[0]
    q = (reader.reviews.query.weight @ u + reader.reviews.query.bias).clamp(min=0)
    beta = torch.softmax(torch.stack([q @ reader.reviews.harmony.weight.T @ row for row in d]), 0)
    return beta @ d


def slow_prediction(model: NRPA, dataset: Dataset, user: int, item: int, *, is_target: bool) -> Tensor:
    p = slow_vector(model, model.users, dataset, user, item if is_target else None)
    q = slow_vector(model, model.items, dataset, item, user if is_target else None)
    x = torch.cat([p, q])
    w, v = torch.cat(list(model.machine.weights)), torch.cat(list(model.machine.factors))
    pairs = sum((v[a] @ v[b]) * x[a] * x[b] for a in range(len(x)) for b in range(a + 1, len(x)))
    bias = 0 if model.users.bias is None else model.users.bias[user] + model.items.bias[item]
    return model.offset + bias + w @ x + pairs


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_scores_match_the_reference(settings):
    model, graph, dataset = build(**settings)
    scores = model.score(model.encode(graph), RatingQuery(torch.arange(U)), torch.arange(I))
    for user, item in ((0, 0), (3, 5), (9, 7), (4, 1)):
        is_known = bool(((dataset.interactions.user == user) & (dataset.interactions.item == item)).any())
        expected = slow_prediction(model, dataset, user, item, is_target=False)
        torch.testing.assert_close(scores[user, item], expected)
        assert is_known in (True, False)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_loss_matches_the_reference_without_the_target_review(settings):
    model, graph, dataset = build(**settings)
    batch = batch_of(dataset, torch.tensor([0, 3, 7, 11, 12]))
    pairs = zip(batch.query.user.tolist(), batch.positive.tolist(), strict=True)
    predicted = torch.stack([slow_prediction(model, dataset, user, item, is_target=True) for user, item in pairs])
    terms = model.loss(graph, batch)
    torch.testing.assert_close(terms["mse"], (predicted - batch.rating).square().mean())
    rows = []
    for reader, nodes in ((model.users, batch.query.user), (model.items, batch.positive)):
        rows += [x[nodes] for x in (reader.ids, reader.bias) if x is not None]
    norm = sum((row.square().sum() for row in rows), torch.zeros(())) / (2 * len(batch))
    torch.testing.assert_close(terms["l2"], model.config.l2 * norm, check_dtype=False)


def random_reviews() -> tuple[Reader, Tensor, Tensor, Tensor]:
    """Return the user side, a word table, reviews ``[2, 3, 5]``, one of two words and one empty, and IDs."""
    model, _, _ = build()
    tokens = torch.randint(1, 10, (2, 3, 5), generator=torch.Generator().manual_seed(5))
    tokens[1, 2, 2:] = 0
    tokens[0, 1] = 0
    return model.users, model.table, tokens, model.users.ids[torch.tensor([2, 6])]


def test_shapes_and_weights():
    reader, table, tokens, ids = random_reviews()
    assert reader.context(tokens, table).shape == (2, 3, 5, 6)  # Z
    d, alpha = reader.read(tokens, table, ids)
    assert d.shape == (2, 3, 6)
    assert alpha.shape == (2, 3, 5)
    present = (tokens > 0).any(-1)
    p, beta = reader.pool(d, present, ids)
    assert p.shape == (2, 6)
    assert beta.shape == (2, 3)
    torch.testing.assert_close(alpha.sum(-1), present.double())
    torch.testing.assert_close(beta.sum(-1), torch.ones(2).double())
    assert not bool(alpha[tokens == 0].any())
    assert not bool(beta[~present].any())


def test_word_weights_depend_on_the_user():
    reader, table, tokens, ids = random_reviews()
    same = tokens[1:].expand(2, -1, -1)
    _, alpha = reader.read(same, table, ids)
    assert not torch.allclose(alpha[0], alpha[1], atol=1e-3)
    with torch.no_grad():
        reader.words.query.weight.zero_()
        reader.words.query.bias.zero_()
    _, alpha = reader.read(same, table, ids)
    torch.testing.assert_close(alpha[:, :2], torch.full((2, 2, 5), 0.2).double())
    torch.testing.assert_close(alpha[:, 2], torch.tensor([0.5, 0.5, 0, 0, 0]).double().expand(2, -1))


def test_vectors_are_invariant_to_the_order_of_reviews():
    reader, table, tokens, ids = random_reviews()
    order = torch.tensor([2, 0, 1])
    present = (tokens > 0).any(-1)
    p, beta = reader.pool(reader.read(tokens, table, ids)[0], present, ids)
    reordered, reordered_beta = reader.pool(reader.read(tokens[:, order], table, ids)[0], present[:, order], ids)
    torch.testing.assert_close(reordered, p)
    torch.testing.assert_close(reordered_beta, beta[:, order])


def test_padding_changes_nothing():
    reader, table, tokens, ids = random_reviews()
    d, _ = reader.read(tokens, table, ids)
    p, _ = reader.pool(d, (tokens > 0).any(-1), ids)
    wider = F.pad(tokens, (0, 2, 0, 1))  # two words and a review of padding
    wide_d, _ = reader.read(wider, table, ids)
    torch.testing.assert_close(wide_d[:, :3], d)
    torch.testing.assert_close(reader.pool(wide_d, (wider > 0).any(-1), ids)[0], p)


def test_word_affects_only_its_own_review():
    reader, table, tokens, ids = random_reviews()
    changed = tokens.clone()
    changed[1, 0, 2] = tokens[1, 0, 2] % 9 + 1
    d, other = reader.read(tokens, table, ids)[0], reader.read(changed, table, ids)[0]
    differs = (d != other).any(-1)
    assert differs.tolist() == [[False] * 3, [True, False, False]]


def test_zero_factors_give_linear_regression():
    """The factorisation machine itself is tested in tests/nn/decoder/test_factorization_machine.py."""
    model, graph, _ = build()
    with torch.no_grad():
        for factors in model.machine.factors:
            factors.zero_()
    encoded = model.encode(graph)
    scores = model.score(encoded, RatingQuery(torch.arange(U)), torch.arange(I))
    user_scores, item_scores = (encoded[kind] @ model.machine.weights[side] for side, kind in enumerate(("user", "item")))
    biases = model.users.bias[:, None] + model.items.bias
    torch.testing.assert_close(scores, model.offset + biases + user_scores[:, None] + item_scores)


def test_ids_act_only_through_attention():
    model, graph, dataset = build(biases=False)
    with torch.no_grad():
        for reader in (model.users, model.items):
            for pool in (reader.words, reader.reviews):
                pool.harmony.weight.zero_()
    before = model.encode(graph)
    loss = model.loss(graph, batch_of(dataset))["mse"]
    with torch.no_grad():
        for reader in (model.users, model.items):
            reader.ids.normal_()
    after = model.encode(graph)
    for kind in ("user", "item"):
        torch.testing.assert_close(after[kind], before[kind])
    torch.testing.assert_close(model.loss(graph, batch_of(dataset))["mse"], loss)


@pytest.mark.parametrize("limit", [50, 3])
def test_target_review_never_leaks_into_its_prediction(limit, monkeypatch):
    """The predicted rating of a pair is independent of its review, and so is the gradient."""
    model, _, dataset = build(max_reviews=limit)
    monkeypatch.setattr(TrainingTexts, "numbered", lambda self, tokens: tokens)  # the same numbers whatever is written
    log = dataset.interactions
    unused = 1
    assert not bool((dataset.reviews.tokens == unused).any())
    for edge in (0, 5, 9, 14):
        batch, is_other = batch_of(dataset, torch.tensor([edge])), torch.arange(len(log)) != edge
        others = [batch_of(dataset, torch.nonzero((end == end[edge]) & is_other).flatten()) for end in (log.user, log.item)]
        losses = []
        for word in (2, 5, 7, unused):
            tokens = dataset.reviews.tokens.clone()
            tokens[int(log.review[edge])] = word
            graph = training_graph(replace(dataset, reviews=replace(dataset.reviews, tokens=tokens)))
            losses.append([model.loss(graph, predicted)["mse"] for predicted in (batch, *others)])
        target, *elsewhere = zip(*losses, strict=True)
        assert len({loss.item() for loss in target}) == 1
        (gradient,) = torch.autograd.grad(target[-1], model.table)
        assert not bool(gradient[unused - 1].any())
        assert bool(gradient.any())
        if limit == 50:  # other ratings of the user and of the item do depend on it
            for changed in elsewhere:
                assert len({loss.item() for loss in changed}) == 4
                assert bool(torch.autograd.grad(changed[-1], model.table)[0][unused - 1].any())


def test_held_out_reviews_are_not_read():
    dataset, _ = rated_checkerboard(U, I)
    log, part = dataset.interactions, torch.arange(len(dataset.interactions)) % 4
    split = Split(log.take(part > 1), log.take(part == 0), log.take(part == 1))
    tokens = dataset.reviews.tokens.clone()
    tokens[log.review[part <= 1]] = 9
    torch.manual_seed(0)
    actual = []
    for reviews in (dataset.reviews, replace(dataset.reviews, tokens=tokens)):
        graph = build_graph(replace(dataset, reviews=reviews), split)
        torch.manual_seed(0)
        actual.append(NRPA(graph.schema, NRPAConfig(**SMALL)).encode(graph))
    assert all(torch.equal(actual[0][name], actual[1][name]) for name in actual[0])


def test_reviews_beyond_the_limit_are_sampled_evenly():
    count, limit = 23, 4
    log = Interactions(torch.zeros(count, dtype=torch.long), torch.arange(count), weight=torch.ones(count))
    dataset, _ = rated_checkerboard(U, count)
    vocabularies = {"user": Vocabulary(range(2), name="user"), "item": Vocabulary(range(count))}
    dataset = numbered(Dataset("one", vocabularies, replace(log, review=torch.arange(count)), reviews=dataset.reviews))
    graph = training_graph(dataset)
    reader = Reader("user", ITEM_USER, 2, NRPAConfig(**{**SMALL, "max_reviews": limit}))
    counts = torch.zeros(count)
    for start in torch.linspace(0, 0.999, 500):
        chosen = reader.choose(graph, torch.tensor([0, 1]), float(start))
        assert chosen.tokens.shape == (2, limit, 4)
        assert len(set(chosen.other[0].tolist())) == limit
        assert chosen.other[1].tolist() == [-1] * limit  # a user without reviews
        assert not bool(chosen.tokens[1].any())
        counts[chosen.other[0]] += 1
        assert torch.equal(chosen.tokens[0], dataset.reviews.tokens[chosen.other[0]])
    assert counts.min() > 0.8 * 500 * limit / count
    assert counts.max() < 1.2 * 500 * limit / count
    complete = Reader("item", USER_ITEM, count, NRPAConfig(**SMALL)).choose(graph, torch.arange(count), 0.7)
    assert torch.equal(complete.tokens[:, 0], dataset.reviews.tokens[:count])


def test_epochs_sample_reviews_and_evaluation_reads_all():
    model, graph, dataset = build(max_reviews=2)
    generator = torch.Generator().manual_seed(0)
    losses, vectors = set(), []
    for _ in range(4):
        assert model.begin_epoch(graph, generator) is graph
        losses.add(model.loss(graph, batch_of(dataset))["mse"].item())
        vectors.append(model.encode(graph)["user"])
    assert len(losses) > 1
    expected = build()[0].encode(graph)["user"]  # the same weights with a limit of 50 reviews
    for other in vectors:
        torch.testing.assert_close(other, expected)


def test_users_without_reviews_get_zeros_and_finite_gradients():
    model, _, dataset = build()
    log = dataset.interactions
    without_reviews = replace(dataset, interactions=replace(log, review=log.review.masked_fill(log.user == 2, -1)))
    graph = training_graph(without_reviews)
    assert not bool(model.encode(graph)["user"][2].any())
    sum(model.loss(graph, batch_of(without_reviews)).values()).backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)


def test_chunks_of_nodes_change_nothing(monkeypatch):
    model, graph, _ = build()
    expected = model.encode(graph)
    monkeypatch.setattr("gmmrec.models.nrpa.model.CELLS", 1)
    actual = model.encode(graph)
    for name, vectors in expected.items():
        torch.testing.assert_close(actual[name], vectors)


def test_biases_are_initialised_in_closed_form_only_once():
    _, graph, _ = build()
    model, bias = NRPA(graph.schema, NRPAConfig(**SMALL, shrinkage=2)), Bias(graph.schema, BiasConfig(shrinkage=2))
    model.prepare(graph)
    bias.prepare(graph)
    for actual, expected in ((model.offset, bias.mean), (model.users.bias, bias.users), (model.items.bias, bias.items)):
        torch.testing.assert_close(actual.data, expected)
    with torch.no_grad():
        model.offset.fill_(1.5)
        model.users.bias.zero_()
    model.prepare(graph)
    assert model.offset.item() == 1.5
    assert not bool(model.users.bias.any())


def test_invalid_use_is_refused():
    _, graph, dataset = build()
    with pytest.raises(ValueError, match="NRPA reads reviews, but the data set has none; name their column with review_column"):
        NRPA(replace(graph.schema, num_words=0))
    bare = replace(batch_of(dataset), rating=None)
    with pytest.raises(ValueError, match="NRPA learns from ratings, but the batch has none"):
        build()[0].loss(graph, bare)
    with pytest.raises(ValueError, match="window must be an odd number of words, but is 2"):
        NRPAConfig(window=2)
    with pytest.raises(ValueError, match="personalised must be one of"):
        NRPAConfig(personalised="some")


def test_sampled_training_and_folding_in():
    run = gmmrec.fit(
        rated_checkerboard(30, 20)[0], "nrpa", epochs=2, sampled=True, progress=False, batch_size=64,
        **{name: value for name, value in SMALL.items() if name != "dim"}, dim=4,
    )  # fmt: skip
    assert {"rmse", "mae", "recall@20"} <= set(run.report["test"])
    folded = run.recommend(histories=[[2, 4]], k=3)
    assert folded["score"].notna().all()
    assert len(run.similar_items([3], k=2)) == 2
