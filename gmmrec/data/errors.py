"""DataError: what is wrong with the data somebody gave us, in one sentence, with the remedy."""

import difflib
from collections.abc import Iterable

import numpy as np


class DataError(ValueError):
    """Data cannot be used as it is; the message names the place (file, line, column, id) and the remedy."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is not known: `` (did you mean 'x'?)``, or nothing where no known name is alike.

    >>> nearest("movie-small", ["movies-small", "tiktok"])
    " (did you mean 'movies-small'?)"
    >>> nearest("xyz", ["movies-small"])
    ''
    """
    spelled = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), spelled, n=1)
    return f" (did you mean {spelled[found[0]]!r}?)" if found else ""


def shown(value: object) -> str:
    """A value as a person would write it in Python, numpy's number types left out.

    >>> shown(np.int64(4)), shown("4")
    ('4', "'4'")
    """
    return repr(value.item() if isinstance(value, np.generic) else value)


def listed(names: Iterable[object], limit: int = 8) -> str:
    """Names in quotes for a message, the tail cut off.

    >>> listed(["a", "b", "c"], limit=2)
    "'a', 'b', …"
    """
    quoted = [repr(name) for name in names]
    return ", ".join(quoted[:limit] + ["…"] * (len(quoted) > limit))
