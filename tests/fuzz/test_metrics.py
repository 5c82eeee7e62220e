"""Ranking and its metrics against loops over Python lists; the scores have no ties."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from gmmrec.data.ragged import RaggedSets
from gmmrec.evaluation.candidates import candidate_metrics
from gmmrec.evaluation.metrics import ERRORS, METRICS, finish
from gmmrec.evaluation.ranking import hits, rank
from tests.evaluation.test_ranking import Table, ranking_of

ITEMS = 9
orders = st.lists(st.permutations(range(ITEMS)), min_size=1, max_size=4)
subsets = st.sets(st.integers(0, ITEMS - 1))
some = st.sets(st.integers(0, ITEMS - 1), min_size=1)

SLOW = {
    "recall": lambda hit, total: sum(hit) / total,
    "precision": lambda hit, total: sum(hit) / len(hit),
    "hit": lambda hit, total: float(any(hit)),
    "mrr": lambda hit, total: next((1 / r for r, one in enumerate(hit, 1) if one), 0.0),
    "ndcg": lambda hit, total: (
        sum(1 / math.log2(r + 1) for r, one in enumerate(hit, 1) if one)
        / sum(1 / math.log2(r + 1) for r in range(1, min(total, len(hit)) + 1))
    ),
    "map": lambda hit, total: sum(sum(hit[:r]) / r for r, one in enumerate(hit, 1) if one) / min(total, len(hit)),
}
"""Metrics of one list of hits and the number of relevant items."""


def scores_of(order):
    """Scores [U, I] that rank the items of every user in an order."""
    table = torch.empty(len(order), ITEMS)
    for user, items in enumerate(order):
        for position, item in enumerate(items):
            table[user, item] = -float(position)
    return table


@given(
    orders, st.lists(subsets, min_size=4, max_size=4), st.lists(some, min_size=4, max_size=4), st.integers(1, 12), st.integers(1, 5)
)
def test_lists_and_metrics_are_those_of_python(order, excluded, relevant, k, chunk):
    count = len(order)
    mask = torch.zeros(count, ITEMS, dtype=torch.bool)
    for user in range(count):
        mask[user, sorted(excluded[user])] = True
    lists = [[item for item in items if item not in excluded[user]][:k] for user, items in enumerate(order)]
    table = {"table": scores_of(order)}
    found = rank(Table(), table, ranking_of(mask), ITEMS, k=k, chunk_size=chunk, candidate_chunk=chunk + k)
    assert [row[row >= 0].tolist() for row in found.items] == lists
    group = torch.tensor([user for user in range(count) for _ in relevant[user]])
    value = torch.tensor([item for user in range(count) for item in sorted(relevant[user])])
    inside = hits(found.items, RaggedSets.from_pairs(group, value, count))
    slow = [[item in relevant[user] for item in lists[user]] + [False] * (k - len(lists[user])) for user in range(count)]
    assert inside.tolist() == slow
    total = torch.tensor([len(relevant[user]) for user in range(count)])
    assert METRICS.keys() == SLOW.keys()
    for name, metric in METRICS.items():
        expected = torch.tensor([SLOW[name](slow[user], len(relevant[user])) for user in range(count)])
        torch.testing.assert_close(metric(inside, total).float(), expected, rtol=1e-5, atol=1e-6)


@given(st.permutations(range(ITEMS)), st.sets(st.integers(0, ITEMS - 1), min_size=1, max_size=ITEMS - 2), st.integers(0, 3))
def test_metrics_of_candidates_are_those_of_python(order, relevant, absent):
    labels = [item in relevant for item in order][: ITEMS - absent]
    if not any(labels) or all(labels):
        return
    present = torch.arange(ITEMS) < len(labels)
    scores = torch.linspace(1, -1, ITEMS)
    label = torch.tensor(labels + [False] * absent)
    shuffled = torch.randperm(ITEMS, generator=torch.Generator().manual_seed(0))
    found = candidate_metrics(scores[shuffled][None], label[shuffled][None], present[shuffled][None])
    ranks = [r for r, one in enumerate(labels, 1) if one]
    others = [r for r, one in enumerate(labels, 1) if not one]
    slow = {
        "auc": sum(r < other for r in ranks for other in others) / (len(ranks) * len(others)),
        "mrr": sum(1 / r for r in ranks) / len(ranks),
        "accuracy": float(labels[0]),
        **{f"ndcg@{k}": SLOW["ndcg"]((labels + [False] * 10)[:k], len(ranks)) for k in (5, 10)},
    }
    assert {name: round(float(value[0]), 5) for name, value in found.items()} == {
        name: round(value, 5) for name, value in slow.items()
    }


@given(st.lists(st.tuples(st.floats(-5, 5, width=32), st.floats(1, 5, width=32)), min_size=1, max_size=20))
def test_errors_are_those_of_python(pairs):
    predicted, rating = (torch.tensor([pair[n] for pair in pairs]) for n in range(2))
    slow = {
        "rmse": math.sqrt(sum((p - r) ** 2 for p, r in pairs) / len(pairs)),
        "mae": sum(abs(p - r) for p, r in pairs) / len(pairs),
    }
    for name, expected in slow.items():
        assert math.isclose(
            finish(name, float(ERRORS[name](predicted, rating).double().mean())), expected, rel_tol=1e-5, abs_tol=1e-6
        )
