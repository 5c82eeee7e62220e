"""Stacked co-attention between two sets of tokens, in several steps."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from gmmrec.errors import UsageError
from gmmrec.nn.fusion.mean import uniform_weights
from gmmrec.nn.masked import hide_missing, masked_softmax

Score = Literal["product", "additive"]
Start = Literal["mean", "first"]


class Shares(NamedTuple):
    """Shares of the tokens in both memories after every step, and the attention weights."""

    left: list[Tensor]
    """``[N, P]`` for steps 0 to K; the memory is the sum of the tokens weighted by them."""
    right: list[Tensor]
    left_weights: list[Tensor]
    """``[N, P]`` for steps 1 to K; they sum to 1."""
    right_weights: list[Tensor]


class Memories(NamedTuple):
    """Memories of both sides after every step, the start included, and the attention weights."""

    left: list[Tensor]
    """``[N, D]`` for steps 0 to K."""
    right: list[Tensor]
    left_weights: list[Tensor]
    """``[N, P]`` for steps 1 to K."""
    right_weights: list[Tensor]


class GuidedAttention(nn.Module):
    r"""Attention weights of tokens for a guide vector, one half of a step of :class:`CoAttention`.

    .. math:: \alpha = \mathrm{softmax}_t \big( \mathbf{w}^\top
        [\tanh(\mathbf{W} \mathbf{x}_t) \odot \tanh(\mathbf{W}_g \mathbf{g})] \big)

    or, with ``additive`` scores, :math:`\tanh(\mathbf{W} \mathbf{x}_t + \mathbf{W}_g \mathbf{g})` in the brackets. There is no
    bias, so in the product form a zero guide gives uniform weights.

    Args:
        dim: Width of tokens and guides.
        hidden: Hidden width (of the brackets).
        score: Form of the logits.

    Shapes:
        - **input:** tokens ``[..., T, D]``, mask ``[..., T]``, guide ``[..., D]``, or tokens ``[..., P, D]`` whose sum weighted by
          shares ``[..., P]`` is the guide; leading axes are broadcast, and with products nothing larger than the result is held
        - **output:** weights ``[..., T]``
    """

    def __init__(self, dim: int, hidden: int, *, score: Score = "product") -> None:
        super().__init__()
        self.score = score
        self.token, self.guide = nn.Linear(dim, hidden, bias=False), nn.Linear(dim, hidden, bias=False)
        self.logit = nn.Linear(hidden, 1, bias=False)

    def forward(self, tokens: Tensor, mask: Tensor | None, guide: Tensor, shares: Tensor | None = None) -> Tensor:
        """Compute the weights of the tokens; missing ones must be hidden already."""
        guide = self.guide(guide) if shares is None else _map_sum(self.guide, shares, guide)
        tokens = self.token(tokens)
        if self.score == "product":
            logits = torch.einsum("...h,...th->...t", guide.tanh() * self.logit.weight[0], tokens.tanh())
        else:
            logits = self.logit(torch.tanh(tokens + guide.unsqueeze(-2))).squeeze(-1)
        if logits.shape[-1] >= 16 or logits.device.type != "cpu":
            return masked_softmax(logits, mask)
        if mask is not None:  # torch is 8 times slower over a short last axis
            mask = mask[(None,) * (logits.dim() - mask.dim())].movedim(-1, 0)
        return masked_softmax(logits.movedim(-1, 0), mask, dim=0).movedim(0, -1)


class CoAttention(nn.Module):
    r"""Co-attention between two sets of tokens (a user's and a video's, say) in K steps; each summary depends on the other set.

    .. math::
        \alpha^k &= \mathrm{softmax}_q \big( \mathbf{w}_k^\top
            [\tanh(\mathbf{W}_k \mathbf{v}_q) \odot \tanh(\mathbf{W}'_k \mathbf{m}_u^{k-1})] \big), \qquad
        \mathbf{m}_v^k = \mathbf{m}_v^{k-1} + \sum_q \alpha_q^k \mathbf{v}_q

        \beta^k &= \mathrm{softmax}_p \big( \mathbf{w}_k''^\top
            [\tanh(\mathbf{W}_k'' \mathbf{u}_p) \odot \tanh(\mathbf{W}_k''' \mathbf{m}_v^{k-1})] \big), \qquad
        \mathbf{m}_u^k = \mathbf{m}_u^{k-1} + \sum_p \beta_p^k \mathbf{u}_p

    Both sides read the memories of step k - 1, which start as the means of the sets. A reconstruction of UVCAN (Liu et al., WWW
    2019, https://doi.org/10.1145/3308558.3313513): its abstract and surveys name the inputs, the direction of the attention and its
    steps; the equations are those of stacked and dual attention networks. Not in ``FUSIONS``, because it has two sides;
    :class:`CoAttentionFusion` is the one-sided form.

    Args:
        dim: Token width.
        hidden: Hidden width of the logits; None for ``dim``.
        steps: Number of steps K; 0 returns the initial memories.
        score: See :class:`GuidedAttention`.
        accumulate: Whether to add what is read to the memory instead of replacing it.
        start: Initial memory: the mean of the present tokens, or the first of them (an ID embedding, say).
        share_steps: Whether all steps share their parameters.
        attend: Whether to attend to the tokens of the left and of the right side. A side without attention has uniform weights in
            every step and no parameters: it does not depend on the other and keeps its own leading axes. For a single token there
            is no difference.

    Shapes:
        - **input:** left ``[..., P, D]``, right ``[..., Q, D]``, masks ``[..., P]`` and ``[..., Q]``. Leading axes are broadcast:
          ``[B, 1, P, D]`` and ``[C, Q, D]`` give all pairs
        - **output:** left and right summary, ``[..., D]`` each; zeros for a side without tokens. Weights ``[..., K, P]`` and
          ``[..., K, Q]``

    >>> users, videos = torch.randn(4, 2, 8), torch.randn(4, 5, 8)
    >>> (user, video), (user_weights, video_weights) = CoAttention(8, steps=3)(users, videos, return_weights=True)
    >>> video.shape, video_weights.shape
    (torch.Size([4, 8]), torch.Size([4, 3, 5]))
    """

    def __init__(
        self,
        dim: int,
        hidden: int | None = None,
        *,
        steps: int = 3,
        score: Score = "product",
        accumulate: bool = True,
        start: Start = "mean",
        share_steps: bool = False,
        attend: tuple[bool, bool] = (True, True),
    ) -> None:
        super().__init__()
        _check(steps, score, start)
        self.steps, self.accumulate, self.start = steps, accumulate, start
        self.left, self.right = (_attentions(dim, hidden, steps if side else 0, score, share_steps) for side in attend)

    def forward(
        self,
        left: Tensor,
        right: Tensor,
        left_mask: Tensor | None = None,
        right_mask: Tensor | None = None,
        *,
        return_weights: bool = False,
    ) -> tuple[Tensor, Tensor] | tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Return the final memories of both sides, and on request the weights of every step."""
        memories = self.memories(left, right, left_mask, right_mask)
        last = memories.left[-1], memories.right[-1]
        if not return_weights:
            return last
        if not self.steps:
            shape = torch.broadcast_shapes(left.shape[:-2], right.shape[:-2])
            return last, (left.new_empty(*shape, 0, left.shape[-2]), right.new_empty(*shape, 0, right.shape[-2]))
        return last, (torch.stack(memories.left_weights, dim=-2), torch.stack(memories.right_weights, dim=-2))

    def memories(self, left: Tensor, right: Tensor, left_mask: Tensor | None = None, right_mask: Tensor | None = None) -> Memories:
        """Compute the memories of every step, for scores summed over the steps as in dual attention networks."""
        left, right = hide_missing(left, left_mask), hide_missing(right, right_mask)
        left_shares, right_shares, *weights = self.shares(left, right, left_mask, right_mask)
        return Memories([_sum(s, left) for s in left_shares], [_sum(s, right) for s in right_shares], *weights)

    def shares(self, left: Tensor, right: Tensor, left_mask: Tensor | None = None, right_mask: Tensor | None = None) -> Shares:
        """Compute the memories as shares of tokens, which saves memory, and work where only products with a memory are needed.

        Missing tokens must be hidden already.
        """
        tokens, masks, attentions = (left, right), (left_mask, right_mask), (self.left, self.right)
        shares = [first_shares(x, m, self.start) for x, m in zip(tokens, masks, strict=True)]
        steps = Shares([shares[0]], [shares[1]], [], [])
        for k in range(self.steps):
            weights = []
            for side, other in ((0, 1), (1, 0)):
                if not attentions[side]:
                    weights.append(uniform_weights(tokens[side], masks[side]))
                    continue
                attention = attentions[side][k % len(attentions[side])]
                weights.append(attention(tokens[side], masks[side], tokens[other], shares[other]))
            shares = [s + w for s, w in zip(shares, weights, strict=True)] if self.accumulate else weights
            for entries, entry in zip(steps, (*shares, *weights), strict=True):
                entries.append(entry)
        return steps


class CoAttentionFusion(nn.Module):
    r"""One-sided :class:`CoAttention` with the fusion signature, which reads the tokens of a node in K steps.

    With a query, the other side is that single vector with weight 1: its memory grows, :math:`\mathbf{m}^k = (k + 1) \mathbf{q}`,
    or stays :math:`\mathbf{q}` if memories are replaced. Without a query, the set is its own other side, so the memory guides the
    next step; GraphFusion uses it like this.

    Args:
        dim: Width of tokens and queries.
        hidden: Hidden width of the logits; None for ``dim``.
        steps: Number of steps K.
        score: Form of the logits.
        accumulate: Whether to add what is read to the memory instead of replacing it.
        start: Initial memory, as in :class:`CoAttention`.
        share_steps: Whether all steps share their parameters.

    Shapes:
        - **input:** tokens ``[..., M, D]``, mask ``[..., M]``, query ``[..., D]`` or None; leading axes are broadcast
        - **output:** ``[..., D]``; zeros for a row without tokens. Weights ``[..., M]`` are the tokens' shares in the memory; an
          accumulated memory is K + 1 times the weighted mean
    """

    def __init__(
        self,
        dim: int,
        hidden: int | None = None,
        *,
        steps: int = 3,
        score: Score = "product",
        accumulate: bool = True,
        start: Start = "mean",
        share_steps: bool = False,
    ) -> None:
        super().__init__()
        _check(steps, score, start)
        self.steps, self.accumulate, self.start = steps, accumulate, start
        self.read = _attentions(dim, hidden, steps, score, share_steps)

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuse the tokens, guided by the query, or by the memory without one."""
        tokens = hide_missing(tokens, mask)
        total = shares = first_shares(tokens, mask, self.start)
        memory = _sum(shares, tokens)
        for k in range(self.steps):
            guide = memory if query is None else query * (k + 1 if self.accumulate else 1)
            shares = self.read[k % len(self.read)](tokens, mask, guide)
            messages = _sum(shares, tokens)
            memory, total = (memory + messages, total + shares) if self.accumulate else (messages, shares)
        return (memory, total / (self.steps + 1) if self.accumulate else total) if return_weights else memory


def first_shares(tokens: Tensor, mask: Tensor | None, start: Start) -> Tensor:
    """Return the shares of the initial memory ``[..., T]``: uniform over the present tokens, or the first of these only.

    >>> first_shares(torch.zeros(1, 3, 2), torch.tensor([[False, True, True]]), "first")
    tensor([[0., 1., 0.]])
    """
    if start == "mean":
        return uniform_weights(tokens, mask)
    present = torch.ones(tokens.shape[:-1], dtype=torch.bool, device=tokens.device) if mask is None else mask
    return (present & (present.cumsum(-1) == 1)).to(tokens.dtype)


def _sum(weights: Tensor, tokens: Tensor) -> Tensor:
    return torch.einsum("...t,...td->...d", weights, tokens)  # pairs are broadcast without copying tokens


def _map_sum(linear: nn.Linear, shares: Tensor, tokens: Tensor) -> Tensor:
    """Map weighted sums of tokens linearly; where there are fewer tokens than sums, map the tokens first."""
    if tokens.shape[:-1].numel() < shares.shape[:-1].numel():
        return _sum(shares, linear(tokens))
    mapped: Tensor = linear(_sum(shares, tokens))
    return mapped


def _attentions(dim: int, hidden: int | None, steps: int, score: Score, share_steps: bool) -> nn.ModuleList:
    count = min(1, steps) if share_steps else steps
    return nn.ModuleList(GuidedAttention(dim, hidden or dim, score=score) for _ in range(count))


def _check(steps: int, score: str, start: str) -> None:
    if steps < 0:
        raise UsageError(f"steps must be at least 0, but is {steps}")
    if score not in ("product", "additive") or start not in ("mean", "first"):
        raise UsageError(f"score must be 'product' or 'additive' and start 'mean' or 'first', but they are {score!r} and {start!r}")
