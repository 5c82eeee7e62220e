"""A decoder of words that looks at several pictures while it speaks."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.nn.beam import Beams, beam_search
from gmmrec.nn.decoder.text import BOUNDARY, most_likely_text, surprise
from gmmrec.nn.fusion.multi_source import MultiSourceAttention
from gmmrec.nn.init import embedding_table
from gmmrec.nn.masked import hide_missing


class Scene(NamedTuple):
    """What is spoken about, one row a text.

    Attributes:
        summary: ``[B, A]``; what the first state is made of.
        tokens: Regions of every source ``[B, L_s, D]``.
        masks: Which exist, ``[B, L_s]`` each.
    """

    summary: Tensor
    tokens: Sequence[Tensor]
    masks: Sequence[Tensor]


class CommentDecoder(nn.Module):
    r"""A GRU that says word by word what is said about a pair of garments: the generation decoder of NOR (Lin et al., TKDE 2019).

    .. math::
        \mathbf{s}_0 = \tanh(\mathbf{W} [\mathbf{v}_t \| \mathbf{v}_b] + \mathbf{b}), \qquad
        \mathbf{s}_\tau = \mathrm{GRU}([\mathbf{e}(w_{\tau-1}) \| \mathbf{z}_\tau], \mathbf{s}_{\tau-1}), \qquad
        p(w_\tau) = \mathrm{softmax}(\mathbf{W}_o \mathbf{s}_\tau + \mathbf{b}_o)

    with the context :math:`\mathbf{z}_\tau` that the state before sees in the regions
    (:class:`~gmmrec.nn.fusion.multi_source.MultiSourceAttention`). A reconstruction: that it is a GRU with attention to both
    pictures at every word is known, the formulas are the usual ones (https://arxiv.org/abs/1806.08977).

    Word id 0 is read as the start and foretold as the end; a text that fills its row may have been cut: its end is not learned.

    Args:
        num_words: Rows of the table of words, id 0 included.
        dim: Width of a region.
        summary_dim: Width of the summary.
        num_sources: Pictures.
        word_dim: Width of a word.
        state_dim: Width of the state.
        hidden: Width of the hidden layer of the attention; None for ``dim``.

    Shapes:
        - **input:** a :class:`Scene`, text ``[B, T]`` (word ids, 0 behind the last)
        - **output:** negative log-likelihoods ``[B, T]``: of every word, then of the end; 0 behind it, and for a text without words
    """

    def __init__(
        self,
        num_words: int,
        dim: int,
        summary_dim: int,
        *,
        num_sources: int = 2,
        word_dim: int = 64,
        state_dim: int = 64,
        hidden: int | None = None,
    ) -> None:
        super().__init__()
        self.words = embedding_table(num_words, word_dim, 0.1)
        self.start = nn.Linear(summary_dim, state_dim)
        self.look = MultiSourceAttention(dim, num_sources, state_dim, hidden)
        self.cell = nn.GRUCell(word_dim + dim, state_dim)
        self.output = nn.Linear(state_dim, num_words)

    def forward(self, scene: Scene, text: Tensor) -> Tensor:
        """How surprising each word of the texts is, given those before it."""
        return surprise(text, self.words, self.output, self.first(scene), self.parts(scene), self.step)

    @torch.no_grad()
    def generate(self, scene: Scene, num_words: int, *, forbidden: Sequence[int] = ()) -> Tensor:
        """The likeliest word after every word, until the end.

        Args:
            scene: What is spoken about.
            num_words: How many words at most.
            forbidden: Words that are never said.

        Returns:
            Word ids ``[B, num_words]``; 0 behind the last.
        """
        return most_likely_text(
            num_words, self.words, self.output, self.first(scene), self.parts(scene), self.step, forbidden=forbidden
        )

    @torch.no_grad()
    def search(self, scene: Scene, num_words: int, *, width: int = 3, forbidden: Sequence[int] = ()) -> Beams:
        """The likeliest texts that are found by following ``width`` beginnings at once.

        Args:
            scene: What is spoken about.
            num_words: How many words at most.
            width: Texts to follow, and to return; 1 for what :meth:`generate` says.
            forbidden: Words that are never said; the chances of the others are those among themselves.
        """
        num_rows, parts = len(scene.summary), self.parts(scene)
        banned = torch.zeros(num_rows, len(self.words), dtype=torch.bool, device=scene.summary.device)
        banned[:, [BOUNDARY, *forbidden]] = True
        (first,) = self.first(scene)
        before, state = banned.new_zeros(num_rows, 1, 0, dtype=torch.long), first.unsqueeze(1)

        def step(said: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal before, state
            count, word = said.shape[1], said.new_full(said.shape[:2], BOUNDARY)
            if said.shape[2]:  # which of the beginnings before is the one that each goes on
                parent = (said[:, :, None, :-1] == before[:, None]).all(-1).int().argmax(-1)
                state = state.gather(1, parent.unsqueeze(-1).expand(-1, -1, state.shape[-1]))
                word = said[..., -1].clamp(min=BOUNDARY)
            same = [part.repeat_interleave(count, dim=0) for part in parts]
            (following,) = self.step(F.embedding(word.flatten(), self.words), [state.flatten(0, 1)], same)
            before, state = said.clone(), following.unflatten(0, (num_rows, count))
            logits = self.output(state)
            return logits, logits[..., BOUNDARY]

        return beam_search(step, banned, width=width, max_length=num_words, repeats=True)

    @torch.no_grad()
    def image_attention(self, scene: Scene, text: Tensor) -> Tensor:
        """Where the decoder looks before every word of a text ``[B, T, L]``: maps over all sources, each of which sums to 1."""
        (state,), parts, maps = self.first(scene), self.parts(scene), []
        for word in F.pad(text.long(), (1, 0), value=BOUNDARY)[:, :-1].t():
            maps.append(self.look.mix(state, *self._by_kind(parts))[1].joint)
            (state,) = self.step(F.embedding(word, self.words), [state], parts)
        return torch.stack(maps, dim=1)

    def first(self, scene: Scene) -> list[Tensor]:
        """The state before the first word, alone in a list."""
        return [torch.tanh(self.start(scene.summary))]

    def parts(self, scene: Scene) -> list[Tensor]:
        """What stays the same at every word: keys, tokens and masks of every source."""
        tokens = [hide_missing(own, mask) for own, mask in zip(scene.tokens, scene.masks, strict=True)]
        return [*self.look.keys(tokens), *tokens, *scene.masks]

    def step(self, word: Tensor, state: Sequence[Tensor], parts: Sequence[Tensor]) -> list[Tensor]:
        """The state after words ``[B, word_dim]`` have been read."""
        seen, _ = self.look.mix(state[0], *self._by_kind(parts))
        return [self.cell(torch.cat([word, seen], dim=-1), state[0])]

    def _by_kind(self, parts: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
        count = len(parts) // 3
        return parts[:count], parts[count : 2 * count], parts[2 * count :]
