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
from gmmrec.data.outfits import Compatibilities, FillInTheBlank, Outfits
from gmmrec.data.parts import TRAIN
from gmmrec.data.ragged import RaggedLists
from gmmrec.data.reviews import Reviews, read_reviews
from gmmrec.data.tables import RawFeatures, Tables
from gmmrec.data.triples import Triples
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.errors import DataError, literal
from gmmrec.safety.sizes import check_shape

logger = logging.getLogger(__name__)

CANONICAL_INTEGER = r"0|-?[1-9][0-9]{0,17}"
"""Text that reads as an integer; ``007`` and ``1.0`` are strings."""


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
    vocabularies, features, attributes = {}, {}, {}
    known = _columns(tables)
    for node_type, used in known.items():
        sources: dict[str, pd.Series[Any]] = {}
        if node_type in tables.attributes:
            sources[f"the {node_type} table"] = tables.attributes[node_type]["id"]
        raw = [table for table in tables.features if table.node_type == node_type]
        sources |= {table.source: table.ids for table in raw if table.ids is not None}
        if tables.impressions is not None and node_type in ("user", "item"):  # some nodes occur in impressions only
            ends = {"user": tables.impressions.user, "item": tables.impressions.items}
            sources["the impressions"] = ends[node_type].drop_duplicates()
        sources["the interactions" if node_type in tables.log else "the triples"] = used.drop_duplicates()
        is_integer = _are_integers(sources, node_type, declared_text=node_type in tables.text_ids)
        ids = _in_order([_typed(column, is_integer) for column in sources.values()], is_integer)
        firsts = {table.name: _first_id(table, ids, is_integer) for table in raw if table.ids is None}
        covered = [np.arange(first, first + len(table.values)) for table in raw if (first := firsts.get(table.name)) is not None]
        if covered:
            catalogued = [_typed(tables.attributes[node_type]["id"], is_integer)] if node_type in tables.attributes else []
            ids = pd.Index(pd.unique(np.concatenate([*catalogued, *covered, ids])))
        if node_type == "relation":  # unused relations would become candidates that no query needs
            ids = ids[ids.isin(_typed(used, is_integer))]
        vocabulary = Vocabulary(ids.tolist(), name=node_type)
        vocabularies[node_type] = vocabulary
        for table in raw:
            raw_ids = _typed(table.ids, is_integer) if table.ids is not None else np.arange(len(table.values)) + firsts[table.name]
            features[table.name] = _feature_table(table, vocabulary.find(raw_ids.tolist()), vocabulary)
        if node_type in tables.attributes:
            frame = tables.attributes[node_type]
            attributes[node_type] = _aligned(frame, _typed(frame["id"], is_integer), vocabulary)
    log = tables.log
    columns = {name: torch.from_numpy(log[name].to_numpy(copy=True)) for name in ("time", "weight") if name in log}
    reviews, review_rows, outfit_rows = _reviews(tables, review_words)
    columns |= {} if review_rows is None else {"review": review_rows}
    interactions = Interactions(_rows(log["user"], vocabularies["user"]), _rows(log["item"], vocabularies["item"]), **columns)
    given = torch.from_numpy(log["split"].to_numpy(copy=True)) if "split" in log else None
    triples = _triples(tables, vocabularies)
    outfits = _outfits(tables, vocabularies, attributes)
    if outfits is not None and reviews is not None and outfit_rows is not None:  # known words come from training texts only
        outfits = replace(outfits, text=reviews.restrict_to_known_words(outfit_rows[outfits.part == TRAIN]).at(outfit_rows))
    impressions = _impressions(tables, vocabularies)
    return Dataset(tables.name, vocabularies, interactions, features, attributes, given, reviews, impressions, outfits, triples)


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
            raise DataError(f"an outfit of {tables.name} holds the unknown item {literal(unknown)}; add it to items.csv")
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
    if not vocabulary.is_integer:
        return vocabulary.find(column.astype(str).tolist())
    numbers = pd.to_numeric(column, errors="coerce").fillna(-1).astype(np.int64)
    return torch.where(torch.from_numpy(numbers.to_numpy(copy=True)) >= 0, vocabulary.find(numbers.tolist()), -1)


def _are_integers(sources: "dict[str, pd.Series[Any]]", node_type: str, *, declared_text: bool) -> bool:
    """Return whether all ids of a node type are integers; a mix of integers and strings across tables is an error."""
    integers = {where: bool(pd.api.types.is_integer_dtype(column)) for where, column in sources.items()}
    text = {where: column for where, column in sources.items() if not integers[where]}
    odd = None
    for where, column in text.items():
        distinct = pd.Series(column.unique()).astype(str)
        plain = distinct.str.fullmatch(CANONICAL_INTEGER)
        if declared_text or not plain.all():
            odd = odd or (where, distinct[~plain].iloc[0] if not plain.all() else distinct.iloc[0])
    if odd is None:
        return True
    number = next((where for where in sources if integers[where]), None)
    if number is not None:
        raise DataError(
            f"{node_type} ids are strings such as {odd[1]!r} in {odd[0]} "
            f"but integers such as {sources[number].iloc[0]} in {number}; use one type"
        )
    return False


def _typed(column: "pd.Series[Any]", is_integer: bool) -> Any:
    return column.to_numpy(dtype=np.int64) if is_integer else column.astype(str).to_numpy(dtype=object)


def _in_order(columns: list[Any], is_integer: bool) -> "pd.Index[Any]":
    catalogue = pd.unique(np.concatenate(columns[:-1])) if len(columns) > 1 else np.array([], dtype=columns[-1].dtype)
    seen = pd.unique(columns[-1])
    if is_integer:
        seen = np.sort(seen)
    order: pd.Index[Any] = pd.Index(pd.unique(np.concatenate([catalogue, seen])))
    return order


def _first_id(table: RawFeatures, ids: "pd.Index[Any]", is_integer: bool) -> int:
    """Return the id of row 0 of an array without ids: 0, or 1 where ids run from 1 to the number of rows."""
    stem, is_file, _ = table.source.rpartition(".np")
    remedy = f"save {stem}.npz with the arrays 'ids' and 'values'" if is_file else "give it as (ids, array)"
    if not is_integer:
        raise DataError(
            f"{table.source} is indexed by integer ids, but {table.node_type} ids are strings such as {ids[0]!r}; {remedy}"
        )
    lowest, highest, count = int(ids.min()), int(ids.max()), len(table.values)
    if lowest >= 0 and highest < count:
        return 0
    if lowest >= 1 and highest == count:
        logger.warning("%s: %s ids run from 1 to %d, so row 0 is read as id 1", table.source, table.node_type, count)
        return 1
    wrong = lowest if lowest < 0 else highest
    raise DataError(
        f"{table.source} has {count:,} rows but {table.node_type} id {wrong} needs row {wrong}; add the missing rows, or {remedy}"
    )


def _feature_table(table: RawFeatures, rows: Tensor, vocabulary: Vocabulary) -> FeatureTable:
    with np.errstate(over="ignore"):
        found = torch.from_numpy(table.values.astype(np.float32))
    present = torch.ones(found.shape[:-1], dtype=torch.bool) if table.mask is None else torch.from_numpy(table.mask)
    broken = ~torch.isfinite(found).all(-1) & present
    if bool(broken.any()):
        row = int(torch.nonzero(broken)[0, 0])
        raise DataError(
            f"{table.source} row {row} ({table.node_type} id {vocabulary.ids(rows[row : row + 1])[0]!r}) holds NaN or infinity; "
            f"fix the row, or set it to zeros to mark it as missing"
        )
    present &= (found != 0).any(-1)
    check_shape((len(vocabulary), *found.shape[1:]), 4, f"{table.source}: modality {table.name!r}")
    values = found.new_zeros(len(vocabulary), *found.shape[1:])
    mask = torch.zeros(values.shape[:-1], dtype=torch.bool)
    values[rows], mask[rows] = found, present
    result = FeatureTable(table.name, values, mask, table.node_type, table.tokens)
    absent = len(vocabulary) - int(result.present.sum())
    if absent:
        zero = len(rows) - int((present if present.dim() == 1 else present.any(-1)).sum())
        empty = "zeros or NaN" if bool(found.isnan().any()) else "zeros"
        logger.log(
            logging.WARNING if zero else logging.INFO,
            "%s: %d of %d %ss have no %s (%d rows of %s, %d ids without a row) and are masked",
            table.source, absent, len(vocabulary), table.node_type, table.name, zero, empty, absent - zero,
        )  # fmt: skip
    return result


def _aligned(frame: pd.DataFrame, ids: Any, vocabulary: Vocabulary) -> pd.DataFrame:
    """Return attributes in vocabulary order; nodes without a title are titled by their id."""
    aligned: pd.DataFrame = (
        frame.drop(columns="id").set_index(pd.Index(ids)).reindex(pd.Index(vocabulary.ids())).reset_index(drop=True)
    )
    if "title" in aligned:
        fallback = pd.Series([str(raw_id) for raw_id in vocabulary.ids()], dtype=object)
        aligned["title"] = aligned["title"].astype(object).where(aligned["title"].notna(), fallback)
    return aligned


def _rows(column: "pd.Series[Any]", vocabulary: Vocabulary) -> Tensor:
    codes, distinct = pd.factorize(column)
    rows = vocabulary.find(_typed(pd.Series(distinct), vocabulary.is_integer).tolist())
    return rows[torch.from_numpy(codes.astype(np.int64))]
