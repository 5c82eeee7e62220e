"""DataError, and helpers for its messages."""

import difflib
from collections.abc import Iterable

import numpy as np


class DataError(ValueError):
    """Invalid data; the message names the location (file, line, column, id) and the remedy."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown name, `` (did you mean 'x'?)``, or an empty string if no known name is similar.

    >>> did_you_mean("movie-small", ["movies-small", "tiktok"])
    " (did you mean 'movies-small'?)"
    >>> did_you_mean("xyz", ["movies-small"])
    ''
    """
    spelled = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), spelled, n=1)
    return f" (did you mean {spelled[found[0]]!r}?)" if found else ""


def literal(value: object) -> str:
    """Return a value as a Python literal, without NumPy's number types.

    >>> literal(np.int64(4)), literal("4")
    ('4', "'4'")
    """
    return repr(value.item() if isinstance(value, np.generic) else value)


def quote_names(names: Iterable[object], limit: int = 8) -> str:
    """Return quoted names for a message, truncated after ``limit`` of them.

    >>> quote_names(["a", "b", "c"], limit=2)
    "'a', 'b', …"
    """
    quoted = [repr(name) for name in names]
    return ", ".join(quoted[:limit] + ["…"] * (len(quoted) > limit))
