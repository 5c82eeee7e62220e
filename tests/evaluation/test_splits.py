"""Runs on different splits are refused, with both splits and the flag that unites them."""

import pytest
import yaml

from gmmrec.errors import UsageError
from gmmrec.evaluation.compare import read_runs
from gmmrec.evaluation.splits import check_same_splits
from tests.evaluation.test_compare import run_of


def folders(tmp_path, *splits):
    made = []
    for number, split in enumerate(splits):
        folder = tmp_path / f"run{number}"
        run_of(0.4, seed=number).save(folder)
        if split is not None:
            (folder / "config.yaml").write_text(yaml.safe_dump({"split": split}))
        made.append(folder)
    return made


RANDOM = {"strategy": "random", "valid": 0.1, "test": 0.1, "seed": 0}


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            RANDOM,
            {**RANDOM, "strategy": "leave_last_out"},
            r"run0 was split by 'random' \(valid 0.1, test 0.1, seed 0\), run1 by 'leave_last_out'; "
            "train both with --split.strategy leave_last_out$",
        ),
        ({"strategy": "given"}, RANDOM, "'given', run1 by 'random' .*; train both with --split.strategy given$"),
        (RANDOM, {**RANDOM, "seed": 3}, r"run1 by 'random' \(valid 0.1, test 0.1, seed 3\); train both with --split.seed 0$"),
        (
            {**RANDOM, "strategy": "by_time", "test": 0.2, "valid": 0.05},
            {**RANDOM, "strategy": "by_time"},
            "train both with --split.valid 0.05 --split.test 0.2$",
        ),
    ],
)
def test_the_two_splits_and_the_flag_are_named(tmp_path, first, second, message):
    with pytest.raises(UsageError, match=message):
        read_runs(folders(tmp_path, first, second))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (RANDOM, dict(RANDOM)),
        ({**RANDOM, "strategy": "leave_last_out"}, {**RANDOM, "strategy": "leave_last_out", "seed": 4, "test": 0.3}),  # no effect
        ({**RANDOM, "strategy": "auto"}, {**RANDOM, "strategy": "given"}),  # earlier versions do not say what was used
        (None, RANDOM),
    ],
)
def test_splits_that_are_equal_or_unknown_pass(tmp_path, first, second):
    assert len(read_runs(folders(tmp_path, first, second))) == 2


def test_damaged_settings_are_named(tmp_path):
    (folder,) = folders(tmp_path, RANDOM)
    (folder / "config.yaml").write_text("split: [")
    with pytest.raises(UsageError, match=r"config.yaml is not valid YAML: while parsing a flow node"):
        check_same_splits(["a"], [folder])
