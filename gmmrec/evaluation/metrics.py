"""Ranking metrics: pure functions with one value per query; the keys of ``METRICS`` are the names in reports.

All take ``hits`` ``[Q, K]`` (bool, True where the candidate at this position is relevant) and ``num_relevant`` ``[Q]``, at least 1:
the evaluator drops queries without a relevant item. A list shorter than ``K`` is padded with False. All return float32 ``[Q]``;
the mean is taken later, so that intervals and groups can be computed from the values.

Where candidates tie, :class:`~gmmrec.evaluation.ties.Hits` take the place of the mask, and the value is the expectation over a
random order of the ties. All six are sums over ranks of one of its three numbers.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from gmmrec.errors import UsageError
from gmmrec.evaluation.ties import Hits

AnyHits: TypeAlias = Tensor | Hits
"""A mask of hits, or expected hits ``[Q, K]``."""


def recall(hits: AnyHits, num_relevant: Tensor) -> Tensor:
    """Share of all relevant items that are in the list (not of at most ``K``).

    >>> recall(torch.tensor([[True, False, True]]), torch.tensor([4]))
    tensor([0.5000])
    """
    return (Hits.of(hits).chance.sum(-1) / num_relevant).float()


def precision(hits: AnyHits, num_relevant: Tensor) -> Tensor:
    """Share of the ``K`` positions that hold a relevant item.

    >>> precision(torch.tensor([[True, False, True, False]]), torch.tensor([9]))
    tensor([0.5000])
    """
    chance = Hits.of(hits).chance
    return (chance.sum(-1) / chance.shape[-1]).float()


def hit(hits: AnyHits, num_relevant: Tensor) -> Tensor:
    """1 if the list contains a relevant item, else 0.

    >>> hit(torch.tensor([[False, True], [False, False]]), torch.tensor([3, 3]))
    tensor([1., 0.])
    """
    return (1 - Hits.of(hits).none[:, -1]).float()


def mrr(hits: AnyHits, num_relevant: Tensor) -> Tensor:
    """Reciprocal rank of the first relevant item; 0 if none is in the list.

    >>> mrr(torch.tensor([[False, True, True], [False, False, False]]), torch.tensor([2, 2]))
    tensor([0.5000, 0.0000])
    """
    none = Hits.of(hits).none
    is_first = torch.cat([torch.ones_like(none[:, :1]), none[:, :-1]], 1) - none
    return (is_first / _ranks(none)).sum(-1).float()


def ndcg(hits: AnyHits, num_relevant: Tensor) -> Tensor:
    r"""Discounted gain over that of the best possible list, :math:`\sum_r h_r / \log_2(r + 1)` over ranks :math:`r`.

    The best list starts with ``min(num_relevant, K)`` relevant items. Source: Järvelin & Kekäläinen, TOIS 2002, with binary
    relevance and logarithm base 2.

    >>> ndcg(torch.tensor([[True, False, True]]), torch.tensor([2]))    # (1 + 1/2) / (1 + 1/log2(3))
    tensor([0.9197])
    """
    chance = Hits.of(hits).chance
    discount = 1 / torch.log2(_ranks(chance) + 1)
    ideal = discount.cumsum(-1)[num_relevant.clamp(max=chance.shape[-1]) - 1]
    return ((chance @ discount) / ideal).float()


def average_precision(hits: AnyHits, num_relevant: Tensor) -> Tensor:
    r"""Sum of the precisions at the ranks of relevant items over ``min(num_relevant, K)``, so that a perfect list scores 1.

    PyG's ``LinkPredMAP`` divides by the same; ranx (and trec_eval) divide by ``num_relevant``, which gives lower values for queries
    with more than ``K`` relevant items.

    >>> average_precision(torch.tensor([[True, False, True]]), torch.tensor([2]))    # (1 + 2/3) / 2
    tensor([0.8333])
    >>> average_precision(torch.tensor([[True, True]]), torch.tensor([5]))
    tensor([1.])
    """
    found = Hits.of(hits).found
    return ((found / _ranks(found)).sum(-1) / num_relevant.clamp(max=found.shape[-1])).float()


def _ranks(hits: Tensor) -> Tensor:
    return torch.arange(1, hits.shape[-1] + 1, device=hits.device, dtype=hits.dtype)


METRICS: Mapping[str, Callable[[AnyHits, Tensor], Tensor]] = {
    "recall": recall,
    "ndcg": ndcg,
    "precision": precision,
    "hit": hit,
    "mrr": mrr,
    "map": average_precision,
}


def squared_error(predicted: Tensor, rating: Tensor) -> Tensor:
    """Squared error of predicted ratings; the root of its mean is ``rmse``.

    >>> squared_error(torch.tensor([4.0, 1.0]), torch.tensor([5.0, 3.0]))
    tensor([1., 4.])
    """
    return (predicted - rating).square()


def absolute_error(predicted: Tensor, rating: Tensor) -> Tensor:
    """Absolute error of predicted ratings; its mean is ``mae``.

    >>> absolute_error(torch.tensor([4.0, 1.0]), torch.tensor([5.0, 3.0]))
    tensor([1., 2.])
    """
    return (predicted - rating).abs()


ERRORS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"rmse": squared_error, "mae": absolute_error}
"""Errors of predicted ratings ``[n]``, one value per rating; lower is better."""


def finish(metric: str, mean: float) -> float:
    """Return the reported value of a metric from the mean of its values: the root for ``rmse``, the mean for all others.

    >>> finish("rmse", 4.0), finish("mae", 4.0)
    (2.0, 4.0)
    """
    return mean**0.5 if metric == "rmse" else mean


def is_ranking_metric(text: str) -> bool:
    """Return whether a text names a ranking metric with a list length.

    >>> is_ranking_metric("recall@20"), is_ranking_metric("recall"), is_ranking_metric("auc@20")
    (True, False, False)
    """
    name, _, k = text.partition("@")
    return name in METRICS and k.isdecimal() and int(k) > 0


def parse_metric(text: str) -> tuple[str, int]:
    """Return the name and the list length of a metric.

    Raises:
        UsageError: The name is unknown, or no list length follows it.

    >>> parse_metric("recall@20")
    ('recall', 20)
    >>> parse_metric("auc")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    gmmrec.errors.UsageError: a metric is written NAME@K with NAME one of recall, ndcg, ..., but is 'auc'
    """
    name, _, k = text.partition("@")
    if not is_ranking_metric(text):
        raise UsageError(f"a metric is written NAME@K with NAME one of {', '.join(METRICS)} (ndcg@20, say), but is {text!r}")
    return name, int(k)
