"""Ranking metrics: pure functions with one value per query; a key of ``METRICS`` is the name in a report.

All take ``hits`` ``[Q, K]`` (bool: is the candidate at this position relevant?) and ``num_relevant`` ``[Q]``, which is at least 1:
queries without a relevant answer are dropped by the evaluator, once. A list shorter than ``K`` is filled with False. All return
float32 ``[Q]``; the mean is taken later, so that intervals and groups need nothing more.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def recall(hits: Tensor, num_relevant: Tensor) -> Tensor:
    """Share of the relevant items that are in the list, divided by all of them (not by at most ``K``).

    >>> recall(torch.tensor([[True, False, True]]), torch.tensor([4]))
    tensor([0.5000])
    """
    return hits.sum(-1) / num_relevant


def precision(hits: Tensor, num_relevant: Tensor) -> Tensor:
    """Share of the ``K`` positions that hold a relevant item.

    >>> precision(torch.tensor([[True, False, True, False]]), torch.tensor([9]))
    tensor([0.5000])
    """
    return hits.sum(-1) / hits.shape[-1]


def hit(hits: Tensor, num_relevant: Tensor) -> Tensor:
    """1 where the list holds a relevant item at all, else 0.

    >>> hit(torch.tensor([[False, True], [False, False]]), torch.tensor([3, 3]))
    tensor([1., 0.])
    """
    return hits.any(-1).float()


def mrr(hits: Tensor, num_relevant: Tensor) -> Tensor:
    """Reciprocal rank of the first relevant item; 0 where none is in the list.

    >>> mrr(torch.tensor([[False, True, True], [False, False, False]]), torch.tensor([2, 2]))
    tensor([0.5000, 0.0000])
    """
    return (hits / _ranks(hits)).amax(-1)


def ndcg(hits: Tensor, num_relevant: Tensor) -> Tensor:
    r"""Discounted gain over that of the best possible list, :math:`\sum_r h_r / \log_2(r + 1)` over ranks :math:`r`.

    The best list has ``min(num_relevant, K)`` relevant items at its head. Source: Järvelin & Kekäläinen, TOIS 2002, with binary
    relevance and logarithm base 2.

    >>> ndcg(torch.tensor([[True, False, True]]), torch.tensor([2]))    # (1 + 1/2) / (1 + 1/log2(3))
    tensor([0.9197])
    """
    discount = 1 / torch.log2(_ranks(hits) + 1)
    ideal = discount.cumsum(-1)[num_relevant.clamp(max=hits.shape[-1]) - 1]
    return (hits.float() @ discount) / ideal


def average_precision(hits: Tensor, num_relevant: Tensor) -> Tensor:
    r"""Mean of the precision at every relevant item's rank, divided by ``min(num_relevant, K)``, so that a perfect list scores 1.

    PyG's ``LinkPredMAP`` divides by the same; ranx (and trec_eval) divide by ``num_relevant``, which is lower where there are more
    than ``K`` relevant items.

    >>> average_precision(torch.tensor([[True, False, True]]), torch.tensor([2]))    # (1 + 2/3) / 2
    tensor([0.8333])
    >>> average_precision(torch.tensor([[True, True]]), torch.tensor([5]))
    tensor([1.])
    """
    precisions = hits.cumsum(-1) / _ranks(hits)
    return (precisions * hits).sum(-1) / num_relevant.clamp(max=hits.shape[-1])


def _ranks(hits: Tensor) -> Tensor:
    return torch.arange(1, hits.shape[-1] + 1, device=hits.device, dtype=torch.float32)


METRICS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "recall": recall,
    "ndcg": ndcg,
    "precision": precision,
    "hit": hit,
    "mrr": mrr,
    "map": average_precision,
}


def squared_error(predicted: Tensor, rating: Tensor) -> Tensor:
    """What ``rmse`` is the root of the mean of.

    >>> squared_error(torch.tensor([4.0, 1.0]), torch.tensor([5.0, 3.0]))
    tensor([1., 4.])
    """
    return (predicted - rating).square()


def absolute_error(predicted: Tensor, rating: Tensor) -> Tensor:
    """What ``mae`` is the mean of.

    >>> absolute_error(torch.tensor([4.0, 1.0]), torch.tensor([5.0, 3.0]))
    tensor([1., 2.])
    """
    return (predicted - rating).abs()


ERRORS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"rmse": squared_error, "mae": absolute_error}
"""Errors of predicted ratings ``[n]``, one value per rating; lower is better."""


def finish(metric: str, mean: float) -> float:
    """What is reported, from the mean of a metric's values: its root for ``rmse``, the mean itself for all others.

    >>> finish("rmse", 4.0), finish("mae", 4.0)
    (2.0, 4.0)
    """
    return mean**0.5 if metric == "rmse" else mean


def is_ranking_metric(text: str) -> bool:
    """Whether a text names a ranking metric and a list length.

    >>> is_ranking_metric("recall@20"), is_ranking_metric("recall"), is_ranking_metric("auc@20")
    (True, False, False)
    """
    name, _, k = text.partition("@")
    return name in METRICS and k.isdecimal() and int(k) > 0


def parse_metric(text: str) -> tuple[str, int]:
    """Name and list length of a metric as it stands in reports.

    Raises:
        ValueError: The name is not known, or no list length follows it.

    >>> parse_metric("recall@20")
    ('recall', 20)
    >>> parse_metric("auc")
    Traceback (most recent call last):
    ...
    ValueError: a metric is written NAME@K with NAME one of recall, ndcg, precision, hit, mrr, map (ndcg@20, say), but is 'auc'
    """
    name, _, k = text.partition("@")
    if not is_ranking_metric(text):
        raise ValueError(f"a metric is written NAME@K with NAME one of {', '.join(METRICS)} (ndcg@20, say), but is {text!r}")
    return name, int(k)
