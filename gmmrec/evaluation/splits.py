"""Comparison of the splits that finished runs were trained on, from their settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gmmrec.errors import UsageError
from gmmrec.safety.documents import read_yaml

DETERMINED_BY = {
    "random": ("valid", "test", "seed"),
    "by_time": ("valid", "test"),
    "cold_users": ("test",),
    "cold_items": ("valid", "test", "seed"),
}
"""Settings of a split, besides its strategy, on which its parts depend."""
PREFERRED = ("given", "by_time", "leave_last_out", "cold_users", "cold_items", "random")
"""Strategies in the order in which a remedy proposes them: those that look into no future come first."""


def check_same_splits(names: Sequence[str], folders: Sequence[Path]) -> None:
    """Check that run folders were split alike, as far as their settings tell.

    A run whose settings are missing, or say ``auto`` as those of earlier versions do, is left to the comparison of its queries.

    Raises:
        UsageError: Two runs differ; the message names both splits and the flag that unites them.
    """
    known = [(name, split) for name, folder in zip(names, folders, strict=True) if (split := _split_of(folder)) is not None]
    for name, split in known[1:]:
        first_name, first = known[0]
        flag = _uniting(first, split)
        if flag is not None:
            raise UsageError(
                f"{first_name} and {name} cannot be compared: {first_name} was split by {described(first)}, {name} by "
                f"{described(split)}; train both with {flag}"
            )


def described(split: Mapping[str, Any]) -> str:
    """Return the strategy of a split, and the settings on which its parts depend.

    >>> described({"strategy": "random", "valid": 0.1, "test": 0.1, "seed": 7, "triples": 0.1})
    "'random' (valid 0.1, test 0.1, seed 7)"
    """
    strategy = split["strategy"]
    details = ", ".join(f"{name} {split[name]}" for name in DETERMINED_BY.get(strategy, ()) if name in split)
    return f"{strategy!r}" + (f" ({details})" if details else "")


def _uniting(first: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    strategies = {first["strategy"], other["strategy"]}
    if len(strategies) > 1:
        chosen = min(strategies, key=lambda name: PREFERRED.index(name) if name in PREFERRED else len(PREFERRED))
        return f"--split.strategy {chosen}"
    names = [name for name in DETERMINED_BY.get(first["strategy"], ()) if first.get(name) != other.get(name)]
    return " ".join(f"--split.{name} {first.get(name)}" for name in names) or None


def _split_of(folder: Path) -> Mapping[str, Any] | None:
    path = folder / "config.yaml"
    if not path.is_file():
        return None
    split = read_yaml(path).get("split")
    return split if isinstance(split, Mapping) and split.get("strategy", "auto") != "auto" else None
