"""Settings that ``accuracy.py`` chose on validation, for benchmarks that start from them."""

import json
from pathlib import Path

from lab.grid import Settings
from lab.paths import RESULTS
from lab.results import Store


def chosen(dataset: str, results: Path = RESULTS) -> dict[str, Settings]:
    """Return the settings behind each model's row in the accuracy table of a data set."""
    rows = Store("accuracy", results).select(dataset=dataset, part="test")
    return {row["model"]: json.loads(row["settings"]) for row in rows}
