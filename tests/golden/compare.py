"""Comparison of recorded and found rows; imports nothing of the package."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

METRIC_TOLERANCE = 0.05
"""Tolerance of metrics on other platforms or versions: absolute, and relative above 1."""
LOSS_TOLERANCE = 0.02
"""Relative tolerance of losses on other platforms or versions."""


class Difference(NamedTuple):
    """A value that differs from the recorded one; None if absent."""

    row: str
    key: str
    recorded: Any
    found: Any

    def __str__(self) -> str:
        return f"{self.row} | {self.key} | recorded {self.recorded!r} | found {self.found!r}"


def differences(recorded: Mapping[str, Any], found: Mapping[str, Any], *, exact: bool) -> Iterator[Difference]:
    """Yield every difference between rows.

    Args:
        recorded: Recorded rows by name.
        found: Found rows by name.
        exact: Compare all values to the last digit. Otherwise compare metrics and losses within a tolerance, and skip digests,
            lists, explanations and epochs.
    """
    for name in sorted({*recorded, *found}):
        before, after = recorded.get(name, {}), found.get(name, {})
        for key in sorted({*before, *after}):
            if key not in before or key not in after or not same(key, before[key], after[key], exact=exact):
                yield Difference(name, key, before.get(key), after.get(key))


def same(key: str, recorded: Any, found: Any, *, exact: bool) -> bool:
    """Return whether a value matches the recorded one."""
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
