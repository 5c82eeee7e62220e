"""Principal component analysis of more vectors than fit into memory."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmmrec.errors import UsageError

Array = NDArray[Any]


class PrincipalComponents:
    """Principal components of vectors added in blocks, in float64.

    >>> components = PrincipalComponents()
    >>> components.add(np.array([[0.0, 1.0], [2.0, 1.5]]))
    >>> components.add(np.array([[4.0, 1.0]]))
    >>> kept = components.fit(1)
    >>> round(kept, 3), components.project(np.array([[2.0, 9.0]])).shape
    (0.98, (1, 1))
    """

    def __init__(self) -> None:
        self.count = 0
        self._origin: Any = None
        self._sum: Any = 0.0
        self._products: Any = 0.0

    def add(self, block: Array) -> None:
        """Add vectors ``[n, D]``."""
        if not len(block):
            return
        block = block.astype(np.float64)
        if self._origin is None:
            self._origin = block.mean(0)  # near the mean, so that the difference of squares below loses no digits
        block -= self._origin
        self.count += len(block)
        self._sum = self._sum + block.sum(0)
        self._products = self._products + block.T @ block

    def fit(self, dim: int) -> float:
        """Compute the ``dim`` directions of greatest variance and return their share of the variance.

        The largest entry of every axis is positive, so that signs do not depend on the linear algebra library.

        Raises:
            UsageError: ``dim`` is not less than the width or number of the vectors.
        """
        width = len(self._origin)
        if dim >= width:
            raise UsageError(f"dim must be less than the encoder's width {width}, but is {dim}; leave it out to keep the width")
        if dim >= self.count:
            raise UsageError(f"dim must be less than the number of vectors, {self.count}, but is {dim}")
        shift = self._sum / self.count
        variance, axes = np.linalg.eigh(self._products / self.count - np.outer(shift, shift))  # ascending
        axes = axes.T[::-1][:dim]
        self._axes: Array = axes * np.sign(axes[np.arange(dim), np.abs(axes).argmax(1)])[:, None]
        self._mean: Array = self._origin + shift
        return float(variance[-dim:].sum() / variance.sum())

    def project(self, values: Array) -> Array:
        """Return coordinates ``[..., dim]`` of centred vectors ``[..., D]`` along these directions."""
        projected: Array = (values - self._mean) @ self._axes.T
        return projected
