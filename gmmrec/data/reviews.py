"""Reviews: texts of users about items, as word ids."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gmmrec.data.interactions import Interactions
from gmmrec.data.parts import TRAIN
from gmmrec.errors import UsageError

if TYPE_CHECKING:
    from gmmrec.data.split import Split

PADDING, UNKNOWN = 0, 1
LEAST = 2
"""Minimum number of occurrences of a known word."""
WORD = r"[^\W_]+(?:['’][^\W_]+)*"
"""Pattern of a word: letters and digits, with apostrophes inside; case is ignored."""


@dataclass(frozen=True)
class Reviews:
    """First words of every review; :attr:`Interactions.review` maps interactions to reviews.

    Attributes:
        tokens: Word ids ``[R, T]`` (int32), right padded with 0; 1 for an unknown word.
        words: Word of every id; the first two are ``""`` and ``"<unknown>"``.

    Raises:
        UsageError: The tokens are not an int32 matrix, or exceed the number of words.
    """

    tokens: Tensor
    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.tokens.dim() != 2 or self.tokens.dtype != torch.int32:
            raise UsageError(f"tokens must be int32 [R, T], but are {self.tokens.dtype} {tuple(self.tokens.shape)}")
        if self.tokens.numel() and not 0 <= int(self.tokens.min()) <= int(self.tokens.max()) < len(self.words):
            raise UsageError(f"tokens must lie between 0 and {len(self.words) - 1}, the id of the last word")

    def __len__(self) -> int:
        return self.tokens.shape[0]

    @property
    def num_words(self) -> int:
        """Number of word ids, including padding and the unknown word."""
        return len(self.words)

    def at(self, rows: Tensor) -> Tensor:
        """Return the tokens ``[n, T]`` of review rows ``[n]``, all padding where a row is -1.

        >>> reviews = Reviews(torch.tensor([[2, 3], [2, 0]], dtype=torch.int32), ("", "<unknown>", "a", "b"))
        >>> reviews.at(torch.tensor([1, -1])).tolist()
        [[2, 0], [0, 0]]
        """
        if not len(self):
            return self.tokens.new_zeros(len(rows), self.tokens.shape[1])
        return self.tokens[rows.clamp(min=0)].masked_fill((rows < 0)[:, None], PADDING)

    def restrict_to_known_words(self, rows: Tensor, *, least: int = LEAST) -> "Reviews":
        """Replace words that occur fewer than ``least`` times in some reviews (those of training) by the unknown word.

        Known words then do not depend on the other reviews.

        Args:
            rows: Rows ``[n]`` of the reviews to count words in; -1 is skipped.
            least: Minimum number of occurrences of a known word in them.

        >>> reviews = Reviews(torch.tensor([[2, 3, 2], [2, 4, 3]], dtype=torch.int32), ("", "<unknown>", "good", "film", "story"))
        >>> reviews.restrict_to_known_words(torch.tensor([0, -1])).tokens.tolist()
        [[2, 1, 2], [2, 1, 1]]
        """
        often = torch.bincount(self.tokens[rows[rows >= 0]].flatten(), minlength=self.num_words)
        ids = torch.where(often >= least, torch.arange(self.num_words), UNKNOWN).int()
        ids[PADDING] = PADDING
        return replace(self, tokens=ids[self.tokens.long()])


class TrainingTexts:
    """Texts in the words of training: numbered from the texts of the training part alone, whatever the others say.

    A word that occurs less than twice there is unknown. Known ones are numbered by descending frequency, equally frequent ones
    by their letters, so that neither held-out texts nor the order of rows changes a number.

    Args:
        reviews: All texts in the words of the data set; None without texts.
        train: Training interactions.
        others: Further training texts in the same words ``[n, T]``, such as those about outfits.

    Attributes:
        reviews: The same reviews in the words of training; None without texts.
        words: Word of every id; empty without texts.

    >>> reviews = Reviews(torch.tensor([[2, 3, 4], [4, 3, 5], [5, 5, 5]], dtype=torch.int32), ("", "<unknown>", *"dcba"))
    >>> row = torch.tensor([0, 0])
    >>> texts = TrainingTexts(reviews, Interactions(row, row, review=torch.tensor([0, 1])))
    >>> texts.words, texts.about(Interactions(row, row, review=torch.tensor([1, -1]))).tolist()
    (('', '<unknown>', 'b', 'c'), [[2, 3, 1], [0, 0, 0]])
    """

    def __init__(self, reviews: Reviews | None, train: Interactions, others: Tensor | None = None) -> None:
        self.reviews: Reviews | None = None
        self.words: tuple[str, ...] = ()
        if reviews is None:
            return
        often = torch.zeros(reviews.num_words, dtype=torch.long)
        if train.review is not None:
            often += torch.bincount(reviews.tokens[train.review[train.review >= 0]].flatten(), minlength=reviews.num_words)
        if others is not None:
            often += torch.bincount(others.flatten(), minlength=reviews.num_words)
        often[[PADDING, UNKNOWN]] = 0
        known = torch.nonzero(often >= LEAST).flatten().tolist()
        known.sort(key=lambda word: (-int(often[word]), reviews.words[word]))
        self.words = (*reviews.words[:2], *(reviews.words[word] for word in known))
        self._ids = torch.full((reviews.num_words,), UNKNOWN, dtype=torch.int32)
        self._ids[PADDING] = PADDING
        self._ids[known] = torch.arange(2, 2 + len(known), dtype=torch.int32)
        self.reviews = Reviews(self.numbered(reviews.tokens), self.words)

    def numbered(self, tokens: Tensor) -> Tensor:
        """Return tokens in the words of the data set ``[n, T]`` as those of training."""
        return self._ids[tokens.long()]

    def about(self, log: Interactions) -> Tensor | None:
        """Return the tokens of the reviews of interactions ``[E, T]``; None without reviews."""
        if self.reviews is None or log.review is None:
            return None
        return self.reviews.at(log.review)


def training_texts(reviews: Reviews | None, split: "Split") -> TrainingTexts:
    """Return the texts of a split in the words of its training part: of the first review of every pair, and of outfits."""
    outfits = split.outfits
    others = None if outfits is None or outfits.text is None else outfits.text[outfits.part == TRAIN]
    return TrainingTexts(reviews, split.train if reviews is None else split.train.distinct(), others)


def read_reviews(
    texts: "pd.Series[Any] | Sequence[str | None]", num_words: int, *, least: int = 2
) -> tuple[Reviews | None, Tensor]:
    """Convert texts to reviews, and return the row of each text.

    Texts are lower-cased and split into words, of which the first ``num_words`` are kept. Ids are assigned by descending word
    frequency.

    Args:
        texts: One text per interaction ``[E]``, or missing.
        num_words: Number of words kept of a text, T.
        least: Minimum number of occurrences of a known word.

    Returns:
        Reviews (None if no text holds a word), and rows ``[E]`` (int64), -1 for texts without words.

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
    order = np.argsort(-often, kind="stable")  # equally frequent words in order of appearance
    order = order[often[order] >= least]
    ids = np.full(len(distinct), UNKNOWN, dtype=np.int32)
    ids[order] = np.arange(2, 2 + len(order))
    tokens = np.full((int(row.max()) + 1, num_words), PADDING, dtype=np.int32)
    lengths = counts[counts > 0]
    tokens[np.arange(num_words) < lengths[:, None]] = ids[codes]
    kept = ("", "<unknown>", *(str(distinct[position]) for position in order))
    return Reviews(torch.from_numpy(tokens), kept), torch.from_numpy(row)
