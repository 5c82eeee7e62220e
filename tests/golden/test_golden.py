import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.golden import access
from tests.golden.cases import BLENDS, GOLDEN, RESUMED, SETTINGS, TWO_STAGE, WARM, names
from tests.golden.compare import differences
from tests.golden.measure import digest, read_settings
from tests.golden.record import ENVIRONMENT, compared, read

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path.stem for path in SETTINGS.glob("*.yaml"))


@pytest.mark.slow
def test_no_number_has_changed(tmp_path):
    """Runs in a new process, as kernels are chosen when PyTorch is imported."""
    command = [sys.executable, "-m", "tests.golden.record", "--file", str(tmp_path / "found.json")]
    ended = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    how, changed = compared(read(GOLDEN), read(tmp_path / "found.json"))
    print(how)
    assert not changed, "\n".join(
        [how, *changed, "if the change is intended: python -m tests.golden.record --only ROW, and say why in the commit"]
    )


def test_every_model_has_a_case_and_every_case_a_row():
    assert set(access.MODELS) <= set(FILES)
    assert sorted(read(GOLDEN)["rows"]) == names()
    assert {*RESUMED, *WARM, *WARM.values()} <= set(FILES)
    made_of = {member for members, _ in BLENDS.values() for member in members} | {
        m for f, s, _ in TWO_STAGE.values() for m in (f, s)
    }
    assert made_of <= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_settings_files_contain_every_setting(name):
    settings = read_settings(name)
    model = settings.pop(access.MODEL)
    assert {section: list(values) for section, values in settings.items()} == access.field_names(model)
    assert settings["run"]["monitor"] is not None


@pytest.mark.parametrize("recorded", [0.1, [0.1, 0.2], "i3 0.1", "same"])
def test_the_last_digit_counts_on_the_same_platform(recorded):
    platform = {"machine": "here"}
    golden = {"platform": platform, "rows": {"a": {"test: ranking: recall@5": recorded, "weights": "x"}}}
    assert compared(golden, copy.deepcopy(golden))[1] == []
    found = json.loads(json.dumps(golden).replace("0.1", "0.10000000000000002").replace("same", "other"))
    (line,) = compared(golden, found)[1]
    assert line.startswith("a | test: ranking: recall@5 | recorded ")


@pytest.mark.parametrize(
    ("key", "recorded", "near", "far"),
    [
        ("test: ranking: recall@5", 0.2, 0.24, 0.3),
        ("valid: ratings: rmse", 1.2, 1.25, 1.4),
        ("epoch 1: losses", [0.69, 0.01], [0.691, 0.01], [0.75, 0.01]),
        ("epoch 2: losses", [0.69], [0.69], [0.69, 0.0]),
        ("reloaded: same test", True, True, False),
    ],
)
def test_on_other_platforms_metrics_and_losses_are_compared_within_a_tolerance(key, recorded, near, far):
    rows = [{"a": {key: value, "weights": str(value), "top 10: u0": str(value)}} for value in (recorded, near, far)]
    assert list(differences(rows[0], rows[1], exact=False)) == []
    assert [difference.key for difference in differences(rows[0], rows[2], exact=False)] == [key]
    how, _ = compared({"platform": {"torch": "1"}, "rows": {}}, {"platform": {"torch": "2"}, "rows": {}})
    assert how == (
        "recorded on {'torch': '1'}, but this is {'torch': '2'}: metrics are compared within 0.05, losses within 2%; "
        "digests and lists are skipped"
    )


@pytest.mark.parametrize("exact", [True, False])
def test_added_and_removed_rows_and_keys_are_differences(exact):
    found = list(differences({"a": {"k": 1}, "b": {"k": 1}}, {"a": {"k": 1, "l": 2}}, exact=exact))
    assert [tuple(difference) for difference in found] == [("a", "l", None, 2), ("b", "k", 1, None)]


def test_the_digest_of_weights_depends_on_every_bit_and_not_on_order():
    import torch

    one, two = torch.arange(6.0).view(2, 3), torch.ones(4)
    assert digest([one, two]) == digest([two, one])
    assert digest([one, two]) != digest([one.view(3, 2), two])
    assert digest([one, two]) != digest([one, two.double()])
    assert digest([one, two]) != digest([one, torch.nextafter(two, torch.tensor(2.0))])
