"""Odd values: cells, ids, numbers and objects that break careless programs."""

from collections.abc import Callable
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from hypothesis import strategies as st

from tests.fuzz.case import Odd

CELLS = (
    *("", " ", "\t", "NA", "NaN", "nan", "None", "null", "<NA>", "-", "N/A", "true", "False", "id", "user", "item"),
    *("0", "-0", "-1", "+7", "007", "7.0", "7.", ".5", "1e3", "1e39", "1e400", "-1e400", "inf", "-Infinity", "0x10", "1_000"),
    *("9" * 25, "9223372036854775807", "9223372036854775808", "-9223372036854775809", "18446744073709551615", "4" * 400),
    *("١٢", "²", "１２", "1,5", "1 000", "3/5", "50%", "[1, 2]", "{}", "1;2", "1|2", "a b", " a", "a ", "A", "ß", "é", "e\u0301"),
    *("\ufeff7", "a\u2028b", "a\x85b", "a\x00b", "\x1a", "\x1b[31m", "\x7f", "\ud7ff", "\u200b", "🎬", "a" * 300),
    *("'", "''", '"', '""', "=1+1", "../../evil", "/etc/passwd", "<script>", "%s", "{0}", "$HOME", "\\", "\\n", "#", "N1-1", "1:2"),
    *("2020-13-45", "2020-02-30", "0001-01-01", "9999-12-31", "2262-04-12", "2300-01-01", "1500-01-01", "20200101", "43831"),
    *("1500000000", "1500000000000", "1500000000000000000", "2020-01-01T00:00:00.5Z", "2020-01-01T25:00", "11/15/2019 8:55:22 AM"),
)
"""Contents of cells."""
cells = st.sampled_from(CELLS) | st.text(st.characters(exclude_categories=("Cs",)), max_size=4)

NUMBERS = (
    *(0, 1, 2, 3, 5, -1, 7, 64, 1000, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 10**400),
    *(0.0, -0.0, 0.1, 0.5, 0.9, 1.0, -0.1, 1.5, 1e-12, 1e300, float("nan"), float("inf"), float("-inf")),
)
"""Numbers as settings."""

ODD: dict[str, Callable[[], Any]] = {
    "bytes": lambda: b"7",
    "complex": lambda: 1j,
    "set": lambda: {1, 2},
    "tuple": lambda: (1, 2),
    "path": lambda: Path("nowhere"),
    "object": object,
    "function": lambda: len,
    "class": lambda: dict,
    "array": lambda: np.arange(3),
    "matrix": lambda: np.zeros((2, 2)),
    "tensor": lambda: torch.arange(3),
    "scalar tensor": lambda: torch.tensor(3),
    "frame": lambda: pd.DataFrame({"a": [1]}),
    "series": lambda: pd.Series([1, 2]),
    "int64": lambda: np.int64(3),
    "uint64": lambda: np.uint64(2**64 - 1),
    "float32": lambda: np.float32(0.5),
    "float nan": lambda: np.float64("nan"),
    "bool_": lambda: np.bool_(True),
    "str_": lambda: np.str_("u1"),
    "missing": lambda: pd.NA,
    "no time": lambda: pd.NaT,
    "date": lambda: date(2020, 1, 1),
    "time": lambda: datetime(2020, 1, 1, tzinfo=timezone.utc),
    "generator": lambda: (n for n in range(2)),
    "range": lambda: range(3),
    "empty": lambda: [],
    "mapping": lambda: {1: 2},
    "nested": lambda: [[[]]],
}
"""Objects without a literal, by name."""
odd_objects = st.sampled_from(sorted(ODD)).map(Odd)
scalars = st.one_of(st.none(), st.booleans(), st.sampled_from(NUMBERS), st.sampled_from(CELLS), st.integers(-3, 12))


def deep(depth: int, *, mapping: bool = False) -> Any:
    """Return an empty list within lists, or within mappings."""
    value: Any = []
    for _ in range(depth):
        value = {"a": value} if mapping else [value]
    return value


plain_values = st.one_of(
    scalars,
    st.lists(scalars, max_size=3),
    st.dictionaries(scalars.filter(lambda key: not isinstance(key, float)), scalars, max_size=2),
    st.sampled_from((deep(3), deep(60), deep(60, mapping=True), [[1, [2]], None], {"a": {"b": {"c": 1}}})),
)
"""Values that a YAML file can hold."""


def made(value: Any) -> Any:
    """Return plain values with the objects that :class:`Odd` names."""
    if isinstance(value, Odd):
        return ODD[value.name]()
    if isinstance(value, dict):
        return {key: made(item) for key, item in value.items()}
    return [made(item) for item in value] if isinstance(value, list) else value
