"""Recurrent decoder of comments with attention to several images."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.nn.beam import Beams, beam_search
from gmmrec.nn.decoder.text import BOUNDARY, most_likely_text, negative_log_likelihood
from gmmrec.nn.fusion.multi_source import MultiSourceAttention
from gmmrec.nn.init import embedding_table
from gmmrec.nn.masked import hide_missing


class Scene(NamedTuple):
    """Images to comment on, one row per text.

    Attributes:
        summary: Input of the first state ``[B, A]``.
        tokens: Regions of every source ``[B, L_s, D]``.
        masks: Masks of the regions that exist ``[B, L_s]``.
    """

    summary: Tensor
    tokens: Sequence[Tensor]
    masks: Sequence[Tensor]


class CommentDecoder(nn.Module):
    r"""GRU that generates the comment on a pair of garments: the generation decoder of NOR (Lin et al., TKDE 2019).

    .. math::
        \mathbf{s}_0 = \tanh(\mathbf{W} [\mathbf{v}_t \| \mathbf{v}_b] + \mathbf{b}), \qquad
        \mathbf{s}_\tau = \mathrm{GRU}([\mathbf{e}(w_{\tau-1}) \| \mathbf{z}_\tau], \mathbf{s}_{\tau-1}), \qquad
        p(w_\tau) = \mathrm{softmax}(\mathbf{W}_o \mathbf{s}_\tau + \mathbf{b}_o)

    with the context :math:`\mathbf{z}_\tau`, the attention of the previous state to the regions
    (:class:`~gmmrec.nn.fusion.multi_source.MultiSourceAttention`). A reconstruction: the paper states a GRU with attention to both
    images at every word, the formulas are the usual ones (https://arxiv.org/abs/1806.08977).

    Word id 0 is the start as an input and the end as a target; a text that fills its row may have been truncated, so its end is not
    learned.

    Args:
        num_words: Rows of the word table, id 0 included.
        dim: Width of a region.
        summary_dim: Width of the summary.
        num_sources: Number of images.
        word_dim: Width of a word vector.
        state_dim: Width of the state.
        hidden: Width of the hidden layer of the attention; None for ``dim``.

    Shapes:
        - **input:** a :class:`Scene`, text ``[B, T]`` (word ids, 0 after the last)
        - **output:** negative log-likelihoods ``[B, T]``: of every word, then of the end; 0 after it, and for a text without words
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
        """Compute the negative log-likelihood of each word of the texts, given the words before it."""
        return negative_log_likelihood(text, self.words, self.output, self.first(scene), self.parts(scene), self.step)

    @torch.no_grad()
    def generate(self, scene: Scene, num_words: int, *, forbidden: Sequence[int] = ()) -> Tensor:
        """Decode comments greedily, until the end.

        Args:
            scene: Images to comment on.
            num_words: Maximum number of words.
            forbidden: Word ids that are never generated.

        Returns:
            Word ids ``[B, num_words]``; 0 after the last.
        """
        return most_likely_text(
            num_words, self.words, self.output, self.first(scene), self.parts(scene), self.step, forbidden=forbidden
        )

    @torch.no_grad()
    def search(self, scene: Scene, num_words: int, *, width: int = 3, forbidden: Sequence[int] = ()) -> Beams:
        """Decode comments by beam search.

        Args:
            scene: Images to comment on.
            num_words: Maximum number of words.
            width: Number of texts to follow and to return; 1 is equivalent to :meth:`generate`.
            forbidden: Word ids that are never generated; probabilities are normalised over the others.
        """
        num_rows, parts = len(scene.summary), self.parts(scene)
        banned = torch.zeros(num_rows, len(self.words), dtype=torch.bool, device=scene.summary.device)
        banned[:, [BOUNDARY, *forbidden]] = True
        (first,) = self.first(scene)
        previous, state = banned.new_zeros(num_rows, 1, 0, dtype=torch.long), first.unsqueeze(1)

        def step(chosen: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal previous, state
            count, word = chosen.shape[1], chosen.new_full(chosen.shape[:2], BOUNDARY)
            if chosen.shape[2]:  # match each beam with the prefix that it extends
                parent = (chosen[:, :, None, :-1] == previous[:, None]).all(-1).int().argmax(-1)
                state = state.gather(1, parent.unsqueeze(-1).expand(-1, -1, state.shape[-1]))
                word = chosen[..., -1].clamp(min=BOUNDARY)
            repeated = [part.repeat_interleave(count, dim=0) for part in parts]
            (next_state,) = self.step(F.embedding(word.flatten(), self.words), [state.flatten(0, 1)], repeated)
            previous, state = chosen.clone(), next_state.unflatten(0, (num_rows, count))
            logits = self.output(state)
            return logits, logits[..., BOUNDARY]

        return beam_search(step, banned, width=width, max_length=num_words, repeats=True)

    @torch.no_grad()
    def image_attention(self, scene: Scene, text: Tensor) -> Tensor:
        """Return the attention maps before every word of a text ``[B, T, L]``, over all sources; each map sums to 1."""
        (state,), parts, maps = self.first(scene), self.parts(scene), []
        for word in F.pad(text.long(), (1, 0), value=BOUNDARY)[:, :-1].t():
            maps.append(self.look.mix(state, *self._by_kind(parts))[1].joint)
            (state,) = self.step(F.embedding(word, self.words), [state], parts)
        return torch.stack(maps, dim=1)

    def first(self, scene: Scene) -> list[Tensor]:
        """Return the state before the first word, as a list of one."""
        return [torch.tanh(self.start(scene.summary))]

    def parts(self, scene: Scene) -> list[Tensor]:
        """Return the constants, the same at every word: keys, tokens and masks of every source."""
        tokens = [hide_missing(regions, mask) for regions, mask in zip(scene.tokens, scene.masks, strict=True)]
        return [*self.look.keys(tokens), *tokens, *scene.masks]

    def step(self, word: Tensor, state: Sequence[Tensor], parts: Sequence[Tensor]) -> list[Tensor]:
        """Return the state after words ``[B, word_dim]`` have been read."""
        context, _ = self.look.mix(state[0], *self._by_kind(parts))
        return [self.cell(torch.cat([word, context], dim=-1), state[0])]

    def _by_kind(self, parts: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
        count = len(parts) // 3
        return parts[:count], parts[count : 2 * count], parts[2 * count :]
