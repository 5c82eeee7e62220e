"""Cases of the golden file: one per settings file, and those of several runs."""

from pathlib import Path
from typing import Any

SETTINGS = Path(__file__).with_name("settings")
GOLDEN = Path(__file__).with_name("golden.json")

BLENDS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "blend": (("lightgcn", "freedom", "popularity"), {"metric": "ndcg@10"}),
    "blend-ranks": (("lightgcn", "ease", "mgat"), {"metric": "recall@20", "scale": "ranks"}),
    "blend-weights": (("vbpr", "popularity"), {"weights": [0.7, 0.3]}),
}
"""Members and settings of blends."""
TWO_STAGE = {"two-stage": ("popularity", "mario", 12), "two-stage-situation": ("lightgcn-by-time", "mmt-net", 20)}
"""Runs for candidates and for ranking, and the number of candidates."""
RESUMED = ("resumed-freedom", "resumed-bert4rec")
"""Settings files whose runs stop after half of their epochs and resume; also compared with uninterrupted training."""
WARM = {"warm-lightgcn": "lightgcn", "warm-bert4rec": "lightgcn", "warm-mmt-net": "mmt-net"}
"""Settings files whose runs are initialised from another case."""


def names() -> list[str]:
    """Return all cases in the order of the file."""
    return sorted([path.stem for path in SETTINGS.glob("*.yaml")] + [*BLENDS, *TWO_STAGE])
