"""The table of targets."""

from hypothesis import strategies as st

from tests.fuzz import commands, frames, ids, runs, settings
from tests.fuzz.check import read
from tests.fuzz.layouts import LAYOUTS, data_cases
from tests.fuzz.verdict import Target

HOSTILE = 9
"""Damaged cases for each valid one."""


def _readers() -> list[Target]:
    found = []
    for name, (layouts, weight) in LAYOUTS.items():
        damaged, valid = data_cases(layouts, hostile=True), data_cases(layouts, hostile=False)
        cases = st.integers(0, HOSTILE).flatmap(lambda n, damaged=damaged, valid=valid: damaged if n else valid)
        found.append(Target(f"read {name}", cases, read, weight, writable=("out",)))
    return found


TARGETS = {
    target.name: target
    for target in (
        *_readers(),
        Target("frames", frames.frame_cases(), frames.read_frame, 14, writable=("log.parquet",)),
        Target("objects as data", frames.object_cases, frames.read_object, 1),
        Target("settings in files", settings.file_cases(), settings.train, 6),
        Target("settings as flags", settings.flag_cases(), settings.train, 6),
        Target("settings as keywords", settings.keyword_cases(), settings.fit, 6),
        Target("vocabularies", ids.vocabulary_cases, ids.look_up, 4),
        Target("methods of runs", ids.method_cases(), ids.ask, 10, prepare=ids.make_runs),
        Target("run folders", runs.run_cases(), runs.call, 14, writable=(".",), prepare=runs.templates),
        Target("command lines", commands.command_cases(), runs.call, 14, writable=(".",), prepare=runs.templates),
    )
}
"""All targets by name."""
