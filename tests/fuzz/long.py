"""Long fuzzing: chunks of cases in processes of their own, restartable, with every kind of fault kept as a small case."""

import contextlib
import fcntl
import json
import os
import pickle
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.case import Case
from tests.fuzz.verdict import Target, Verdict, key_of, try_case

CHUNK = 250
"""Cases of a process."""
MEMORY = 16 * 2**30
"""Limit of a process in bytes of address space; a case that needs more is refused by the system, as on a small machine."""
SHRINKS = 150
"""Calls spent on a smaller case of a new fault."""
SILENCE = 180.0
"""Seconds without a finished case after which a process is stopped from outside."""


@dataclass
class Result:
    """Counts of one chunk."""

    target: str
    chunk: int
    cases: int = 0
    accepted: int = 0
    refused: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, verdict: Verdict) -> None:
        self.cases += 1
        self.accepted += verdict.kind == "accepted"
        self.refused += verdict.kind == "refused"
        if verdict.kind == "fault":
            self.faults[verdict.cause] = self.faults.get(verdict.cause, 0) + 1


def plan(targets: Sequence[Target], cases: int) -> list[tuple[Target, int, int]]:
    """Return target, number and size of all chunks, in an order that serves all targets alike."""
    total = sum(target.weight for target in targets)
    chunks = []
    for target in targets:
        share = max(1, round(cases * target.weight / total))
        sizes = [CHUNK] * (share // CHUNK) + [share % CHUNK] * (share % CHUNK > 0)
        chunks += [((number + 0.5) / len(sizes), target, number, size) for number, size in enumerate(sizes)]
    return [(target, number, size) for _, target, number, size in sorted(chunks, key=lambda chunk: chunk[0])]


def run(targets: Sequence[Target], cases: int, start: int, out: Path) -> list[Result]:
    """Run all chunks that ``out`` does not hold yet, and return all results; several processes may share the file.

    Raises:
        ValueError: The file belongs to another number of cases or another seed.
    """
    about = {"cases": cases, "seed": start, "targets": [target.name for target in targets]}
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.with_suffix(".lock").open("a+") as lock:
        with _locked(lock, 0):
            if not out.is_file() or not out.stat().st_size:
                out.write_text(json.dumps(about) + "\n", encoding="utf-8")
        if _read(out)[0] != about:
            raise ValueError(f"{out} holds other cases; give another file")
        for position, (target, number, size) in enumerate(plan(targets, cases)):
            with contextlib.suppress(BlockingIOError), _locked(lock, position + 1, wait=False):  # else another process is at it
                if (target.name, number) in {(each.target, each.chunk) for each in results_of(out)}:
                    continue
                result = _in_process(target, number, size, start, out)
                with out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(result)) + "\n")
                print(f"{target.name} {number}: {result.faults or 'no fault'}", file=sys.stderr, flush=True)
    return results_of(out)


class _locked:
    """Lock of one byte of a file, released when the process ends."""

    def __init__(self, file: Any, byte: int, *, wait: bool = True) -> None:
        self.file, self.byte, self.wait = file, byte, wait

    def __enter__(self) -> None:
        fcntl.lockf(self.file, fcntl.LOCK_EX | (0 if self.wait else fcntl.LOCK_NB), 1, self.byte)

    def __exit__(self, *error: object) -> None:
        fcntl.lockf(self.file, fcntl.LOCK_UN, 1, self.byte)


def _read(out: Path) -> tuple[Mapping[str, Any], list[Result]]:
    first, *lines = out.read_text(encoding="utf-8").splitlines()
    return json.loads(first), [Result(**json.loads(line)) for line in lines]


def results_of(out: Path) -> list[Result]:
    """Return the results in a file."""
    return _read(out)[1]


def _in_process(target: Target, number: int, size: int, start: int, out: Path) -> Result:
    """Run a chunk in a child process; what kills the child is a fault of its last case."""
    target.prepare()
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=_memory_disk()) as folder:
        root = Path(folder)
        began = time.monotonic()
        child = os.fork()
        if not child:
            code = 1
            try:
                os.setpgid(0, 0)
                resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
                run_chunk(target, number, size, start, root, out)
                code = 0
            except BaseException as error:  # noqa: BLE001 (the child must not go on as the parent)
                print(f"{target.name} {number}: {type(error).__name__}: {error}", file=sys.stderr)
            finally:
                os._exit(code)
        status = _wait(child, root / "state")
        state = root / "state"
        result, case = pickle.loads(state.read_bytes()) if state.is_file() else (Result(target.name, number), None)
        if status:
            signum = -os.waitstatus_to_exitcode(status)
            cause = f"the process ended with {signal.Signals(signum).name if signum > 0 else f'code {-signum}'}"
            result.add(Verdict("fault", cause))
            if case is not None:
                save_fault(out, target, case, Verdict("fault", cause))
        result.seconds = round(time.monotonic() - began, 1)
        return result


def _memory_disk() -> str | None:
    return next((path for path in ("/dev/shm",) if os.access(path, os.W_OK)), None)


def _wait(child: int, state: Path) -> int:
    """Wait for a child that goes on finishing cases; return its status."""
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status
        if state.is_file() and time.time() - state.stat().st_mtime > SILENCE:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.05)


def run_chunk(target: Target, number: int, size: int, start: int, root: Path, out: Path) -> Result:
    """Run the cases of a chunk, and keep the smallest case of every fault; the state before each is in ``root``."""
    result, state = Result(target.name, number), root / "state"
    work = root / "work"
    work.mkdir()
    worst: dict[str, tuple[Case, Verdict]] = {}

    def one(case: Case) -> None:
        state.write_bytes(pickle.dumps((result, case)))
        verdict = try_case(target, case, work)
        result.add(verdict)
        if verdict.kind == "fault" and (verdict.cause not in worst or case.size < worst[verdict.cause][0].size):
            worst[verdict.cause] = case, verdict

    generated(target, number, size, start, one)
    state.write_bytes(pickle.dumps((result, None)))
    for cause, (case, verdict) in worst.items():
        if not (folder_of(out, cause) / "case.txt").is_file():
            save_fault(out, target, case, verdict)
            found = [(case, verdict), *shrunk(target, number, size, start, cause, work, state, result)]
            save_fault(out, target, *min(reversed(found), key=lambda one: one[0].size))  # the latest of the smallest
    state.write_bytes(pickle.dumps((result, None)))
    return result


def generated(target: Target, number: int, size: int, start: int, body: Any, *phases: Phase) -> None:
    """Call ``body`` with the cases of a chunk."""
    options = settings(
        max_examples=size,
        database=None,
        deadline=None,
        derandomize=False,
        report_multiple_bugs=False,
        phases=(Phase.generate, *phases),
        suppress_health_check=list(HealthCheck),
    )
    seed(f"{start} {target.name} {number}")(options(given(target.cases)(body)))()


def shrunk(
    target: Target, number: int, size: int, start: int, cause: str, work: Path, state: Path, result: Result
) -> Iterator[tuple[Case, Verdict]]:
    """Return ever smaller cases of a fault."""
    found: list[tuple[Case, Verdict]] = []
    calls = Counter[str]()

    def one(case: Case) -> None:
        if calls["after"] > SHRINKS:
            return
        state.write_bytes(pickle.dumps((result, None)))
        verdict = try_case(target, case, work)
        calls["after"] += bool(found)
        if verdict.cause == cause:
            found.append((case, verdict))
            raise RuntimeError(cause)

    try:
        generated(target, number, size, start, one, Phase.shrink)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
    return iter(found)


def folder_of(out: Path, cause: str) -> Path:
    """Return the folder of a fault."""
    return out.with_suffix(".faults") / key_of(cause)


def save_fault(out: Path, target: Target, case: Case, verdict: Verdict) -> None:
    """Write files, call and traceback of a fault to its folder."""
    folder = folder_of(out, verdict.cause)
    with tempfile.TemporaryDirectory(dir=out.parent) as made:
        case.save(Path(made) / "new", target.name)
        text = f"{verdict.cause}\n\npython -m tests.fuzz --replay {folder.name}\n\n{verdict.text}"
        (Path(made) / "new" / "traceback.txt").write_text(text, encoding="utf-8", errors="backslashreplace")
        folder.parent.mkdir(exist_ok=True)
        if folder.exists():
            os.rename(folder, Path(made) / "old")
        os.rename(Path(made) / "new", folder)


def summary(results: Sequence[Result]) -> str:
    """Return a table of cases, refusals and faults by target, and the faults by cause."""
    rows: dict[str, Result] = {}
    causes = Counter[str]()
    for result in results:
        row = rows.setdefault(result.target, Result(result.target, 0))
        for name in ("cases", "accepted", "refused", "seconds"):
            setattr(row, name, getattr(row, name) + getattr(result, name))
        for cause, count in result.faults.items():
            row.faults[cause] = row.faults.get(cause, 0) + count
            causes[cause] += count
    whole = Result("all", 0, *(sum(getattr(row, name) for row in rows.values()) for name in ("cases", "accepted", "refused")))
    whole.faults, whole.seconds = dict(causes), sum(row.seconds for row in rows.values())
    lines = ["| target | cases | accepted | refused | faults | causes | seconds |", "|---|---:|---:|---:|---:|---:|---:|"]
    for row in (*rows.values(), whole):
        faults = sum(row.faults.values())
        figures = (row.cases, row.accepted, row.refused, faults, len(row.faults), round(row.seconds))
        lines.append(f"| {row.target} | {' | '.join(f'{figure:,}' for figure in figures)} |")
    return "\n".join([*lines, "", *(f"{count:6,}  {cause}" for cause, count in causes.most_common())])
