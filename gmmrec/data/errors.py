"""DataError, and helpers for its messages."""

import difflib
from collections.abc import Iterable

import numpy as np


class DataError(ValueError):
    """Invalid data; the message names the location (file, line, column, id) and the remedy."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown name, `` (did you mean 'x'?)``, or an empty string if no known name is similar.

    >>> nearest("movie-small", ["movies-small", "tiktok"])
    " (did you mean 'movies-small'?)"
    >>> nearest("xyz", ["movies-small"])
    ''
    """
    spelled = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), spelled, n=1)
    return f" (did you mean {spelled[found[0]]!r}?)" if found else ""


def shown(value: object) -> str:
    """Return a value as a Python literal, without NumPy's number types.

    >>> shown(np.int64(4)), shown("4")
    ('4', "'4'")
    """
    return repr(value.item() if isinstance(value, np.generic) else value)


def listed(names: Iterable[object], limit: int = 8) -> str:
    """Return quoted names for a message, truncated after ``limit`` of them.

    >>> listed(["a", "b", "c"], limit=2)
    "'a', 'b', …"
    """
    quoted = [repr(name) for name in names]
    return ", ".join(quoted[:limit] + ["…"] * (len(quoted) > limit))
