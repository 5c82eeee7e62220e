"""``gmmrec complete``: outfits or bundles that hold some items."""

import argparse
import json
import logging
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from gmmrec.runs.run import Run

PICTURES, PAGE = "pictures", "outfits.html"
"""The folder of pictures beside the data that is looked for, and the page in the run's folder."""
logger = logging.getLogger(__name__)


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``complete``."""
    parser = subparsers.add_parser(
        "complete",
        help="outfits or bundles that hold some items",
        description="Adds items to some that are there, one by one, so that they go together: the likeliest outfits first.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="run folder")
    parser.add_argument("--items", metavar="ID,ID", default="", help="items that are there; none where not given")
    parser.add_argument("--user", metavar="ID", help="for whom; nobody in particular where not given")
    parser.add_argument("-k", type=int, default=5, help="number of outfits")
    parser.add_argument("--pool", metavar="FILE", type=Path, help="items to choose from, one id a line; all where not given")
    parser.add_argument(
        "--beam", type=int, default=20, help="outfits that are followed at once; 1, with -k 1, is the greedy choice"
    )
    parser.add_argument("--min-items", type=int, help="items of an outfit, at least")
    parser.add_argument("--max-items", type=int, help="items of an outfit, at most; as many as usual where not given")
    parser.add_argument("--one-per-category", action="store_true", help="no two items of one category")
    parser.add_argument(
        "--images", metavar="FOLDER", type=Path, help="pictures, named after the items: 007.jpg, …; else DATA/pictures"
    )
    parser.add_argument("--image-column", "--image_column", metavar="COLUMN", help="column with the pictures' names, if not the id")
    parser.add_argument(
        "--page", metavar="FILE.html", type=Path, help="the page with the outfits (DIR/outfits.html where there are pictures)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Completes, writes and prints."""
    from gmmrec.runs.run import Run

    if arguments.image_column is not None and arguments.images is None:
        raise ValueError("--image-column says how the pictures in --images are named; give both")
    finished = Run.load(arguments.folder)
    items, users = finished.vocabularies["item"], finished.vocabularies["user"]
    pool = None
    if arguments.pool is not None:
        lines = arguments.pool.read_text(encoding="utf-8").split("\n")
        pool = [items.parse(line.strip()) for line in lines if line.strip()]
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
    print(frame.to_string(index=False, formatters={"score": "{:.4f}".format, "probability": "{:.4f}".format}))
    if page is not None:
        print(f"\nwrote {page}")
    return 0


def _page(arguments: argparse.Namespace, finished: "Run", frame: "pd.DataFrame", heading: str) -> Path | None:
    """Writes the page where it is asked for, or there are pictures to show; nobody asked for the latter, so it only warns."""
    from gmmrec.report.outfits import write_outfits

    beside = Path(finished.config["data"]["path"]).expanduser() / PICTURES
    images = arguments.images or (beside if beside.is_dir() else None)
    if images is None and arguments.page is None:
        return None
    try:
        pictures = {} if images is None else _pictures(finished, frame, images, arguments.image_column)
        return write_outfits(frame, arguments.page or arguments.folder / PAGE, pictures, heading)
    except (ValueError, OSError) as error:
        if arguments.images is not None or arguments.page is not None:
            raise
        logger.warning("no page is written: %s", error)
        return None


def _pictures(finished: "Run", frame: "pd.DataFrame", folder: Path, column: str | None) -> dict[Hashable, Path | None]:
    from gmmrec.data.encode.images import find_pictures
    from gmmrec.data.encode.texts import join_columns

    ids = finished.vocabularies["item"].ids()
    names: Sequence[Hashable | None] = ids
    if column is not None:
        if "item" not in finished.attributes:
            raise ValueError(
                "the run has no table of items, so that --image-column names nothing; name the pictures after the items"
            )
        names = [name or None for name in join_columns(finished.attributes["item"], [column])]
    shown = set(frame["item_id"])
    return {raw: path for raw, path in zip(ids, find_pictures(folder, names), strict=True) if raw in shown}
