"""A few hundred cases of all targets: each is accepted with a consistent result, or refused in one sentence."""

import pytest
from hypothesis import Phase, given, settings

from tests.fuzz.targets import TARGETS
from tests.fuzz.verdict import try_case

CASES = 500
LEAST = 10
TOTAL = sum(target.weight for target in TARGETS.values())


@pytest.mark.parametrize("name", TARGETS)
def test_every_case_is_accepted_or_refused(name, tmp_path):
    target, faults = TARGETS[name], []
    target.prepare()
    root = tmp_path / "root"
    root.mkdir()

    @settings(max_examples=max(LEAST, CASES * target.weight // TOTAL), phases=(Phase.generate,))
    @given(target.cases)
    def run(case):
        verdict = try_case(target, case, root)
        if verdict.kind == "fault":
            faults.append((case, verdict))

    run()
    if faults:
        case, verdict = min(faults, key=lambda fault: fault[0].size)
        case.save(tmp_path / "case", name)
        pytest.fail(f"{len(faults)} faults; python -m tests.fuzz --replay {tmp_path / 'case'}\n{verdict.text}", pytrace=False)
