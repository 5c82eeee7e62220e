"""From raw ids to rows: vocabularies, interactions, feature tables with masks, attribute tables."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.data.impressions import Impressions
from gmmrec.data.interactions import Interactions
from gmmrec.data.node_ids import Source, collect_ids, hint, rows_of, typed, warn_of_parts
from gmmrec.data.outfits import Compatibilities, FillInTheBlank, Outfits
from gmmrec.data.overlap import Overlap
from gmmrec.data.parts import TRAIN
from gmmrec.data.ragged import RaggedLists
from gmmrec.data.reviews import Reviews, read_reviews
from gmmrec.data.tables import RawFeatures, Tables, source_name
from gmmrec.data.times import time_columns
from gmmrec.data.triples import Triples
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.errors import DataError, literal
from gmmrec.safety.sizes import check_shape

logger = logging.getLogger(__name__)

FEW_PRESENT = 0.2
"""Share of the nodes that have a modality below which a warning says so."""


def assemble(tables: Tables, review_words: int = 32) -> Dataset:
    """Build a data set from tables in raw ids.

    Ids of a node type are integers if all of them are, else strings. They are ordered as in the catalogue (the attribute table,
    then the feature files); ids found in interactions only follow, integers in ascending order, strings in order of appearance.

    Args:
        tables: Tables of a reader.
        review_words: Number of words kept of a review.

    Raises:
        DataError: Ids of different tables do not match, or features are too few or not finite.
    """
    vocabularies, features, attributes = dict[str, Vocabulary](), dict[str, FeatureTable](), dict[str, pd.DataFrame]()
    overlaps = list[Overlap]()
    for node_type, sources in _sources(tables).items():
        raw = [table for table in tables.features if table.node_type == node_type]
        found = collect_ids(
            node_type,
            sources,
            [table for table in raw if table.ids is None],
            declared_text=node_type in tables.text_ids,
            only_used=node_type == "relation",  # unused relations would become candidates that no query needs
        )
        vocabulary = vocabularies[node_type] = found.vocabulary
        overlaps += found.overlaps
        for table in raw:
            raw_ids = pd.Series(np.arange(len(table.values)) + found.first[table.name]) if table.ids is None else table.ids
            features[table.name] = _feature_table(table, rows_of(raw_ids, vocabulary), vocabulary)
        if node_type in tables.attributes:
            attributes[node_type] = _aligned(tables.attributes[node_type], vocabulary)
        if not vocabulary.is_integer and node_type in tables.log and "split" in tables.log:
            warn_of_parts(node_type, tables.log[node_type], tables.log["split"])
    if "liked" in tables.log:
        tables = replace(tables, log=_liked(tables))
    log = tables.log
    columns = time_columns(log, tables.name)
    columns |= {"weight": torch.from_numpy(log["weight"].to_numpy(copy=True))} if "weight" in log else {}
    reviews, review_rows, outfit_rows = _reviews(tables, review_words)
    columns |= {} if review_rows is None else {"review": review_rows}
    interactions = Interactions(_rows(log["user"], vocabularies["user"]), _rows(log["item"], vocabularies["item"]), **columns)
    given = torch.from_numpy(log["split"].to_numpy(copy=True)) if "split" in log else None
    triples = _triples(tables, vocabularies)
    outfits = _outfits(tables, vocabularies, attributes)
    if outfits is not None and reviews is not None and outfit_rows is not None:  # known words come from training texts only
        outfits = replace(outfits, text=reviews.restrict_to_known_words(outfit_rows[outfits.part == TRAIN]).at(outfit_rows))
    impressions = _impressions(tables, vocabularies)
    return Dataset(
        *(tables.name, vocabularies, interactions, features, attributes, given, reviews, impressions, outfits, triples),
        overlaps=overlaps,
    )


def _sources(tables: Tables) -> dict[str, list[Source]]:
    """Return the tables with ids by node type, those that use them last."""
    result: dict[str, list[Source]] = {}
    for node_type, used in _columns(tables).items():
        sources = []
        if node_type in tables.attributes:
            frame = tables.attributes[node_type]
            sources.append(Source(source_name(frame, f"the {node_type} table"), frame["id"]))
        sources += [Source(t.source, t.ids) for t in tables.features if t.node_type == node_type and t.ids is not None]
        if tables.alignment is not None and node_type in tables.alignment:
            frame = tables.alignment
            sources.append(Source(source_name(frame, "the alignment"), frame[node_type], is_new=False))
        if tables.outfits is not None and node_type == "item":
            sources.append(Source("the outfits", tables.outfits.items["item"], is_use=True, is_new=False))
        if tables.outfits is not None and node_type == "user" and tables.outfits.user is not None:
            sources.append(Source("the outfits", tables.outfits.user, is_new=False))
        if tables.impressions is not None and node_type in ("user", "item"):  # some nodes occur in impressions only
            ends = {"user": tables.impressions.user, "item": tables.impressions.items}
            sources.append(Source("the impressions", ends[node_type], is_use=True))
        sources.append(Source("the interactions" if node_type in tables.log else "the triples", used, is_use=True))
        result[node_type] = sources
    return result


def _liked(tables: Tables) -> pd.DataFrame:
    """Return the interactions without those that say that the user did not like the item."""
    liked = tables.log["liked"].fillna(value=True).to_numpy(bool)
    if not liked.any():
        raise DataError(f"no interaction of {tables.name} has a label above 0; set weight_column to 'none' to count all of them")
    if not liked.all():
        logger.warning(
            "%s: %d of %d interactions have a label of 0 or less and are left out; set weight_column to 'none' to count all",
            tables.name, int((~liked).sum()), len(liked),
        )  # fmt: skip
    log: pd.DataFrame = tables.log[liked].reset_index(drop=True)
    return log


def _reviews(tables: Tables, num_words: int) -> tuple[Reviews | None, Tensor | None, Tensor | None]:
    """Return all texts as word ids, and the rows of the texts about interactions and about outfits."""
    sources = tables.log.get("review"), None if tables.outfits is None else tables.outfits.text
    texts = [pd.Series(column, dtype="object") for column in sources if column is not None]
    if not texts:
        return None, None, None
    reviews, rows = read_reviews(pd.concat(texts, ignore_index=True), num_words)
    parts = iter(rows.split([len(column) for column in texts]))
    review_rows, outfit_rows = (None if column is None or reviews is None else next(parts) for column in sources)
    return reviews, review_rows, outfit_rows


def _columns(tables: Tables) -> "dict[str, pd.Series[Any]]":
    """Return the ids that interactions and triples use, by node type."""
    used = {node_type: tables.log[node_type] for node_type in ("user", "item")}
    if tables.triples is not None:
        triples = tables.triples
        used |= {"entity": pd.concat([triples["head"], triples["tail"]], ignore_index=True), "relation": triples["relation"]}
    return used


def _triples(tables: Tables, vocabularies: Mapping[str, Vocabulary]) -> Triples | None:
    """Return the distinct triples, and the entity of every item that is aligned with a known one."""
    if tables.triples is None:
        return None
    table = tables.triples.drop_duplicates(["head", "relation", "tail"])
    if len(table) < len(tables.triples):
        logger.warning("%s: %d repeated triples are dropped", tables.name, len(tables.triples) - len(table))
    roles = (("head", "entity"), ("relation", "relation"), ("tail", "entity"))
    head, relation, tail = (_rows(table[role], vocabularies[kind]) for role, kind in roles)
    part = torch.from_numpy(table["split"].to_numpy(np.int64, copy=True)) if "split" in table else torch.zeros_like(head)
    entity = None
    if tables.alignment is not None:
        items, entities = (_found(tables.alignment[kind], vocabularies[kind]) for kind in ("item", "entity"))
        both = (items >= 0) & (entities >= 0)
        if not bool(both.any()):
            raise DataError(
                f"{tables.name} aligns items such as {tables.alignment['item'].iloc[0]!r} with entities, but no aligned pair "
                "occurs in both the interactions and the triples; use the same ids in all tables"
            )
        entity = torch.full((len(vocabularies["item"]),), -1)
        entity[items[both]] = entities[both]
    return Triples(head, relation, tail, part, entity)


def _outfits(tables: Tables, vocabularies: Mapping[str, Vocabulary], attributes: Mapping[str, pd.DataFrame]) -> Outfits | None:
    """Return outfits as rows; the item column ``category`` gives the categories."""
    raw = tables.outfits
    if raw is None:
        return None
    items = vocabularies["item"]

    def lists(frame: pd.DataFrame, count: int) -> RaggedLists:
        rows = _found(frame["item"], items)
        if bool((rows < 0).any()):
            unknown = frame["item"].iloc[int((rows < 0).int().argmax())]
            alike = hint(frame["item"][(rows < 0).numpy()], items)
            raise DataError(f"an outfit of {tables.name} holds the unknown item {literal(unknown)}{alike}; add it to items.csv")
        return RaggedLists.from_groups(torch.from_numpy(frame["group"].to_numpy(np.int64, copy=True)), rows, count)

    count = len(raw.part)
    user = None
    if raw.user is not None:
        user = torch.full((count,), -1)
        has_user = raw.user.notna().to_numpy(copy=True)
        user[torch.from_numpy(has_user)] = _found(raw.user[has_user], vocabularies["user"])
    category = attributes["item"]["category"] if "category" in attributes.get("item", ()) else None
    fill_in_the_blank = compatibilities = None
    if raw.fill_in_the_blank is not None:
        rest, candidates = raw.fill_in_the_blank
        num_tasks = int(candidates["group"].max()) + 1
        relevant = torch.from_numpy(candidates["relevant"].to_numpy(bool, copy=True))
        fill_in_the_blank = FillInTheBlank(lists(rest, num_tasks), lists(candidates, num_tasks), relevant)
    if raw.sets is not None:
        label = raw.sets.groupby("group")["label"].first().to_numpy(bool)
        compatibilities = Compatibilities(lists(raw.sets, len(label)), torch.from_numpy(label.copy()))
    return Outfits(
        lists(raw.items, count),
        torch.from_numpy(raw.part.copy()),
        user,
        None if raw.history is None else lists(raw.history, count),
        None if category is None else torch.from_numpy(pd.factorize(category)[0].astype(np.int64)),
        fill_in_the_blank=fill_in_the_blank,
        compatibilities=compatibilities,
    )


def _impressions(tables: Tables, vocabularies: Mapping[str, Vocabulary]) -> Impressions | None:
    raw = tables.impressions
    if raw is None:
        return None
    items = _rows(raw.items, vocabularies["item"])

    def lists(values: NDArray[np.int64], counts: NDArray[np.int64]) -> RaggedLists:
        return RaggedLists(torch.from_numpy(np.concatenate([[0], np.cumsum(counts)])), items[torch.from_numpy(values)])

    return Impressions(
        _rows(raw.user, vocabularies["user"]),
        lists(raw.shown, raw.num_shown),
        torch.from_numpy(raw.clicked),
        lists(raw.history, raw.num_history),
        torch.from_numpy(raw.part),
        torch.from_numpy(raw.time),
        None if raw.history_time is None else torch.from_numpy(raw.history_time),
    )


def _found(column: "pd.Series[Any]", vocabulary: Vocabulary) -> Tensor:
    """Return rows of ids, -1 for unknown ones."""
    return torch.from_numpy(rows_of(column, vocabulary))


def _feature_table(table: RawFeatures, positions: "NDArray[np.int64]", vocabulary: Vocabulary) -> FeatureTable:
    """Return the rows of an array at the rows of their ids, ``positions`` ``[n]``; those at -1 are left out."""
    kept = np.flatnonzero(positions >= 0)
    if len(kept) < len(positions):
        positions, present_in = positions[kept], None if table.mask is None else table.mask[kept]
        table = replace(table, values=table.values[kept], mask=present_in)
    rows = torch.from_numpy(positions)
    with np.errstate(over="ignore"):
        found = torch.from_numpy(table.values.astype(np.float32))
    present = torch.ones(found.shape[:-1], dtype=torch.bool) if table.mask is None else torch.from_numpy(table.mask.copy())
    broken = ~torch.isfinite(found).all(-1) & present
    if bool(broken.any()):
        row = int(torch.nonzero(broken)[0, 0])
        raw_id = vocabulary.ids(rows[row : row + 1])[0]
        raise DataError(
            f"{table.source} row {kept[row]} ({table.node_type} id {raw_id!r}) holds NaN or infinity; "
            f"fix the row, or set it to zeros to mark it as missing"
        )
    present &= (found != 0).any(-1)
    check_shape((len(vocabulary), *found.shape[1:]), 4, f"{table.source}: modality {table.name!r}")
    values = found.new_zeros(len(vocabulary), *found.shape[1:])
    mask = torch.zeros(values.shape[:-1], dtype=torch.bool)
    values[rows], mask[rows] = found, present
    result = FeatureTable(table.name, values, mask, table.node_type, table.tokens)
    absent, few = len(vocabulary) - int(result.present.sum()), int(result.present.sum()) < FEW_PRESENT * len(vocabulary)
    if absent:
        zero = len(rows) - int((present if present.dim() == 1 else present.any(-1)).sum())
        empty = "zeros or NaN" if bool(found.isnan().any()) else "zeros"
        logger.log(
            logging.WARNING if zero or few else logging.INFO,
            "%s: %d of %d %ss have no %s (%d rows of %s, %d ids without a row) and are masked",
            table.source, absent, len(vocabulary), table.node_type, table.name, zero, empty, absent - zero,
        )  # fmt: skip
    return result


def _aligned(frame: pd.DataFrame, vocabulary: Vocabulary) -> pd.DataFrame:
    """Return attributes in vocabulary order; nodes without a title are titled by their id."""
    ids = pd.Index(typed(frame["id"], vocabulary.is_integer))
    aligned: pd.DataFrame = frame.drop(columns="id").set_index(ids).reindex(pd.Index(vocabulary.ids())).reset_index(drop=True)
    aligned.attrs = {}
    if "title" in aligned:
        fallback = pd.Series([str(raw_id) for raw_id in vocabulary.ids()], dtype=object)
        aligned["title"] = aligned["title"].astype(object).where(aligned["title"].notna(), fallback)
    return aligned


def _rows(column: "pd.Series[Any]", vocabulary: Vocabulary) -> Tensor:
    codes, distinct = pd.factorize(column)
    rows = vocabulary.find(typed(pd.Series(distinct), vocabulary.is_integer).tolist())
    return rows[torch.from_numpy(codes.astype(np.int64))]
