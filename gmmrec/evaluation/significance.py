"""Intervals and paired tests on values per query: pure functions, with randomness as an argument."""

from collections.abc import Mapping, Sequence
from statistics import NormalDist

import torch
from torch import Tensor

from gmmrec.nn.blocks import block_rows

CHUNK = 2**22
"""Cells held at once while resampling."""
MANY = 1000
"""Number of values from which on intervals of their mean have a closed form; fewer are resampled in milliseconds."""
SKEWED = 0.2
"""Skewness, or excess kurtosis, of a mean beyond which it is resampled: values that are nearly always 0, say."""
RARE = 0.05
"""Share of values other than 0 up to which these alone are resampled, per metric; more are resampled for all metrics at once."""


def mean_intervals(
    values: Mapping[str, Tensor], resamples: int, generator: torch.Generator, *, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Return percentile bootstrap intervals of means over queries, without resampling where there are many queries.

    The cumulants of a resampled mean are known: those of the values over powers of their number. From the first four, the
    Cornish-Fisher expansion gives the percentiles that infinitely many resamples would have, with an error far below the noise of a
    thousand. Where the mean of many values is too skewed, nearly all of them are zeros, as a rule: only the others are resampled.
    Fewer than ``MANY`` values, and skewed ones without zeros, go to :func:`bootstrap_intervals`.
    Source: Hall, The Bootstrap and Edgeworth Expansion, 1992, section 3.3.

    Args:
        values: Values per query ``[Q]`` by metric.
        resamples: Number of resamples where there are few values.
        generator: Source of randomness, on the CPU.
        level: Share of the resampled means inside the interval.
    """
    found = dict[str, tuple[float, float]]()
    for metric, value in values.items():
        if value.numel() >= MANY:
            interval = _percentiles(value.double(), level)
            if interval is None and int(value.count_nonzero()) < RARE * value.numel():
                interval = _resampled(value.double(), resamples, generator, level)
            found |= {} if interval is None else {metric: interval}
    others = {metric: value for metric, value in values.items() if metric not in found}
    found |= bootstrap_intervals(others, resamples, generator, level=level)
    return {metric: found[metric] for metric in values}


def _percentiles(value: Tensor, level: float) -> tuple[float, float] | None:
    """Return both ends of the interval of a mean ``[Q]``, or None if it is too skewed."""
    mean = value.mean()
    centred = value - mean
    variance = centred.square().mean()
    if not bool(variance > 1e-24 * mean.square()):
        return float(mean), float(mean)
    count = value.numel()
    skew = float(centred.pow(3).mean() / variance.pow(1.5)) / count**0.5
    kurtosis = (float(centred.pow(4).mean() / variance.square()) - 3) / count
    if not max(abs(skew), abs(kurtosis)) <= SKEWED:
        return None
    z = NormalDist().inv_cdf((1 + level) / 2)
    even, odd = (z * z - 1) * skew / 6, z + (z**3 - 3 * z) * kurtosis / 24 - (2 * z**3 - 5 * z) * skew * skew / 36
    error = float((variance / count).sqrt())
    return float(mean) + error * (even - odd), float(mean) + error * (even + odd)


def _resampled(value: Tensor, resamples: int, generator: torch.Generator, level: float) -> tuple[float, float]:
    """Return the interval of a mean ``[Q]`` by resampling: first how many values that are not 0, then which."""
    count, others = value.numel(), value[value != 0]
    share = torch.full((resamples,), others.numel() / count, dtype=torch.float64)
    times = torch.binomial(torch.full_like(share, count), share, generator=generator).long()
    sums = []
    for part in times.split(block_rows(CHUNK, others.numel())):
        drawn = others[torch.randint(others.numel(), (int(part.sum()),), generator=generator)]
        sums.append(
            torch.zeros(len(part), dtype=torch.float64).index_add_(0, torch.arange(len(part)).repeat_interleave(part), drawn)
        )
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = (torch.quantile(torch.cat(sums), tails) / count).tolist()
    return low, high


def bootstrap_intervals(
    values: Mapping[str, Tensor], resamples: int, generator: torch.Generator, *, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Return percentile bootstrap intervals of means over queries; all metrics share their resamples.

    A resample is represented by the count of each query, so that its means are one matrix product; resamples are drawn in chunks.
    The interval covers the variation between users, not between training seeds.
    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    Args:
        values: Values per query ``[Q]`` by metric.
        resamples: Number of resamples ``B``.
        generator: Source of randomness, on the CPU.
        level: Share of the resampled means inside the interval.
    """
    if not values:
        return {}
    table = torch.stack(list(values.values()), dim=1).float()  # [Q, M]
    size = table.shape[0]
    means = []
    step = block_rows(CHUNK, size)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = torch.randint(size, (rows, size), generator=generator) + size * torch.arange(rows)[:, None]
        times = torch.bincount(drawn.flatten(), minlength=rows * size).view(rows, size)
        means.append(times.float() @ table / size)  # [rows, M]
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.quantile(torch.cat(means).double(), tails, dim=0).tolist()
    return dict(zip(values, zip(low, high, strict=True), strict=True))


def sign_flip_test(differences: Tensor, resamples: int, generator: torch.Generator) -> list[float]:
    """Return two-sided p-values of paired differences ``[n, R]``, one per column; the columns share their flips.

    A p-value is the share of random sign patterns, including the observed one, under which the mean is at least as far from 0.
    Source: Smucker et al., CIKM 2007.
    """
    differences = differences[differences.any(1)].double()  # zeros stay zeros
    found = differences.sum(0).abs()
    found = found - 1e-9 * differences.abs().sum(0)  # tolerance, so that rounding does not turn a tie into a smaller sum
    count = differences.shape[0]
    exceeding = torch.zeros(differences.shape[1], dtype=torch.long)
    step = block_rows(CHUNK, count)
    for start in range(0, resamples, step):
        signs = torch.randint(2, (min(step, resamples - start), count), generator=generator, dtype=torch.int8)
        sums = (2 * signs.double() - 1) @ differences
        exceeding += (sums.abs() >= found).sum(0)
    return ((exceeding + 1).double() / (resamples + 1)).tolist()


def wilcoxon_test(difference: Tensor) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test on differences ``[n]``.

    The test uses the normal approximation and drops zeros; the p-value is 1 if all differences are zero.
    """
    difference = difference[difference != 0]
    from scipy.stats import wilcoxon  # not at the top: it takes a second to import, and serving needs no test

    return float(wilcoxon(difference.numpy(), method="approx").pvalue) if difference.numel() else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for multiple tests. Source: Holm, Scandinavian Journal of Statistics 1979.

    >>> holm([0.01, 0.5, 0.02])
    [0.03, 0.5, 0.04]
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = highest
    return corrected
