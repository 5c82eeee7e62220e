"""Reviews: what users wrote about items, as word ids."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gmmrec.data.interactions import Interactions

PADDING, UNKNOWN = 0, 1
LEAST = 2
"""Occurrences that a word needs to be known."""
WORD = r"[^\W_]+(?:['’][^\W_]+)*"
"""A word: letters and digits, with apostrophes inside. Case does not matter."""


@dataclass(frozen=True)
class Reviews:
    """The first words of every review; :attr:`Interactions.review` says which belongs to which interaction.

    Attributes:
        tokens: Word ids ``[R, T]`` (int32); 0 behind the last word, 1 for a word that is not known.
        words: The word of every id; the first two are ``""`` and ``"<unknown>"``.

    Raises:
        ValueError: The tokens are no table of int32, or name a word that there is not.
    """

    tokens: Tensor
    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.tokens.dim() != 2 or self.tokens.dtype != torch.int32:
            raise ValueError(f"tokens must be int32 [R, T], but are {self.tokens.dtype} {tuple(self.tokens.shape)}")
        if self.tokens.numel() and not 0 <= int(self.tokens.min()) <= int(self.tokens.max()) < len(self.words):
            raise ValueError(f"tokens must lie between 0 and {len(self.words) - 1}, the last of the words")

    def __len__(self) -> int:
        return self.tokens.shape[0]

    @property
    def num_words(self) -> int:
        """Rows that a table of word vectors needs, padding and the unknown word included."""
        return len(self.words)

    def at(self, rows: Tensor) -> Tensor:
        """The tokens ``[n, T]`` of review rows ``[n]``; padding alone where a row is -1.

        >>> reviews = Reviews(torch.tensor([[2, 3], [2, 0]], dtype=torch.int32), ("", "<unknown>", "a", "b"))
        >>> reviews.at(torch.tensor([1, -1])).tolist()
        [[2, 0], [0, 0]]
        """
        if not len(self):
            return self.tokens.new_zeros(len(rows), self.tokens.shape[1])
        return self.tokens[rows.clamp(min=0)].masked_fill((rows < 0)[:, None], PADDING)

    def restrict_to_known_words(self, rows: Tensor, *, least: int = LEAST) -> "Reviews":
        """The same table, in which a word is unknown that occurs less than ``least`` times in some reviews (those of training).

        So whether a word is known does not depend on what was written elsewhere.

        Args:
            rows: Rows ``[n]`` of the reviews that words may be known from; -1 is passed over.
            least: Occurrences that a word needs there.

        >>> reviews = Reviews(torch.tensor([[2, 3, 2], [2, 4, 3]], dtype=torch.int32), ("", "<unknown>", "good", "film", "story"))
        >>> reviews.restrict_to_known_words(torch.tensor([0, -1])).tokens.tolist()
        [[2, 1, 2], [2, 1, 1]]
        """
        often = torch.bincount(self.tokens[rows[rows >= 0]].flatten(), minlength=self.num_words)
        ids = torch.where(often >= least, torch.arange(self.num_words), UNKNOWN).int()
        ids[PADDING] = PADDING
        return replace(self, tokens=ids[self.tokens.long()])


def training_texts(reviews: Reviews | None, train: Interactions) -> Tensor | None:
    """Tokens of the reviews of training interactions ``[E, T]``; words that occur less than twice in them are unknown.

    Returns:
        None where nothing was written at all.
    """
    if reviews is None or train.review is None:
        return None
    return reviews.restrict_to_known_words(train.review).at(train.review)


def read_reviews(
    texts: "pd.Series[Any] | Sequence[str | None]", num_words: int, *, least: int = 2
) -> tuple[Reviews | None, Tensor]:
    """Reviews from texts, and the row of each text among them.

    Texts are lower-cased and cut into words; the first ``num_words`` count. Ids follow how often words occur in these, the most
    frequent first.

    Args:
        texts: One text an interaction ``[E]``; missing where nothing was written.
        num_words: Words of a text that are kept, T.
        least: A word that occurs less often is unknown.

    Returns:
        The reviews (None where no text holds a word), and rows ``[E]`` (int64), -1 where a text holds no word.

    >>> reviews, rows = read_reviews(["A good film; good!", None, "Good, a WAR film"], 3)
    >>> reviews.words, reviews.tokens.tolist(), rows.tolist()
    (('', '<unknown>', 'a', 'good'), [[2, 3, 1], [3, 2, 1]], [0, -1, 1])
    """
    column: pd.Series[Any] = pd.Series(texts, dtype="object").reset_index(drop=True)
    words = column.fillna("").astype(str).str.lower().str.findall(WORD).str[:num_words]
    counts = words.str.len().to_numpy(dtype=np.int64)
    row = np.where(counts > 0, np.cumsum(counts > 0) - 1, -1)
    if not counts.any():
        return None, torch.from_numpy(row)
    codes, distinct = pd.factorize(words[counts > 0].explode())
    often = np.bincount(codes)
    order = np.argsort(-often, kind="stable")  # equally frequent words as they come
    order = order[often[order] >= least]
    ids = np.full(len(distinct), UNKNOWN, dtype=np.int32)
    ids[order] = np.arange(2, 2 + len(order))
    tokens = np.full((int(row.max()) + 1, num_words), PADDING, dtype=np.int32)
    written = counts[counts > 0]
    tokens[np.arange(num_words) < written[:, None]] = ids[codes]
    kept = ("", "<unknown>", *(str(distinct[position]) for position in order))
    return Reviews(torch.from_numpy(tokens), kept), torch.from_numpy(row)
