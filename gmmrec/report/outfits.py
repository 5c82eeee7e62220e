"""Outfits as a page: what was there, what was added, with pictures, in one file that needs nothing else."""

import base64
import io
from collections.abc import Hashable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

SIDE = 180
"""Pixels of a picture's longer side."""
STYLE = """
body { font: 15px system-ui, sans-serif; margin: 2em auto; max-width: 1200px; padding: 0 1em; color: #222; }
.outfit { display: flex; flex-wrap: wrap; gap: 12px; padding: 12px 0 20px; border-bottom: 1px solid #ddd; }
figure { margin: 0; width: 184px; } figure.given .box { outline: 3px solid #30507a; }
.box { width: 184px; height: 184px; display: flex; align-items: center; justify-content: center; background: #f4f4f4; }
.box span { padding: 8px; text-align: center; color: #777; } figcaption { font-size: 13px; margin-top: 6px; }
small { color: #777; } h2 { font-size: 16px; margin-bottom: 4px; }
"""


def write_page(frame: pd.DataFrame, path: str | Path, pictures: Mapping[Hashable, Path | None], heading: str) -> Path:
    """Writes outfits, best first, into an HTML file.

    Args:
        frame: What :meth:`gmmrec.run.Run.complete` returned.
        path: The file; ``.html``.
        pictures: Where the picture of an item is, as far as there is one; without, its name stands in place of it.
        heading: What the page is called.

    Raises:
        ValueError: The file's name does not end in ``.html``, a picture cannot be read, or Pillow is not installed.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"a page is written to a name that ends in .html, but this is {path.name}; change it")
    parts = [f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{escape(heading)}</title><style>{STYLE}</style>"]
    parts.append(f"<h1>{escape(heading)}</h1><p>Framed items were given; the others were added, in this order.</p>")
    for number, outfit in frame.groupby("outfit", sort=True):
        parts.append(f"<h2>{number}. <small>log probability {outfit['score'].iloc[0]:.2f}</small></h2><div class='outfit'>")
        parts += [_item(row, pictures.get(row["item_id"])) for _, row in outfit.iterrows()]
        parts.append("</div>")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*parts, "</html>"]) + "\n", encoding="utf-8")
    return path


def _item(row: "pd.Series[Any]", picture: Path | None) -> str:
    name = escape(str(row.get("title", row["item_id"])))
    shown = f"<span>{name}</span>" if picture is None else f"<img alt='{name}' src='{_embedded(picture)}'>"
    chance = "given" if row["given"] else f"{row['probability']:.1%} of the choices"
    kind = "given" if row["given"] else "added"
    known = [str(row["item_id"]), *(row[["category"]].dropna() if "category" in row else []), chance]
    caption = f"{name}<br><small>{escape(' · '.join(map(str, known)))}</small>"
    if row.get("comment"):
        caption += f"<br><q>{escape(row['comment'])}</q>"
    return f"<figure class='{kind}'><div class='box'>{shown}</div><figcaption>{caption}</figcaption></figure>"


def _embedded(picture: Path) -> str:
    """A small copy of a picture as text."""
    try:
        from PIL import Image
    except ImportError:
        raise ValueError("pages with pictures need Pillow, which is not installed; run: pip install 'gmmrec[encoders]'") from None
    written = io.BytesIO()
    try:
        with Image.open(picture) as opened:
            small = opened.convert("RGB")
            small.thumbnail((SIDE, SIDE))
            small.save(written, "JPEG", quality=80)
    except OSError as error:
        raise ValueError(f"{picture.name} cannot be read as a picture ({error}); take it out or replace it") from None
    return "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode()
