"""A decoder of words: what somebody would write about something, one word after another."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.nn.classify import classify
from gmmrec.nn.fusion.region import ContextGate
from gmmrec.nn.init import embedding_table

BOUNDARY = 0
"""A word id that is no word: the start where words are read, the end where they are foretold, and the padding behind it."""

Step = Callable[[Tensor, Sequence[Tensor], Sequence[Tensor]], list[Tensor]]
"""From the vectors of words ``[B, W]``, states ``[B, ...]`` and what stays the same at every word ``[B, ...]`` to the next states;
the first of these is what the word after is foretold from."""


class TextDecoder(nn.Module):
    r"""A recurrent network that says word by word what is said about a pair: the review decoder of VECF (Chen et al., SIGIR 2019).

    .. math::
        \mathbf{s}_0 = \tanh(\mathbf{U} [\mathbf{p} \| \mathbf{q}]), \qquad
        \mathbf{s}_t = \mathrm{RNN}([\mathbf{e}(w_t) \| \mathbf{c}_t], \mathbf{s}_{t-1}), \qquad
        p(w_{t+1}) = \mathrm{softmax}(\mathbf{W} \mathbf{s}_t + \mathbf{b})

    with the context :math:`\mathbf{c}_t` of :class:`~gmmrec.nn.fusion.region.ContextGate`, whose gate is the picture's share. The
    formulas are those of the code released for the paper (https://doi.org/10.1145/3331184.3331254); as in the paper's figure, and
    not in that code, there is a context at the first word too. An LSTM's cell starts as its state does.

    Word id 0 is read as the start and foretold as the end, so the table of words needs no further rows. A text that fills its row
    may have been cut: its end is not learned. Nothing is computed behind the end of a text, nor for a row without one.

    Args:
        num_words: Rows of the table of words, id 0 included.
        ids_dim: Width of the embeddings of user and item, side by side.
        visual_dim: Width of the picture.
        word_dim: Width of a word.
        state_dim: Width of the state.
        context_dim: Width of the context.
        cell: Kind of recurrent network.

    Shapes:
        - **input:** ids ``[B, ids_dim]``, visual ``[B, visual_dim]``, text ``[B, T]`` (word ids, 0 behind the last)
        - **output:** negative log-likelihoods ``[B, T]``: of every word as it follows those before it, then of the end; 0 behind
          it, and for a text without words
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
            raise ValueError(f"cell must be 'gru' or 'lstm', but is {cell!r}")
        self.words = embedding_table(num_words, word_dim, 0.1)
        self.start = nn.Linear(ids_dim, state_dim, bias=False)
        self.context = ContextGate(state_dim, visual_dim, ids_dim, context_dim)
        self.cell = (nn.GRUCell if cell == "gru" else nn.LSTMCell)(word_dim + context_dim, state_dim)
        self.output = nn.Linear(state_dim, num_words)

    def forward(self, ids: Tensor, visual: Tensor, text: Tensor) -> Tensor:
        """How surprising each word of the texts is, given those before it."""
        return surprise(text, self.words, self.output, self._first(ids), self.context.parts(visual, ids), self._next)

    @torch.no_grad()
    def generate(self, ids: Tensor, visual: Tensor, num_words: int, *, forbidden: Sequence[int] = ()) -> Tensor:
        """The likeliest word after every word, until the end.

        Args:
            ids: ``[B, ids_dim]``.
            visual: ``[B, visual_dim]``.
            num_words: How many at most.
            forbidden: Words that are never said.

        Returns:
            Word ids ``[B, num_words]``; 0 behind the last.
        """
        parts = self.context.parts(visual, ids)
        return most_likely_text(num_words, self.words, self.output, self._first(ids), parts, self._next, forbidden=forbidden)

    def _first(self, ids: Tensor) -> list[Tensor]:
        """The state of a GRU, or state and cell of an LSTM."""
        state = torch.tanh(self.start(ids))
        return [state] * (2 if isinstance(self.cell, nn.LSTMCell) else 1)

    def _next(self, word: Tensor, state: Sequence[Tensor], parts: Sequence[Tensor]) -> list[Tensor]:
        context, _ = self.context.mix(state[0], *parts)
        x = torch.cat([word, context], dim=-1)
        if isinstance(self.cell, nn.LSTMCell):
            return list(self.cell(x, (state[0], state[1])))
        return [self.cell(x, state[0])]


def surprise(
    text: Tensor, words: Tensor, output: nn.Linear, state: Sequence[Tensor], parts: Sequence[Tensor], step: Step
) -> Tensor:
    """Negative log-likelihoods of the words of texts, each given those before it.

    A text is followed by its end, which is foretold too unless the text fills its row: then it may have been cut. Nothing is
    computed behind the end, nor for a row without words; all words are foretold in one product, by
    :func:`~gmmrec.nn.classify.classify`.

    Args:
        text: Word ids ``[B, T]``, 0 behind the last; nothing is read behind the first 0.
        words: Table of word vectors ``[V, W]``.
        output: From a state to the logits of all words.
        state: Before the first word.
        parts: What stays the same at every word.
        step: One step of the recurrent network.

    Returns:
        ``[B, T]``; 0 where nothing is foretold.
    """
    text = text.long()
    num_rows, length = text.shape
    num_words = (text == BOUNDARY).cumsum(1).eq(0).sum(1)
    num_steps, order = torch.where(num_words > 0, num_words + 1, 0).clamp(max=length).sort(descending=True)
    text, state, parts = text[order], [s[order] for s in state], [part[order] for part in parts]
    asked = num_steps > torch.arange(length, device=text.device)[:, None]  # [T, B], step by step, the longest texts first
    read = F.embedding(F.pad(text, (1, 0), value=BOUNDARY)[:, :length], words)
    states = []
    for position, count in enumerate(filter(None, asked.sum(1).tolist())):
        state = step(read[:count, position], [s[:count] for s in state], [part[:count] for part in parts])
        states.append(state[0])
    if not states:
        return words.new_zeros(num_rows, length)
    hidden, following = torch.cat(states), text.t()[asked]  # [W, state_dim], [W]
    found = classify(hidden, output.weight, output.bias, following)
    return found.new_zeros(length, num_rows).masked_scatter(asked, found).t()[order.argsort()]


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
    """The likeliest word after every word, until the end: word ids ``[B, num_words]``, 0 behind the last.

    Args:
        num_words: How many at most.
        words: As for :func:`surprise`, and so are the next ones.
        output: From a state to the logits of all words.
        state: Before the first word.
        parts: What stays the same at every word.
        step: One step of the recurrent network.
        forbidden: Words that are never said.
    """
    word = torch.full((len(state[0]),), BOUNDARY, device=state[0].device)
    has_ended = torch.zeros_like(word, dtype=torch.bool)
    said = []
    for _ in range(num_words):
        state = step(F.embedding(word, words), state, parts)
        chances = output(state[0])
        chances[:, list(forbidden)] = -torch.inf
        word = chances.argmax(1).masked_fill(has_ended, BOUNDARY)
        has_ended |= word == BOUNDARY
        said.append(word)
    return torch.stack(said, dim=1)
