"""Pictures of items: finding, opening and cutting them."""

import importlib.util
import os
import struct
import zlib
from collections import defaultdict
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gmmrec.data.encode.encoders import ImageEncoder
from gmmrec.data.encode.source import Encoded
from gmmrec.data.errors import DataError, listed

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")

CROP = 0.75
"""Side of a crop, as a share of the picture's side."""

BROKEN = (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, struct.error, zlib.error)
"""What Pillow raises for files that are no picture or a damaged one."""


@dataclass(frozen=True)
class Pictures:
    """A picture an item, as :func:`gmmrec.data.encode.extract.extract` reads it.

    Attributes:
        ids: The items.
        paths: Their pictures; None where there is none.
        encoder: What turns pictures into vectors.
        regions: Side of the grid of regions, which become a token axis; None for one vector a picture.
        crops: Whether to encode four corners and the centre instead of the whole picture, as a token axis.

    Raises:
        ValueError: Both regions and crops are asked for, the lists differ in length, or Pillow is not installed.
    """

    ids: Sequence[Hashable]
    paths: Sequence[Path | None]
    encoder: ImageEncoder
    regions: int | None = None
    crops: bool = False

    def __post_init__(self) -> None:
        if importlib.util.find_spec("PIL") is None:
            raise ValueError("opening pictures needs Pillow, which is not installed; run: pip install 'gmmrec[encoders]'")
        if self.regions is not None and self.crops:
            raise ValueError("regions and crops cannot be had together; choose one token axis")
        if len(self.ids) != len(self.paths):
            raise ValueError(f"there must be a path or None for every item, but there are {len(self.paths)} for {len(self.ids)}")

    def settings(self) -> dict[str, object]:
        """What the vectors depend on besides the pictures."""
        return {"encoder": self.encoder.name, "regions": self.regions, "crops": self.crops}

    def fingerprint(self, row: int) -> str:
        """A text that changes with the picture of a row: name, size and time of its file."""
        path = self.paths[row]
        if path is None or not path.is_file():
            return ""
        status = path.stat()
        return f"{path.name} {status.st_size} {status.st_mtime_ns}"

    def length(self, row: int) -> int:
        """Rows of like length share a batch; pictures are alike."""
        return 0

    def encode(self, rows: Sequence[int]) -> Encoded:
        """Vectors of the pictures that can be opened, and why others cannot."""
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # Pillow decodes without holding Python's lock
            found = list(pool.map(self._open, rows))
        missing = {row: picture for row, picture in zip(rows, found, strict=True) if isinstance(picture, str)}
        opened = [picture for picture in found if not isinstance(picture, str)]
        present = [row for row in rows if row not in missing]
        if not opened:
            return Encoded([], None, None, missing)
        if self.crops:
            crops = [crop for picture in opened for crop in five_crops(picture)]
            values = self.encoder.vectors(crops).unflatten(0, (len(opened), -1))  # [B, 5, D]
        elif self.regions is not None:
            values = self.encoder.regions(opened, self.regions)
        else:
            values = self.encoder.vectors(opened)
        return Encoded(present, values, None, missing)

    def _open(self, row: int) -> "Image | str":
        """The picture of a row, or the reason why there is none."""
        path = self.paths[row]
        if path is None:
            return "no picture"
        try:
            return open_picture(path)
        except BROKEN as error:
            return f"{path.name} cannot be read: {' '.join(str(error).split()) or type(error).__name__}"


def find_pictures(folder: Path, names: Sequence[Hashable | None]) -> list[Path | None]:
    """The picture of every name in a folder or the folders in it, None where there is none.

    Where no picture has one of the names, folders may: the first picture in the folder ``NAME`` is taken, by its own name.

    Args:
        folder: Holds ``NAME.jpg``, ``.png``, ``.webp`` or another of :data:`SUFFIXES`, in upper or lower case.
        names: Ids, or file names with or without their ending, exactly as they are spelled: ``007`` is not ``7``. An id with
            slashes, which no file can have, is looked for as FB15k-237-IMG's folders are named: ``/m/01`` as ``m.01``.

    Raises:
        DataError: The folder is not there, none of its pictures fits, or two fit one name.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {str(folder)!r} with pictures; give the folder that holds <item id>.jpg")
    wanted = ["" if name is None else str(name).removeprefix("/").replace("/", ".") for name in names]
    pictures = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    found: defaultdict[str, list[Path]] = defaultdict(list)
    for path in pictures:
        found[path.stem].append(path)
        found[path.name].append(path)
    if not any(name in found for name in wanted):
        found.clear()
        for within, path in {path.parent: path for path in reversed(pictures)}.items():
            found[within.name].append(path)
    if not any(name in found for name in wanted):
        raise DataError(
            f"no picture in {folder.name}, and no folder of pictures, is named after an id: it holds "
            f"{listed((path.name for path in pictures), limit=3) or 'no pictures at all'}, but the names looked for are such as "
            f"{listed((name for name in wanted if name), limit=3)}; rename the files, or say which column of the table holds their "
            f"names (image column)"
        )
    for name in wanted:
        if name in found and len(found[name]) > 1:
            first, second = found[name][:2]
            raise DataError(f"{first.relative_to(folder)} and {second.relative_to(folder)} are both named {name!r}; keep one")
    return [found[name][0] if name in found else None for name in wanted]


def open_picture(path: Path) -> "Image":
    """A picture in RGB, turned the right way up, on white where it is transparent; of an animation the first frame.

    Raises:
        OSError: The file is not there, no picture or a damaged one; for rare damages other kinds of :data:`BROKEN`.
        ValueError: The picture is absurdly large.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)
            if picture.has_transparency_data:
                picture = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
            return picture.convert("RGB")
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from None


def five_crops(picture: "Image") -> list["Image"]:
    """The four corners (top left, top right, bottom left, bottom right) and the centre, each three quarters as wide and high."""
    width, height = picture.size
    wide, high = max(1, round(CROP * width)), max(1, round(CROP * height))
    right, bottom = width - wide, height - high
    corners = [(0, 0), (right, 0), (0, bottom), (right, bottom), (right // 2, bottom // 2)]
    return [picture.crop((left, top, left + wide, top + high)) for left, top in corners]
