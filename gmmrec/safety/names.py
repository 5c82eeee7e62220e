"""Names from data: checked before they become part of a path, made visible before they are printed."""

import re
from pathlib import Path

from gmmrec.errors import DataError

LONGEST = 200
"""Bytes of a name in UTF-8; file systems take 255, endings such as ``_feat.missing.csv`` included."""
_SEPARATORS = re.compile(r'[/\\:<>"|?*]')
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def check_name(name: object, what: str) -> str:
    """Return a name from data that may become part of a file name: one path component on every system.

    Args:
        name: Name of a modality, an array, a node type, a task or a data set.
        what: Owner of the name, for the message.

    Raises:
        DataError: The name holds a separator or a control character, begins or ends with a dot or a blank, is reserved, empty or
            too long.

    >>> check_name("image", "modality")
    'image'
    >>> check_name("../evil", "modality")
    Traceback (most recent call last):
    ...
    gmmrec.errors.DataError: the modality '../evil' cannot be part of a file name, since it holds '/'; rename it
    """
    shown = repr(name if len(str(name)) <= 60 else f"{str(name)[:60]}…")
    reason = "it is not text" if not isinstance(name, str) else _reason(name)
    if reason:
        raise DataError(f"the {what} {shown} cannot be part of a file name, since {reason}; rename it")
    return str(name)


def _reason(name: str) -> str | None:
    if not name:
        return "it is empty"
    if found := _SEPARATORS.search(name) or _CONTROL.search(name):
        return f"it holds {found[0]!r}"
    if name[0] in ". " or name[-1] in ". ":
        return "it begins or ends with a dot or a blank"
    if _DEVICES.fullmatch(name):
        return "Windows reserves it for a device"
    return f"it has more than {LONGEST} bytes" if len(name.encode()) > LONGEST else None


def check_no_link(path: Path, remedy: str) -> Path:
    """Return a path in a folder from a stranger, unless it is a symbolic link, which could lead to any other file.

    Raises:
        DataError: It is one.
    """
    if path.is_symlink():
        raise DataError(f"{path} is a symbolic link, which is not followed in such a folder; {remedy}")
    return path


def visible(text: str) -> str:
    r"""Replace characters that steer a terminal or reorder text, all but tabs and line breaks, by U+FFFD.

    >>> visible("Alien\x1b[2J\n")
    'Alien\ufffd[2J\n'
    """
    return _HIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
