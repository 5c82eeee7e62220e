"""Fusion of the images and words of a news article by joint self-attention."""

from typing import Literal

from torch import Tensor, nn

from gmmrec.errors import UsageError
from gmmrec.nn.fusion.gate import GateFusion
from gmmrec.nn.fusion.mean import MeanFusion
from gmmrec.nn.transformer import TransformerEncoder


class VisionLanguageFusion(nn.Module):
    r"""Self-attention layers over all tokens, then additive pooling.

    .. math::
        \mathbf{X}' = \mathrm{LN}(\mathbf{X} + \mathrm{MHA}(\mathbf{X}, \mathbf{X}, \mathbf{X})), \qquad
        \mathbf{z} = \sum_m a_m \mathbf{X}'_m, \qquad
        a = \mathrm{softmax}_m (\mathbf{q}^\top \tanh(\mathbf{W} \mathbf{X}'_m + \mathbf{b}))

    A reconstruction of the news encoder of VLSNR (Han et al., 2022), https://arxiv.org/abs/2210.02946: it is known that a stack of
    attention layers relates image and text; the pooling is that of other news encoders. There are no positional encodings, and
    tokens must carry their own type: the bias of a separate projection per modality
    (:class:`~gmmrec.nn.encoder.token.TokenEncoder`) acts as a type embedding.

    Args:
        dim: Token width.
        num_heads: Number of attention heads; a divisor of ``dim``.
        num_layers: Number of layers; 0 for pooling only.
        ffn_mult: Width of each layer's feed-forward block as a multiple of ``dim``; 0 for none.
        pool: Additive pooling, or the mean of the tokens.
        dropout: Dropout probability of the residual branches.

    Shapes:
        - **input:** tokens ``[..., M, D]``, mask ``[..., M]``
        - **output:** ``[..., D]``; zeros for a row without tokens. The weights are those of the pooling

    >>> import torch
    >>> image, words = torch.randn(5, 1, 16), torch.randn(5, 7, 16)
    >>> VisionLanguageFusion(16)(torch.cat([image, words], dim=1)).shape
    torch.Size([5, 16])
    """

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int = 8,
        num_layers: int = 1,
        ffn_mult: int = 0,
        pool: Literal["additive", "mean"] = "additive",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if pool not in ("additive", "mean"):
            raise UsageError(f"pool must be 'additive' or 'mean', but is {pool!r}")
        self.read = TransformerEncoder(dim, num_layers=num_layers, num_heads=num_heads, ffn_mult=ffn_mult, dropout=dropout)
        self.pool: nn.Module = GateFusion(dim, hidden=dim) if pool == "additive" else MeanFusion()

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuse the tokens; ``query`` is ignored."""
        fused: Tensor | tuple[Tensor, Tensor] = self.pool(self.read(tokens, mask), mask, return_weights=return_weights)
        return fused
