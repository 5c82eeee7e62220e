"""Records the golden file, or compares with it: short runs of every model, to the last digit.

``python -m tests.golden.record`` records; ``--only NAME …`` does so for some rows alone; ``--check`` compares instead, prints every
difference (row, key, recorded, found) and ends with 1 if there is one. Nothing here imports PyTorch before the environment that
makes its numbers repeatable is set.
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
"""One thread, and kernels that do not depend on the processor."""


def pin_environment() -> None:
    """Sets what PyTorch reads when it is imported.

    Raises:
        RuntimeError: It is imported already.
    """
    if "torch" in sys.modules:
        raise RuntimeError("PyTorch is imported already, so its kernels cannot be pinned; run python -m tests.golden.record")
    os.environ.update(ENVIRONMENT)


def measured(wanted: Sequence[str]) -> dict[str, Any]:
    """What is found now, in the form of the golden file."""
    from tests.golden import access, measure

    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure.measure(wanted, Path(folder))
    return {"platform": this_platform(access.packages()), "rows": measure.plain(rows)}


def this_platform(packages: Mapping[str, str | None]) -> dict[str, str | None]:
    """What the last digits depend on."""
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "python": ".".join(map(str, sys.version_info[:2])),
        **packages,
    }


def written(golden: Mapping[str, Any]) -> str:
    """The golden file as text: sorted, a line a number or list."""
    rows = [
        f" {json.dumps(name)}: {{\n" + ",\n".join(f"  {json.dumps(key)}: {_line(row[key])}" for key in sorted(row)) + "\n }"
        for name, row in sorted(golden["rows"].items())
    ]
    return f'{{"platform": {_line(golden["platform"])},\n"rows": {{\n' + ",\n".join(rows) + "\n}}\n"


def _line(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


def read(path: Path) -> dict[str, Any]:
    """The golden file, or nothing where there is none."""
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"platform": {}, "rows": {}}
    return known


def judged(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[str, list[str]]:
    """How strictly two golden files are compared, in words, and every difference."""
    exact = recorded["platform"] == found["platform"]
    how = (
        "same platform and versions: every bit must match"
        if exact
        else f"recorded on {recorded['platform']}, but this is {found['platform']}: "
        f"metrics are compared within {METRIC_TOLERANCE}, losses within {LOSS_TOLERANCE:.0%}; digests and lists are skipped"
    )
    return how, [str(difference) for difference in differences(recorded["rows"], found["rows"], exact=exact)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Records or compares; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden.record", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=names(), help="rows to compute; all where not given")
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    parser.add_argument("--file", type=Path, default=GOLDEN, help="the golden file")
    chosen = parser.parse_args(arguments)
    wanted = chosen.only or names()
    pin_environment()
    found, recorded = measured(wanted), read(chosen.file)
    if chosen.check:
        expected = {name: row for name, row in recorded["rows"].items() if chosen.only is None or name in wanted}
        how, changed = judged({**recorded, "rows": expected}, found)
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
