"""Decoders that reconstruct the features of every modality from a fused vector."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from gmmrec.errors import UsageError
from gmmrec.nn.loss import cosine_distance


class ModalityPreservingDecoder(nn.Module):
    r"""One small perceptron per modality, and the distance of the decoded from the raw features.

    .. math:: \hat{\mathbf{f}}^m = \mathbf{W}_2^m\, \mathrm{ReLU}(\mathbf{W}_1^m \mathbf{z} + \mathbf{b}_1^m) + \mathbf{b}_2^m

    A vector from which all features can be decoded has preserved them. The idea is from MARIO (Kim et al., CIKM 2022); depth, width
    and distances are our reconstruction.

    Args:
        dim: Width of the fused vectors.
        feature_dims: Width of the features of every modality.
        hidden: Width of the hidden layers (default: ``2 * dim``); 0 for linear decoders.
        distance: ``"cosine"``, ``1 - cos``, or ``"squared"``, the squared difference divided by the number of features.

    Shapes:
        - **input:** x ``[N, dim]``
        - **output:** ``[N, feature_dims[m]]`` for every modality
    """

    def __init__(
        self,
        dim: int,
        feature_dims: Sequence[int],
        *,
        hidden: int | None = None,
        distance: Literal["cosine", "squared"] = "cosine",
    ) -> None:
        super().__init__()
        if distance not in ("cosine", "squared"):
            raise UsageError(f"distance must be 'cosine' or 'squared', but is {distance!r}")
        self.distance = distance
        self.decoders = nn.ModuleList(_decoder(dim, 2 * dim if hidden is None else hidden, width) for width in feature_dims)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Decode the features of every modality."""
        return [decoder(x) for decoder in self.decoders]

    def loss(self, x: Tensor, features: Sequence[Tensor], present: Tensor) -> Tensor:
        """Average the distance between decoded and raw features over the modalities present; 0 if there are none.

        The raw features get no gradient, and the values of a missing modality are never read.

        Args:
            x: Fused vectors ``[N, dim]``.
            features: Raw features ``[N, feature_dims[m]]`` of every modality.
            present: Mask of the modalities present ``[N, M]``.

        Returns:
            A scalar.
        """
        total = x.new_zeros(())
        for decoded, raw, exists in zip(self(x), features, present.unbind(1), strict=True):
            target = raw.detach().masked_fill(~exists.unsqueeze(-1), 0.0)
            distance = cosine_distance(decoded, target) if self.distance == "cosine" else (decoded - target).square().mean(-1)
            total = total + distance.masked_fill(~exists, 0.0).sum()
        return total / present.sum().clamp(min=1)


def _decoder(dim: int, hidden: int, feature_dim: int) -> nn.Module:
    if hidden == 0:
        return nn.Linear(dim, feature_dim)
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, feature_dim))
