"""Transformer that adapts its weights to a history before prediction."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gmmrec.models.mml.meta import Weights, call_with_own_weights, inner_loop
from gmmrec.nn.loss import expected_bpr
from gmmrec.nn.sequence.transformer import SequenceTransformer


class Episode(NamedTuple):
    """Histories of B users: at every position a token, and the item that came after it.

    Attributes:
        tokens: ``[B, L, d]``, the newest in the last column.
        mask: Mask of positions with a token ``[B, L]``.
        following: Target vectors of the next items, less the mean over all candidates ``[B, L, d]``.
        learnable: Mask of positions whose next item is known ``[B, L]``.
        bias: Bias of the attention logits ``[B, L, L]``, or None.
    """

    tokens: Tensor
    mask: Tensor
    following: Tensor
    learnable: Tensor
    bias: Tensor | None = None

    @property
    def position(self) -> Tensor:
        """Latest position with a token, up to every position ``[B, L]``; 0 if there is none, see :attr:`known`."""
        positions = torch.arange(self.mask.shape[1], device=self.mask.device)
        return torch.where(self.mask, positions, 0).cummax(1).values

    @property
    def known(self) -> Tensor:
        """Mask of positions with a token at or before them ``[B, L]``."""
        return self.mask.cumsum(1) > 0


class AdaptiveTransformer(nn.Module):
    r"""Causal Transformer whose weights are adapted to each user's history by gradient descent.

    The loss at every position of the ``support`` is the expected BPR of the next item against all others
    (:func:`~gmmrec.nn.loss.expected_bpr`), whose scores enter by their mean, which is subtracted, and by the covariance of the
    candidates; nothing is sampled, so the steps are deterministic. All weights of the Transformer are adapted, and no others. The
    fast weights of a meta-learner of MML (Pan et al., CIKM 2022); a position without a token repeats the state of the latest one
    before it.

    Args:
        transformer: Causal Transformer.

    Shapes:
        - **input:** an :class:`Episode`, support mask ``[B, L]``, covariance ``[d, d]``
        - **output:** states ``[B, L, d]``, zeros before the first token

    >>> learner = AdaptiveTransformer(SequenceTransformer(8, 5, causal=True))
    >>> x, mask = torch.randn(3, 4, 8), torch.ones(3, 4, dtype=torch.bool)
    >>> learner(Episode(x, mask, x, mask), mask, torch.eye(8), steps=2, lr=0.1).shape
    torch.Size([3, 4, 8])
    """

    def __init__(self, transformer: SequenceTransformer) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(
        self, episode: Episode, support: Tensor, covariance: Tensor, *, steps: int, lr: float, first_order: bool = True
    ) -> Tensor:
        """Compute states with every user's adapted weights, after gradient descent at rate ``lr`` (see :mod:`.meta`)."""
        if not steps:
            return self._read(self.transformer(episode.tokens, episode.mask, bias=episode.bias), episode)
        weights = self.adapted(episode, support, covariance, steps=steps, lr=lr, first_order=first_order)
        states = call_with_own_weights(self.transformer, weights, (episode.tokens, episode.mask), bias=episode.bias)
        return self._read(states, episode)

    def adapted(
        self, episode: Episode, support: Tensor, covariance: Tensor, *, steps: int, lr: float, first_order: bool = True
    ) -> Weights:
        """Return adapted weights per user ``[B, ...]``; the module's own are unchanged."""

        def loss(
            weights: Weights,
            tokens: Tensor,
            mask: Tensor,
            position: Tensor,
            following: Tensor,
            loss_mask: Tensor,
            bias: Tensor | None,
        ) -> Tensor:
            states = read_at(functional_call(self.transformer, weights, (tokens, mask), {"bias": bias}), position)
            losses = expected_bpr((states * following).sum(-1), ((states @ covariance) * states).sum(-1))
            return (losses * loss_mask).sum() / loss_mask.sum().clamp(min=1)

        loss_mask = (support & episode.learnable & episode.known).to(episode.tokens.dtype)
        task = (episode.tokens, episode.mask, episode.position, episode.following, loss_mask, episode.bias)
        initial = dict(self.transformer.named_parameters())
        return inner_loop(loss, initial, task, steps=steps, lr=lr, first_order=first_order)

    def _read(self, states: Tensor, episode: Episode) -> Tensor:
        return read_at(states, episode.position).masked_fill(~episode.known.unsqueeze(-1), 0.0)


def read_at(states: Tensor, position: Tensor) -> Tensor:
    """Gather the states ``[..., L, d]`` at positions ``[..., L]``.

    >>> read_at(torch.tensor([[5.0], [6.0], [7.0]]), torch.tensor([0, 0, 2])).flatten()
    tensor([5., 5., 7.])
    """
    return states.gather(-2, position.unsqueeze(-1).expand_as(states))
