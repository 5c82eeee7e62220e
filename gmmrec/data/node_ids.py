"""Vocabulary of a node type, collected from the ids of all its tables, and how far these tables meet."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmmrec.data.ids import are_integers
from gmmrec.data.overlap import FEW, LOW, Match, Overlap, likely_match, refusal, warning
from gmmrec.data.parts import TRAIN
from gmmrec.data.row_numbers import first_id, named_rows
from gmmrec.data.tables import RawFeatures
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.errors import DataError, literal

UNKNOWN = 0.05
"""Share of the held-out ids without training below which their spelling is not looked into."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Ids of one node type in one table.

    Attributes:
        table: Name of the table, for messages.
        ids: Raw ids, maybe repeated.
        is_use: True if the table uses the ids, as interactions do, so that none of them is a failed match.
        is_new: False if the table refers to ids and adds none.
    """

    table: str
    ids: "pd.Series[Any]"
    is_use: bool = False
    is_new: bool = True


@dataclass(frozen=True)
class NodeIds:
    """Ids of one node type.

    Attributes:
        vocabulary: The ids.
        first: Id of row 0 of every array without ids, by modality.
        overlaps: Ids that the tables have in common with those that use them.
    """

    vocabulary: Vocabulary
    first: Mapping[str, int]
    overlaps: Sequence[Overlap]


def collect_ids(
    node_type: str,
    sources: Sequence[Source],
    arrays: Sequence[RawFeatures],
    *,
    declared_text: bool = False,
    only_used: bool = False,
) -> NodeIds:
    """Collect the ids of a node type.

    Ids are integers if all of them are, else strings. Those of tables come first, in the order of the sources; ids of the last
    source alone follow, integers in ascending order, strings in order of appearance. An id that nothing uses is a node if a table
    names it, unless the table hardly meets those that use ids, or a rule brings the id together with another one.

    Args:
        node_type: Node type.
        sources: Tables with ids; the last one uses them.
        arrays: Features without ids.
        declared_text: Whether ids are strings even if they look like integers.
        only_used: Whether ids that nothing uses are left out.

    Raises:
        DataError: Ids are of two types, a table has no id in common with those that use them, or an array has too few rows.
    """
    new = [source for source in sources if source.is_new]
    is_integer = _are_integers(new, node_type, declared_text=declared_text)
    ids: dict[str, pd.Index[Any]] = {}
    for source in sources:
        column = distinct(typed(source.ids, is_integer)) if source.is_new else _comparable(source.ids, is_integer)
        ids[source.table] = ids[source.table].union(column, sort=False) if source.table in ids else column
    *earlier, last = [source.table for source in sources if source.is_use]
    uses, other = [*earlier, last], " and ".join([last, *(table.removeprefix("the ") for table in earlier)])
    used = distinct(*(ids[table] for table in uses))
    tables = {table: column for table, column in ids.items() if table not in uses and len(column) and len(used)}
    overlaps = [Overlap.of(node_type, table, column, other, used) for table, column in tables.items()]
    overlaps += [Overlap.of(node_type, table, ids[table], last, ids[last]) for table in earlier]
    failed = _failed(overlaps[: len(tables)], tables, used)
    kept = {source.table: ids[source.table] for source in new}
    kept |= {table: kept[table][~mask] for table, mask in failed.items() if table in kept}
    order = _in_order(list(kept.values()), is_integer)
    first = {table.name: first_id(table, order, is_integer=is_integer) for table in arrays}
    if arrays:
        covered = [named_rows(table, first[table.name], order) for table in arrays]
        catalogue = [] if new[0].is_use else [kept[new[0].table]]
        order = distinct(*catalogue, *covered, order)
        overlaps += [Overlap.of(node_type, table.source, rows, other, used) for table, rows in zip(arrays, covered, strict=True)]
    if only_used:
        order = order[order.isin(used)]
    return NodeIds(Vocabulary(order.tolist(), name=node_type), first, overlaps)


def warn_of_parts(node_type: str, column: "pd.Series[Any]", part: "pd.Series[int]") -> None:
    """Warn of ids of held-out interactions that meet those of training by a rule alone, as if they came from another program.

    Args:
        node_type: Node type of the ids.
        column: Raw ids of the interactions ``[E]``.
        part: Part of each ``[E]``, a code of :class:`~gmmrec.data.parts.SplitPart`.
    """
    is_training = (part == TRAIN).to_numpy()
    training, held_out = (distinct(typed(column[mask].drop_duplicates(), is_integer=False)) for mask in (is_training, ~is_training))
    strange = held_out[~held_out.isin(training)]
    if len(strange) < UNKNOWN * len(held_out):
        return
    match = likely_match(strange.tolist(), training[~training.isin(held_out)].tolist())
    if match is not None:
        logger.warning(
            "%d of %d held-out %ss have no training interaction, but %s, %d of them would (%r is %r); write the ids of all parts "
            "alike",
            *(len(strange), len(held_out), node_type, match.rule, int(match.left.sum()), *match.example),
        )


def typed(column: "pd.Series[Any]", is_integer: bool) -> NDArray[Any]:
    """Return ids as int64 or as strings."""
    return column.to_numpy(dtype=np.int64) if is_integer else column.astype(str).to_numpy(dtype=object)


def distinct(*ids: "NDArray[Any] | pd.Index[Any]") -> "pd.Index[Any]":
    """Return the distinct ids of several columns, in order of appearance; strings as objects, in which pandas looks up fastest."""
    joined = np.concatenate([np.asarray(column) for column in ids])
    index: pd.Index[Any] = pd.Index(pd.unique(joined), dtype=joined.dtype)
    return index


def rows_of(column: "pd.Series[Any]", vocabulary: Vocabulary) -> NDArray[np.int64]:
    """Return the row of every id ``[n]``, which may be of the other type than those of the vocabulary; -1 for unknown ones."""
    if vocabulary.is_integer and pd.api.types.is_integer_dtype(column):
        return vocabulary.find(column.tolist()).numpy()
    codes, known = pd.factorize(column)
    texts = pd.Series(known, dtype=object).astype(str).str.strip()
    rows = np.full(len(texts), -1)
    if vocabulary.is_integer:
        plain = are_integers(texts)
        rows[plain] = vocabulary.find(texts[plain].astype(np.int64).tolist()).numpy()
    else:
        rows = vocabulary.find(texts.tolist()).numpy()
    found: NDArray[np.int64] = rows[codes]
    return found


def hint(unknown: "pd.Series[Any]", vocabulary: Vocabulary) -> str:
    """Return the rule by which unknown ids would meet known ones, as a clause in brackets, or an empty string."""
    match = likely_match([str(raw_id) for raw_id in pd.unique(unknown)], [str(raw_id) for raw_id in vocabulary.ids()])
    return "" if match is None else f" ({match.rule}, {match.example[0]!r} is {match.example[1]!r})"


def _comparable(column: "pd.Series[Any]", is_integer: bool) -> "pd.Index[Any]":
    """Return the distinct ids of a table that adds none, without those of the other type."""
    texts = pd.Series(column.dropna().unique(), dtype=object).astype(str).str.strip()
    return distinct(typed(texts[are_integers(texts)] if is_integer else texts, is_integer))


def _failed(
    overlaps: Sequence[Overlap], tables: "Mapping[str, pd.Index[Any]]", used: "pd.Index[Any]"
) -> dict[str, NDArray[np.bool_]]:
    """Return which ids of a table look like failed matches, by table; tables that meet well vouch for the ids of the others."""
    well, doubtful = [used], []
    for overlap in overlaps:
        ids = tables[overlap.table]
        if overlap.common in (overlap.ids, overlap.other_ids):
            well.append(ids)
            continue
        match = _match(ids[~ids.isin(used)], ids, used)
        if overlap.share < LOW or match is not None:
            doubtful.append((overlap, match))
        else:
            well.append(ids)
            _warn_of_shift(overlap, ids, used)
    if not doubtful:
        return {}
    known, failed = distinct(*well), {}
    for overlap, match in doubtful:
        ids = tables[overlap.table]
        strange = ~ids.isin(known)
        match = match if len(well) == 1 else _match(ids[strange], ids, used)
        share = Overlap.of(overlap.node_type, overlap.table, ids, overlap.other, known).share
        if share >= LOW and match is None:
            continue
        examples = ids[strange], used[~used.isin(ids)]
        if not share:
            raise DataError(refusal(overlap, *examples, match))
        failed[overlap.table] = strange if share < FEW else np.zeros(len(ids), dtype=bool)
        if match is not None:
            failed[overlap.table][np.flatnonzero(strange)[match.left]] = True
        logger.warning("%s", warning(overlap, *examples, match, num_failed=int(failed[overlap.table].sum())))
    return failed


def _match(strange: "pd.Index[Any]", ids: "pd.Index[Any]", used: "pd.Index[Any]") -> Match | None:
    """Return the rule by which strange ids of a table meet used ones that it lacks; integers have none."""
    if pd.api.types.is_integer_dtype(ids.dtype):
        return None
    return likely_match(strange.tolist(), used[~used.isin(ids)].tolist())


def _warn_of_shift(overlap: Overlap, ids: "pd.Index[Any]", used: "pd.Index[Any]") -> None:
    """Warn of integer ids without gaps that begin one lower, or end one higher, than those of the other table."""
    if not pd.api.types.is_integer_dtype(ids.dtype) or len(ids) < 3 or overlap.common != len(ids) - 1:
        return
    lacking, strange = used[~used.isin(ids)], ids[~ids.isin(used)]
    lowest, highest = int(ids.min()), int(ids.max())
    step = 1 if strange[0] == lowest else -1
    if len(lacking) == 1 and highest - lowest == len(ids) - 1 and lacking[0] == (highest + 1 if step > 0 else lowest - 1):
        logger.warning(
            "%s: its ids run from %d to %d, those of %s from %d to %d; if both number the same nodes, every row is that of "
            "another one: add %d to its ids",
            *(overlap.table, lowest, highest, overlap.other, lowest + step, highest + step, step),
        )


def _are_integers(sources: Sequence[Source], node_type: str, *, declared_text: bool) -> bool:
    """Return whether all ids of a node type are integers; a mix of integers and strings across tables is an error."""
    number, odd, texts = None, None, list[str]()
    for source in sources:
        if not len(source.ids):
            continue
        if pd.api.types.is_integer_dtype(source.ids):
            number = number or source
            continue
        known = pd.Series(source.ids.unique(), dtype=object).astype(str)
        plain = are_integers(known)
        if declared_text or not plain.all():
            odd = odd or (source, known[~plain].iloc[0] if not plain.all() else known.iloc[0])
            texts = texts or known.tolist()
    if odd is None:
        return True
    if number is not None:
        match = likely_match(texts, [str(raw_id) for raw_id in number.ids.unique().tolist()])
        alike = "" if match is None else f"; {match.rule}, {match.example[0]!r} would be {match.example[1]}"
        raise DataError(
            f"{node_type} ids are strings such as {odd[1]!r} in {odd[0].table} "
            f"but integers such as {literal(number.ids.iloc[0])} in {number.table}{alike}; use one type"
        )
    return False


def _in_order(columns: "list[pd.Index[Any]]", is_integer: bool) -> "pd.Index[Any]":
    seen = np.sort(columns[-1]) if is_integer else columns[-1]
    return distinct(*columns[:-1], seen)
