"""``gmmrec data features``: features of items or entities from their pictures or texts."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmmrec.errors import UsageError
from gmmrec.safety.names import visible

if TYPE_CHECKING:
    from gmmrec.data.dataset import Dataset
    from gmmrec.data.encode.extract import Extraction
    from gmmrec.data.encode.source import Source

PLURAL = {"item": "items", "entity": "entities"}

SHOWN = 5
"""Ids without a value that are printed; the file next to the features lists all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add all arguments but the data set."""
    inputs = parser.add_mutually_exclusive_group(required=True)
    inputs.add_argument(
        "--image", metavar="FOLDER", type=Path, help="pictures named after the ids, such as 007.jpg (also .png, .webp, …)"
    )
    inputs.add_argument("--text", metavar="COLUMN[,COLUMN]", help="text columns of the table of items or entities")
    parser.add_argument("--of", choices=tuple(PLURAL), default="item", help="node type that the features belong to (default item)")
    parser.add_argument(
        "--encoder",
        metavar="NAME",
        required=True,
        help="model on the Hugging Face hub, local folder, or a packaged model: efficientnet-lite0 (pictures), minilm (texts)",
    )
    parser.add_argument("--name", metavar="MODALITY", help="name of the modality (default: image or text)")
    parser.add_argument(
        "--image-column",
        "--image_column",
        metavar="COLUMN",
        help="column with the pictures' names, if they are not named after the ids",
    )
    parser.add_argument("--regions", metavar="N", type=int, help="encode N x N regions of each picture, as a token axis")
    parser.add_argument(
        "--crops", action="store_true", help="encode the four corners and the centre of each picture, as a token axis"
    )
    parser.add_argument("--tokens", metavar="N", type=int, help="keep the first N tokens of each text, as a token axis")
    parser.add_argument("--dim", metavar="D", type=int, help="reduce the width to D principal components")
    parser.add_argument("--batch_size", "--batch-size", metavar="B", type=int, default=32, help="inputs per batch (default 32)")
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="device of the encoder (default auto: a GPU if available)",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="folder for the features (default: the data set's folder)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def run(dataset: "Dataset", arguments: argparse.Namespace) -> int:
    """Encode, write and print."""
    from gmmrec.data.encode.extract import ENDING, extract
    from gmmrec.data.encode.texts import Spells, Texts
    from gmmrec.data.tokens import PIECES, write_pieces

    if not dataset.vocabularies.get(arguments.of):
        (other,) = set(PLURAL) - {arguments.of}
        raise UsageError(f"{dataset.name} has no {PLURAL[arguments.of]}; use --of {other}, or give another data set")
    name = ("entity_" if arguments.of == "entity" else "") + (arguments.name or ("image" if arguments.image else "text"))
    folder = _folder(dataset, arguments, name)
    source = _pictures(dataset, arguments) if arguments.image else _texts(dataset, arguments)
    found = extract(source, folder / f"{name}{ENDING}", dim=arguments.dim, batch_size=arguments.batch_size, progress=True)
    if isinstance(source, Texts) and source.tokens is not None and isinstance(source.encoder, Spells):
        pieces = source.encoder.pieces(source.texts, source.tokens)
        write_pieces(found.path.with_name(f"{name}{PIECES}"), source.ids, pieces)
    print(json.dumps(found.to_dict(), indent=2) if arguments.json else visible(to_text(found, name, PLURAL[arguments.of])))
    return 0


def to_text(found: "Extraction", name: str, owners: str = "items") -> str:
    """Return a summary of the extraction as aligned lines."""
    from gmmrec.errors import literal

    axis = f"{found.shape[1]} tokens of {found.shape[2]}" if len(found.shape) == 3 else f"{found.shape[1]}"
    rows = [(f"modality {name}", f"{found.shape[0]:,} of {found.items:,} {owners}, {axis} numbers each ({found.dtype})")]
    rows += [("encoder", f"{found.settings['encoder']}, width {found.encoder_dim}")]
    if found.kept_variance is not None:
        rows += [("reduced", f"to {found.shape[-1]} principal components, which keep {found.kept_variance:.1%} of the variance")]
    if found.resumed:
        rows += [("resumed", f"{found.resumed:,} {owners} were encoded by an earlier run")]
    if found.missing:
        first = [f"{literal(item)} ({reason})" for item, reason in list(found.missing.items())[:SHOWN]]
        more = ", …" if len(found.missing) > SHOWN else ""
        listing = found.path.with_suffix(".missing.csv").name
        rows += [("missing", f"{len(found.missing):,}, masked: {', '.join(first)}{more}; all are in {listing}")]
    rows += [("wrote", f"{found.path} ({found.path.stat().st_size / 1e6:,.1f} MB)")]
    width = max(len(label) for label, _ in rows)
    return "\n".join(f"{label:<{width}}  {value}" for label, value in rows)


def _folder(dataset: "Dataset", arguments: argparse.Namespace, name: str) -> Path:
    """Return the folder to write to; refuse one whose features would not be read, and names that clash with another modality."""
    from gmmrec.data.files import first_line
    from gmmrec.data.formats.atomic import interaction_files

    if not name.replace("_", "").replace("-", "").isalnum():
        raise UsageError(f"a modality name consists of letters, digits, _ and -, but got {name!r}")
    if arguments.of == "item" and dataset.triples is not None and name.startswith("entity_"):
        raise UsageError(f"{name}_feat.npz would be read as features of entities; choose another --name, or use --of entity")
    if arguments.out is not None:
        return Path(arguments.out)
    folder = Path(arguments.data).expanduser()
    if not folder.is_dir() or any(":" in first_line(path) for path in interaction_files(folder)):
        raise UsageError(
            f"feature files are read from data folders only, and {arguments.data} is not one; give --out, "
            "or convert it first: gmmrec data convert --to folder"
        )
    if name in dataset.features:
        raise UsageError(f"{dataset.name} already has a modality {name!r}; choose another --name, or remove its file first")
    return folder


def _pictures(dataset: "Dataset", arguments: argparse.Namespace) -> "Source":
    from gmmrec.data.encode.encoders import load_image_encoder
    from gmmrec.data.encode.images import Pictures, find_pictures
    from gmmrec.data.encode.texts import join_columns

    if arguments.tokens is not None:
        raise UsageError("--tokens applies to --text; for pictures, use --regions or --crops")
    ids = dataset.vocabularies[arguments.of].ids()
    column = arguments.image_column
    names = ids if column is None else [name or None for name in join_columns(_table(dataset, arguments.of), [column])]
    paths = find_pictures(arguments.image, names)
    encoder = load_image_encoder(arguments.encoder, device=_device(arguments.device))
    return Pictures(ids, paths, encoder, regions=arguments.regions, crops=arguments.crops)


def _texts(dataset: "Dataset", arguments: argparse.Namespace) -> "Source":
    from gmmrec.data.encode.encoders import load_text_encoder
    from gmmrec.data.encode.texts import Texts, join_columns

    if arguments.regions is not None or arguments.crops or arguments.image_column is not None:
        raise UsageError("--regions, --crops and --image-column apply to --image; for texts, use --tokens")
    texts = join_columns(_table(dataset, arguments.of), arguments.text.split(","))
    encoder = load_text_encoder(arguments.encoder, device=_device(arguments.device))
    return Texts(dataset.vocabularies[arguments.of].ids(), texts, encoder, tokens=arguments.tokens)


def _table(dataset: "Dataset", owner: str) -> Any:
    """Return the attributes of items or entities, without titles that merely repeat the id."""
    if owner not in dataset.attributes:
        plural = PLURAL[owner]
        raise UsageError(f"{dataset.name} has no table of {plural}; add {plural}.csv with their ids and columns")
    frame = dataset.attributes[owner]
    if "title" not in frame:
        return frame
    ids = [str(raw_id) for raw_id in dataset.vocabularies[owner].ids()]
    return frame.assign(title=frame["title"].where(frame["title"].astype(str) != ids, None))


def _device(name: str) -> str:
    import torch  # not at the top: the command line answers --help without it

    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda needs a GPU that torch can use, but found none; leave it out")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
