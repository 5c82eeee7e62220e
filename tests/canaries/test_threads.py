"""A training that is repeated with as many threads has the same bits, and with other numbers of threads nearly the same metrics."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.canaries.threads import SETTINGS, THREADS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def found():
    command = [sys.executable, "-m", "tests.canaries.threads"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", SETTINGS)
def test_the_same_number_of_threads_gives_the_same_bits(found, name):
    threads, digests, metrics = zip(*found[name], strict=True)
    assert threads == THREADS
    assert digests[0] == digests[1]
    assert digests[2] == digests[3]
    assert metrics[0] == metrics[1]
    assert metrics[2] == metrics[3]


@pytest.mark.parametrize("name", SETTINGS)
def test_metrics_hardly_depend_on_the_number_of_threads(found, name):
    one, two = found[name][0][2], found[name][2][2]
    assert one == pytest.approx(two, abs=1e-3)
    assert one["recall@20"] > 0.02
