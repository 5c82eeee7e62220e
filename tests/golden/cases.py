"""The cases of the golden file: one for every settings file, and those that are made of several runs."""

from pathlib import Path
from typing import Any

SETTINGS = Path(__file__).with_name("settings")
GOLDEN = Path(__file__).with_name("golden.json")

BLENDS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "blend": (("lightgcn", "freedom", "popularity"), {"metric": "ndcg@10"}),
    "blend-ranks": (("lightgcn", "ease", "mgat"), {"metric": "recall@20", "scale": "ranks"}),
    "blend-weights": (("vbpr", "popularity"), {"weights": [0.7, 0.3]}),
}
"""Members, and settings of the blend."""
TWO_STAGE = {"two-stage": ("popularity", "mario", 12), "two-stage-situation": ("lightgcn-by-time", "mmt-net", 20)}
"""The run that finds candidates, the run that ranks them, and how many."""
RESUMED = ("resumed-freedom", "resumed-bert4rec")
"""Settings files whose runs stop at half of their epochs and go on; compared with going straight on as well."""
WARM = {"warm-lightgcn": "lightgcn", "warm-bert4rec": "lightgcn", "warm-mmt-net": "mmt-net"}
"""Settings files whose runs begin with another case."""


def names() -> list[str]:
    """All cases in the order of the file."""
    return sorted([path.stem for path in SETTINGS.glob("*.yaml")] + [*BLENDS, *TWO_STAGE])
