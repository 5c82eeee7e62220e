"""Attention of a state to several sets of tokens: first inside each set, then among the sets."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gmmrec.nn.masked import hide_missing, masked_softmax


class SourceWeights(NamedTuple):
    """How much everything counts to a state."""

    tokens: list[Tensor]
    """``[..., L_s]`` for every source; sums to 1 over its tokens."""
    sources: Tensor
    """``[..., S]``; sums to 1."""

    @property
    def joint(self) -> Tensor:
        """Of all tokens, one source behind the other ``[..., L]``; sums to 1."""
        return torch.cat([own * share for own, share in zip(self.tokens, self.sources.split(1, dim=-1), strict=True)], dim=-1)


class MultiSourceAttention(nn.Module):
    r"""What a state looks at: regions in each of several sources, then the sources (the cross-modality attention of NOR).

    .. math::
        \alpha_{sl} &= \mathrm{softmax}_l \big(
            \mathbf{m}_s^\top \tanh(\mathbf{A}_s \mathbf{f}_{sl} + \mathbf{C}_s \mathbf{h}) \big), \qquad
            \mathbf{z}_s = \sum_l \alpha_{sl} \mathbf{f}_{sl}

        \beta_s &= \mathrm{softmax}_s (\mathbf{h}^\top \mathbf{Q} \mathbf{z}_s), \qquad \mathbf{z} = \sum_s \beta_s \mathbf{z}_s

    Of Lin et al., TKDE 2019, https://arxiv.org/abs/1806.08977, where the sources are two garments and the state is that of a
    decoder of words: a reconstruction, of which the paper confirms that the state attends to both pictures at every word.

    With several sets of tokens it has no place in ``FUSIONS``. A decoder maps the tokens once, with :meth:`keys`, and calls
    :meth:`mix` for every state.

    Args:
        dim: Width of a token.
        num_sources: S.
        state_dim: Width of a state; None for ``dim``.
        hidden: Width of the hidden layer of a logit; None for ``dim``.

    Shapes:
        - **input:** tokens ``[..., L_s, D]`` and mask ``[..., L_s]`` (or None) for each of S sources, query ``[..., state_dim]``
        - **output:** ``[..., D]``; a source without tokens counts nothing, and without any token there are zeros. Weights: see
          :class:`SourceWeights`

    >>> shirt, trousers, states = torch.randn(4, 49, 16), torch.randn(4, 36, 16), torch.randn(4, 8)
    >>> seen, weights = MultiSourceAttention(16, 2, 8)([shirt, trousers], None, states, return_weights=True)
    >>> seen.shape, weights.joint.shape
    (torch.Size([4, 16]), torch.Size([4, 85]))
    """

    def __init__(self, dim: int, num_sources: int = 2, state_dim: int | None = None, hidden: int | None = None) -> None:
        super().__init__()
        hidden, state_dim = hidden or dim, state_dim or dim
        self.token = nn.ModuleList(nn.Linear(dim, hidden, bias=False) for _ in range(num_sources))  # A
        self.state = nn.ModuleList(nn.Linear(state_dim, hidden, bias=False) for _ in range(num_sources))  # C
        self.logit = nn.ModuleList(nn.Linear(hidden, 1, bias=False) for _ in range(num_sources))  # m
        self.source = nn.Linear(state_dim, dim, bias=False)  # Q, transposed

    def forward(
        self,
        tokens: Sequence[Tensor],
        masks: Sequence[Tensor | None] | None = None,
        query: Tensor | None = None,
        *,
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, SourceWeights]:
        """What the states see.

        Raises:
            ValueError: There is no query, or not as many sources as the module was made for.
        """
        if query is None:
            raise ValueError("attention to several sources needs a query, the state that looks; give one for every row of tokens")
        if len(tokens) != len(self.token):
            raise ValueError(f"expected the tokens of {len(self.token)} sources, found {len(tokens)}; give one tensor for each")
        masks = [None] * len(tokens) if masks is None else masks
        tokens = [hide_missing(own, mask) for own, mask in zip(tokens, masks, strict=True)]
        seen, weights = self.mix(query, self.keys(tokens), tokens, masks)
        return (seen, weights) if return_weights else seen

    def keys(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        """What the attention knows of the tokens ``[..., L_s, hidden]``; the same for all states. Missing ones must be hidden."""
        return [token(own) for token, own in zip(self.token, tokens, strict=True)]

    def mix(
        self, state: Tensor, keys: Sequence[Tensor], tokens: Sequence[Tensor], masks: Sequence[Tensor | None]
    ) -> tuple[Tensor, SourceWeights]:
        """Context and weights from states, :meth:`keys` and the tokens themselves."""
        weights, seen, there = [], [], []
        for key, own, mask, to_hidden, to_logit in zip(keys, tokens, masks, self.state, self.logit, strict=True):
            weight = masked_softmax(to_logit(torch.tanh(key + to_hidden(state).unsqueeze(-2))).squeeze(-1), mask)
            weights.append(weight)
            seen.append(torch.einsum("...l,...ld->...d", weight, own))
            there.append(weight.new_ones(weight.shape[:-1], dtype=torch.bool) if mask is None else mask.any(-1))
        each = torch.stack(seen, dim=-2)  # [..., S, D]
        logits = torch.einsum("...d,...sd->...s", self.source(state), each)
        shares = masked_softmax(logits, torch.stack([x.expand(logits.shape[:-1]) for x in there], dim=-1))
        return torch.einsum("...s,...sd->...d", shares, each), SourceWeights(weights, shares)
