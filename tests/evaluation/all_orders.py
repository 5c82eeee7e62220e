"""Metrics by enumeration: every order of a ranking that its scores allow, one by one, in plain Python."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, permutations, product

Labels = Sequence[bool]


def orders(scores: Sequence[float]) -> Iterator[list[int]]:
    """Yield every order of the positions with descending scores; minus infinity is not ranked."""
    ranked = sorted((i for i, score in enumerate(scores) if score > -math.inf), key=lambda i: -scores[i])
    blocks = [list(block) for _, block in groupby(ranked, key=lambda i: scores[i])]
    for each in product(*(permutations(block) for block in blocks)):
        yield [i for block in each for i in block]


def mean_over_orders(scores: Sequence[float], relevant: Labels, metric: Callable[[list[bool]], float]) -> float:
    """Return the mean of a metric of the labels in ranked order."""
    values = [metric([relevant[i] for i in order]) for order in orders(scores)]
    return sum(values) / len(values)


def ranking_metric(name: str, k: int, num_relevant: int) -> Callable[[list[bool]], float]:
    """Return a metric of one ranked list, by its definition."""

    def value(labels: list[bool]) -> float:
        ranks = [rank for rank, hit in enumerate(labels[:k], 1) if hit]
        ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(num_relevant, k) + 1))
        return {
            "recall": len(ranks) / num_relevant,
            "precision": len(ranks) / k,
            "hit": float(bool(ranks)),
            "mrr": 1 / ranks[0] if ranks else 0.0,
            "ndcg": sum(1 / math.log2(rank + 1) for rank in ranks) / ideal,
            "map": sum(n / rank for n, rank in enumerate(ranks, 1)) / min(num_relevant, k),
        }[name]

    return value
