"""A feed-forward layer to which every word brings the parts of a picture that correlate with it."""

from typing import Literal

from torch import Tensor, nn

from gmmrec.nn.attention import rows_of
from gmmrec.nn.dropout import Dropout
from gmmrec.nn.masked import hide_missing, masked_softmax

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU}


class CorrelationAwareFusion(nn.Module):
    r"""Words gather regions by plain similarity, and take them into their feed-forward layer.

    .. math::
        \mathbf{S} = \mathbf{X}_t \mathbf{X}_v^\top, \qquad
        \mathbf{G} = \mathrm{softmax}(\mathbf{S}) \mathbf{X}_v, \qquad
        \mathbf{X}_t' = \mathrm{LN} \big(
            \mathbf{X}_t + \phi(\mathbf{X}_t \mathbf{W}_1 + \mathbf{b}_1 + \mathbf{G W}_3) \mathbf{W}_2 + \mathbf{b}_2 \big)

    The correlation-aware fusion of MKGformer (Chen et al., SIGIR 2022), https://arxiv.org/abs/2205.02357. Similarities are neither
    projected nor scaled. The authors' code has a second bias beside :math:`\mathbf{b}_1`, which would change nothing here, and none
    of the masks. Without regions it is the plain feed-forward block.

    It departs from the signature of the fusions: there are two sets of tokens, and what comes back are those of the first.

    Args:
        dim: Width of all tokens.
        hidden: Width of the hidden layer; None for 4 times ``dim``.
        activation: :math:`\phi`.
        scale: What similarities are multiplied with.
        dropout: Share of what is added to a token that is dropped in training.
        norm: Whether the residual and the layer normalisation follow; without them the result is what would be added.

    Shapes:
        - **input:** tokens ``[..., n, D]`` (words), mask ``[..., n]``, vision ``[..., m, D]`` (regions), vision_mask ``[..., m]``,
          query ``[..., n, D]``: what similarities are taken of in place of the tokens; in the authors' code the context of the
          attention before its output map
        - **output:** ``[..., n, D]``; zeros in place of missing tokens. Weights ``[..., n, m]``, zeros in the rows of missing
          tokens
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
            raise ValueError(f"activation must be 'gelu' or 'relu', but is {activation!r}")
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
        """The words after the layer."""
        tokens, vision = hide_missing(tokens, mask), hide_missing(vision, vision_mask)
        query = tokens if query is None else hide_missing(query, mask)
        weights = masked_softmax(
            self.scale * (query @ vision.mT), None if vision_mask is None else vision_mask.unsqueeze(-2)
        )  # [..., n, m]
        added = self.dropout(self.output(self.activation(self.own(tokens) + self.gathered(weights @ vision))))
        fused = hide_missing(added if self.norm is None else self.norm(tokens + added), mask)
        return (fused, rows_of(weights, mask)) if return_weights else fused
