"""Outcomes of crashes: what a folder answers afterwards, and whether it can go on."""

import contextlib
import io
import logging
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

import gmmrec
from gmmrec.cli.main import main
from gmmrec.errors import UsageError
from gmmrec.runs.status import REQUIRED, state_of
from tests.crashes.damage import WAYS
from tests.crashes.jobs import QUICK, SETTINGS, Job, answer, toy
from tests.crashes.kills import run_and_kill

Row = tuple[str, str, str, str]
"""Scenario, job, case and outcome; an outcome that begins with ``FAULT`` breaks a promise."""
RESUMED_EVERY = 5
SIZES = (64, 256, 512, 1024, 2048)
"""Sizes of full disks, in KiB."""


def jobs(work: Path) -> list[Job]:
    """All models, and a blend of two of them."""
    members = (work / "member-ease", work / "member-popularity")
    for folder in members:
        if state_of(folder) == "absent":
            gmmrec.fit(toy(), folder.name.partition("-")[2], out=folder, **{k: v for k, v in QUICK.items() if k == "eval"})
    return [*map(Job, SETTINGS), Job("blend", members)]


def kills(work: Path, job: Job, moments: int) -> Iterator[Row]:
    """Kill a job at random moments and before every file operation, alone and over a finished run."""
    expected = {}
    for seed, name in ((0, "old"), (1, "new")):
        if state_of(work / f"{job.name}-{name}") == "absent":
            job.start(work / f"{job.name}-{name}", seed=seed)
        expected[name] = answer(work / f"{job.name}-{name}")
    for over in (False, True):
        scenario = "kill over a finished run" if over else "kill alone"

        def start(folder: Path, over: bool = over) -> None:
            if over:
                shutil.copytree(work / f"{job.name}-old", folder)

        folder = work / "whole"
        start(folder)
        whole = run_and_kill(lambda folder=folder, over=over: job.start(folder, overwrite=over, seed=1), folder)
        shutil.rmtree(folder)
        if whole.error:
            yield scenario, job.name, "not killed", f"FAULT {whole.error[-300:]}"
            continue
        chance = random.Random(f"{job.name}{over}")
        cases = [("moment", after) for after in (chance.uniform(0, whole.seconds) for _ in range(moments))]
        cases += [("operation", before) for before in range(1, whole.operations + 1)]
        for number, (kind, value) in enumerate(cases):
            start(folder)
            place = {"after": value} if kind == "moment" else {"before": int(value)}
            end = run_and_kill(lambda folder=folder, over=over: job.start(folder, overwrite=over, seed=1), folder, **place)
            resumes = kind == "moment" or number % RESUMED_EVERY == 0
            outcome = after_a_kill(job, folder, expected, resumes=resumes) if end.killed else "done before"
            yield scenario, job.name, f"{kind} {value:.3f}" if kind == "moment" else f"{kind} {value}", outcome
            shutil.rmtree(folder, ignore_errors=True)


def after_a_kill(job: Job, folder: Path, expected: dict[str, pd.DataFrame], *, resumes: bool) -> str:
    """Return which run a folder answers with, and whether it goes on to the same new run."""
    try:
        found = answer(folder)
        which = next((name for name, frame in expected.items() if frame.equals(found)), "FAULT a mixture")
    except UsageError:
        which = "none"
    except Exception as error:  # noqa: BLE001 (reported)
        return f"FAULT {type(error).__name__}: {error}"
    if not resumes or which.startswith("FAULT"):
        return which
    try:
        if state_of(folder) == "unfinished":
            job.resume(folder)
        elif which != "new":
            job.start(folder, overwrite=folder.exists(), seed=1)
        return f"{which}, then new" if answer(folder).equals(expected["new"]) else "FAULT another run after going on"
    except Exception as error:  # noqa: BLE001 (reported)
        return f"FAULT going on: {type(error).__name__}: {error}"


def said_by(*arguments: str) -> tuple[int, str]:
    """Return the exit code of a command and what it said on standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(arguments))
    for handler in logging.getLogger().handlers[:]:
        logging.getLogger().removeHandler(handler)
    return code, err.getvalue()


def damages(work: Path, job: Job) -> Iterator[Row]:
    """Damage every file of a folder in every way, and recommend, evaluate and resume."""
    whole = work / f"{job.name}-old"
    expected = answer(whole)
    for name in sorted(path.name for path in whole.iterdir() if path.is_file() and path.name != ".lock"):
        for way, damage in WAYS.items():
            folder = work / "damaged"
            shutil.copytree(whole, folder)
            damage(folder / name)
            for command in (("recommend", str(folder), "-k", "1"), ("evaluate", str(folder)), ("train", "--resume", str(folder))):
                code, said = said_by(*command)
                lines = [line for line in said.splitlines() if line.startswith("gmmrec ")]
                if code == 2 and len(lines) == 1:
                    outcome = "refused"
                elif code == 0 and (command[0] == "train" or answer_or_none(folder, expected)):
                    believed = {*REQUIRED, "attributes.json"}
                    outcome = "FAULT answered" if name in believed and command[0] != "train" else "answered from what is whole"
                else:
                    outcome = f"FAULT exit {code}: {said[-300:]}"
                yield "damage", job.name, f"{way} {name}, {command[0]}", outcome
            shutil.rmtree(folder)


def answer_or_none(folder: Path, expected: pd.DataFrame) -> bool:
    """Return whether a folder answers as before; its report may be gone."""
    columns = ["user_id", "item_id", "score", "rank"]
    return gmmrec.load(folder).recommend(k=5)[columns].equals(expected[columns])


def disks(work: Path, job: Job) -> Iterator[Row]:
    """Train on disks that are full or fixed, over a finished run."""
    place = work / "disk"
    place.mkdir(exist_ok=True)
    old = answer(work / f"{job.name}-old")
    needed = sum(path.stat().st_size for path in (work / f"{job.name}-old").iterdir() if path.is_file()) // 1024
    for size in (needed + share for share in SIZES):
        if not mounted(place, f"size={size + 64}k"):
            yield "full disk", job.name, "all", "not possible here: mounting needs rights"
            return
        try:
            folder = place / "run"
            shutil.copytree(work / f"{job.name}-old", folder)
            end = run_and_kill(lambda folder=folder: job.start(folder, overwrite=True, seed=1), folder)
            if end.error and "No space left on device" not in end.error:
                outcome = f"FAULT {end.error[-300:]}"
            elif not answer(folder).equals(old) and end.error:
                outcome = "FAULT the old run is gone"
            else:
                outcome = "refused, old run kept" if end.error else "there was room"
            yield "full disk", job.name, f"{size - needed} KiB left", outcome
            if end.error:
                subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
                code, said = said_by("recommend", str(folder), "-k", "1")
                yield "read-only disk", job.name, "recommend", "answered" if code == 0 else f"FAULT {said[-300:]}"
                code, said = said_by("train", "--resume", str(folder))
                fine = code == 2 and said.count("\n") == 1
                yield "read-only disk", job.name, "resume", "refused" if fine else f"FAULT {said[-300:]}"
        finally:
            subprocess.run(["umount", str(place)], check=False)


def mounted(place: Path, options: str) -> bool:
    """Mount a file system in memory; return whether that is allowed."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    return os.name == "posix" and subprocess.run(command, capture_output=True, check=False).returncode == 0


def writers(work: Path, job: Job, rounds: int) -> Iterator[Row]:
    """Start two writers at once in one folder: one is refused by name, the other is complete."""
    for number in range(rounds):
        folder = work / "both"
        children = []
        for seed in (0, 1):
            child = os.fork()
            if child == 0:
                code = 1
                with contextlib.suppress(UsageError):
                    job.start(folder, seed=seed)
                    code = 0
                os._exit(code)
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        complete = state_of(folder) == "finished" and not answer(folder).empty
        yield "two writers", job.name, str(number), "one wrote" if sorted(codes) == [0, 1] and complete else f"FAULT {codes}"
        shutil.rmtree(folder)
