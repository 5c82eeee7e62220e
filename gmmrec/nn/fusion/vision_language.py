"""Pictures and words of one piece of news read each other, then become one vector."""

from typing import Literal

from torch import Tensor, nn

from gmmrec.nn.fusion.gate import GateFusion
from gmmrec.nn.fusion.mean import MeanFusion
from gmmrec.nn.transformer import TransformerEncoder


class VisionLanguageFusion(nn.Module):
    r"""Layers of attention in which every token reads all tokens, itself included, then additive pooling.

    .. math::
        \mathbf{X}' = \mathrm{LN}(\mathbf{X} + \mathrm{MHA}(\mathbf{X}, \mathbf{X}, \mathbf{X})), \qquad
        \mathbf{z} = \sum_m a_m \mathbf{X}'_m, \qquad
        a = \mathrm{softmax}_m (\mathbf{q}^\top \tanh(\mathbf{W} \mathbf{X}'_m + \mathbf{b}))

    The news encoder of VLSNR (Han et al., 2022), https://arxiv.org/abs/2210.02946: a reconstruction. Known is that a series of
    attention layers looks for the relation of picture and text; the pooling is that of other news encoders. There are no positions:
    what kind of token a token is, it must say itself. The bias of a projection of its own for every modality
    (:class:`~gmmrec.nn.encoder.token.TokenEncoder`) does so, and is what is elsewhere called a type embedding.

    Args:
        dim: Width of a token.
        num_heads: Heads of the attention; a divisor of ``dim``.
        num_layers: Layers; 0 for the pooling alone.
        ffn_mult: Width of the feed-forward layer behind the attention of each layer, in widths of a token; 0 for none.
        pool: Additive pooling, or the plain mean of the tokens.
        dropout: Share of what every layer adds that is dropped in training.

    Shapes:
        - **input:** tokens ``[..., M, D]``, mask ``[..., M]``
        - **output:** ``[..., D]``; zeros where there is no token. The weights are those of the pooling

    >>> import torch
    >>> picture, words = torch.randn(5, 1, 16), torch.randn(5, 7, 16)
    >>> VisionLanguageFusion(16)(torch.cat([picture, words], dim=1)).shape
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
            raise ValueError(f"pool must be 'additive' or 'mean', but is {pool!r}")
        self.read = TransformerEncoder(dim, num_layers=num_layers, num_heads=num_heads, ffn_mult=ffn_mult, dropout=dropout)
        self.pool: nn.Module = GateFusion(dim, hidden=dim) if pool == "additive" else MeanFusion()

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuses; takes no notice of ``query``."""
        fused: Tensor | tuple[Tensor, Tensor] = self.pool(self.read(tokens, mask), mask, return_weights=return_weights)
        return fused
