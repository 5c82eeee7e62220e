"""Transformer over sequences, with learned positions counted from the end."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gmmrec.errors import UsageError
from gmmrec.nn.dropout import Dropout
from gmmrec.nn.init import embedding_table
from gmmrec.nn.masked import hide_missing
from gmmrec.nn.transformer import TransformerEncoder


class Recency(nn.Module):
    """A learned vector for every position of a sequence, counted from its end: the last column is position 0.

    Neither the left pad nor the width of a batch thus changes the meaning of a position.

    Args:
        max_length: Maximum length of a sequence.
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
        """Return the vectors of a sequence of the given length, ``[length, dim]``.

        Raises:
            UsageError: The sequence is longer than ``max_length``.
        """
        if length > len(self.table):
            raise UsageError(
                f"a sequence has {length} positions, but max_length is {len(self.table)}; shorten it or raise max_length"
            )
        return self.table[:length].flip(0)


class SequenceTransformer(nn.Module):
    r"""Transformer encoder over tokens with positions.

    .. math:: \mathbf{H} = \mathrm{Transformer}(\mathrm{LN}(\mathbf{X} + \mathbf{P}))

    Source: BERT4Rec (Sun et al., CIKM 2019), sections 3.3 to 3.5; with ``causal``, the direction of SASRec (Kang and McAuley, ICDM
    2018). Positions are counted from the newest token; both papers count from the oldest one that is kept.

    Args:
        dim: Width of a token.
        max_length: Maximum length of a sequence.
        num_layers: Number of layers.
        num_heads: Number of attention heads.
        ffn_mult: Width of the feed-forward layers as a multiple of ``dim``.
        dropout: Dropout probability of the input and of the sublayer outputs.
        attention_dropout: Dropout probability of the attention weights.
        causal: Whether a token attends only to itself and the tokens before it.
        init_std: Standard deviation of the initial positions.

    Shapes:
        - **input:** tokens ``[B, L, dim]``, mask ``[B, L]`` or None, positions ``[n]`` or None, bias ``[B, L or 1, L]`` of
          the attention logits, or None
        - **output:** ``[B, L, dim]``, zeros for missing tokens; or the tokens at the given positions among all, ``[n, dim]``

    >>> SequenceTransformer(8, 5)(torch.randn(3, 4, 8), positions=torch.tensor([3, 7])).shape
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
        self, tokens: Tensor, mask: Tensor | None = None, positions: Tensor | None = None, *, bias: Tensor | None = None
    ) -> Tensor:
        """Encode the tokens."""
        encoded: Tensor = self.encoder(self._positioned(tokens, mask), mask, positions, bias=bias)
        return encoded

    def weights(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the attention weights of the last layer, ``[B, H, L, L]``."""
        return self.encoder.weights(self._positioned(tokens, mask), mask)

    def _positioned(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        positioned: Tensor = self.dropout(self.norm(hide_missing(tokens, mask) + self.positions(tokens.shape[-2])))
        return positioned


def last_positions(mask: Tensor) -> Tensor:
    """Return the positions ``[B]`` of the last columns of ``[B, L]`` among all ``B L``.

    >>> last_positions(torch.ones(2, 3))
    tensor([2, 5])
    """
    return torch.arange(1, len(mask) + 1, device=mask.device) * mask.shape[1] - 1


def encode_by_length(encode: Callable[[Tensor, int], Tensor], mask: Tensor, *, rows: int = 64) -> Tensor:
    """Encode sequences in chunks of similar length, each as wide as its longest sequence.

    Most users have short histories and a few have long ones, so a table of histories is mostly padding, which this skips.

    Args:
        encode: Function from rows ``[b]`` and a width ``w`` to one vector per row ``[b, D]``, computed from the last ``w`` columns.
        mask: ``[B, L]``, True where there is a token; sequences are left-padded.
        rows: Rows per chunk.

    Returns:
        ``[B, D]``, in the order of the mask.

    >>> mask = torch.tensor([[False, True], [True, True], [False, False]])
    >>> encode_by_length(lambda rows, width: mask[rows, -width:].sum(1, keepdim=True), mask, rows=1).flatten()
    tensor([1, 2, 0])
    """
    lengths, order = mask.sum(1).sort()
    longest = lengths.clamp(min=1).tolist()
    chunks = [encode(order[start : start + rows], longest[start : start + rows][-1]) for start in range(0, len(order), rows)]
    encoded = torch.cat(chunks) if chunks else encode(order, 1)
    return encoded[order.argsort()]
