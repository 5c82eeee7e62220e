"""Vocabulary: the mapping between raw ids and row numbers."""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gmmrec.errors import UnknownIdError, UsageError, literal


class Vocabulary:
    """Two-way mapping between raw ids and row numbers ``0 … n-1``, in a fixed order.

    Ids are all integers or all strings. :meth:`parse` converts text (from the command line) to an id.

    Args:
        ids: Raw ids; row ``i`` belongs to the ``i``-th of them.
        name: Node type in the singular, for messages.

    Raises:
        UsageError: Ids repeat, mix integers and strings, or are neither.

    >>> users = Vocabulary(["ann", "bob"], name="user")
    >>> users.rows(["bob", "ann"])
    tensor([1, 0])
    >>> users.ids(torch.tensor([1]))
    ['bob']
    >>> users.rows(["eve"])
    Traceback (most recent call last):
    ...
    gmmrec.errors.UnknownIdError: unknown user id 'eve'; the 2 known ids begin with 'ann', 'bob'
    """

    def __init__(self, ids: Iterable[Hashable], *, name: str = "item") -> None:
        values = [value.item() if isinstance(value, np.generic) else value for value in ids]
        kinds = {type(value) for value in values}
        if not kinds <= {int} and not kinds <= {str}:
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise UsageError(f"{name} ids must be all integers or all strings, but are {names}; convert them to one type")
        self.name = name
        self._ids = values
        self._index = pd.Index(values, dtype="int64" if kinds == {int} else object)
        if not self._index.is_unique:
            repeated = self._index[self._index.duplicated()][0]
            raise UsageError(f"{name} id {literal(repeated)} occurs more than once")

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, raw_id: object) -> bool:
        return raw_id in self._index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self._ids == other._ids

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} {self.name} ids)"

    @property
    def is_integer(self) -> bool:
        """True if the ids are integers."""
        return bool(self._ids) and isinstance(self._ids[0], int)

    @property
    def order(self) -> Tensor:
        """Position of every row in the order of the raw ids ``[n]``: integers by value, strings by code point.

        >>> Vocabulary(["b", "c", "a"]).order
        tensor([1, 2, 0])
        """
        ascending = sorted(range(len(self)), key=self._ids.__getitem__)  # type: ignore[arg-type]  # ids of one type
        position = torch.empty(len(self), dtype=torch.long)
        position[torch.tensor(ascending, dtype=torch.long)] = torch.arange(len(self))
        return position

    def parse(self, text: str) -> Hashable:
        """Convert text to an id: an integer if the ids are integers, else the text itself."""
        if not self.is_integer:
            return text
        try:
            return int(text)
        except ValueError:
            raise UnknownIdError(f"unknown {self.name} id {text!r}; the ids are integers such as {self._ids[0]}") from None

    def find(self, ids: Sequence[Hashable]) -> Tensor:
        """Return rows ``[n]`` of raw ids, -1 for unknown ones; an id of another type, such as 1.0 or True for 1, is unknown."""
        if len(ids) == 0 or len(self) == 0:
            return torch.full((len(ids),), -1)
        dtype: Any = self._index.dtype
        alike = pd.api.types.infer_dtype(ids, skipna=False) == ("integer" if self.is_integer else "string")
        try:
            found = self._index.get_indexer(pd.Index(ids, dtype=dtype)) if alike else self._find_each(ids)
        except (OverflowError, UnicodeEncodeError):  # integers beyond 64 bits, lone surrogates
            found = self._find_each(ids)
        return torch.from_numpy(np.asarray(found, dtype=np.int64))

    def _find_each(self, ids: Sequence[Hashable]) -> list[int]:
        """Return rows of ids of any types."""
        kinds = (int, np.integer) if self.is_integer else (str,)
        known = [isinstance(raw_id, kinds) and not isinstance(raw_id, bool) for raw_id in ids]
        index = {raw_id: row for row, raw_id in enumerate(self._ids)}
        return [index.get(raw_id, -1) if is_known else -1 for raw_id, is_known in zip(ids, known, strict=True)]

    def rows(self, ids: Sequence[Hashable]) -> Tensor:
        """Return rows ``[n]`` of raw ids.

        Raises:
            KeyError: An id is unknown; the message names it.
        """
        rows = self.find(ids)
        if (rows < 0).any():
            unknown = [ids[i] for i in torch.nonzero(rows < 0).flatten().tolist()]
            more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            known = ", ".join(map(repr, self._ids[:2]))
            hint = f"the {len(self)} known ids begin with {known}" if known else f"the data set has no {self.name}s"
            raise UnknownIdError(f"unknown {self.name} id {unknown[0]!r}{more}; {hint}")
        return rows

    def ids(self, rows: Tensor | None = None) -> list[Hashable]:
        """Return raw ids of rows; all of them, in order, if ``rows`` is None."""
        return list(self._ids) if rows is None else [self._ids[row] for row in rows.tolist()]
