"""A Transformer over what was done, with learned vectors of how long ago."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gmmrec.nn.dropout import Dropout
from gmmrec.nn.init import embedding_table
from gmmrec.nn.masked import hide_missing
from gmmrec.nn.transformer import TransformerEncoder


class Recency(nn.Module):
    """A learned vector for every place of a sequence, counted from its end: the last column is place 0.

    So neither what is put in front of a sequence nor the width of a batch changes what a place means.

    Args:
        max_length: Longest sequence.
        dim: Width of a vector.
        init_std: Standard deviation of the initial vectors.

    Shapes:
        - **input:** the length T of a sequence
        - **output:** ``[T, dim]``

    >>> Recency(5, 2)(3).shape
    torch.Size([3, 2])
    """

    def __init__(self, max_length: int, dim: int, *, init_std: float = 0.02) -> None:
        super().__init__()
        self.table = embedding_table(max_length, dim, init_std)

    def forward(self, length: int) -> Tensor:
        """The vectors of a sequence of some length, ``[length, dim]``.

        Raises:
            ValueError: The sequence is longer than ``max_length``.
        """
        if length > len(self.table):
            raise ValueError(f"a sequence has {length} places, but positions were made for {len(self.table)}; cut it or make more")
        return self.table[:length].flip(0)


class SequenceTransformer(nn.Module):
    r"""Tokens joined with how long ago they were, among the others.

    .. math:: \mathbf{H} = \mathrm{Transformer}(\mathrm{LN}(\mathbf{X} + \mathbf{P}))

    Source: BERT4Rec (Sun et al., CIKM 2019), sections 3.3 to 3.5; with ``causal``, the direction of SASRec (Kang and McAuley, ICDM
    2018). Positions are counted from the newest token, where both papers count from the oldest one that is kept.

    Args:
        dim: Width of a token.
        max_length: Longest sequence.
        num_layers: Layers.
        num_heads: Heads of the attention.
        ffn_mult: Width of a feed-forward layer, in widths of a token.
        dropout: Share of the input, and of what every step adds, that is dropped in training.
        attention_dropout: Share of the attention weights that is dropped in training.
        causal: Whether a token sees only what was before it.
        init_std: Standard deviation of the initial positions.

    Shapes:
        - **input:** tokens ``[B, L, dim]``, mask ``[B, L]`` or None, places ``[n]`` or None, bias ``[B, L or 1, L]`` of
          the attention logits, or None
        - **output:** ``[B, L, dim]``, zeros in place of missing tokens; or the tokens at these places among all, ``[n, dim]``

    >>> SequenceTransformer(8, 5)(torch.randn(3, 4, 8), places=torch.tensor([3, 7])).shape
    torch.Size([2, 8])
    """

    def __init__(
        self,
        dim: int,
        max_length: int,
        *,
        num_layers: int = 2,
        num_heads: int = 2,
        ffn_mult: int = 4,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        causal: bool = False,
        init_std: float = 0.02,
    ) -> None:
        super().__init__()
        self.positions = Recency(max_length, dim, init_std=init_std)
        self.norm, self.dropout = nn.LayerNorm(dim), Dropout(dropout)
        self.encoder = TransformerEncoder(
            dim,
            num_layers=num_layers,
            num_heads=num_heads,
            ffn_mult=ffn_mult,
            dropout=dropout,
            attention_dropout=attention_dropout,
            causal=causal,
        )

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, places: Tensor | None = None, *, bias: Tensor | None = None
    ) -> Tensor:
        """What every token becomes among the others."""
        made: Tensor = self.encoder(self._positioned(tokens, mask), mask, places, bias=bias)
        return made

    def weights(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """How much every token looks at every other in the last layer, ``[B, H, L, L]``."""
        return self.encoder.weights(self._positioned(tokens, mask), mask)

    def _positioned(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        positioned: Tensor = self.dropout(self.norm(hide_missing(tokens, mask) + self.positions(tokens.shape[-2])))
        return positioned


def last_positions(mask: Tensor) -> Tensor:
    """Where the last columns of ``[B, L]`` stand among all places ``[B]``.

    >>> last_positions(torch.ones(2, 3))
    tensor([2, 5])
    """
    return torch.arange(1, len(mask) + 1, device=mask.device) * mask.shape[1] - 1


def encode_by_length(encode: Callable[[Tensor, int], Tensor], mask: Tensor, *, rows: int = 64) -> Tensor:
    """Encodes sequences some rows at a time, those of like length together, each part as wide as its longest.

    Most people did little and some did much: a table of histories is mostly padding, on which nothing need be spent.

    Args:
        encode: From rows ``[b]`` and a width ``w`` to one vector a row ``[b, D]``, made of the last ``w`` columns alone.
        mask: ``[B, L]``, True where there is something; sequences end in the last column.
        rows: Rows of a part.

    Returns:
        ``[B, D]``, in the order of the mask.

    >>> mask = torch.tensor([[False, True], [True, True], [False, False]])
    >>> encode_by_length(lambda rows, width: mask[rows, -width:].sum(1, keepdim=True), mask, rows=1).flatten()
    tensor([1, 2, 0])
    """
    lengths, order = mask.sum(1).sort()
    longest = lengths.clamp(min=1).tolist()
    parts = [encode(order[start : start + rows], longest[start : start + rows][-1]) for start in range(0, len(order), rows)]
    together = torch.cat(parts) if parts else encode(order, 1)
    return together[order.argsort()]
