"""Folders that the benchmarks read and write."""

from pathlib import Path

from gmmrec.data.formats.bundled import bundled_names

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
CONFIGS = BENCHMARKS / "configs"
RESULTS = BENCHMARKS / "results"
"""One CSV file per benchmark; committed."""
TABLES = BENCHMARKS / "tables"
"""Markdown, rendered from the results; committed."""
RUNS = Path("runs")
"""Run folders, below the working folder; not committed."""
DATA = Path("../shared/data")
"""Data sets that are not bundled, if no other folder is given."""


def located(name: str, data: Path = DATA) -> str:
    """Return the path of a data set: the name itself if it is bundled or a path already, else a folder below ``data``.

    >>> located("movies-small"), located("runs/content/yelp"), located("tiktok", Path("data"))
    ('movies-small', 'runs/content/yelp', 'data/tiktok')
    """
    return name if name in bundled_names() or "/" in name else str(data / name)
