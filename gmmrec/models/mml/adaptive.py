"""A Transformer over a history that fits itself to the history before it is asked."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gmmrec.models.mml.meta import Weights, call_with_own_weights, inner_loop
from gmmrec.nn.loss import expected_bpr
from gmmrec.nn.sequence.transformer import SequenceTransformer


class Episode(NamedTuple):
    """What happened to B users: at every position a token, and what came after it.

    Attributes:
        tokens: ``[B, L, d]``, the newest in the last column.
        mask: Positions that have a token ``[B, L]``.
        following: What came next, as states are compared with it, less the mean of everything that might have ``[B, L, d]``.
        learnable: Whether that is known ``[B, L]``.
        bias: Of the attention logits ``[B, L, L]``, or None.
    """

    tokens: Tensor
    mask: Tensor
    following: Tensor
    learnable: Tensor
    bias: Tensor | None = None

    @property
    def position(self) -> Tensor:
        """The newest position up to every position that has a token ``[B, L]``; 0 where there is none, see :attr:`known`."""
        positions = torch.arange(self.mask.shape[1], device=self.mask.device)
        return torch.where(self.mask, positions, 0).cummax(1).values

    @property
    def known(self) -> Tensor:
        """Whether a position, or one before it, has a token ``[B, L]``."""
        return self.mask.cumsum(1) > 0


class AdaptiveTransformer(nn.Module):
    r"""A causal Transformer whose weights take some steps towards a history, each user's in a direction of their own.

    At every position of the ``support``, a state ought to give what came next a higher score than everything else; the scores of
    everything else are known by their mean, which is taken off, and by the covariance of what is scored. So the steps are the same
    each time (:func:`~gmmrec.nn.loss.expected_bpr`). All of its own weights move, nothing else does. The fast part of a
    meta-learner of MML (Pan et al., CIKM 2022); positions without a token pass the state of the newest one before them on.

    Args:
        transformer: Causal.

    Shapes:
        - **input:** an :class:`Episode`, support ``[B, L]``, covariance ``[d, d]``
        - **output:** states ``[B, L, d]``, zeros before the first token

    >>> learner = AdaptiveTransformer(SequenceTransformer(8, 5, causal=True))
    >>> x, there = torch.randn(3, 4, 8), torch.ones(3, 4, dtype=torch.bool)
    >>> learner(Episode(x, there, x, there), there, torch.eye(8), steps=2, lr=0.1).shape
    torch.Size([3, 4, 8])
    """

    def __init__(self, transformer: SequenceTransformer) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(
        self, episode: Episode, support: Tensor, covariance: Tensor, *, steps: int, lr: float, first_order: bool = True
    ) -> Tensor:
        """States at the weights that every user ends with, after gradient descent at rate ``lr`` (see :mod:`.meta`)."""
        if not steps:
            return self._read(self.transformer(episode.tokens, episode.mask, bias=episode.bias), episode)
        weights = self.adapted(episode, support, covariance, steps=steps, lr=lr, first_order=first_order)
        states = call_with_own_weights(self.transformer, weights, (episode.tokens, episode.mask), bias=episode.bias)
        return self._read(states, episode)

    def adapted(
        self, episode: Episode, support: Tensor, covariance: Tensor, *, steps: int, lr: float, first_order: bool = True
    ) -> Weights:
        """The transformer's weights of every user ``[B, ...]``; its own stay what they are."""

        def loss(
            weights: Weights,
            tokens: Tensor,
            mask: Tensor,
            position: Tensor,
            following: Tensor,
            counted: Tensor,
            bias: Tensor | None,
        ) -> Tensor:
            states = read_at(functional_call(self.transformer, weights, (tokens, mask), {"bias": bias}), position)
            losses = expected_bpr((states * following).sum(-1), ((states @ covariance) * states).sum(-1))
            return (losses * counted).sum() / counted.sum().clamp(min=1)

        counted = (support & episode.learnable & episode.known).to(episode.tokens.dtype)
        task = (episode.tokens, episode.mask, episode.position, episode.following, counted, episode.bias)
        begin = dict(self.transformer.named_parameters())
        return inner_loop(loss, begin, task, steps=steps, lr=lr, first_order=first_order)

    def _read(self, states: Tensor, episode: Episode) -> Tensor:
        return read_at(states, episode.position).masked_fill(~episode.known.unsqueeze(-1), 0.0)


def read_at(states: Tensor, position: Tensor) -> Tensor:
    """The states ``[..., L, d]`` at places ``[..., L]``.

    >>> read_at(torch.tensor([[5.0], [6.0], [7.0]]), torch.tensor([0, 0, 2])).flatten()
    tensor([5., 5., 7.])
    """
    return states.gather(-2, position.unsqueeze(-1).expand_as(states))
