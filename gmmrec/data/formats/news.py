"""Reader of the articles of the MIND news data set: titles and categories, entities, and word vectors."""

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmmrec.data.arrays import read_features
from gmmrec.data.attributes import read_attribute_files
from gmmrec.data.files import TABLE_SUFFIXES, describe_read_errors, find_file, read_table, read_text
from gmmrec.data.node_ids import distinct, typed
from gmmrec.data.overlap import LOW, Overlap, likely_match, refusal, warning
from gmmrec.data.tables import RawFeatures
from gmmrec.data.tokens import TokenNames
from gmmrec.errors import DataError, literal
from gmmrec.safety.sizes import check_shape
from gmmrec.safety.streams import open_text

logger = logging.getLogger(__name__)

NEWS = ("id", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities")
ENTITIES, WORDS, LABELS = 8, 24, 512
"""Maximum number of entities and words per title, and of distinct entity labels."""


def read_catalogue(folder: Path, folders: Sequence[Path]) -> tuple[dict[str, pd.DataFrame], list[RawFeatures]]:
    """Read attributes of items and users, and all modalities but entity labels.

    Args:
        folder: Folder of the data set.
        folders: Folders of its impressions: the folder itself or its subfolders.

    Raises:
        DataError: A line is malformed, or no entity or word of the titles has a vector.
    """
    attributes, features = read_attribute_files(folder), []
    news = [path for inner in folders if (path := find_plain_or_gzipped(inner, "news.tsv")) is not None]
    if news:
        table = pd.concat([_news(path) for path in news], ignore_index=True).drop_duplicates("id", ignore_index=True)
        attributes["item"] = table.drop(columns=["url", "entities", "labels"])
        vectors: dict[str, NDArray[np.float32]] = {}
        for path in (
            file for inner in reversed(folders) if (file := find_plain_or_gzipped(inner, "entity_embedding.vec")) is not None
        ):
            vectors |= read_vectors(path, {entity for entities in table["entities"] for entity in entities})
        if vectors:
            features.append(
                _tokens("entity", "entity_embedding.vec", table["id"], table["entities"], vectors, table["labels"], ENTITIES)
            )
        words = next(
            (path for inner in (folder, *folders) if (path := find_plain_or_gzipped(inner, "word_embedding.vec")) is not None), None
        )
        if words is not None:
            titles = table["title"].fillna("").str.lower().map(lambda title: re.findall(r"\w+", title))
            word_vectors = read_vectors(words, {word for title in titles for word in title})
            features.append(_tokens("words", words.name, table["id"], titles, word_vectors, titles, WORDS))
    return attributes, features + read_features(folder, attributes)


def read_entity_labels(folders: Sequence[Path], ids: "pd.Series[Any]") -> list[RawFeatures]:
    """Return the modality ``entity`` as ones and zeros, one column per frequent label, if a table holds them.

    Raises:
        DataError: The table lacks a column.
    """
    path = next((path for inner in folders if (path := find_file(inner, ("news_entity",), TABLE_SUFFIXES)) is not None), None)
    if path is None:
        return []
    pairs = read_table(path)
    if not {"news", "entity"} <= set(pairs.columns):
        raise DataError(f"{path.name} needs the columns 'news' and 'entity', with one pair per line; add them")
    pairs = pairs.dropna(subset=["news", "entity"]).assign(news=lambda table: table["news"].str.strip())
    pairs = pairs.drop_duplicates(["news", "entity"])
    _check_meeting(path, distinct(typed(pairs["news"], False)), distinct(typed(ids, False)))
    frequent = pairs["entity"].value_counts().sort_index().sort_values(ascending=False, kind="stable").index[:LABELS]
    row, column = pd.Index(ids.astype(str)).get_indexer(pairs["news"]), frequent.get_indexer(pairs["entity"])
    both = (row >= 0) & (column >= 0)
    values = np.zeros((len(ids), len(frequent)), np.float16)
    values[row[both], column[both]] = 1
    present = np.asarray(values.any(axis=1))
    return [RawFeatures("entity", path.name, values, ids, present)]


def _check_meeting(path: Path, named: "pd.Index[Any]", used: "pd.Index[Any]") -> None:
    overlap = Overlap.of("item", path.name, named, "the folder", used)
    if overlap.share >= LOW or not len(named):
        return
    strange, lacking = named[~named.isin(used)].tolist(), used[~used.isin(named)].tolist()
    match = likely_match(strange, lacking)
    if not overlap.common:
        raise DataError(refusal(overlap, strange, lacking, match))
    logger.warning("%s", warning(overlap, strange, lacking, match, num_failed=len(strange)))


def _news(path: Path) -> pd.DataFrame:
    rows = []
    for number, line in numbered_lines(path):
        fields = line.split("\t")
        if len(fields) != len(NEWS) or not fields[0].strip():
            raise DataError(
                f"{path.name} line {number} has {len(fields)} fields, but an article must have eight, separated by tabs, "
                f"{NEWS[0]} to {NEWS[-1]}; fix it"
            )
        try:
            labels = {str(entity["WikidataId"]): str(entity.get("Label", "")) for entity in json.loads(fields[6] or "[]")}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise DataError(
                f"{path.name} line {number} has {fields[6][:60]!r} as the entities of its title, but expected is a JSON list of "
                "objects with 'WikidataId'; fix it"
            ) from None
        rows.append((fields[0].strip(), *fields[1:6], list(labels), list(labels.values())))
    table: pd.DataFrame = pd.DataFrame(rows, columns=[*NEWS[:6], "entities", "labels"]).replace({"": None})
    if table["id"].duplicated().any():
        raise DataError(
            f"{path.name} has article {literal(table['id'][table['id'].duplicated()].iloc[0])} twice; keep one line per article"
        )
    return table


def read_vectors(path: Path, names: set[str]) -> dict[str, NDArray[np.float32]]:
    """Read the vectors of some words or entities from lines ``name number number …``, without a first line of two counts.

    Raises:
        DataError: A line holds something other than numbers, or a different number of them.
    """
    vectors: dict[str, NDArray[np.float32]] = {}
    width = 0
    with (
        describe_read_errors(path),
        open_text(path) as file,
    ):
        for number, line in enumerate(file, 1):
            name, *values = line.rstrip().split("\t" if "\t" in line else " ")
            if not name or (number == 1 and len(values) == 1):
                continue
            width = width or len(values)
            if len(values) != width:
                raise DataError(f"{path.name} line {number} has {len(values)} numbers, but the lines before have {width}; fix it")
            if name in names:
                try:
                    vectors[name] = np.array(values, dtype=np.float32)
                except ValueError:
                    raise DataError(f"{path.name} line {number} holds something that is not a number; fix it") from None
    return vectors


def _tokens(
    name: str,
    source: str,
    ids: "pd.Series[str]",
    tokens: "pd.Series[Any]",
    vectors: Mapping[str, NDArray[np.float32]],
    labels: "pd.Series[Any]",
    limit: int,
) -> RawFeatures:
    """Return a modality of tokens, without those that have no vector."""
    if not vectors:
        raise DataError(f"{source} has no vector of an entity or word in the titles; give the file that belongs to them")
    kept = [
        [(token, label) for token, label in zip(row_tokens, row_labels, strict=True) if token in vectors][:limit]
        for row_tokens, row_labels in zip(tokens, labels, strict=True)
    ]
    widest = max(1, *map(len, kept))
    shape = (len(kept), widest, len(next(iter(vectors.values()))))
    check_shape(shape, 4, f"the modality {name!r}")
    values = np.zeros(shape, np.float32)
    mask = np.zeros(values.shape[:2], bool)
    for row, pairs in enumerate(kept):
        for position, (token, _) in enumerate(pairs):
            values[row, position], mask[row, position] = vectors[token], True
    pieces = {str(item): " ".join(label.replace(" ", "_") for _, label in pairs) for item, pairs in zip(ids, kept, strict=True)}
    return RawFeatures(name, source, values, ids, mask, tokens=TokenNames("pieces", pieces=pieces))


def find_plain_or_gzipped(folder: Path, name: str) -> Path | None:
    """Return a file of a folder, gzipped or not, or None."""
    return find_file(folder, (name,), ("", ".gz"))


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield numbered non-blank lines, split at newlines only, since titles may hold other Unicode line separators."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield number, line.rstrip("\r")
