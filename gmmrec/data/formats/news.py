"""Reads what the MIND news data set tells of its articles: titles and categories, their entities, and vectors of words."""

import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmmrec.data.arrays import read_features
from gmmrec.data.attributes import read_attribute_files
from gmmrec.data.errors import DataError, shown
from gmmrec.data.files import TABLE_SUFFIXES, describe_read_errors, find_file, read_table, read_text
from gmmrec.data.tables import RawFeatures
from gmmrec.data.tokens import TokenNames

NEWS = ("id", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities")
ENTITIES, WORDS, LABELS = 8, 24, 512
"""Most entities and words of a title that are kept, and most labels of entities that are told apart."""


def read_catalogue(folder: Path, folders: Sequence[Path]) -> tuple[dict[str, pd.DataFrame], list[RawFeatures]]:
    """The attributes of items and users, and all modalities but labels of entities.

    Args:
        folder: Where the data set is.
        folders: Where its impressions are: the folder itself, or folders in it.

    Raises:
        DataError: A line does not hold what it should, or nothing in the titles has a vector.
    """
    attributes, features = read_attribute_files(folder), []
    news = [path for inner in folders if (path := find_plain_or_gzipped(inner, "news.tsv")) is not None]
    if news:
        table = pd.concat([_news(path) for path in news], ignore_index=True).drop_duplicates("id", ignore_index=True)
        attributes["item"] = table.drop(columns=["url", "entities", "labels"])
        vectors: dict[str, NDArray[np.float32]] = {}
        for path in (
            found for inner in reversed(folders) if (found := find_plain_or_gzipped(inner, "entity_embedding.vec")) is not None
        ):
            vectors |= read_vectors(path, {entity for own in table["entities"] for entity in own})
        if vectors:
            features.append(
                _tokens("entity", "entity_embedding.vec", table["id"], table["entities"], vectors, table["labels"], ENTITIES)
            )
        words = next(
            (path for inner in (folder, *folders) if (path := find_plain_or_gzipped(inner, "word_embedding.vec")) is not None), None
        )
        if words is not None:
            titles = table["title"].fillna("").str.lower().map(lambda title: re.findall(r"\w+", title))
            known = read_vectors(words, {word for own in titles for word in own})
            features.append(_tokens("words", words.name, table["id"], titles, known, titles, WORDS))
    return attributes, features + read_features(folder, attributes)


def read_entity_labels(folders: Sequence[Path], ids: "pd.Series[Any]") -> list[RawFeatures]:
    """The modality ``entity`` as ones and zeros, a column for each frequent label, where a table holds them.

    Raises:
        DataError: The table lacks a column.
    """
    path = next((path for inner in folders if (path := find_file(inner, ("news_entity",), TABLE_SUFFIXES)) is not None), None)
    if path is None:
        return []
    pairs = read_table(path)
    if not {"news", "entity"} <= set(pairs.columns):
        raise DataError(f"{path.name} needs the columns 'news' and 'entity', a line a pair; add them")
    pairs = pairs.dropna(subset=["news", "entity"]).drop_duplicates(["news", "entity"])
    frequent = pairs["entity"].value_counts().sort_index().sort_values(ascending=False, kind="stable").index[:LABELS]
    row, column = pd.Index(ids.astype(str)).get_indexer(pairs["news"]), frequent.get_indexer(pairs["entity"])
    both = (row >= 0) & (column >= 0)
    values = np.zeros((len(ids), len(frequent)), np.float16)
    values[row[both], column[both]] = 1
    known = np.asarray(values.any(axis=1))
    return [RawFeatures("entity", path.name, values, ids, known)]


def _news(path: Path) -> pd.DataFrame:
    rows = []
    for number, line in numbered_lines(path):
        fields = line.split("\t")
        if len(fields) != len(NEWS) or not fields[0]:
            raise DataError(
                f"{path.name} line {number} has {len(fields)} fields, but news have eight with tabs between, "
                f"{NEWS[0]} to {NEWS[-1]}; mend it"
            )
        try:
            found = {str(entity["WikidataId"]): str(entity.get("Label", "")) for entity in json.loads(fields[6] or "[]")}
        except (ValueError, TypeError, KeyError, AttributeError):
            raise DataError(
                f"{path.name} line {number} has {fields[6][:60]!r} as the entities of its title, which is no JSON list of objects "
                "with 'WikidataId'; mend it"
            ) from None
        rows.append((*fields[:6], list(found), list(found.values())))
    table: pd.DataFrame = pd.DataFrame(rows, columns=[*NEWS[:6], "entities", "labels"]).replace({"": None})
    if table["id"].duplicated().any():
        raise DataError(
            f"{path.name} has news {shown(table['id'][table['id'].duplicated()].iloc[0])} twice; keep one line for each"
        )
    return table


def read_vectors(path: Path, wanted: set[str]) -> dict[str, NDArray[np.float32]]:
    """The vectors of some words or entities from lines ``name number number …``; a first line of two counts is left out.

    Raises:
        DataError: A line holds something else than numbers, or another number of them.
    """
    found: dict[str, NDArray[np.float32]] = {}
    width = 0
    with (
        describe_read_errors(path),
        gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file,
    ):
        for number, line in enumerate(file, 1):
            name, *values = line.rstrip().split("\t" if "\t" in line else " ")
            if not name or (number == 1 and len(values) == 1):
                continue
            width = width or len(values)
            if len(values) != width:
                raise DataError(f"{path.name} line {number} has {len(values)} numbers, but the lines before it {width}; mend it")
            if name in wanted:
                try:
                    found[name] = np.array(values, dtype=np.float32)
                except ValueError:
                    raise DataError(f"{path.name} line {number} holds something that is not a number; mend it") from None
    return found


def _tokens(
    name: str,
    source: str,
    ids: "pd.Series[str]",
    tokens: "pd.Series[Any]",
    vectors: Mapping[str, NDArray[np.float32]],
    labels: "pd.Series[Any]",
    most: int,
) -> RawFeatures:
    """A modality of tokens, of which those without a vector are left out."""
    if not vectors:
        raise DataError(f"{source} has no vector of anything in the titles; give the one that belongs to them")
    kept = [
        [(token, label) for token, label in zip(own, said, strict=True) if token in vectors][:most]
        for own, said in zip(tokens, labels, strict=True)
    ]
    widest = max(1, *map(len, kept))
    values = np.zeros((len(kept), widest, len(next(iter(vectors.values())))), np.float32)
    mask = np.zeros(values.shape[:2], bool)
    for row, own in enumerate(kept):
        for position, (token, _) in enumerate(own):
            values[row, position], mask[row, position] = vectors[token], True
    pieces = {str(item): " ".join(label.replace(" ", "_") for _, label in own) for item, own in zip(ids, kept, strict=True)}
    return RawFeatures(name, source, values, ids, mask, tokens=TokenNames("pieces", pieces=pieces))


def find_plain_or_gzipped(folder: Path, name: str) -> Path | None:
    """A file of a folder, gzipped or not."""
    return find_file(folder, (name,), ("", ".gz"))


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers; letters that Unicode counts as ends of lines may occur in titles."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield number, line.rstrip("\r")
