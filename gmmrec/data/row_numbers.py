"""Arrays without ids, whose rows are numbered by the integer ids of their nodes, from 0 or from 1."""

import logging
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmmrec.data.tables import RawFeatures
from gmmrec.errors import DataError

logger = logging.getLogger(__name__)


def first_id(table: RawFeatures, ids: "pd.Index[Any]", *, is_integer: bool) -> int:
    """Return the id of row 0 of an array without ids: 0, or 1 where the last id has no row otherwise.

    Where ids run from 1 to the number of rows, or row 0 is empty, the reading is certain; else a warning gives both.

    Raises:
        DataError: The ids are strings, or an id has no row.
    """
    stem, is_file, _ = table.source.rpartition(".np")
    remedy = f"save {stem}.npz with the arrays 'ids' and 'values'" if is_file else "give it as (ids, array)"
    if not is_integer:
        raise DataError(
            f"{table.source} is indexed by integer ids, but {table.node_type} ids are strings such as {ids[0]!r}; {remedy}"
        )
    lowest, highest, count = int(ids.min()), int(ids.max()), len(table.values)
    if lowest < 0 or highest >= count + (lowest >= 1):
        wrong = lowest if lowest < 0 else highest
        needs = f"{table.node_type} id {wrong} needs row {wrong}"
        raise DataError(f"{table.source} has {count:,} rows but {needs}; add the missing rows, or {remedy}")
    if lowest == 0 or (highest < count and not _present(table, np.array([0])).any()):
        return 0
    if highest == count:
        if lowest == 1:
            logger.warning("%s: %s ids run from 1 to %d, so row 0 is read as id 1", table.source, table.node_type, count)
        else:
            logger.warning(
                "%s has %d rows and %s ids run from %d to %d, so row 0 is read as id 1; if rows are numbered from 0, the row of "
                "id %d is missing; to be certain, %s",
                *(table.source, count, table.node_type, lowest, highest, highest, remedy),
            )
        return 1
    logger.warning(
        "%s has %d rows and %s ids run from %d to %d, so row 0 is read as id 0; if it belongs to id 1, every vector is that of "
        "another %s; to be certain, %s",
        *(table.source, count, table.node_type, lowest, highest, table.node_type, remedy),
    )
    return 0


def named_rows(table: RawFeatures, first: int, ids: "pd.Index[Any]") -> "NDArray[np.int64]":
    """Return the ids ``[n]`` that the rows of an array without ids name.

    An empty row names no id, nor does row 0 where all other ids are known: then they begin at 1.
    """
    rows = np.arange(len(table.values))
    known = pd.Index(rows + first).isin(ids)
    unknown = rows[~known]
    named = known.copy()
    named[unknown[_present(table, unknown)]] = True
    if first == 0 and len(unknown) == 1 and unknown[0] == 0:
        named[0] = False
    found: NDArray[np.int64] = rows[named] + first
    return found


def _present(table: RawFeatures, rows: "NDArray[np.int64]") -> "NDArray[np.bool_]":
    """Return which of some rows hold a value other than zero ``[n]``."""
    present = table.values[rows] != 0
    if table.mask is not None:
        present = present & table.mask[rows][..., None]
    found: NDArray[np.bool_] = present.any(axis=tuple(range(1, present.ndim)))
    return found
