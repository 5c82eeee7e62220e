"""Reader of knowledge graphs in the text layouts of public benchmarks.

These have one triple per line in ``train``, ``valid`` (or ``dev``) and ``test``, as ``.txt`` or ``.tsv``. Optional files are
``entity2id.txt`` and ``relation2id.txt`` (DB15K, MKG-W, MKG-Y, OpenKE's ``train2id.txt`` too), ``entities.txt`` and
``relations.txt``, ``entity2text.txt``, ``entity2textlong.txt`` and ``relation2text.txt`` (FB15k-237-IMG, WN18-IMG), and features
of the entities in ``NAME_feat.npy`` or ``.npz``.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmmrec.data.arrays import read_features
from gmmrec.data.columns import ALIASES, normalize_column_name
from gmmrec.data.files import read_text
from gmmrec.data.formats.lines import STEMS
from gmmrec.data.parts import GIVEN_PARTS, SplitPart
from gmmrec.data.tables import RawFeatures, Tables
from gmmrec.errors import DataError, literal

SUFFIXES = (".txt", ".tsv", ".txt.gz", ".tsv.gz", "2id.txt")
CATALOGUES = {"entity": ("entity2id.txt", "entities.txt"), "relation": ("relation2id.txt", "relations.txt")}
TEXTS = {"title": "{}2text.txt", "description": "{}2textlong.txt"}


def is_knowledge(folder: Path) -> bool:
    """Return whether a folder certainly holds triples: beside them it lists entities or relations, or their names are OpenKE's."""
    train = _part(folder, SplitPart.TRAIN)
    if train is None:
        return False
    lists = [
        *CATALOGUES["entity"],
        *CATALOGUES["relation"],
        *(pattern.format(kind) for kind in CATALOGUES for pattern in TEXTS.values()),
    ]
    return train.name.endswith("2id.txt") or any((folder / name).is_file() for name in lists)


def read_knowledge(folder: Path) -> Tables:
    """Read a data set of triples alone, without users and items.

    Ids of entities are those of the triples. If these are the numbers of ``entity2id.txt``, its names become titles; if they are
    names, the numbers index the rows of feature arrays without ids.

    Raises:
        DataError: The training part is missing, or a line is malformed.
    """
    paths = {part: path for part in GIVEN_PARTS if (path := _part(folder, part)) is not None}
    if SplitPart.TRAIN not in paths:
        raise DataError(f"folder {folder.name} holds no training triples; add train.txt with a head, relation and tail per line")
    triples = pd.concat([_triples(path).assign(split=np.int8(part.code)) for part, path in paths.items()], ignore_index=True)
    ids = {"entity": pd.concat([triples["head"], triples["tail"]]).unique(), "relation": triples["relation"].unique()}
    attributes, numbers = {}, None
    for kind, used in ids.items():
        frame, order = _catalogue(folder, kind, set(used))
        if frame is not None:
            attributes[kind] = frame
        numbers = order if kind == "entity" else numbers
    features = [_numbered(table, numbers) for table in read_features(folder, attributes, "entity", has_entities=True)]
    log: pd.DataFrame = pd.DataFrame({"user": [], "item": []})
    return Tables(folder.resolve().name, log, attributes, features, triples=triples)


def _part(folder: Path, part: SplitPart) -> Path | None:
    return next((path for stem in STEMS[part] for suffix in SUFFIXES if (path := folder / f"{stem}{suffix}").is_file()), None)


def _triples(path: Path) -> pd.DataFrame:
    """Read the triples of one part, without a first line with their number; OpenKE's files have the relation last."""
    rows = _fields(path, 3, counted=True)
    order = ("head", "tail", "relation") if path.name.endswith("2id.txt") else ("head", "relation", "tail")
    named = [next((role for role in order if normalize_column_name(name) in ALIASES[role]), "") for name in rows[0]]
    if set(named) == set(order):  # a line of column names
        rows, order = rows[1:], (named[0], named[1], named[2])
    table: pd.DataFrame = pd.DataFrame(rows, columns=list(order))[["head", "relation", "tail"]]
    return table


def _fields(path: Path, width: int, *, counted: bool = False) -> list[list[str]]:
    """Return the fields of every line, separated by tabs, or by spaces in files without tabs; after a tab, spaces are text."""
    text = read_text(path)
    split = _splitter(width, tabs="\t" in text)
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = [field.strip() for field in split(line)]
        if not line.strip() or (counted and number == 1 and len(fields) == 1 and fields[0].isdigit()):
            continue
        if len(fields) != width or not all(fields):
            expected = "head, relation and tail" if width == 3 else "two fields"
            raise DataError(
                f"{path.name} line {number} must hold {expected}, separated by tabs, but is {line.strip()[:60]!r}; fix it"
            )
        rows.append(fields)
    return rows


def _splitter(width: int, *, tabs: bool) -> Callable[[str], list[str]]:
    if width > 2:
        return (lambda line: line.split("\t")) if tabs else str.split
    return (lambda line: line.split("\t", 1)) if tabs else (lambda line: line.rsplit(None, 1))


def _catalogue(folder: Path, kind: str, used: set[str]) -> tuple[pd.DataFrame | None, "pd.Series[Any] | None"]:
    """Return the table of entities or relations with their texts, and their ids by number if they are numbered."""
    path = next((path for name in CATALOGUES[kind] if (path := folder / name).is_file()), None)
    frame, numbers = None, None
    if path is not None and "2id" in path.name:
        pairs = _fields(path, 2, counted=True)
        names, codes = (pd.Series(list(column), dtype=object) for column in zip(*pairs, strict=True))
        by_number = used <= set(codes) and not used <= set(names)
        ids = codes if by_number else names
        frame = pd.DataFrame({"id": ids, "title": names.str.replace("_", " ")} if by_number else {"id": ids})
        if codes.str.fullmatch(r"\d+").all():
            numbers = ids.iloc[codes.astype(int).argsort()].reset_index(drop=True)
    elif path is not None:
        frame = pd.DataFrame({"id": [line.split("\t")[0].strip() for line in read_text(path).splitlines() if line.strip()]})
    for column, pattern in TEXTS.items():
        if (text := folder / pattern.format(kind)).is_file():
            texts = pd.DataFrame(_fields(text, 2), columns=["id", column]).drop_duplicates("id")
            if frame is not None:
                texts = frame.drop(columns=column, errors="ignore").merge(texts, on="id", how="outer", sort=False)
            frame = texts
    if frame is not None and frame["id"].duplicated().any():
        raise DataError(
            f"{folder.name} lists {kind} {literal(frame['id'][frame['id'].duplicated()].iloc[0])} twice; keep one line per {kind}"
        )
    return frame, numbers


def _numbered(table: RawFeatures, numbers: "pd.Series[Any] | None") -> RawFeatures:
    """Return features with the ids of their rows if entities are numbered."""
    if table.ids is not None or numbers is None or len(numbers) != len(table.values):
        return table
    return replace(table, ids=numbers)
