"""Feed-forward layer in which every word gathers the image regions that correlate with it."""

from typing import Literal

from torch import Tensor, nn

from gmmrec.errors import UsageError
from gmmrec.nn.attention import rows_of
from gmmrec.nn.dropout import Dropout
from gmmrec.nn.masked import hide_missing, masked_softmax

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU}


class CorrelationAwareFusion(nn.Module):
    r"""Feed-forward block whose input includes regions, gathered for every word by similarity.

    .. math::
        \mathbf{S} = \mathbf{X}_t \mathbf{X}_v^\top, \qquad
        \mathbf{G} = \mathrm{softmax}(\mathbf{S}) \mathbf{X}_v, \qquad
        \mathbf{X}_t' = \mathrm{LN} \big(
            \mathbf{X}_t + \phi(\mathbf{X}_t \mathbf{W}_1 + \mathbf{b}_1 + \mathbf{G W}_3) \mathbf{W}_2 + \mathbf{b}_2 \big)

    The correlation-aware fusion of MKGformer (Chen et al., SIGIR 2022), https://arxiv.org/abs/2205.02357. Similarities are neither
    projected nor (by default) scaled. The authors' code has a second bias besides :math:`\mathbf{b}_1`, which would be redundant
    here, and no masks. Without regions this is a plain feed-forward block.

    Unlike other fusions, it has two sets of tokens and returns those of the first.

    Args:
        dim: Token width.
        hidden: Hidden width; None for 4 times ``dim``.
        activation: Activation :math:`\phi`.
        scale: Factor of the similarities.
        dropout: Dropout probability of the residual branch.
        norm: Whether to add the residual and normalise; False returns the residual branch only.

    Shapes:
        - **input:** tokens ``[..., n, D]`` (words), mask ``[..., n]``, vision ``[..., m, D]`` (regions), vision_mask ``[..., m]``,
          query ``[..., n, D]`` (used for the similarities instead of the tokens; in the authors' code the context of the attention
          before its output projection)
        - **output:** ``[..., n, D]``; zeros for missing tokens. Weights ``[..., n, m]``, zeros in the rows of missing tokens
    """

    def __init__(
        self,
        dim: int,
        hidden: int | None = None,
        *,
        activation: Literal["gelu", "relu"] = "gelu",
        scale: float = 1.0,
        dropout: float = 0.0,
        norm: bool = True,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise UsageError(f"activation must be 'gelu' or 'relu', but is {activation!r}")
        hidden = hidden or 4 * dim
        self.scale = scale
        self.own, self.gathered, self.output = nn.Linear(dim, hidden), nn.Linear(dim, hidden, bias=False), nn.Linear(hidden, dim)
        self.activation, self.dropout = ACTIVATIONS[activation](), Dropout(dropout)
        self.norm = nn.LayerNorm(dim) if norm else None

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None,
        vision: Tensor,
        vision_mask: Tensor | None = None,
        query: Tensor | None = None,
        *,
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Apply the layer to the words."""
        tokens, vision = hide_missing(tokens, mask), hide_missing(vision, vision_mask)
        query = tokens if query is None else hide_missing(query, mask)
        weights = masked_softmax(
            self.scale * (query @ vision.mT), None if vision_mask is None else vision_mask.unsqueeze(-2)
        )  # [..., n, m]
        update = self.dropout(self.output(self.activation(self.own(tokens) + self.gathered(weights @ vision))))
        fused = hide_missing(update if self.norm is None else self.norm(tokens + update), mask)
        return (fused, rows_of(weights, mask)) if return_weights else fused
