"""Non-invasive attention: side information enters queries and keys, never values."""

from typing import Literal

from torch import Tensor, nn

from gmmrec.nn.fusion.side import SideFusion
from gmmrec.nn.masked import hide_missing
from gmmrec.nn.transformer import TransformerLayer, take, visible_mask


class NonInvasiveLayer(nn.Module):
    r"""Transformer layer with queries and keys from IDs and side information, and values from IDs only.

    .. math::
        \mathbf{R} = F(\mathbf{X}, \mathbf{S}^1, \dots, \mathbf{S}^M), \qquad
        \mathrm{A} = \mathrm{softmax}\left( \mathbf{R W}_Q (\mathbf{R W}_K)^\top / \sqrt{d} \right) \mathbf{X W}_V

    followed by the rest of a Transformer layer, with :math:`\mathbf{X}` in the residual connection. The outputs thus live in the
    same space as the IDs, and side information only steers attention. Source: NOVA (Liu et al., AAAI 2021), section 3.3; it applies
    to any tokens with side vectors, nodes of a neighbourhood as well as sequences.

    Args:
        dim: Width of all vectors.
        num_heads: Number of attention heads.
        num_sides: M.
        fusor: F, see :class:`~gmmrec.nn.fusion.side.SideFusion`.
        gate: Activation of the gate logits.
        hidden: Width of the feed-forward layer; None for four times ``dim``.
        dropout: Dropout probability of the sublayer outputs.
        attention_dropout: Dropout probability of the attention weights.

    Shapes:
        - **input:** ids ``[B, T, dim]``, sides ``[B, T, M, dim]``, visible ``[B, T or 1, T]`` or None (tokens that may be attended
          to), present ``[B, T, M]`` or None (side information present), positions ``[n]`` or None (tokens to return)
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
        """Apply the layer to the IDs, or to those at the given positions."""
        output: Tensor = self.layer(ids, visible, guides=self.fuse(sides, present, ids), positions=positions)
        return output

    def weights(self, ids: Tensor, sides: Tensor, visible: Tensor | None = None, *, present: Tensor | None = None) -> Tensor:
        """Return the attention weights ``[B, H, T, T]``."""
        return self.layer.weights(ids, visible, guides=self.fuse(sides, present, ids))


class NonInvasiveTransformer(nn.Module):
    """Stack of :class:`NonInvasiveLayer`, each with a separate fusion of the same side information.

    Args:
        dim: Width of all vectors.
        num_sides: Number of kinds of side information.
        num_layers: Number of layers.
        num_heads: Number of attention heads.
        fusor: Fusion of IDs and side information.
        gate: Activation of the gate logits.
        ffn_mult: Width of the feed-forward layers as a multiple of ``dim``.
        dropout: Dropout probability of the sublayer outputs.
        attention_dropout: Dropout probability of the attention weights.

    Shapes:
        - **input:** ids ``[B, T, dim]``, sides ``[B, T, M, dim]``, mask ``[B, T]`` or None, present ``[B, T, M]`` or None,
          positions ``[n]`` or None
        - **output:** ``[B, T, dim]``, zeros for missing tokens; or the tokens at the given positions among all, ``[n, dim]``

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
        """Encode the IDs."""
        ids, visible = hide_missing(ids, mask), visible_mask(ids, mask, causal=False)
        for number, layer in enumerate(self.layers, 1):
            ids = layer(ids, sides, visible, present=present, positions=positions if number == len(self.layers) else None)
        if positions is None:
            return hide_missing(ids, mask)
        return ids if len(self.layers) else take(ids, positions)

    def weights(self, ids: Tensor, sides: Tensor, mask: Tensor | None = None, *, present: Tensor | None = None) -> Tensor:
        """Return the attention weights of the last layer, ``[B, H, T, T]``."""
        ids, visible = hide_missing(ids, mask), visible_mask(ids, mask, causal=False)
        for layer in self.layers[:-1]:
            ids = layer(ids, sides, visible, present=present)
        last = self.layers[-1]
        assert isinstance(last, NonInvasiveLayer)
        return last.weights(ids, sides, visible, present=present)
