"""Errors meant for people: one sentence that says what was expected, what was found where, and the remedy.

The ``gmmrec`` command prints them and exits with 2; any other exception is a fault of gmmrec and leaves a traceback in a log.
Each is also the built-in exception that Python programs expect.
"""

import difflib
import itertools
import re
from collections.abc import Iterable

import numpy as np

LONGEST = 200
"""Characters of a value that a message shows."""
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Characters that break a line, steer a terminal or cannot be printed."""


class UsageError(ValueError):
    """Impossible input or settings.

    ``str(error)`` is the sentence, also where the class is a ``KeyError``. It is one line: control characters that stood in the
    input are escaped.
    """

    def __str__(self) -> str:
        return printable(" ".join(str(argument) for argument in self.args))


class DataError(UsageError):
    """Invalid data; the message names the location (file, line, column, id) and the remedy."""


class UnknownIdError(UsageError, KeyError):
    """An id or a name that does not exist; the message gives the nearest known one."""


UnknownIdError.__name__ = "KeyError"  # the name that programs and logs compare


class WrongTypeError(UsageError, TypeError):
    """An argument of a type that is not taken; the message says what is."""


class MissingFileError(UsageError, FileNotFoundError):
    """A file or folder that does not exist."""


def printable(text: str) -> str:
    r"""Return a text with its control characters escaped.

    >>> printable("a\nb\x1b[31m")
    'a\\nb\\x1b[31m'
    """
    return CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


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
    """Return a value as a Python literal, without NumPy's number types, truncated after :data:`LONGEST` characters.

    >>> literal(np.int64(4)), literal("4")
    ('4', "'4'")
    """
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, str) and len(plain) > LONGEST:
        return f"{plain[:LONGEST]!r}…"
    return repr(plain)


def quote_names(names: Iterable[object], limit: int = 8) -> str:
    """Return quoted names for a message, truncated after ``limit`` of them.

    >>> quote_names(["a", "b", "c"], limit=2)
    "'a', 'b', …"
    """
    quoted = [literal(name) for name in itertools.islice(names, limit + 1)]
    return ", ".join(quoted[:limit] + ["…"] * (len(quoted) > limit))
