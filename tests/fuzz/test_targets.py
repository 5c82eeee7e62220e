"""A few hundred cases of all targets: each is accepted with a consistent result, or refused in one sentence."""

import pytest
from hypothesis import given, settings

from tests.fuzz.judge import judge
from tests.fuzz.targets import TARGETS

CASES = 500
LEAST = 10
TOTAL = sum(target.weight for target in TARGETS.values())


@pytest.mark.parametrize("name", TARGETS)
def test_every_case_is_accepted_or_refused(name, tmp_path):
    target = TARGETS[name]
    target.prepare()

    @settings(max_examples=max(LEAST, CASES * target.weight // TOTAL))
    @given(target.cases)
    def run(case):
        verdict = judge(target, case, tmp_path)
        assert verdict.kind != "fault", verdict.text

    run()
