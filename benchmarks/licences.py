"""Licences of all dependencies, direct and transitive, as declared by the installed packages: the table of docs/licences.md.

python benchmarks/licences.py

A package that is not installed keeps its row; so install the extras whose packages changed. A package under a GPL, or without a
licence, needs a remark in ``REMARKS``, or the script ends with an error.
"""

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "licences.md"
BEGIN, END = "<!-- licences: begin (made by `python benchmarks/licences.py`) -->", "<!-- licences: end -->"
GPL = re.compile(r"\b[AL]?GPL|GNU", re.IGNORECASE)
CORE = "core"
RUNTIME = ("libgomp", "libgfortran", "libquadmath", "libgcc_s")
"""Runtime libraries of GCC that wheels bring along, under the GPL 3 with an exception for all programs that use them."""
REMARKS: Mapping[str, str] = {
    "yattag": "LGPL: the HTML writer of cosmic-ray, a tool of development, which gmmrec neither imports nor installs",
}
"""Consequences of a licence of the GPL family, or of none, by package."""
SHORT = {
    "Apache Software License": "Apache-2.0",
    "MIT License": "MIT",
    "BSD License": "BSD",
    "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "BSD 3-Clause License": "BSD-3-Clause",
    "BSD 2-Clause License": "BSD-2-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "PSFL": "PSF-2.0",
    "Apache": "Apache-2.0",
    "ISC License": "ISC",
    "ISC License (ISCL)": "ISC",
    "GNU Library or Lesser General Public License (LGPL)": "LGPL",
}
"""SPDX names of licences that packages spell out."""


@dataclass(frozen=True)
class Row:
    """One package: its licence, the groups that name it, the groups that need it through others, and a remark."""

    name: str
    licence: str
    direct: tuple[str, ...]
    through: tuple[str, ...]
    remark: str = ""

    def __str__(self) -> str:
        return f"| {self.name} | {self.licence} | {', '.join(self.direct)} | {', '.join(self.through)} | {self.remark} |"


def declared(path: Path = ROOT / "pyproject.toml") -> dict[str, list[Requirement]]:
    """Return the dependencies of the core and of every extra, in which extras of gmmrec itself are replaced by their contents."""
    project: dict[str, Any] = import_module("tomllib").loads(path.read_text(encoding="utf-8"))["project"]
    groups = {CORE: project["dependencies"], **project["optional-dependencies"]}

    def contents(group: str) -> list[Requirement]:
        found = []
        for requirement in map(Requirement, groups[group]):
            own = canonicalize_name(requirement.name) == canonicalize_name(project["name"])
            found += [inner for extra in sorted(requirement.extras) for inner in contents(extra)] if own else [requirement]
        return found

    return {group: contents(group) for group in groups if group not in ("all",)}


def licence_of(about: Any, text: str = "") -> str:
    """Return the licence in the metadata of a package: its SPDX expression, its field, its classifiers, or the title of its text.

    Args:
        about: The metadata.
        text: Text of the licence that comes with the package, for packages that declare none.

    >>> from email.message import Message
    >>> about = Message()
    >>> about["Classifier"] = "License :: OSI Approved :: MIT License"
    >>> licence_of(about), licence_of(Message(), "Apache License"), licence_of(Message())
    ('MIT', 'Apache License (its text)', 'not declared')
    """
    if about.get("License-Expression"):
        return str(about["License-Expression"])
    field = (about.get("License") or "").strip()
    classifiers = [each.split(" :: ")[-1] for each in about.get_all("Classifier") or [] if each.startswith("License ::")]
    is_name = 0 < len(field) <= 40 and "\n" not in field and field != "UNKNOWN"
    if is_name and not (len(field) < 4 and classifiers):
        return SHORT.get(field, field)
    if classifiers:
        return " AND ".join(SHORT.get(name, name) for name in classifiers)
    title = text.strip().split("\n")[0].strip()
    return f"{title[:40]} (its text)" if title else "not declared"


def licence_text(found: metadata.Distribution) -> str:
    """Return the text of the licence among the files of a package, empty if there is none."""
    return next((file.read_text() for file in found.files or () if file.name.upper().startswith("LICEN")), "")


def unclear(licence: str) -> bool:
    """Return whether a licence needs a remark: one of the GPL family, or none."""
    return bool(GPL.search(licence)) or licence in ("not declared", "not installed")


def remark_on(name: str, files: Iterable[object]) -> str:
    """Return the remark on a package, and on the runtime libraries of GCC among its files."""
    brought = sorted({part for part in RUNTIME for file in files if Path(str(file)).name.startswith(part)})
    notes = [REMARKS[name]] if name in REMARKS else []
    return " ".join([*notes, *([f"brings {', '.join(brought)}"] if brought else [])])


def table(groups: Mapping[str, list[Requirement]], kept: Mapping[str, Row]) -> list[Row]:
    """Return one row per package.

    Args:
        groups: Direct dependencies by group.
        kept: Rows of an earlier table, for packages that are not installed.
    """
    direct, through = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    names: dict[str, str] = {}
    for group, requirements in groups.items():
        queue, seen = list(requirements), set[tuple[str, frozenset[str]]]()
        firsts = {canonicalize_name(requirement.name) for requirement in requirements}
        while queue:
            requirement = queue.pop(0)
            key = str(canonicalize_name(requirement.name))
            if (key, frozenset(requirement.extras)) in seen:
                continue
            seen.add((key, frozenset(requirement.extras)))
            where = direct if key in firsts else through
            if group not in where[key]:
                where[key].append(group)
            try:
                found = metadata.distribution(requirement.name)
            except metadata.PackageNotFoundError:
                names.setdefault(key, requirement.name)
                continue
            names[key] = str(found.metadata["Name"])
            for inner in map(Requirement, found.requires or ()):
                extras = requirement.extras or {""}
                if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
                    queue.append(inner)
    rows = []
    for key in sorted(names):
        sides = tuple(direct[key]), tuple(group for group in through[key] if CORE not in direct[key])
        try:
            found = metadata.distribution(names[key])
            row = Row(key, licence_of(found.metadata, licence_text(found)), *sides, remark_on(key, found.files or ()))
        except metadata.PackageNotFoundError:
            old = kept.get(key, Row(key, "not installed", (), ()))
            row = Row(key, old.licence, *sides, old.remark)
        rows.append(row)
    return rows


def read_rows(text: str) -> dict[str, Row]:
    """Return the rows of the table in the text of a page, by package."""
    rows = {}
    for line in text.partition(BEGIN)[2].partition(END)[0].splitlines()[3:]:
        name, licence, direct, through, remark = (cell.strip() for cell in line.strip("|").split("|"))
        rows[name] = Row(name, licence, _listed(direct), _listed(through), remark)
    return rows


def _listed(cell: str) -> tuple[str, ...]:
    return tuple(filter(None, cell.split(", ")))


def main() -> None:
    """Write the table into its page."""
    text = PAGE.read_text(encoding="utf-8")
    rows = table(declared(), read_rows(text))
    odd = [row.name for row in rows if unclear(row.licence) and row.name not in REMARKS]
    if odd:
        sys.exit(f"no remark on the licences of {', '.join(odd)}; say in REMARKS what they mean here")
    head = "| package | licence | directly in | through others in | remark |\n|---|---|---|---|---|"
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = "\n".join(map(str, rows))
    PAGE.write_text(f"{before}{BEGIN}\n{head}\n{lines}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
