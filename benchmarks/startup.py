"""Start-up of the command, in processor seconds and as a ratio to importing PyTorch and PyG, from one run.

python benchmarks/startup.py
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

IMPORT = [sys.executable, "-c", "import torch, torch_geometric"]
GMMREC = [sys.executable, "-m", "gmmrec"]


def processor_seconds(command: list[str]) -> float:
    """Return user and system seconds of one process.

    Raises:
        CalledProcessError: The command failed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    """Time each command in turn, several rounds, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each command runs (default 5)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        run = str(Path(folder) / "run")
        train = ["train", "-m", "lightgcn", "-d", "movies-small", "--out", run, "--train.epochs", "1", "--eval.bootstrap", "0"]
        subprocess.run([*GMMREC, *train], check=True, capture_output=True)
        commands = {
            "import torch, torch_geometric": IMPORT,
            "gmmrec models": [*GMMREC, "models"],
            "gmmrec recommend RUN --users 1": [*GMMREC, "recommend", run, "--users", "1"],
            "gmmrec similar RUN --items 1": [*GMMREC, "similar", run, "--items", "1"],
        }
        for command in commands.values():  # once, so that files are in memory
            processor_seconds(command)
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                seconds[name].append(processor_seconds(command))
    base = median(seconds["import torch, torch_geometric"])
    print("| command | processor seconds | above the import | ratio |\n|---|---:|---:|---:|")
    for name, found in seconds.items():
        print(f"| `{name}` | {median(found):.2f} | {median(found) - base:+.2f} | {median(found) / base:.2f} |")


if __name__ == "__main__":
    main()
