"""Attention of a state to several sets of tokens, first within each set, then among the sets."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gmmrec.errors import UsageError
from gmmrec.nn.masked import hide_missing, masked_softmax


class SourceWeights(NamedTuple):
    """Attention weights of a state."""

    tokens: list[Tensor]
    """``[..., L_s]`` for every source; they sum to 1 over its tokens."""
    sources: Tensor
    """``[..., S]``; they sum to 1."""

    @property
    def joint(self) -> Tensor:
        """Weights of all tokens, sources concatenated ``[..., L]``; they sum to 1."""
        pairs = zip(self.tokens, self.sources.split(1, dim=-1), strict=True)
        return torch.cat([token_weight * source_weight for token_weight, source_weight in pairs], dim=-1)


class MultiSourceAttention(nn.Module):
    r"""Attention of a state to the regions of each source, then to the sources: the cross-modality attention of NOR.

    .. math::
        \alpha_{sl} &= \mathrm{softmax}_l \big(
            \mathbf{m}_s^\top \tanh(\mathbf{A}_s \mathbf{f}_{sl} + \mathbf{C}_s \mathbf{h}) \big), \qquad
            \mathbf{z}_s = \sum_l \alpha_{sl} \mathbf{f}_{sl}

        \beta_s &= \mathrm{softmax}_s (\mathbf{h}^\top \mathbf{Q} \mathbf{z}_s), \qquad \mathbf{z} = \sum_s \beta_s \mathbf{z}_s

    In NOR (Lin et al., TKDE 2019, https://arxiv.org/abs/1806.08977) the sources are two garments and the state is that of a word
    decoder. A reconstruction: the paper confirms that the state attends to both images at every word.

    Not in ``FUSIONS``, because it has several sets of tokens. A decoder maps the tokens once with :meth:`keys` and calls
    :meth:`mix` for every state.

    Args:
        dim: Token width.
        num_sources: Number of sources S.
        state_dim: State width; None for ``dim``.
        hidden: Hidden width of the logits; None for ``dim``.

    Shapes:
        - **input:** tokens ``[..., L_s, D]`` and mask ``[..., L_s]`` (or None) for each of S sources, query ``[..., state_dim]``
        - **output:** ``[..., D]``; a source without tokens has weight 0, and without any token the output is zeros. Weights: see
          :class:`SourceWeights`

    >>> shirt, trousers, states = torch.randn(4, 49, 16), torch.randn(4, 36, 16), torch.randn(4, 8)
    >>> fused, weights = MultiSourceAttention(16, 2, 8)([shirt, trousers], None, states, return_weights=True)
    >>> fused.shape, weights.joint.shape
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
        """Fuse all sources for every state.

        Raises:
            UsageError: There is no query, or the number of sources is not that of the module.
        """
        if query is None:
            raise UsageError("attention to several sources needs a query, the state; pass one for every row of tokens")
        if len(tokens) != len(self.token):
            raise UsageError(f"expected the tokens of {len(self.token)} sources, found {len(tokens)}; pass one tensor for each")
        masks = [None] * len(tokens) if masks is None else masks
        tokens = [hide_missing(x, mask) for x, mask in zip(tokens, masks, strict=True)]
        fused, weights = self.mix(query, self.keys(tokens), tokens, masks)
        return (fused, weights) if return_weights else fused

    def keys(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        """Compute keys ``[..., L_s, hidden]``, the same for all states; missing tokens must be hidden already."""
        return [token(x) for token, x in zip(self.token, tokens, strict=True)]

    def mix(
        self, state: Tensor, keys: Sequence[Tensor], tokens: Sequence[Tensor], masks: Sequence[Tensor | None]
    ) -> tuple[Tensor, SourceWeights]:
        """Compute context and weights from states, :meth:`keys` and the tokens themselves."""
        weights, fused, present = [], [], []
        for key, x, mask, to_hidden, to_logit in zip(keys, tokens, masks, self.state, self.logit, strict=True):
            weight = masked_softmax(to_logit(torch.tanh(key + to_hidden(state).unsqueeze(-2))).squeeze(-1), mask)
            weights.append(weight)
            fused.append(torch.einsum("...l,...ld->...d", weight, x))
            present.append(weight.new_ones(weight.shape[:-1], dtype=torch.bool) if mask is None else mask.any(-1))
        sources = torch.stack(fused, dim=-2)  # [..., S, D]
        logits = torch.einsum("...d,...sd->...s", self.source(state), sources)
        source_weights = masked_softmax(logits, torch.stack([x.expand(logits.shape[:-1]) for x in present], dim=-1))
        return torch.einsum("...s,...sd->...d", source_weights, sources), SourceWeights(weights, source_weights)
