"""Images of items: finding, opening and cropping."""

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
from gmmrec.errors import DataError, UsageError, quote_names
from gmmrec.safety.sizes import MIB, check_file, check_unpacked

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats that are opened, whatever the name of a file; Pillow would hand PostScript to another program."""

PIXELS = 128 * MIB
"""Bytes that any picture may unpack to, four per pixel: 33 million of them."""

CROP = 0.75
"""Side of a crop, as a share of the image's side."""

BROKEN = (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, struct.error, zlib.error)
"""Errors that Pillow raises for files that are not images or damaged."""


@dataclass(frozen=True)
class Pictures:
    """One image per item, as a source of :func:`gmmrec.data.encode.extract.extract`.

    Attributes:
        ids: Ids of the items.
        paths: Paths of their images; None for a missing one.
        encoder: Image encoder.
        regions: Side of the grid of regions, which become a token axis; None for one vector per image.
        crops: Whether to encode the four corners and the centre as a token axis instead of the whole image.

    Raises:
        UsageError: Both regions and crops are set, the lists differ in length, or Pillow is not installed.
    """

    ids: Sequence[Hashable]
    paths: Sequence[Path | None]
    encoder: ImageEncoder
    regions: int | None = None
    crops: bool = False

    def __post_init__(self) -> None:
        if importlib.util.find_spec("PIL") is None:
            raise UsageError("opening images needs Pillow, which is not installed; run: pip install 'gmmrec[encoders]'")
        if self.regions is not None and self.crops:
            raise UsageError("regions and crops cannot be combined; choose one token axis")
        if len(self.ids) != len(self.paths):
            raise UsageError(f"every item needs a path or None, but there are {len(self.paths)} for {len(self.ids)} items")

    def settings(self) -> dict[str, object]:
        """Return the settings that determine the vectors besides the images."""
        return {"encoder": self.encoder.name, "regions": self.regions, "crops": self.crops}

    def fingerprint(self, row: int) -> str:
        """Return a text that changes with the image of a row: name, size and modification time of its file."""
        path = self.paths[row]
        if path is None or not path.is_file():
            return ""
        status = path.stat()
        return f"{path.name} {status.st_size} {status.st_mtime_ns}"

    def length(self, row: int) -> int:
        """Return 0, as all images are alike for batching."""
        return 0

    def encode(self, rows: Sequence[int]) -> Encoded:
        """Return vectors of the images that can be opened, and reasons for the others."""
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # Pillow releases the GIL while decoding
            results = list(pool.map(self._open, rows))
        missing = {row: result for row, result in zip(rows, results, strict=True) if isinstance(result, str)}
        opened = [result for result in results if not isinstance(result, str)]
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
        """Return the image of a row, or the reason why it is missing."""
        path = self.paths[row]
        if path is None:
            return "no image"
        try:
            return open_picture(path)
        except BROKEN as error:
            return f"{path.name} cannot be read: {' '.join(str(error).split()) or type(error).__name__}"


def find_pictures(folder: Path, names: Sequence[Hashable | None]) -> list[Path | None]:
    """Return the path of the image for every name, found in a folder or its subfolders, or None.

    If no image has one of the names, subfolders may: the first image, by name, of the subfolder ``NAME`` is used.

    Args:
        folder: Folder of ``NAME.jpg``, ``.png``, ``.webp`` or another of :data:`SUFFIXES`, in upper or lower case.
        names: Ids, or file names with or without extension, matched exactly: ``007`` is not ``7``. Slashes, which file names
            cannot contain, are replaced as in the folders of FB15k-237-IMG: ``/m/01`` matches ``m.01``.

    Raises:
        DataError: The folder does not exist, none of its images matches, or two match one name.
    """
    if not folder.is_dir():
        raise DataError(f"there is no image folder {str(folder)!r}; give the folder that holds <item id>.jpg")
    stems = ["" if name is None else str(name).removeprefix("/").replace("/", ".") for name in names]
    pictures = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    by_name: defaultdict[str, list[Path]] = defaultdict(list)
    for path in pictures:
        by_name[path.stem].append(path)
        by_name[path.name].append(path)
    if not any(stem in by_name for stem in stems):
        by_name.clear()
        for parent, path in {path.parent: path for path in reversed(pictures)}.items():
            by_name[parent.name].append(path)
    if not any(stem in by_name for stem in stems):
        raise DataError(
            f"no image or subfolder of images in {folder.name} is named after an id: it holds "
            f"{quote_names((path.name for path in pictures), limit=3) or 'no images'}, but expected are names such as "
            f"{quote_names((stem for stem in stems if stem), limit=3)}; rename the files, or set the column of the item table that "
            f"holds their names (image column)"
        )
    for stem in stems:
        if stem in by_name and len(by_name[stem]) > 1:
            first, second = by_name[stem][:2]
            raise DataError(f"{first.relative_to(folder)} and {second.relative_to(folder)} are both named {stem!r}; keep one")
    return [by_name[stem][0] if stem in by_name else None for stem in stems]


def open_picture(path: Path) -> "Image":
    """Open an image in RGB, with EXIF rotation applied, on white if transparent; the first frame of an animation.

    Raises:
        OSError: The file is missing, damaged or not an image; rare defects raise others of :data:`BROKEN`.
        DataError: The image would take more memory than its file justifies.
    """
    from PIL import Image, ImageOps

    check_file(path)
    try:
        with Image.open(path, formats=FORMATS) as file:
            check_unpacked(4 * file.width * file.height, path, PIXELS, f"its {file.width:,} x {file.height:,} pixels")
            picture = ImageOps.exif_transpose(file)
            if picture.has_transparency_data:
                picture = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
            return picture.convert("RGB")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path.name} is refused: {error}; make it smaller") from None


def five_crops(picture: "Image") -> list["Image"]:
    """Return the four corners (top left, top right, bottom left, bottom right) and the centre, three quarters as wide and high."""
    width, height = picture.size
    wide, high = max(1, round(CROP * width)), max(1, round(CROP * height))
    right, bottom = width - wide, height - high
    corners = [(0, 0), (right, 0), (0, bottom), (right, bottom), (right // 2, bottom // 2)]
    return [picture.crop((left, top, left + wide, top + high)) for left, top in corners]
