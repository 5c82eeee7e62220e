"""HTML pages from templates: self-contained files with escaped values."""

import base64
import hashlib
import io
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from gmmrec.data.encode.images import BROKEN, open_picture
from gmmrec.errors import DataError, UsageError
from gmmrec.safety.names import visible

ENVIRONMENT = Environment(
    loader=PackageLoader("gmmrec.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
"""Templates of this package; all values are escaped, and a missing name is an error."""


def source_hash(style: str) -> str:
    """Return the hash by which a content security policy allows the style of a page, and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()


ENVIRONMENT.filters["source_hash"] = source_hash


def write_page(template: str, path: str | Path, **values: Any) -> Path:
    """Write a page and return its path; parent folders are created.

    Args:
        template: File name in ``gmmrec/report/templates``.
        path: Path of the page, ending in ``.html`` or ``.htm``.
        **values: Values by the names used in the template.

    Raises:
        UsageError: The path has another suffix.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"the name of a page must end in .html, but is {path.name}; rename it")
    text = visible(ENVIRONMENT.get_template(template).render(**values))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def embedded(picture: Path, side: int) -> str:
    """Return a small copy of a picture as a ``data:`` URL.

    Args:
        picture: An image file.
        side: Maximum length of the copy's longer side in pixels.

    Raises:
        UsageError: The picture cannot be read, or Pillow is not installed.
    """
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise UsageError("pages with pictures need Pillow, which is not installed; run: pip install 'gmmrec[encoders]'") from None
    written = io.BytesIO()
    try:
        small = open_picture(picture)
        small.thumbnail((side, side))
        small.save(written, "JPEG", quality=80)
    except DataError:
        raise
    except BROKEN as error:
        raise UsageError(f"{picture.name} cannot be read as a picture ({error}); remove or replace it") from None
    return "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode()
