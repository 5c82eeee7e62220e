"""``gmmrec explain``: attention of a model to the parts of an item for a user, as a table and a picture."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gmmrec.cli.classes import add_class_flags, given_classes
from gmmrec.errors import UsageError
from gmmrec.safety.names import visible

if TYPE_CHECKING:
    from PIL.Image import Image

    from gmmrec.runs.run import Run

SHOWN = 10
"""Tokens printed per modality."""


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``explain``."""
    parser = subparsers.add_parser(
        "explain",
        help="explain a score by the model's attention",
        description="Show the attention of a model to the modalities, regions, words and attributes of an item for one user.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="run folder")
    parser.add_argument("--user", metavar="ID", required=True, help="user id")
    parser.add_argument("--item", metavar="ID", required=True, help="item id")
    parser.add_argument(
        "--images", metavar="FOLDER", type=Path, help="pictures named after the items, such as 007.jpg (also .png, .webp, …)"
    )
    parser.add_argument(
        "--image-column",
        "--image_column",
        metavar="COLUMN",
        help="item column with the pictures' names, if they are not named after the ids",
    )
    parser.add_argument("--out", metavar="FILE.png", type=Path, help="draw the explanation, also as .pdf or .svg")
    parser.add_argument("--json", action="store_true", help="print one JSON object with all tokens and nothing else")
    add_class_flags(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Explain, draw and print."""
    from gmmrec.runs.run import Run

    if arguments.images is not None and arguments.out is None:
        raise UsageError("--images needs a file to draw into; add --out, such as --out why.png")
    if arguments.image_column is not None and arguments.images is None:
        raise UsageError("--image-column names the pictures in --images; give both")
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
        print(visible(f"\n{part.name:30}  {part.total:8.4f}"))
        for position in order[:SHOWN] if part.kind != "whole" else ():
            print(visible(f"  {part.labels[position][:28]:28}  {part.weights[position]:8.4f}"))
        if len(order) > SHOWN:
            print(f"  … {len(order) - SHOWN} more, each at most {part.weights[order[SHOWN]]:.4f}")
    return 0


def _picture(finished: "Run", item: object, folder: Path, column: str | None) -> "Image | None":
    from gmmrec.data.encode.images import find_pictures, open_picture
    from gmmrec.data.encode.texts import join_columns

    ids = finished.vocabularies["item"].ids()
    if column is not None and "item" not in finished.attributes:
        raise UsageError("--image-column needs a table of items, but the run has none; name the pictures after the items")
    names = ids if column is None else [name or None for name in join_columns(finished.attributes["item"], [column])]
    path = find_pictures(folder, names)[ids.index(item)]
    return None if path is None else open_picture(path)
