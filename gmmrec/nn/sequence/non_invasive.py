"""Attention that side information steers, and in which it is never seen."""

from typing import Literal

from torch import Tensor, nn

from gmmrec.nn.fusion.side import SideFusion
from gmmrec.nn.masked import hide_missing
from gmmrec.nn.transformer import TransformerLayer, take, visible_mask


class NonInvasiveLayer(nn.Module):
    r"""A Transformer's layer whose queries and keys are made of IDs and side information, and whose values of IDs alone.

    .. math::
        \mathbf{R} = F(\mathbf{X}, \mathbf{S}^1, \dots, \mathbf{S}^M), \qquad
        \mathrm{A} = \mathrm{softmax}\left( \mathbf{R W}_Q (\mathbf{R W}_K)^\top / \sqrt{d} \right) \mathbf{X W}_V

    and then as in every Transformer, with :math:`\mathbf{X}` in the residual connection. So what leaves the layer is of the same
    kind as the IDs that enter it, and side information says only where to look. Source: NOVA (Liu et al., AAAI 2021), section 3.3;
    it works on any tokens that have a vector of their own and some beside it, nodes of a neighbourhood as well as sequences.

    Args:
        dim: Width of all vectors.
        num_heads: Heads of the attention.
        num_sides: M.
        fusor: F, see :class:`~gmmrec.nn.fusion.side.SideFusion`.
        gate: What becomes of the logits of a gate.
        hidden: Width of the feed-forward layer; None for four times ``dim``.
        dropout: Share of what every step adds that is dropped in training.
        attention_dropout: Share of the attention weights that is dropped in training.

    Shapes:
        - **input:** ids ``[B, T, dim]``, sides ``[B, T, M, dim]``, visible ``[B, T or 1, T]`` or None (what may be looked at),
          present ``[B, T, M]`` or None (which side information there is), positions ``[n]`` or None (tokens to finish)
        - **output:** ``[B, T, dim]``, or ``[n, dim]``
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        num_sides: int,
        *,
        fusor: Literal["add", "concat", "gate"] = "gate",
        gate: Literal["softmax", "sigmoid"] = "softmax",
        hidden: int | None = None,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.fuse = SideFusion(dim, num_sides, form=fusor, gate=gate)
        self.layer = TransformerLayer(dim, num_heads, hidden or 4 * dim, dropout, attention_dropout)

    def forward(
        self,
        ids: Tensor,
        sides: Tensor,
        visible: Tensor | None = None,
        *,
        present: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """What every ID becomes among the others."""
        made: Tensor = self.layer(ids, visible, guides=self.fuse(sides, present, ids), positions=positions)
        return made

    def weights(self, ids: Tensor, sides: Tensor, visible: Tensor | None = None, *, present: Tensor | None = None) -> Tensor:
        """How much every token looks at every other, ``[B, H, T, T]``."""
        return self.layer.weights(ids, visible, guides=self.fuse(sides, present, ids))


class NonInvasiveTransformer(nn.Module):
    """Layers of :class:`NonInvasiveLayer`, each with a fusion of its own; the side information is given to all of them anew.

    Args:
        dim: Width of all vectors.
        num_sides: Kinds of side information.
        num_layers: Layers.
        num_heads: Heads of the attention.
        fusor: How IDs and side information are joined.
        gate: What becomes of the logits of a gate.
        ffn_mult: Width of a feed-forward layer, in widths of a token.
        dropout: Share of what every step adds that is dropped in training.
        attention_dropout: Share of the attention weights that is dropped in training.

    Shapes:
        - **input:** ids ``[B, T, dim]``, sides ``[B, T, M, dim]``, mask ``[B, T]`` or None, present ``[B, T, M]`` or None, places
          ``[n]`` or None
        - **output:** ``[B, T, dim]``, zeros in place of missing tokens; or the tokens at these positions among all, ``[n, dim]``

    >>> import torch
    >>> encoder = NonInvasiveTransformer(8, 3)
    >>> encoder(torch.randn(2, 5, 8), torch.randn(2, 5, 3, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(
        self,
        dim: int,
        num_sides: int,
        *,
        num_layers: int = 2,
        num_heads: int = 2,
        fusor: Literal["add", "concat", "gate"] = "gate",
        gate: Literal["softmax", "sigmoid"] = "softmax",
        ffn_mult: int = 4,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            NonInvasiveLayer(
                dim,
                num_heads,
                num_sides,
                fusor=fusor,
                gate=gate,
                hidden=ffn_mult * dim,
                dropout=dropout,
                attention_dropout=attention_dropout,
            )
            for _ in range(num_layers)
        )

    def forward(
        self,
        ids: Tensor,
        sides: Tensor,
        mask: Tensor | None = None,
        *,
        present: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """What every ID becomes among the others."""
        ids, visible = hide_missing(ids, mask), visible_mask(ids, mask, causal=False)
        for number, layer in enumerate(self.layers, 1):
            ids = layer(ids, sides, visible, present=present, positions=positions if number == len(self.layers) else None)
        if positions is None:
            return hide_missing(ids, mask)
        return ids if len(self.layers) else take(ids, positions)

    def weights(self, ids: Tensor, sides: Tensor, mask: Tensor | None = None, *, present: Tensor | None = None) -> Tensor:
        """How much every token looks at every other in the last layer, ``[B, H, T, T]``."""
        ids, visible = hide_missing(ids, mask), visible_mask(ids, mask, causal=False)
        for layer in self.layers[:-1]:
            ids = layer(ids, sides, visible, present=present)
        last = self.layers[-1]
        assert isinstance(last, NonInvasiveLayer)
        return last.weights(ids, sides, visible, present=present)
