"""HTML pages from templates: one file each, everything escaped, nothing loaded from elsewhere."""

import base64
import io
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

ENVIRONMENT = Environment(
    loader=PackageLoader("gmmrec.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
"""Templates of this package; values are escaped wherever they stand, and a name that is not given is an error."""


def write_page(template: str, path: str | Path, **values: Any) -> Path:
    """Write a page and return its path; folders on the way are made.

    Args:
        template: File name in ``gmmrec/report/templates``.
        path: The page; ends in ``.html`` or ``.htm``.
        **values: Names that the template uses.

    Raises:
        ValueError: The name of the page has another ending.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"a page needs a name that ends in .html, but this is {path.name}; rename it")
    text = ENVIRONMENT.get_template(template).render(**values)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def embedded(picture: Path, side: int) -> str:
    """Return a small copy of a picture as a ``data:`` address.

    Args:
        picture: An image file.
        side: Pixels of the copy's longer side, at most.

    Raises:
        ValueError: The picture cannot be read, or Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise ValueError("pages with pictures need Pillow, which is not installed; run: pip install 'gmmrec[encoders]'") from None
    written = io.BytesIO()
    try:
        with Image.open(picture) as opened:
            small = opened.convert("RGB")
            small.thumbnail((side, side))
            small.save(written, "JPEG", quality=80)
    except OSError as error:
        raise ValueError(f"{picture.name} cannot be read as a picture ({error}); remove or replace it") from None
    return "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode()
