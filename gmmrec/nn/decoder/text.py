"""Recurrent decoder of texts, word by word."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.errors import UsageError
from gmmrec.nn.classify import classify
from gmmrec.nn.fusion.region import ContextGate
from gmmrec.nn.init import embedding_table

BOUNDARY = 0
"""Word id of the start (as an input), the end (as a target), and the padding after it."""

Step = Callable[[Tensor, Sequence[Tensor], Sequence[Tensor]], list[Tensor]]
"""Function from word vectors ``[B, W]``, states ``[B, ...]`` and constants ``[B, ...]``, the same at every word, to the next
states; the first state predicts the next word."""


class TextDecoder(nn.Module):
    r"""Recurrent network that generates the text of a pair: the review decoder of VECF (Chen et al., SIGIR 2019).

    .. math::
        \mathbf{s}_0 = \tanh(\mathbf{U} [\mathbf{p} \| \mathbf{q}]), \qquad
        \mathbf{s}_t = \mathrm{RNN}([\mathbf{e}(w_t) \| \mathbf{c}_t], \mathbf{s}_{t-1}), \qquad
        p(w_{t+1}) = \mathrm{softmax}(\mathbf{W} \mathbf{s}_t + \mathbf{b})

    with the context :math:`\mathbf{c}_t` of :class:`~gmmrec.nn.fusion.region.ContextGate`, whose gate is the weight of the image.
    The formulas are those of the code released for the paper (https://doi.org/10.1145/3331184.3331254); as in the paper's figure,
    but not in that code, the first word has a context too. An LSTM's cell starts like its state.

    Word id 0 is the start as an input and the end as a target, so the word table needs no further rows. A text that fills its row
    may have been truncated, so its end is not learned. Nothing is computed after the end of a text, nor for a row without words.

    Args:
        num_words: Rows of the word table, id 0 included.
        ids_dim: Total width of the user and item embeddings.
        visual_dim: Width of the image vector.
        word_dim: Width of a word vector.
        state_dim: Width of the state.
        context_dim: Width of the context.
        cell: Recurrent cell.

    Shapes:
        - **input:** ids ``[B, ids_dim]``, visual ``[B, visual_dim]``, text ``[B, T]`` (word ids, 0 after the last)
        - **output:** negative log-likelihoods ``[B, T]``: of every word given the words before it, then of the end; 0 after it, and
          for a text without words
    """

    def __init__(
        self,
        num_words: int,
        ids_dim: int,
        visual_dim: int,
        *,
        word_dim: int = 64,
        state_dim: int = 100,
        context_dim: int = 50,
        cell: Literal["gru", "lstm"] = "gru",
    ) -> None:
        super().__init__()
        if cell not in ("gru", "lstm"):
            raise UsageError(f"cell must be 'gru' or 'lstm', but is {cell!r}")
        self.words = embedding_table(num_words, word_dim, 0.1)
        self.start = nn.Linear(ids_dim, state_dim, bias=False)
        self.context = ContextGate(state_dim, visual_dim, ids_dim, context_dim)
        self.cell = (nn.GRUCell if cell == "gru" else nn.LSTMCell)(word_dim + context_dim, state_dim)
        self.output = nn.Linear(state_dim, num_words)

    def forward(self, ids: Tensor, visual: Tensor, text: Tensor) -> Tensor:
        """Compute the negative log-likelihood of each word of the texts, given the words before it."""
        return negative_log_likelihood(text, self.words, self.output, self._first(ids), self.context.parts(visual, ids), self._next)

    @torch.no_grad()
    def generate(self, ids: Tensor, visual: Tensor, num_words: int, *, forbidden: Sequence[int] = ()) -> Tensor:
        """Decode texts greedily, until the end.

        Args:
            ids: ``[B, ids_dim]``.
            visual: ``[B, visual_dim]``.
            num_words: Maximum number of words.
            forbidden: Word ids that are never generated.

        Returns:
            Word ids ``[B, num_words]``; 0 after the last.
        """
        parts = self.context.parts(visual, ids)
        return most_likely_text(num_words, self.words, self.output, self._first(ids), parts, self._next, forbidden=forbidden)

    def _first(self, ids: Tensor) -> list[Tensor]:
        """Return the initial state of a GRU, or state and cell of an LSTM."""
        state = torch.tanh(self.start(ids))
        return [state] * (2 if isinstance(self.cell, nn.LSTMCell) else 1)

    def _next(self, word: Tensor, state: Sequence[Tensor], parts: Sequence[Tensor]) -> list[Tensor]:
        context, _ = self.context.mix(state[0], *parts)
        x = torch.cat([word, context], dim=-1)
        if isinstance(self.cell, nn.LSTMCell):
            return list(self.cell(x, (state[0], state[1])))
        return [self.cell(x, state[0])]


def negative_log_likelihood(
    text: Tensor, words: Tensor, output: nn.Linear, state: Sequence[Tensor], parts: Sequence[Tensor], step: Step
) -> Tensor:
    """Compute the negative log-likelihood of each word of the texts, given the words before it.

    A text is followed by its end, which is predicted too unless the text fills its row and so may have been truncated. Nothing is
    computed after the end, nor for a row without words; all words are predicted in one product, by
    :func:`~gmmrec.nn.classify.classify`.

    Args:
        text: Word ids ``[B, T]``, 0 after the last; nothing is read after the first 0.
        words: Table of word vectors ``[V, W]``.
        output: Map from a state to the logits of all words.
        state: States before the first word.
        parts: Constants, the same at every word.
        step: One step of the recurrent network.

    Returns:
        ``[B, T]``; 0 where nothing is predicted.
    """
    text = text.long()
    num_rows, length = text.shape
    num_words = (text == BOUNDARY).cumsum(1).eq(0).sum(1)
    num_steps, order = torch.where(num_words > 0, num_words + 1, 0).clamp(max=length).sort(descending=True)
    text, state, parts = text[order], [s[order] for s in state], [part[order] for part in parts]
    is_target = num_steps > torch.arange(length, device=text.device)[:, None]  # [T, B], step by step, longest texts first
    inputs = F.embedding(F.pad(text, (1, 0), value=BOUNDARY)[:, :length], words)
    states = []
    for position, count in enumerate(filter(None, is_target.sum(1).tolist())):
        state = step(inputs[:count, position], [s[:count] for s in state], [part[:count] for part in parts])
        states.append(state[0])
    if not states:
        return words.new_zeros(num_rows, length)
    hidden, targets = torch.cat(states), text.t()[is_target]  # [W, state_dim], [W]
    loss = classify(hidden, output.weight, output.bias, targets)
    return loss.new_zeros(length, num_rows).masked_scatter(is_target, loss).t()[order.argsort()]


def most_likely_text(
    num_words: int,
    words: Tensor,
    output: nn.Linear,
    state: Sequence[Tensor],
    parts: Sequence[Tensor],
    step: Step,
    *,
    forbidden: Sequence[int] = (),
) -> Tensor:
    """Decode texts greedily, until the end: word ids ``[B, num_words]``, 0 after the last.

    Args:
        num_words: Maximum number of words.
        words: Table of word vectors ``[V, W]``.
        output: Map from a state to the logits of all words.
        state: States before the first word.
        parts: Constants, the same at every word.
        step: One step of the recurrent network.
        forbidden: Word ids that are never generated.
    """
    word = torch.full((len(state[0]),), BOUNDARY, device=state[0].device)
    has_ended = torch.zeros_like(word, dtype=torch.bool)
    text = []
    for _ in range(num_words):
        state = step(F.embedding(word, words), state, parts)
        logits = output(state[0])
        logits[:, list(forbidden)] = -torch.inf
        word = logits.argmax(1).masked_fill(has_ended, BOUNDARY)
        has_ended |= word == BOUNDARY
        text.append(word)
    return torch.stack(text, dim=1)
