"""Table of planted faults, and lookup of their snippets and tests in a tree that may have moved."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

HERE = Path(__file__).parent
TABLE = HERE / "faults.yaml"
FIELDS = ("id", "breaks", "file", "old", "new", "tests")


@dataclass(frozen=True)
class Fault:
    id: str
    breaks: str
    """The mistake, in one sentence."""
    file: str
    """Path of the snippet, possibly from before the code moved."""
    old: str
    new: str
    tests: tuple[str, ...]
    """Test files, or tests in them, at least one of which must fail."""


def read_table(path: Path = TABLE) -> list[Fault]:
    faults = []
    for entry in yaml.safe_load(path.read_text(encoding="utf-8")):
        if set(entry) != set(FIELDS):
            raise ValueError(
                f"fault {entry.get('id')!r} of {path.name} must have the fields {', '.join(FIELDS)}, has {', '.join(entry)}"
            )
        faults.append(Fault(**{**entry, "tests": tuple(entry["tests"])}))
    ids = [fault.id for fault in faults]
    for name in ids:
        if ids.count(name) > 1:
            raise ValueError(f"{path.name} has several faults named {name!r}; give each a name of its own")
    return faults


def read_sources(root: Path) -> dict[str, str]:
    """Return the text of every module of the package, by path from the root."""
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in sorted((root / "gmmrec").rglob("*.py"))}


def locate(fault: Fault, sources: Mapping[str, str]) -> str:
    """Return the file with the snippet of a fault: the one in the table, or else the only one in the package.

    Raises:
        ValueError: The snippet is in no file, or more than once.
    """
    count = sources.get(fault.file, "").count(fault.old)
    if count == 1:
        return fault.file
    found = [f"{name} ({text.count(fault.old)})" for name, text in sources.items() if fault.old in text]
    if count == 0 and len(found) == 1 and found[0].endswith("(1)"):
        return found[0].removesuffix(" (1)")
    raise ValueError(
        f"fault {fault.id!r}: expected {fault.old!r} once in {fault.file} or in the package, "
        f"found it in {', '.join(found) or 'no file'}; update {TABLE.name}"
    )


def locate_test(test: str, root: Path) -> str:
    """Return the pytest id of a test, at its path in the table or else in the only test file of that name.

    Raises:
        ValueError: No test file has that name, or several have.
    """
    name, colons, node = test.partition("::")
    if not (root / name).is_file():
        found = sorted((root / "tests").rglob(Path(name).name))
        if len(found) != 1:
            raise ValueError(f"expected one test file named {Path(name).name}, found {len(found)}; update {TABLE.name}")
        name = found[0].relative_to(root).as_posix()
    return name + colons + node
