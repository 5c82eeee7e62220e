"""Raw ids of a column: integers or texts, and nothing else."""

from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmmrec.data.files import location
from gmmrec.errors import DataError

INTEGER = r"0|-?[1-9][0-9]{0,18}"
"""Text that reads as an integer, if it has 64 bits; ``007`` and ``1.0`` are strings."""
LARGEST = np.iinfo(np.int64).max


def raw_ids(column: "pd.Series[Any]", path: Path | None) -> "pd.Series[Any]":
    """Return a column as int64 or text ids without surrounding white space, none of them missing.

    Categorical, nullable and unsigned columns become the type of their values.

    Raises:
        DataError: An id is missing, or the column holds floats, mixed types or integers of more than 64 bits with a sign.
    """
    missing = column.isna().to_numpy()
    if missing.any():
        raise _missing(missing, column, path)
    name, where = column.name, path.name if path else "the frame"
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if pd.api.types.is_float_dtype(column) or pd.api.types.is_bool_dtype(column):
        raise DataError(f"column {name!r} of {where} holds {column.dtype} ids; convert them with .astype('int64') or .astype(str)")
    if pd.api.types.is_integer_dtype(column):
        return _int64(column, where)
    if not pd.api.types.is_string_dtype(column.dtype) or column.dtype == object:  # a text dtype holds nothing else
        values = column.to_numpy(dtype=object)
        kinds = set(map(type, values))
        if bool not in kinds and all(issubclass(kind, Integral) for kind in kinds):
            return _int64(pd.Series(values, name=name), where)
        if len({str if issubclass(kind, str) else kind for kind in kinds}) > 1:
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise DataError(f"column {name!r} of {where} mixes ids of type {names}; convert them with .astype(str)")
        if not all(issubclass(kind, str) for kind in kinds):
            kind = kinds.pop()
            remedy = ".str.decode('utf-8')" if kind is bytes else ".astype(str)"
            raise DataError(
                f"column {name!r} of {where} holds ids of type {kind.__name__}, but ids must be integers or texts; "
                f"convert them with {remedy}"
            )
    return _stripped(column.reset_index(drop=True), path)


def are_integers(ids: "pd.Series[Any] | pd.Index[Any]") -> NDArray[np.bool_]:
    """Return which texts ``[n]`` are integers of 64 bits without padding.

    >>> are_integers(pd.Series(["7", "07", "7.0", "9223372036854775807", "9223372036854775808"])).tolist()
    [True, False, False, True, False]
    """
    plain: NDArray[np.bool_] = np.array(ids.str.fullmatch(INTEGER), dtype=bool)
    long = np.flatnonzero(plain & (np.array(ids.str.len()) >= 19))
    plain[long] = [abs(int(text)) <= LARGEST for text in np.asarray(ids, dtype=object)[long]]
    return plain


def _int64(column: "pd.Series[Any]", where: str) -> "pd.Series[Any]":
    values = column.reset_index(drop=True)
    largest = int(values.max()) if len(values) else 0
    if largest > LARGEST or (len(values) and int(values.min()) < -LARGEST - 1):
        wrong = largest if largest > LARGEST else int(values.min())
        raise DataError(
            f"column {column.name!r} of {where} holds the id {wrong}, which is not an integer of 64 bits with a sign; "
            "convert the ids with .astype(str)"
        )
    return values.astype("int64")


def _stripped(column: "pd.Series[Any]", path: Path | None) -> "pd.Series[Any]":
    codes, distinct = pd.factorize(column)
    texts = pd.Index(distinct).astype(str)
    plain = texts.str.strip()
    empty = np.array(plain.str.len() == 0)
    if empty.any():
        raise _missing(empty[codes], column, path)
    if bool((plain == texts).all()):
        return column
    stripped: pd.Series[Any] = pd.Series(plain.take(codes), name=column.name)
    return stripped


def _missing(missing: NDArray[np.bool_], column: "pd.Series[Any]", path: Path | None) -> DataError:
    row = int(missing.argmax())
    more = f" ({int(missing.sum())} such rows in total)" if missing.sum() > 1 else ""
    return DataError(f"{location(path, row)} has no value in column {column.name!r}{more}; fill it in or delete the row")
