"""Cases: small files and plain values, from which a target makes a call; each can be written to a folder and read back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = {"nan": float("nan"), "inf": float("inf")}
"""Names that the text of plain values may hold."""
SPEC, FILES = "case.txt", "files"
SHOWN = 400
"""Bytes of a file that are shown."""


@dataclass(frozen=True)
class Odd:
    """A value that no literal can write, by its name in :data:`tests.fuzz.values.ODD`."""

    name: str


@dataclass(frozen=True, repr=False)
class Case:
    """Files by path, below a folder that is made for the case, and what is done with them in plain values."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        files = {name: content if len(content) <= SHOWN else content[:SHOWN] + b"..." for name, content in self.files.items()}
        return f"Case({files!r}, {dict(self.spec)!r})"

    @property
    def size(self) -> int:
        return sum(map(len, self.files.values())) + len(repr(self.spec))

    def lay_out(self, folder: Path) -> None:
        """Write the files below a folder."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def save(self, folder: Path, target: str) -> None:
        """Write files and values to a folder, for :meth:`load`."""
        (folder / FILES).mkdir(parents=True)
        self.lay_out(folder / FILES)
        (folder / SPEC).write_text(f"{target}\n{dict(self.spec)!r}\n", encoding="utf-8", errors="backslashreplace")

    @classmethod
    def load(cls, folder: Path) -> tuple[str, "Case"]:
        """Return the name of the target and the case of a folder that :meth:`save` wrote."""
        target, spec = (folder / SPEC).read_text(encoding="utf-8").split("\n", 1)
        inner = folder / FILES
        files = {str(path.relative_to(inner)): path.read_bytes() for path in sorted(inner.rglob("*")) if path.is_file()}
        return target, cls(files, eval(spec, {"Odd": Odd, **NAMES}))  # our own file, in the notation of repr
