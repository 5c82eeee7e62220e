"""``gmmrec complete``: outfits or bundles that contain given items."""

import argparse
import json
import logging
import os
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gmmrec.cli.classes import add_class_flags, given_classes
from gmmrec.errors import UsageError
from gmmrec.safety.names import check_no_link, visible

if TYPE_CHECKING:
    import pandas as pd

    from gmmrec.runs.run import Run

PICTURES, PAGE = "pictures", "outfits.html"
"""Default folder of pictures, in the data folder, and default name of the page, in the run folder."""
logger = logging.getLogger(__name__)


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``complete``."""
    parser = subparsers.add_parser(
        "complete",
        help="complete outfits or bundles from given items",
        description="Complete a partial outfit: add compatible items one at a time and list the most likely outfits first.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="run folder")
    parser.add_argument("--items", metavar="ID,ID", default="", help="given items (default none)")
    parser.add_argument("--user", metavar="ID", help="user the outfits are for (default: no particular user)")
    parser.add_argument("-k", type=int, default=5, help="number of outfits (default 5)")
    parser.add_argument("--pool", metavar="FILE", type=Path, help="items to choose from, one id per line (default: all)")
    parser.add_argument(
        "--beam", metavar="N", type=int, default=20, help="beam width of the search (default 20); 1 with -k 1 is greedy"
    )
    parser.add_argument("--min-items", metavar="N", type=int, help="minimum number of items in an outfit")
    parser.add_argument(
        "--max-items", metavar="N", type=int, help="maximum number of items in an outfit (default: taken from the data)"
    )
    parser.add_argument("--one-per-category", action="store_true", help="at most one item per category")
    parser.add_argument(
        "--images", metavar="FOLDER", type=Path, help="pictures named after the items, such as 007.jpg (default DATA/pictures)"
    )
    parser.add_argument(
        "--image-column",
        "--image_column",
        metavar="COLUMN",
        help="item column with the pictures' names, if they are not named after the ids",
    )
    parser.add_argument(
        "--page",
        metavar="FILE.html",
        type=Path,
        help="write the outfits to a page (default DIR/outfits.html if there are pictures)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    add_class_flags(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Complete, write the page and print."""
    from gmmrec.data.files import read_text  # not at the top: the command line answers --help without pandas
    from gmmrec.runs.run import Run

    if arguments.image_column is not None and arguments.images is None:
        raise UsageError("--image-column names the pictures in --images; give both")
    finished = Run.load(arguments.folder, **given_classes(arguments))
    items, users = finished.vocabularies["item"], finished.vocabularies["user"]
    pool = None
    if arguments.pool is not None:
        pool = [items.parse(line.strip()) for line in read_text(arguments.pool).split("\n") if line.strip()]
    given = [items.parse(part.strip()) for part in arguments.items.split(",") if part.strip()]
    frame = finished.complete(
        given,
        None if arguments.user is None else users.parse(arguments.user),
        arguments.k,
        pool=pool,
        beam=arguments.beam,
        min_items=arguments.min_items,
        max_items=arguments.max_items,
        one_per_category=arguments.one_per_category,
    )
    heading = f"Outfits with {', '.join(map(str, given))}" if given else "Outfits"
    page = _page(arguments, finished, frame, heading if arguments.user is None else f"{heading}, for {arguments.user}")
    if arguments.json:
        print(f'{{"page": {json.dumps(page and str(page))}, "rows": {frame.to_json(orient="records", force_ascii=False)}}}')
        return 0
    print(visible(frame.to_string(index=False, formatters={"score": "{:.4f}".format, "probability": "{:.4f}".format})))
    if page is not None:
        print(f"\nwrote {page}")
    return 0


def _page(arguments: argparse.Namespace, finished: "Run", frame: "pd.DataFrame", heading: str) -> Path | None:
    """Write the page if requested or if there are pictures to show; in the latter case a failure only warns."""
    from gmmrec.report.outfits import write_outfits

    default = Path(os.path.expanduser(finished.config.data.path)) / PICTURES  # which keeps a ~ of nobody
    images = arguments.images or (default if default.is_dir() else None)
    if images is None and arguments.page is None:
        return None
    try:
        pictures = {} if images is None else _pictures(finished, frame, images, arguments.image_column)
        page = arguments.page or check_no_link(arguments.folder / PAGE, "remove it")
        return write_outfits(frame, page, pictures, heading)
    except (ValueError, OSError) as error:
        if arguments.images is not None or arguments.page is not None:
            raise
        logger.warning("page not written: %s", error)
        return None


def _pictures(finished: "Run", frame: "pd.DataFrame", folder: Path, column: str | None) -> dict[Hashable, Path | None]:
    from gmmrec.data.encode.images import find_pictures
    from gmmrec.data.encode.texts import join_columns

    ids = finished.vocabularies["item"].ids()
    names: Sequence[Hashable | None] = ids
    if column is not None:
        if "item" not in finished.attributes:
            raise UsageError("--image-column needs a table of items, but the run has none; name the pictures after the items")
        names = [name or None for name in join_columns(finished.attributes["item"], [column])]
    shown = set(frame["item_id"])
    return {raw: path for raw, path in zip(ids, find_pictures(folder, names), strict=True) if raw in shown}
