"""Intervals and paired tests on values per question: pure functions, randomness as an argument."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gmmrec.nn.blocks import block_rows

CHUNK = 2**22
"""Cells held at once while resampling."""


def bootstrap_intervals(
    values: Mapping[str, Tensor], resamples: int, generator: torch.Generator, *, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals of means over questions; all metrics share their resamples.

    A resample is drawn as the number of times that each question occurs in it, so that its means are one matrix product; resamples
    are made in chunks. The interval says how the mean would vary with other users, not with other seeds of the training.
    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    Args:
        values: By metric, one value per question ``[Q]``.
        resamples: How many, ``B``.
        generator: On the CPU.
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
    """Two-sided p-values of paired differences ``[n, R]``, one for each of the ``R`` columns; the columns share their flips.

    The share of random sign patterns under which the mean is at least as far from 0, the pattern found counted as one of them.
    Source: Smucker et al., CIKM 2007.
    """
    differences = differences[differences.any(1)].double()  # zeros stay zeros
    found = differences.sum(0).abs()
    found = found - 1e-9 * differences.abs().sum(0)  # rounding must not make an equal sum a smaller one
    count = differences.shape[0]
    exceeding = torch.zeros(differences.shape[1], dtype=torch.long)
    step = block_rows(CHUNK, count)
    for start in range(0, resamples, step):
        signs = torch.randint(2, (min(step, resamples - start), count), generator=generator, dtype=torch.int8)
        sums = (2 * signs.double() - 1) @ differences
        exceeding += (sums.abs() >= found).sum(0)
    return ((exceeding + 1).double() / (resamples + 1)).tolist()


def wilcoxon_test(difference: Tensor) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test ``[n]`` (normal approximation, zeros dropped); 1 where all are zero."""
    difference = difference[difference != 0]
    from scipy.stats import wilcoxon  # not at the top: it takes a second to import, and answering needs no test

    return float(wilcoxon(difference.numpy(), method="approx").pvalue) if difference.numel() else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects p-values for their number. Source: Holm, Scandinavian Journal of Statistics 1979.

    >>> holm([0.01, 0.5, 0.02])
    [0.03, 0.5, 0.04]
    """
    corrected = [0.0] * len(p_values)
    greatest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        greatest = max(greatest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = greatest
    return corrected
