"""Agreement between the raw features and the learned representations of a model."""

import torch
from torch import Tensor

from gmmrec.data.features import FeatureTable
from gmmrec.errors import UsageError
from gmmrec.nn.blocks import block_rows
from gmmrec.nn.normalize import unit_rows

BLOCK = 2**22
"""Pairs held at once: 16 MB."""


def average_difference(
    vectors: Tensor, table: FeatureTable, *, num_pairs: int | None = None, generator: torch.Generator | None = None
) -> float:
    r"""Return the mean difference between item similarities by a model and by one modality: the metric avg.diff of MARIO.

    .. math:: \mathrm{mean}_{j \ne k}\, | \cos(\mathbf{f}_j, \mathbf{f}_k) - \cos(\mathbf{e}_j, \mathbf{e}_k) |

    It lies between 0 (all similarities are preserved) and 2. The idea is from Kim et al., CIKM 2022; the formula is our
    reconstruction. Only items with the modality count; pairs are processed in blocks.

    Args:
        vectors: Representations of the items ``[I, D]``, such as ``model.encode(graph)["item"]``.
        table: Raw features of the items.
        num_pairs: Number of random pairs to estimate the mean from; all pairs by default.
        generator: Source of the random pairs, on the CPU.

    Raises:
        UsageError: The numbers of rows differ, or fewer than two items have the modality.

    >>> features = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    >>> average_difference(5 * features, FeatureTable("image", features))
    0.0
    >>> average_difference(torch.ones(3, 1), FeatureTable("image", features))    # 1, 1 and 0
    0.6666666666666666
    """
    if vectors.shape[0] != table.num_rows:
        raise UsageError(
            f"got {vectors.shape[0]} vectors for {table.num_rows} rows of {table.name!r}; give the vectors of all items"
        )
    rows = table.present.nonzero().flatten()
    if rows.numel() < 2:
        raise UsageError(f"expected at least two items with {table.name!r}, but found {rows.numel()}; choose another modality")
    learned, raw = unit_rows(vectors.detach()[rows]), unit_rows(table.pooled[rows])
    if num_pairs is not None:
        return _of_random_pairs(learned, raw, num_pairs, generator)
    total, count = torch.zeros((), dtype=torch.float64), rows.numel()
    start = 0
    while start < count:
        stop = start + block_rows(BLOCK, count - start)
        difference = raw[start:stop] @ raw[start:].T - learned[start:stop] @ learned[start:].T
        total += difference.abs_().triu_(1).sum(dtype=torch.float64).cpu()  # every pair once, no item with itself
        start = stop
    return float(total / (count * (count - 1) / 2))


def _of_random_pairs(learned: Tensor, raw: Tensor, num_pairs: int, generator: torch.Generator | None) -> float:
    if num_pairs < 1:
        raise UsageError(f"num_pairs must be at least 1, but is {num_pairs}; leave it out for all pairs")
    count, device = raw.shape[0], raw.device
    total = torch.zeros((), dtype=torch.float64)
    step = block_rows(BLOCK, max(raw.shape[1], learned.shape[1]))
    for start in range(0, num_pairs, step):
        size = (min(step, num_pairs - start),)
        first = torch.randint(count, size, generator=generator)
        other = (first + torch.randint(1, count, size, generator=generator)) % count  # any item but the first
        first, other = first.to(device), other.to(device)
        difference = (raw[first] * raw[other]).sum(1) - (learned[first] * learned[other]).sum(1)
        total += difference.abs_().sum(dtype=torch.float64).cpu()
    return float(total / num_pairs)
