"""Closed forms of tied rankings against an enumeration of all orders, and a constant ranking against a blind guess."""

import math
import random

import pytest
import torch

from gmmrec.data.ragged import RaggedSets
from gmmrec.evaluation.evaluator import measure
from gmmrec.evaluation.metrics import METRICS
from gmmrec.evaluation.ranking import rank_sampled, rank_ties
from gmmrec.evaluation.settings import EvalConfig
from gmmrec.evaluation.ties import mean_over_ranks
from gmmrec.tasks.evaluation_tasks import RankingEvaluation
from gmmrec.tasks.query import UserQuery
from tests.evaluation.all_orders import mean_over_orders, orders, ranking_metric
from tests.evaluation.test_ranking import Picked, Table


def task_of(relevant: torch.Tensor, excluded: torch.Tensor) -> RankingEvaluation[UserQuery]:
    count = len(relevant)
    sets = (RaggedSets.from_pairs(*mask.nonzero(as_tuple=True), count) for mask in (relevant, excluded))
    return RankingEvaluation(UserQuery(torch.arange(count)), *sets, "train")


def random_case(seed: int, queries: int = 10, items: int = 6):
    """Return scores of few levels, some minus infinity, relevant and excluded items, at least one relevant."""
    generator = torch.Generator().manual_seed(seed)
    levels = int(torch.randint(1, 5, (), generator=generator))
    table = torch.randint(levels, (queries, items), generator=generator).float()
    table[torch.rand(queries, items, generator=generator) < 0.08] = -torch.inf
    relevant = torch.rand(queries, items, generator=generator) < 0.4
    relevant[:, 0] |= ~relevant.any(1)
    excluded = (torch.rand(queries, items, generator=generator) < 0.15) & ~relevant
    return table, relevant, excluded


@pytest.mark.parametrize("seed", range(6))
def test_every_metric_is_the_mean_over_all_orders(seed):
    table, relevant, excluded = random_case(seed)
    settings = EvalConfig(metrics=tuple(METRICS), ks=(1, 2, 4, 10))
    task = task_of(relevant, excluded)
    found = measure(rank_ties(Table(), {"table": table}, task, 6, k=10, chunk_size=5), task.relevant, settings)
    ranked = table.masked_fill(excluded, -torch.inf).tolist()
    for name in METRICS:
        for k in settings.ks:
            metrics = [ranking_metric(name, k, int(answers.sum())) for answers in relevant]
            slow = [mean_over_orders(*each) for each in zip(ranked, relevant.tolist(), metrics, strict=True)]
            assert found[f"{name}@{k}"].tolist() == pytest.approx(slow, abs=1e-6), (name, k)


def test_sampled_rankings_are_means_over_all_orders():
    table, relevant, excluded = random_case(3)
    settings, task = EvalConfig(metrics=tuple(METRICS), ks=(1, 3)), task_of(relevant, excluded)
    ranked = rank_sampled(Picked(), {"table": table}, task, torch.ones(6), 3, k=6, chunk_size=5)
    found = measure(rank_sampled(Picked(), {"table": table}, task, torch.ones(6), 3, k=3), task.relevant, settings)
    for query, (items, answers) in enumerate(zip(ranked.items.tolist(), relevant.tolist(), strict=True)):
        sample = [item for item in items if item >= 0]
        for name, k in ((name, k) for name in METRICS for k in settings.ks):
            scores, labels = table[query, sample].tolist(), [answers[item] for item in sample]
            slow = mean_over_orders(scores, labels, ranking_metric(name, k, sum(answers)))
            assert found[f"{name}@{k}"][query].item() == pytest.approx(slow, abs=1e-6), (name, k)


def blind_guess(name: str, k: int, candidates: int, relevant: int) -> float:
    """Return the expectation of a metric for a random order of candidates, from the hypergeometric distribution."""
    miss = [math.comb(candidates - relevant, n) / math.comb(candidates, n) for n in range(k + 1)]
    discount = [1 / math.log2(rank + 1) for rank in range(1, k + 1)]
    share, best = relevant / candidates, min(k, relevant)
    pair = share * (relevant - 1) / (candidates - 1)
    return {
        "recall": k / candidates,
        "precision": share,
        "hit": 1 - miss[k],
        "mrr": sum((miss[n] - miss[n + 1]) / (n + 1) for n in range(k)),
        "ndcg": share * sum(discount) / sum(discount[:best]),
        "map": sum((share + pair * n) / (n + 1) for n in range(k)) / best,
    }[name]


@pytest.mark.parametrize("candidate_chunk", [None, 1, 40])
def test_a_constant_ranking_is_a_blind_guess_for_any_chunks(candidate_chunk):
    generator = torch.Generator().manual_seed(1)
    draw = torch.rand(9, 150, generator=generator)
    relevant, excluded = draw < 0.08, draw > 0.8
    relevant[:, 140] = True
    excluded &= ~relevant
    task, settings = task_of(relevant, excluded), EvalConfig(metrics=tuple(METRICS), ks=(1, 5, 20))
    scores = {"table": torch.full((9, 150), 3.25)}
    for pool in (None, torch.arange(150) % 3 > 0):
        ranked = rank_ties(Table(), scores, task, 150, k=20, chunk_size=4, candidate_chunk=candidate_chunk, pool=pool)
        answers = relevant if pool is None else relevant & pool
        found = measure(in_pool(ranked, task, pool), task_of(answers, excluded).relevant, settings)
        for query in range(9):
            count = int((~excluded[query] if pool is None else ~excluded[query] & pool).sum())
            assert int(ranked.tied[query]) == count
            for metric, values in found.items():
                name, _, k = metric.partition("@")
                expected = blind_guess(name, int(k), count, int(answers[query].sum()))
                assert values[query].item() == pytest.approx(expected, abs=1e-6), metric


def in_pool(ranked, task, pool):
    """Return a ranking with the scores of the relevant items in the pool alone."""
    return ranked if pool is None else ranked._replace(relevant=ranked.relevant[pool[task.relevant.values]])


def test_a_list_that_ends_in_a_tie_reads_the_whole_block():
    # ranks 1 and 2 are certain, the third is one of four, two of them relevant; the last two are below
    table = torch.tensor([[9.0, 8.0, 5.0, 5.0, 5.0, 5.0, 1.0, 1.0]])
    relevant = torch.tensor([[False, True, True, False, True, False, True, False]])
    task = task_of(relevant, torch.zeros(1, 8, dtype=torch.bool))
    found = measure(rank_ties(Table(), {"table": table}, task, 8, k=3), task.relevant, EvalConfig(ks=(3,)))
    assert found["recall@3"].item() == pytest.approx((1 + 2 / 4) / 4)
    assert found["hit@3"].item() == 1
    assert found["mrr@3"].item() == 0.5
    assert found["map@3"].item() == pytest.approx((1 / 2 + 2 / 4 * 2 / 3) / 3)


def test_mean_over_ranks_is_that_of_all_orders():
    drawn = random.Random(0)
    for _ in range(20):
        scores = [drawn.randrange(3) for _ in range(6)]
        values = [drawn.random() for _ in range(4)]
        above, tied = sum(s > scores[2] for s in scores), scores.count(scores[2])
        ranks = [order.index(2) for order in orders(scores)]
        slow = sum(values[rank] if rank < 4 else 0 for rank in ranks) / len(ranks)
        found = mean_over_ranks(torch.tensor(values, dtype=torch.float64), torch.tensor(above), torch.tensor(tied))
        assert found.item() == pytest.approx(slow)
