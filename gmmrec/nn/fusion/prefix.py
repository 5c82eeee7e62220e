"""Self-attention guided by a prefix from another modality."""

import torch
from torch import Tensor, nn

from gmmrec.errors import UsageError
from gmmrec.nn.attention import attend, check_heads, rows_of
from gmmrec.nn.masked import hide_missing


class PrefixGuidedAttention(nn.Module):
    r"""Self-attention of image tokens, with the keys and values of words prepended.

    .. math::
        \mathbf{Z} = \mathrm{softmax} \big( \mathbf{Q}_v [\mathbf{K}_t \| \mathbf{K}_v]^\top / \sqrt{d} \big)
            [\mathbf{V}_t \| \mathbf{V}_v]
        = (1 - \lambda) \, \mathrm{A}(\mathbf{Q}_v, \mathbf{K}_v, \mathbf{V}_v)
            + \lambda \, \mathrm{A}(\mathbf{Q}_v, \mathbf{K}_t, \mathbf{V}_t)

    in every head, followed by an output projection: a gate between images and words, where :math:`\lambda` is the total weight of
    the prefix. The prefix-guided interaction of MKGformer (Chen et al., SIGIR 2022), https://arxiv.org/abs/2205.02357; the words
    are read but not updated. Without words this is plain self-attention. The authors' code has no masks here; ours masks padding.

    Unlike other fusions, it takes a second set of tokens, the prefix, instead of a query and returns tokens.

    Args:
        dim: Token width.
        num_heads: Number of heads H.
        prefix_dim: Width of the prefix's tokens; None for ``dim``.
        project_prefix: Whether to compute the prefix's keys and values here. False if they come from the layer that the words pass
            anyway, as in MKGformer; the prefix is then a pair of keys and values, ``[..., n, dim]`` each.
        dropout: Dropout probability of the attention weights.

    Shapes:
        - **input:** tokens ``[..., m, D]``, mask ``[..., m]``, prefix ``[..., n, prefix_dim]`` or a pair, prefix_mask ``[..., n]``
        - **output:** ``[..., m, D]``; zeros for missing tokens. Weights ``[..., H, m, n + m]``, the prefix first, zeros in the rows
          of missing tokens

    >>> regions, words = torch.randn(2, 6, 8), torch.randn(2, 4, 8)
    >>> out, weights = PrefixGuidedAttention(8, num_heads=2)(regions, prefix=words, return_weights=True)
    >>> out.shape, weights.shape
    (torch.Size([2, 6, 8]), torch.Size([2, 2, 6, 10]))
    """

    def __init__(
        self, dim: int, num_heads: int = 8, *, prefix_dim: int | None = None, project_prefix: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        self.num_heads, self.dropout = num_heads, dropout
        self.query, self.key, self.value, self.output = (nn.Linear(dim, dim) for _ in range(4))
        self.prefix = nn.Linear(prefix_dim or dim, 2 * dim) if project_prefix else None  # keys, then values

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        prefix: Tensor | tuple[Tensor, Tensor] | None = None,
        prefix_mask: Tensor | None = None,
        *,
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend to the prefix, if any, and to the tokens.

        Raises:
            UsageError: The prefix is a pair where tokens are expected, or vice versa.
        """
        tokens = hide_missing(tokens, mask)
        key, value, visible = self.key(tokens), self.value(tokens), mask
        if prefix is not None:
            first_key, first_value = self._keys_and_values(prefix, prefix_mask)
            visible = _concat_masks(prefix_mask, mask, first_key, key)
            key, value = torch.cat([first_key, key], dim=-2), torch.cat([first_value, value], dim=-2)
        parts = self.query(tokens), key, value, None if visible is None else visible.unsqueeze(-2)
        dropout = self.dropout if self.training else 0.0
        if not return_weights:
            return hide_missing(self.output(attend(*parts, num_heads=self.num_heads, dropout=dropout)), mask)
        heads, weights = attend(*parts, num_heads=self.num_heads, dropout=dropout, return_weights=True)
        return hide_missing(self.output(heads), mask), rows_of(weights, mask)

    def _keys_and_values(self, prefix: Tensor | tuple[Tensor, Tensor], mask: Tensor | None) -> tuple[Tensor, Tensor]:
        if isinstance(prefix, Tensor) != (self.prefix is not None):
            expected = "tokens" if self.prefix is not None else "a pair of keys and values"
            raise UsageError(f"with project_prefix={self.prefix is not None} the prefix must be {expected}")
        if self.prefix is None or not isinstance(prefix, Tensor):
            return hide_missing(prefix[0], mask), hide_missing(prefix[1], mask)
        key, value = self.prefix(hide_missing(prefix, mask)).chunk(2, dim=-1)
        return key, value


def _concat_masks(first: Tensor | None, second: Tensor | None, first_tokens: Tensor, second_tokens: Tensor) -> Tensor | None:
    """Concatenate the masks of both sets; None if neither has one."""
    if first is None and second is None:
        return None
    masks = [
        tokens.new_ones(tokens.shape[:-1], dtype=torch.bool) if mask is None else mask
        for mask, tokens in ((first, first_tokens), (second, second_tokens))
    ]
    return torch.cat(masks, dim=-1)
