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
from gmmrec.data.errors import DataError, shown
from gmmrec.data.features import FeatureTable
from gmmrec.data.impressions import Impressions
from gmmrec.data.interactions import Interactions
from gmmrec.data.outfits import Blanks, Compatibilities, Outfits
from gmmrec.data.parts import TRAIN
from gmmrec.data.ragged import RaggedLists
from gmmrec.data.reviews import Reviews, read_reviews
from gmmrec.data.tables import RawFeatures, Tables
from gmmrec.data.triples import Triples
from gmmrec.data.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

CANONICAL_INTEGER = r"0|-?[1-9][0-9]{0,17}"
"""Text that an integer would be printed as; ``007`` and ``1.0`` are strings."""


def assemble(tables: Tables, review_words: int = 32) -> Dataset:
    """The data set that tables in raw ids describe.

    Ids are integers where all of a node type's are, else strings. Their order is that of the catalogue (the attribute table,
    then the feature files); ids that only interact follow, integers in ascending order, strings as they come.

    Args:
        tables: What a reader found.
        review_words: Words of a review that are kept.

    Raises:
        DataError: Ids of different tables do not fit, or features are too few or not finite.
    """
    vocabularies, features, attributes = {}, {}, {}
    known = _columns(tables)
    for node_type, used in known.items():
        sources: dict[str, pd.Series[Any]] = {}
        if node_type in tables.attributes:
            sources[f"the {node_type} table"] = tables.attributes[node_type]["id"]
        raw = [table for table in tables.features if table.node_type == node_type]
        sources |= {table.source: table.ids for table in raw if table.ids is not None}
        if tables.impressions is not None and node_type in ("user", "item"):  # some are only shown, or only look
            ends = {"user": tables.impressions.user, "item": tables.impressions.items}
            sources["the impressions"] = ends[node_type].drop_duplicates()
        sources["the interactions" if node_type in tables.log else "the facts"] = used.drop_duplicates()
        is_integer = _are_integers(sources, node_type, declared_text=node_type in tables.text_ids)
        ids = _in_order([_typed(column, is_integer) for column in sources.values()], is_integer)
        firsts = {table.name: _first_id(table, ids, is_integer) for table in raw if table.ids is None}
        covered = [np.arange(first, first + len(table.values)) for table in raw if (first := firsts.get(table.name)) is not None]
        if covered:
            listed = [_typed(tables.attributes[node_type]["id"], is_integer)] if node_type in tables.attributes else []
            ids = pd.Index(pd.unique(np.concatenate([*listed, *covered, ids])))
        if node_type == "relation":  # what is written about others would make them answers to questions that nobody asks
            ids = ids[ids.isin(_typed(used, is_integer))]
        vocabulary = Vocabulary(ids.tolist(), name=node_type)
        vocabularies[node_type] = vocabulary
        for table in raw:
            own = _typed(table.ids, is_integer) if table.ids is not None else np.arange(len(table.values)) + firsts[table.name]
            features[table.name] = _feature_table(table, vocabulary.find(own.tolist()), vocabulary)
        if node_type in tables.attributes:
            frame = tables.attributes[node_type]
            attributes[node_type] = _aligned(frame, _typed(frame["id"], is_integer), vocabulary)
    log = tables.log
    columns = {name: torch.from_numpy(log[name].to_numpy(copy=True)) for name in ("time", "weight") if name in log}
    reviews, written, told = _written(tables, review_words)
    columns |= {} if written is None else {"review": written}
    interactions = Interactions(_rows(log["user"], vocabularies["user"]), _rows(log["item"], vocabularies["item"]), **columns)
    given = torch.from_numpy(log["split"].to_numpy(copy=True)) if "split" in log else None
    triples = _triples(tables, vocabularies)
    outfits = _outfits(tables, vocabularies, attributes)
    if outfits is not None and reviews is not None and told is not None:  # training texts alone decide which words are known
        outfits = replace(outfits, text=reviews.restrict_to_known_words(told[outfits.part == TRAIN]).at(told))
    impressions = _impressions(tables, vocabularies)
    return Dataset(tables.name, vocabularies, interactions, features, attributes, given, reviews, impressions, outfits, triples)


def _written(tables: Tables, num_words: int) -> tuple[Reviews | None, Tensor | None, Tensor | None]:
    """All texts in one table of words, and the rows of what was written about interactions and about outfits."""
    about = tables.log.get("review"), None if tables.outfits is None else tables.outfits.text
    texts = [pd.Series(column, dtype="object") for column in about if column is not None]
    if not texts:
        return None, None, None
    reviews, rows = read_reviews(pd.concat(texts, ignore_index=True), num_words)
    parts = iter(rows.split([len(column) for column in texts]))
    written, told = (None if column is None or reviews is None else next(parts) for column in about)
    return reviews, written, told


def _columns(tables: Tables) -> "dict[str, pd.Series[Any]]":
    """The ids that interactions and facts use, by node type."""
    used = {node_type: tables.log[node_type] for node_type in ("user", "item")}
    if tables.triples is not None:
        facts = tables.triples
        used |= {"entity": pd.concat([facts["head"], facts["tail"]], ignore_index=True), "relation": facts["relation"]}
    return used


def _triples(tables: Tables, vocabularies: Mapping[str, Vocabulary]) -> Triples | None:
    """The distinct facts, and the entity of every item where it has one that occurs in a fact or a table of entities."""
    if tables.triples is None:
        return None
    facts = tables.triples.drop_duplicates(["head", "relation", "tail"])
    if len(facts) < len(tables.triples):
        logger.warning("%s: %d repeated facts are read once", tables.name, len(tables.triples) - len(facts))
    ends = [
        _rows(facts[role], vocabularies[kind]) for role, kind in (("head", "entity"), ("relation", "relation"), ("tail", "entity"))
    ]
    part = torch.from_numpy(facts["split"].to_numpy(np.int64, copy=True)) if "split" in facts else torch.zeros_like(ends[0])
    entity = None
    if tables.alignment is not None:
        items, entities = (_found(tables.alignment[kind], vocabularies[kind]) for kind in ("item", "entity"))
        both = (items >= 0) & (entities >= 0)
        if not bool(both.any()):
            raise DataError(
                f"{tables.name} aligns items such as {tables.alignment['item'].iloc[0]!r} with entities, but no such "
                "pair is known to both the interactions and the facts; write the ids alike"
            )
        entity = torch.full((len(vocabularies["item"]),), -1)
        entity[items[both]] = entities[both]
    head, relation, tail = ends
    return Triples(head, relation, tail, part, entity)


def _outfits(tables: Tables, vocabularies: Mapping[str, Vocabulary], attributes: Mapping[str, pd.DataFrame]) -> Outfits | None:
    """Outfits in rows; the column ``category`` of the items says of what kind they are."""
    raw = tables.outfits
    if raw is None:
        return None
    items = vocabularies["item"]

    def lists(frame: pd.DataFrame, count: int) -> RaggedLists:
        rows = _found(frame["item"], items)
        if bool((rows < 0).any()):
            strange = frame["item"].iloc[int((rows < 0).int().argmax())]
            raise DataError(f"an outfit of {tables.name} holds item {shown(strange)}, of which nothing else is known; list it")
        return RaggedLists.from_groups(torch.from_numpy(frame["group"].to_numpy(np.int64, copy=True)), rows, count)

    count = len(raw.part)
    user = None
    if raw.user is not None:
        user = torch.full((count,), -1)
        there = raw.user.notna().to_numpy(copy=True)
        user[torch.from_numpy(there)] = _found(raw.user[there], vocabularies["user"])
    kind = attributes["item"]["category"] if "category" in attributes.get("item", ()) else None
    blanks = sets = None
    if raw.blanks is not None:
        rest, asked = raw.blanks
        questions = int(asked["group"].max()) + 1
        right = torch.from_numpy(asked["right"].to_numpy(bool, copy=True))
        blanks = Blanks(lists(rest, questions), lists(asked, questions), right)
    if raw.sets is not None:
        real = raw.sets.groupby("group")["real"].first().to_numpy(bool)
        sets = Compatibilities(lists(raw.sets, len(real)), torch.from_numpy(real.copy()))
    return Outfits(
        lists(raw.items, count),
        torch.from_numpy(raw.part.copy()),
        user,
        None if raw.history is None else lists(raw.history, count),
        None if kind is None else torch.from_numpy(pd.factorize(kind)[0].astype(np.int64)),
        blanks=blanks,
        compatibilities=sets,
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
    """Rows of ids, -1 for those that are not known."""
    if not vocabulary.is_integer:
        return vocabulary.find(column.astype(str).tolist())
    numbers = pd.to_numeric(column, errors="coerce").fillna(-1).astype(np.int64)
    return torch.where(torch.from_numpy(numbers.to_numpy(copy=True)) >= 0, vocabulary.find(numbers.tolist()), -1)


def _are_integers(sources: "dict[str, pd.Series[Any]]", node_type: str, *, declared_text: bool) -> bool:
    """Whether all ids of a node type are integers; integers in one table and other text in another are an error."""
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
            f"but integers such as {sources[number].iloc[0]} in {number}; write them alike"
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
    """The id of row 0 of an array without ids: 0, or 1 where ids run from 1 to the number of rows."""
    stem, is_file, _ = table.source.rpartition(".np")
    remedy = f"save {stem}.npz with the arrays 'ids' and 'values'" if is_file else "give it as (ids, array)"
    if not is_integer:
        raise DataError(
            f"{table.source} has a row for every integer id, but {table.node_type} ids are strings such as {ids[0]!r}; {remedy}"
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
            f"mend the row, or set it to zeros to mark it as missing"
        )
    present &= (found != 0).any(-1)
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
    """Attributes in vocabulary order; who has no title is shown by id."""
    aligned: pd.DataFrame = (
        frame.drop(columns="id").set_index(pd.Index(ids)).reindex(pd.Index(vocabulary.ids())).reset_index(drop=True)
    )
    if "title" in aligned:
        shown = pd.Series([str(raw_id) for raw_id in vocabulary.ids()], dtype=object)
        aligned["title"] = aligned["title"].astype(object).where(aligned["title"].notna(), shown)
    return aligned


def _rows(column: "pd.Series[Any]", vocabulary: Vocabulary) -> Tensor:
    codes, distinct = pd.factorize(column)
    rows = vocabulary.find(_typed(pd.Series(distinct), vocabulary.is_integer).tolist())
    return rows[torch.from_numpy(codes.astype(np.int64))]
