"""The command as a module."""

import subprocess
import sys


def test_the_package_runs_as_the_command() -> None:
    found = subprocess.run([sys.executable, "-m", "gmmrec", "models"], capture_output=True, text=True, check=True)
    assert "lightgcn" in found.stdout
    wrong = subprocess.run([sys.executable, "-m", "gmmrec", "evaluate", "nowhere"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("gmmrec evaluate:")
