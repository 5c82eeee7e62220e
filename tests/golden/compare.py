"""Recorded and found rows, side by side; imports nothing of the package."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

METRIC_TOLERANCE = 0.05
"""On other platforms or versions: by how much a metric may differ, absolutely, and relatively where it is above 1."""
LOSS_TOLERANCE = 0.02
"""Likewise for losses, relatively."""


class Difference(NamedTuple):
    """A number that is not what was recorded; None where it is absent."""

    row: str
    key: str
    recorded: Any
    found: Any

    def __str__(self) -> str:
        return f"{self.row} | {self.key} | recorded {self.recorded!r} | found {self.found!r}"


def differences(recorded: Mapping[str, Any], found: Mapping[str, Any], *, exact: bool) -> Iterator[Difference]:
    """Every difference between rows.

    Args:
        recorded: Rows by name.
        found: Likewise.
        exact: Whether all must be equal to the last digit. Otherwise metrics and losses may differ by a tolerance, and digests,
            lists, explanations and epochs are skipped.
    """
    for name in sorted({*recorded, *found}):
        before, after = recorded.get(name, {}), found.get(name, {})
        for key in sorted({*before, *after}):
            if key not in before or key not in after or not same(key, before[key], after[key], exact=exact):
                yield Difference(name, key, before.get(key), after.get(key))


def same(key: str, recorded: Any, found: Any, *, exact: bool) -> bool:
    """Whether one value is as it was recorded."""
    if exact:
        return repr(recorded) == repr(found)
    if key.startswith(("valid: ", "test: ")) and isinstance(recorded, float):
        return math.isclose(recorded, found, rel_tol=METRIC_TOLERANCE, abs_tol=METRIC_TOLERANCE)
    if key.endswith(": losses"):
        return len(recorded) == len(found) and all(
            math.isclose(a, b, rel_tol=LOSS_TOLERANCE, abs_tol=1e-3) for a, b in zip(recorded, found, strict=True)
        )
    if key.startswith("reloaded: ") or key.startswith("resumed "):
        return bool(found)
    return True
