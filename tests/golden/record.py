"""Golden file: short runs of every model, recorded and compared to the last digit.

``python -m tests.golden.record`` records; ``--only NAME …`` records some rows; ``--check`` compares instead, prints every
difference (row, key, recorded, found) and exits with status 1 if there is one. PyTorch is imported only after the environment for
repeatable numbers is set.
"""

import argparse
import json
import logging
import os
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.golden.cases import GOLDEN, names
from tests.golden.compare import LOSS_TOLERANCE, METRIC_TOLERANCE, differences

ENVIRONMENT = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""One thread, and kernels independent of the processor."""


def pin_environment() -> None:
    """Set the environment variables that PyTorch reads on import.

    Raises:
        RuntimeError: PyTorch is already imported.
    """
    if "torch" in sys.modules:
        raise RuntimeError("PyTorch is already imported, so its kernels cannot be pinned; run python -m tests.golden.record")
    os.environ.update(ENVIRONMENT)


def measured(selected: Sequence[str]) -> dict[str, Any]:
    """Compute rows, in the form of the golden file."""
    from tests.golden import access, measure

    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure.measure(selected, Path(folder))
    return {"platform": this_platform(access.packages()), "rows": measure.plain(rows)}


def this_platform(packages: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return the platform and versions that affect the last digits."""
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "python": ".".join(map(str, sys.version_info[:2])),
        **packages,
    }


def written(golden: Mapping[str, Any]) -> str:
    """Render the golden file: sorted, one line per value or list."""
    rows = [
        f" {json.dumps(name)}: {{\n" + ",\n".join(f"  {json.dumps(key)}: {_line(row[key])}" for key in sorted(row)) + "\n }"
        for name, row in sorted(golden["rows"].items())
    ]
    return f'{{"platform": {_line(golden["platform"])},\n"rows": {{\n' + ",\n".join(rows) + "\n}}\n"


def _line(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


def read(path: Path) -> dict[str, Any]:
    """Read the golden file; empty if it is missing."""
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"platform": {}, "rows": {}}
    return known


def compared(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return a sentence on the strictness of the comparison of two golden files, and every difference."""
    exact = recorded["platform"] == found["platform"]
    how = (
        "same platform and versions: every bit must match"
        if exact
        else f"recorded on {recorded['platform']}, but this is {found['platform']}: "
        f"metrics are compared within {METRIC_TOLERANCE}, losses within {LOSS_TOLERANCE:.0%}; digests and lists are skipped"
    )
    return how, [str(difference) for difference in differences(recorded["rows"], found["rows"], exact=exact)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Record or compare; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden.record", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=names(), help="rows to compute; all by default")
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    parser.add_argument("--file", type=Path, default=GOLDEN, help="the golden file")
    chosen = parser.parse_args(arguments)
    selected = chosen.only or names()
    pin_environment()
    found, recorded = measured(selected), read(chosen.file)
    if chosen.check:
        expected = {name: row for name, row in recorded["rows"].items() if chosen.only is None or name in selected}
        how, changed = compared({**recorded, "rows": expected}, found)
        print("\n".join([how, *changed, f"{len(changed)} differences in {len(found['rows'])} rows"]))
        return int(bool(changed))
    if chosen.only is not None:
        if recorded["platform"] not in ({}, found["platform"]):
            print("the other rows were recorded on another platform or with other versions; record all of them", file=sys.stderr)
            return 1
        found["rows"] = {**recorded["rows"], **found["rows"]}
    chosen.file.write_text(written(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
