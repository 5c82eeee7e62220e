"""``gmmrec explain``: what of an item counts for a user, as a table and as a picture."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gmmrec.cli.classes import add_class_flags, given_classes

if TYPE_CHECKING:
    from PIL.Image import Image

    from gmmrec.runs.run import Run

SHOWN = 10
"""Tokens of a modality that are printed."""


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``explain``."""
    parser = subparsers.add_parser(
        "explain",
        help="what of an item counts for a user",
        description="The attention of a model to the modalities, regions, words and attributes of an item for one user.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="run folder")
    parser.add_argument("--user", metavar="ID", required=True, help="user id")
    parser.add_argument("--item", metavar="ID", required=True, help="item id")
    parser.add_argument("--images", metavar="FOLDER", type=Path, help="pictures, named after the items: 007.jpg, .png, .webp, …")
    parser.add_argument("--image-column", "--image_column", metavar="COLUMN", help="column with the pictures' names, if not the id")
    parser.add_argument("--out", metavar="FILE.png", type=Path, help="draw a picture, also .pdf or .svg")
    parser.add_argument("--json", action="store_true", help="print one JSON object with all tokens and nothing else")
    add_class_flags(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Explains, draws and prints."""
    from gmmrec.runs.run import Run

    if arguments.images is not None and arguments.out is None:
        raise ValueError("--images are drawn into a file; say with --out where, such as --out why.png")
    if arguments.image_column is not None and arguments.images is None:
        raise ValueError("--image-column says how the pictures in --images are named; give both")
    finished = Run.load(arguments.folder, **given_classes(arguments))
    user, item = (finished.vocabularies[kind].parse(getattr(arguments, kind)) for kind in ("user", "item"))
    found = finished.explanation(user, item)
    if arguments.out is not None:
        from gmmrec.report.picture import draw

        picture = None if arguments.images is None else _picture(finished, item, arguments.images, arguments.image_column)
        draw(found, arguments.out, picture)
    frame = found.to_frame()
    if arguments.json:
        print(f'{{"score": {found.score}, "rows": {frame.to_json(orient="records", force_ascii=False)}}}')
        return 0
    print(f"score {found.score:.4f}")
    for part in found.parts:
        order = sorted(range(len(part.weights)), key=lambda position: -part.weights[position])
        print(f"\n{part.name:30}  {part.total:8.4f}")
        for position in order[:SHOWN] if part.kind != "whole" else ():
            print(f"  {part.labels[position][:28]:28}  {part.weights[position]:8.4f}")
        if len(order) > SHOWN:
            print(f"  … {len(order) - SHOWN} more, each at most {part.weights[order[SHOWN]]:.4f}")
    return 0


def _picture(finished: "Run", item: object, folder: Path, column: str | None) -> "Image | None":
    from gmmrec.data.encode.images import find_pictures, open_picture
    from gmmrec.data.encode.texts import join_columns

    ids = finished.vocabularies["item"].ids()
    if column is not None and "item" not in finished.attributes:
        raise ValueError("the run has no table of items, so that --image-column names nothing; name the pictures after the items")
    names = ids if column is None else [name or None for name in join_columns(finished.attributes["item"], [column])]
    path = find_pictures(folder, names)[ids.index(item)]
    return None if path is None else open_picture(path)
