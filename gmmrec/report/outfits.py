"""Page of outfits: given items, added items and their pictures in one file."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gmmrec.report.page import embedded, write_page

SIDE = 180
"""Longer side of a picture in pixels."""


def write_outfits(frame: pd.DataFrame, path: str | Path, pictures: Mapping[Hashable, Path | None], heading: str) -> Path:
    """Write outfits, best first, as an HTML page and return its path.

    Args:
        frame: Outfits returned by :meth:`gmmrec.Run.complete`.
        path: Path of the page, ending in ``.html``.
        pictures: Pictures by item id; items without one show their name.
        heading: Title of the page.

    Raises:
        UsageError: The path does not end in ``.html``, a picture cannot be read, or Pillow is not installed.
    """
    outfits = [
        {
            "number": number,
            "score": outfit["score"].iloc[0],
            "items": [_item(row, pictures.get(row["item_id"])) for _, row in outfit.iterrows()],
        }
        for number, outfit in frame.groupby("outfit", sort=True)
    ]
    return write_page("outfits.html", path, heading=heading, outfits=outfits)


def _item(row: "pd.Series[Any]", picture: Path | None) -> dict[str, Any]:
    chance = "given" if row["given"] else f"{row['probability']:.1%} of the choices"
    category: Sequence[Any] = list(row[["category"]].dropna()) if "category" in row else []
    return {
        "name": str(row.get("title", row["item_id"])),
        "given": bool(row["given"]),
        "details": [str(row["item_id"]), *map(str, category), chance],
        "comment": row.get("comment") or "",
        "picture": None if picture is None else embedded(picture, SIDE),
    }
