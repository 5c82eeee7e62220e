"""Weight search against a slow one, and the pool of candidates against the whole catalogue."""

import math
from itertools import groupby

import pytest
import torch

import gmmrec.ensemble.weights as module
from gmmrec.data.ragged import RaggedSets
from gmmrec.ensemble.weights import mixture_values, search_weights
from gmmrec.evaluation.metrics import parse_metric
from gmmrec.tasks.evaluation_tasks import RankingEvaluation
from gmmrec.tasks.query import UserQuery

Q, ITEMS = 37, 120


def table(num_parts, seed=0, decimals=6):
    scores = torch.randn(num_parts, Q, ITEMS, generator=torch.Generator().manual_seed(seed))
    return scores.mul(10**decimals).round().div(10**decimals)


def ranking(seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(Q, ITEMS, generator=generator)
    relevant, excluded = (draw < 0.04), (draw > 0.9)
    relevant[:, 0] |= ~relevant.any(1)
    excluded &= ~relevant
    ragged = (RaggedSets.from_pairs(*mask.nonzero(as_tuple=True), Q) for mask in (relevant, excluded))
    return RankingEvaluation(UserQuery(torch.arange(Q)), *ragged, "train")


def slow(scores, asked, weight, metric):
    name, k = parse_metric(metric)
    mixture = sum(float(w) * part.double() for w, part in zip(weight, scores, strict=True) if w > 0)
    values = []
    for query in range(Q):
        one = asked.take(torch.tensor([query]))
        banned, answers = set(one.excluded.values.tolist()), set(one.relevant.values.tolist())
        row = mixture[query].tolist()
        order = sorted((i for i in range(ITEMS) if i not in banned and row[i] > -torch.inf), key=lambda i: -row[i])
        blocks = [list(block) for _, block in groupby(order, key=lambda i: row[i])]  # ties in any order
        chance = [len(answers & set(block)) / len(block) for block in blocks for _ in block][:k]
        gain = [1 / math.log2(rank + 2) for rank in range(k)]
        best = {"recall": len(answers), "precision": k, "ndcg": sum(gain[: len(answers)])}[name]
        values.append(sum(c * (g if name == "ndcg" else 1) for c, g in zip(chance, gain, strict=False)) / best)
    return sum(values) / Q


@pytest.mark.parametrize("pool", [1, 3, 1000])
@pytest.mark.parametrize("metric", ["recall@5", "ndcg@5", "precision@130"])
@pytest.mark.parametrize("decimals", [6, 0])
def test_every_mixture_is_ranked_exactly(monkeypatch, pool, metric, decimals):
    monkeypatch.setattr(module, "POOL", pool)
    monkeypatch.setattr(module, "CELLS", 3 * ITEMS * 10)  # chunks of 10 queries
    scores, asked = table(3, decimals=decimals), ranking()
    weights = torch.tensor([[1.0, 0.0, 0.0], [0.25, 0.5, 0.25], [0.5, 0.5, 0.0], [0.0, 0.125, 0.875]])
    found = mixture_values(lambda query: scores[:, query.user], asked, ITEMS, weights, metric)
    assert found.tolist() == pytest.approx([slow(scores, asked, weight, metric) for weight in weights.tolist()], abs=1e-6)


@pytest.mark.parametrize("pool", [1, 1000])
def test_excluded_items_stand_in_no_list_even_if_all_scores_are_low(monkeypatch, pool):
    monkeypatch.setattr(module, "POOL", pool)
    scores, asked, weights = table(2, seed=1) - 10, ranking(), [(1.0, 0.0), (0.5, 0.5)]
    found = mixture_values(lambda query: scores[:, query.user].clone(), asked, ITEMS, torch.tensor(weights), "recall@5")
    assert found.tolist() == pytest.approx([slow(scores, asked, weight, "recall@5") for weight in weights], abs=1e-6)
    assert bool((found > 0).all())


def test_scores_are_computed_once_for_all_mixtures():
    scores, asked, calls = table(2), ranking(), []

    def ask(query):
        calls.append(len(query))
        return scores[:, query.user]

    mixture_values(ask, asked, ITEMS, torch.rand(50, 2), "recall@5")
    assert calls == [Q]


def test_minus_infinity_of_a_member_of_weight_zero_is_ignored():
    scores, asked = table(2), ranking()
    scores[1] = -torch.inf
    found = mixture_values(lambda query: scores[:, query.user].clone(), asked, ITEMS, torch.tensor([[1.0, 0.0]]), "recall@5")
    assert float(found[0]) == pytest.approx(slow(scores, asked, (1, 0), "recall@5"), abs=1e-6)


def helpful(num_parts, good):
    """Members that each score the relevant items of a share of the queries, under noise."""
    asked, scores = ranking(), table(num_parts, seed=1)
    for position, share in enumerate(good):
        user, item = asked.relevant.groups, asked.relevant.values
        mine = user % len(good) == position
        scores[position, user[mine], item[mine]] += share
    return scores, asked


def test_the_search_equals_an_exhaustive_search(caplog):
    scores, asked = helpful(2, (2.0, 2.5))
    with caplog.at_level("INFO"):
        weights, value = search_weights(lambda query: scores[:, query.user], asked, ITEMS, 2, "ndcg@10")
    assert caplog.messages[0].startswith("21 weight vectors tried, best val/ndcg@10 0.")
    tried = {w: slow(scores, asked, (w, 1 - w), "ndcg@10") for w in (u / 40 for u in range(41))}
    assert value == pytest.approx(max(tried.values()), abs=1e-6)
    assert tried[weights[0]] == pytest.approx(max(tried.values()), abs=1e-6)
    assert sum(weights) == pytest.approx(1)
    assert value > max(tried[0.0], tried[1.0]) + 0.02


@pytest.mark.parametrize(("num_parts", "vectors"), [(1, 1), (2, 21), (3, 66), (4, 56), (5, 70), (6, 56), (30, 30)])
def test_the_grid_is_of_bounded_size(monkeypatch, num_parts, vectors):
    sizes = []

    def values(part_scores, asked, num_items, weights, metric):
        torch.testing.assert_close(weights.sum(1), torch.ones(len(weights), dtype=torch.float64))
        sizes.append(len(weights))
        return weights[:, 0]

    monkeypatch.setattr(module, "mixture_values", values)
    weights, value = search_weights(None, None, ITEMS, num_parts, "recall@5")
    assert sizes[0] == vectors
    assert (weights[0], value) == (1.0, 1.0)


def test_the_search_refines_the_grid(monkeypatch):
    target = torch.tensor([0.3, 0.1, 0.275, 0.325], dtype=torch.float64)
    monkeypatch.setattr(module, "mixture_values", lambda a, b, c, weights, d: -(weights - target).square().sum(1))
    weights, _ = search_weights(None, None, ITEMS, 4, "recall@5")
    assert weights == pytest.approx(target.tolist())


def test_the_most_uniform_of_equal_weights_wins(monkeypatch):
    monkeypatch.setattr(module, "mixture_values", lambda a, b, c, weights, d: torch.ones(len(weights), dtype=torch.float64))
    assert search_weights(None, None, ITEMS, 2, "recall@5")[0] == (0.5, 0.5)
