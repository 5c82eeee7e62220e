"""Arguments of an answer: raw ids, lists of them and numbers, each wrong one refused in one sentence."""

import logging
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gmmrec.config import check_choice
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.errors import UnknownIdError, UsageError, WrongTypeError, did_you_mean, literal, quote_names

logger = logging.getLogger(__name__)

Unknown: TypeAlias = Literal["refuse", "skip"]
"""Treatment of unknown ids in a list: refuse them, or skip them with a warning and answer for the others."""


def whole_number(name: str, value: Any, *, least: int = 1, most: int | None = None) -> int:
    """Return a count as an ``int``.

    Raises:
        WrongTypeError: The value is not a whole number, such as text, a float or True.
        UsageError: It is less than ``least`` or greater than ``most``.

    >>> whole_number("k", 3)
    3
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise WrongTypeError(f"{name} must be a whole number, such as 10, but is {quoted(value)}")
    if value < least:
        raise UsageError(f"{name} must be at least {least}, but is {value}")
    if most is not None and value > most:
        raise UsageError(f"{name} must be at most {most}, but is {quoted(value)}")
    return int(value)


def switch(name: str, value: Any) -> bool:
    """Return a value that must be True or False.

    Raises:
        WrongTypeError: It is neither.
    """
    if not isinstance(value, bool | np.bool_):
        raise WrongTypeError(f"{name} must be True or False, but is {quoted(value)}")
    return bool(value)


def listed(name: str, values: Any, of: str = "ids") -> list[Any]:
    """Return the entries of a list, a tuple, an array, a column of a table or a tensor.

    Raises:
        WrongTypeError: The value is a single id, text, a table or a mapping.

    >>> listed("users", np.array([3, 1]))
    [3, 1]
    """
    single = isinstance(values, str | bytes | bool | int | float | np.generic) or values is None
    if isinstance(values, pd.DataFrame | Mapping) or single or not isinstance(values, Iterable):
        remedy = f"; write [{quoted(values)}]" if single and values is not None else ""
        raise WrongTypeError(f"{name} must be a list of {of}, but is {quoted(values)}{remedy}")
    if isinstance(values, np.ndarray | Tensor | pd.Series | pd.Index):
        if values.ndim != 1:
            raise WrongTypeError(f"{name} must be a list of {of}, but is an array of {values.ndim} dimensions; take one of them")
        return list(values.tolist())
    return list(values)


def known_rows(
    vocabulary: Vocabulary, ids: list[Any], unknown: Unknown = "refuse", *, skippable: bool = True
) -> tuple[Tensor, list[int]]:
    """Return the rows ``[m]`` of raw ids, and the positions of these ids in the list.

    An id is known only in the type of the vocabulary: neither ``1.0`` nor ``True`` nor ``"1"`` is the integer id 1.

    Args:
        vocabulary: Known ids.
        ids: List of ids.
        unknown: ``"skip"`` leaves unknown ids out, with a warning that names them.
        skippable: Whether the message may offer ``unknown="skip"``.

    Raises:
        UnknownIdError: An id is unknown and ``unknown`` is ``"refuse"``; the message names it and the nearest known one.
    """
    check_choice(get_args(Unknown), unknown=unknown)
    kind = int | np.integer if vocabulary.is_integer else str
    fitting = [position for position, value in enumerate(ids) if isinstance(value, kind) and not isinstance(value, bool)]
    try:
        rows = vocabulary.find([ids[position] for position in fitting])
    except OverflowError:  # an integer too large for the column of ids
        fitting = [position for position in fitting if ids[position] in vocabulary]
        rows = vocabulary.find([ids[position] for position in fitting])
    found = rows >= 0
    positions = [position for position, known in zip(fitting, found.tolist(), strict=True) if known]
    if len(positions) < len(ids):
        kept = set(positions)
        unknown_ids = [value for position, value in enumerate(ids) if position not in kept]
        message = _unknown(vocabulary, unknown_ids)
        if unknown == "refuse":
            offer = "; leave them out, or pass unknown='skip'" if skippable and len(ids) > 1 else ""
            raise UnknownIdError(message + offer)
        logger.warning("%s; left out of the answer", message)
    return rows[found], positions


def known_row(vocabulary: Vocabulary, raw_id: Hashable) -> int:
    """Return the row of one raw id.

    Raises:
        UnknownIdError: The id is unknown.
    """
    return int(known_rows(vocabulary, [raw_id])[0])


def quoted(value: object) -> str:
    """Return a value for a message: its literal, or the name of its type if that is long."""
    if isinstance(value, pd.DataFrame):
        return "a table; pass one of its columns"
    try:
        text = literal(value)
    except Exception:  # noqa: BLE001 (whatever the __repr__ of a foreign object raises)
        text = ""
    return text if text and len(text) <= 60 and "\n" not in text else f"a {type(value).__name__}"


def _unknown(vocabulary: Vocabulary, unknown_ids: list[Any]) -> str:
    distinct = list(dict.fromkeys(quoted(each) for each in unknown_ids))
    ids, name = vocabulary.ids(torch.arange(min(2, len(vocabulary)))), vocabulary.name
    what = f"unknown {name} id {distinct[0]}" if len(distinct) == 1 else f"unknown {name} ids {_joined(distinct)}"
    if not ids:
        return f"{what}; the data set has no {name}s"
    wrong_type = any(not isinstance(each, int if vocabulary.is_integer else str) or isinstance(each, bool) for each in unknown_ids)
    if wrong_type:
        return f"{what}; {name} ids are {'whole numbers' if vocabulary.is_integer else 'text'}, such as {ids[0]!r}"
    hint = "" if vocabulary.is_integer or len(distinct) > 1 else did_you_mean(unknown_ids[0], map(str, vocabulary.ids()))
    return f"{what}{hint}; the {len(vocabulary)} known ids begin with {quote_names(ids)}"


def _joined(values: list[str], limit: int = 8) -> str:
    more = f" and {len(values) - limit} more" if len(values) > limit else ""
    return ", ".join(values[:limit]) + more


def as_lists(histories: Any) -> list[list[Any]]:
    """Return histories as lists of raw ids.

    Raises:
        WrongTypeError: They are not a list of lists.

    >>> as_lists([[1, 2], (3,)])
    [[1, 2], [3]]
    """
    rows = listed("histories", histories, "lists of item ids")
    if rows and all(isinstance(row, str | bytes | int | float) for row in rows):
        raise WrongTypeError(f"histories must be a list of lists of item ids, but it begins with {quoted(rows[0])}; write [[…]]")
    return [listed(f"histories[{number}]", row, "item ids") for number, row in enumerate(rows)]


def as_pairs(pairs: Any) -> tuple[list[Any], list[Any]]:
    """Return the raw ids of users and items from a table with the columns ``user_id`` and ``item_id``, or a list of pairs.

    Raises:
        WrongTypeError: The value is neither.

    >>> as_pairs([("ann", 3), ("bob", 4)])
    (['ann', 'bob'], [3, 4])
    """
    if isinstance(pairs, pd.DataFrame):
        missing = [name for name in ("user_id", "item_id") if list(pairs.columns).count(name) != 1]
        if missing:
            columns = quote_names(pairs.columns)
            raise WrongTypeError(
                f"pairs must be a table with one column {missing[0]!r}, but its columns are {columns}; rename them"
            )
        return pairs["user_id"].tolist(), pairs["item_id"].tolist()
    rows = pairs.tolist() if isinstance(pairs, np.ndarray) and pairs.ndim == 2 else listed("pairs", pairs, "(user, item) pairs")
    for number, row in enumerate(rows):
        if not isinstance(row, tuple | list) or len(row) != 2:
            raise WrongTypeError(f"pairs must be (user, item) pairs, but entry {number} is {quoted(row)}; write [(user, item), …]")
    return [row[0] for row in rows], [row[1] for row in rows]
