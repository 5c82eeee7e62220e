"""Cases of data in memory: DataFrames of odd types, features in all forms, and objects that are no data."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from hypothesis import strategies as st

import gmmrec
from gmmrec.data.load import load_dataset
from tests.fuzz.case import Case
from tests.fuzz.check import check_dataset, check_right, expect
from tests.fuzz.values import ODD, made, odd_objects

KINDS: Mapping[str, Callable[[list[int]], Any]] = {
    "int64": lambda n: np.array(n, dtype=np.int64),
    "int8": lambda n: np.array(n, dtype=np.int8),
    "uint64": lambda n: np.array(n, dtype=np.uint64) + np.uint64(2**63),
    "uint32": lambda n: np.array(n, dtype=np.uint32),
    "Int64": lambda n: pd.array(n, dtype="Int64"),
    "Int64 missing": lambda n: pd.array([None, *n[1:]], dtype="Int64"),
    "str": lambda n: [f"x{k}" for k in n],
    "digits": lambda n: pd.Series([str(k) for k in n], dtype=object),
    "zeros": lambda n: [f"{k:03}" for k in n],
    "string": lambda n: pd.array([f"x{k}" for k in n], dtype="string"),
    "category": lambda n: pd.Categorical([f"x{k}" for k in n], categories=[f"x{k}" for k in range(9)]),
    "category int": lambda n: pd.Categorical(n),
    "float64": lambda n: np.array(n, dtype=np.float64),
    "float16": lambda n: np.array(n, dtype=np.float16),
    "Float64": lambda n: pd.array(n, dtype="Float64"),
    "nan": lambda n: [float("nan"), *map(float, n[1:])],
    "inf": lambda n: [float("inf"), *map(float, n[1:])],
    "huge": lambda n: [1e39, *map(float, n[1:])],
    "bool": lambda n: [bool(k % 2) for k in n],
    "boolean": lambda n: pd.array([bool(k % 2) for k in n], dtype="boolean"),
    "dates": lambda n: pd.to_datetime(np.array(n), unit="D"),
    "dates us": lambda n: pd.to_datetime(np.array(n), unit="D").astype("datetime64[us]"),
    "zoned": lambda n: pd.to_datetime(np.array(n), unit="h", utc=True).tz_convert("Asia/Tokyo"),
    "dates missing": lambda n: pd.to_datetime([None, *["2020-01-01"] * (len(n) - 1)]),
    "far dates": lambda n: np.array(["3000-01-01"] * len(n), dtype="datetime64[s]"),
    "period": lambda n: pd.period_range("2020", periods=len(n), freq="M"),
    "timedelta": lambda n: pd.to_timedelta(np.array(n), unit="D"),
    "complex": lambda n: np.array(n, dtype=np.complex128),
    "bytes": lambda n: [bytes([k % 256]) for k in n],
    "lists": lambda n: pd.Series([[k] for k in n], dtype=object),
    "dicts": lambda n: pd.Series([{"a": k} for k in n], dtype=object),
    "tuples": lambda n: pd.Series([(k,) for k in n], dtype=object),
    "none": lambda n: pd.Series([None] * len(n), dtype=object),
    "mixed": lambda n: pd.Series([k if k % 2 else f"x{k}" for k in n], dtype=object),
    "np.int64 objects": lambda n: pd.Series([np.int64(k) for k in n], dtype=object),
    "giant objects": lambda n: pd.Series([k + 10**25 for k in n], dtype=object),
    "giant negative": lambda n: pd.Series([-k - 2**63 for k in n], dtype=object),
    "bool objects": lambda n: pd.Series([True, *n[1:]], dtype=object),
    "float objects": lambda n: pd.Series([1.5, *n[1:]], dtype=object),
    "interval": lambda n: pd.IntervalIndex.from_breaks(range(len(n) + 1)),
    "sparse": lambda n: pd.arrays.SparseArray(n),
    "dates as objects": lambda n: pd.Series([pd.Timestamp(2020, 1, 1).date()] * len(n), dtype=object),
    "texts of dates": lambda n: [f"2020-01-{k % 28 + 1:02}" for k in n],
}
"""Columns from small numbers, by kind."""
EXACT = {
    **dict.fromkeys(("int64", "int8", "uint32", "Int64", "digits", "np.int64 objects", "category int"), str),
    **{kind: (lambda k: f"x{k}") for kind in ("str", "string", "category")},
    "zeros": lambda k: f"{k:03}",
    "uint64": lambda k: str(k + 2**63),
}
"""Raw id of a number, by the kinds that hold ids."""
NAMES = (
    "user",
    "item",
    "rating",
    "timestamp",
    "split",
    "review",
    "label",
    "user",
    0,
    1,
    None,
    ("a", "b"),
    "",
    "é",
    "time",
    "weight",
)

FEATURES: Mapping[str, Callable[[list[Any]], Any]] = {
    "pair": lambda ids: (ids, np.ones((len(ids), 2))),
    "pair of ints": lambda ids: (ids, np.ones((len(ids), 2), dtype=int)),
    "triple": lambda ids: (ids, np.ones((len(ids), 2)), np.ones(len(ids), bool)),
    "tokens": lambda ids: (ids, torch.ones(len(ids), 3, 2)),
    "tokens and mask": lambda ids: (ids, np.ones((len(ids), 3, 2)), np.eye(len(ids), 3, dtype=bool)),
    "bfloat16": lambda ids: (ids, torch.ones(len(ids), 2, dtype=torch.bfloat16)),
    "mapping": lambda ids: {raw: [1.0, float(n)] for n, raw in enumerate(ids)},
    "mapping of None": lambda ids: dict.fromkeys(ids),
    "mapping of widths": lambda ids: {raw: [1.0] * (n + 1) for n, raw in enumerate(ids)},
    "mapping of texts": lambda ids: dict.fromkeys(ids, "text"),
    "mapping of nan": lambda ids: dict.fromkeys(ids, np.nan),
    "frame": lambda ids: pd.DataFrame(np.ones((len(ids), 2)), index=pd.Index(ids)),
    "frame with ids": lambda ids: pd.DataFrame({"item": ids, "a": 1.0, "b": 2.0}),
    "frame of texts": lambda ids: pd.DataFrame({"item": ids, "a": "x"}),
    "frame of lists": lambda ids: pd.DataFrame({"item": ids, "a": [[1.0, 2.0]] * len(ids)}),
    "empty frame": lambda ids: pd.DataFrame(),
    "series": lambda ids: pd.Series([[1.0, 2.0]] * len(ids), index=ids),
    "array": lambda ids: np.ones((len(ids), 2)),
    "wide array": lambda ids: np.ones((20, 2)),
    "vector": lambda ids: np.ones(len(ids)),
    "zeros": lambda ids: (ids, np.zeros((len(ids), 2))),
    "nan": lambda ids: (ids, np.full((len(ids), 2), np.nan)),
    "half nan": lambda ids: (ids, np.array([[np.nan, 1.0]] * len(ids))),
    "inf": lambda ids: (ids, np.full((len(ids), 2), np.inf)),
    "1e39": lambda ids: (ids, np.full((len(ids), 2), 1e39)),
    "short": lambda ids: (ids[1:], np.ones((len(ids), 2))),
    "repeated": lambda ids: ([*ids, ids[0]], np.ones((len(ids) + 1, 2))),
    "no width": lambda ids: (ids, np.ones((len(ids), 0))),
    "nothing": lambda ids: ([], np.ones((0, 2))),
    "strangers": lambda ids: ([f"stranger {n}" for n in range(3)], np.ones((3, 2))),
    "objects": lambda ids: (ids, np.array([[object()]] * len(ids))),
    "complex": lambda ids: (ids, np.ones((len(ids), 2), dtype=complex)),
    "wrong mask": lambda ids: (ids, np.ones((len(ids), 2)), np.ones(len(ids))),
    "values and ids": lambda ids: {"ids": ids, "values": np.ones((len(ids), 2))},
    "values without ids": lambda ids: {"values": np.ones((len(ids), 2))},
    "sparse": lambda ids: (ids, torch.eye(len(ids)).to_sparse()),
    "four axes": lambda ids: (ids, np.ones((len(ids), 1, 1, 2))),
    "quantities": lambda ids: 3,
    "text": lambda ids: "features.npy",
}
"""Features for the ids of items, by form."""


@st.composite
def frame_cases(draw: st.DrawFn) -> Case:
    """DataFrames, most with one odd column; features and tables of items in any form."""
    numbers = draw(st.lists(st.integers(0, 29), min_size=1, max_size=10, unique=True))
    user, item = draw(st.sampled_from(sorted(EXACT))), draw(st.sampled_from(sorted(EXACT)))
    columns = [("user", user, [n % 5 for n in numbers]), ("item", item, [n // 5 for n in numbers])]
    spec: dict[str, Any] = {"pairs": None}
    kind = draw(st.integers(0, 5))
    if kind == 0:
        spec |= {"pairs": [(EXACT[user](n % 5), EXACT[item](n // 5)) for n in numbers], "weights": None, "times": None}
    for _ in range(draw(st.integers(0, 2)) if kind else 0):
        column = (draw(st.sampled_from(NAMES)), draw(st.sampled_from(sorted(KINDS))), numbers)
        if draw(st.booleans()):
            columns.append(column)
        else:
            place = draw(st.integers(0, len(columns) - 1))
            columns[place] = (columns[place][0], *column[1:])
    spec["columns"] = columns
    spec["index"] = draw(st.sampled_from((None, None, None, "user", "item", "repeated", "dates", "levels")))
    spec["via"] = draw(st.sampled_from(("frame", "frame", "frame", "parquet")))
    if kind > 2:
        spec["features"] = {
            draw(st.sampled_from(("image", "user_image", "entity_x", "", "a/b"))): draw(st.sampled_from(sorted(FEATURES)))
        }
    if kind > 3:
        spec["items"] = (draw(st.sampled_from(sorted(KINDS))), draw(st.sampled_from(("item", "id", "index", "none"))))
    if kind == 5:
        name = draw(
            st.sampled_from(("items", "users", "features", "triples", "alignment", "user_column", "title_column", "k_core"))
        )
        spec["odd"] = {name: draw(odd_objects)}
    return Case({}, spec)


def read_frame(case: Case, folder: Path) -> None:
    """Read a DataFrame, or a Parquet file of it, and check the data set."""
    spec = case.spec
    frame = pd.concat([pd.Series(KINDS[kind](numbers), name=name) for name, kind, numbers in spec["columns"]], axis=1)
    if spec["index"] in ("user", "item"):
        frame.index = pd.Index(range(len(frame)), name=spec["index"])
    elif spec["index"] is not None:
        count = len(frame)
        frame.index = {
            "repeated": pd.Index([0] * count),
            "dates": pd.date_range("2020", periods=count),
            "levels": pd.MultiIndex.from_product([[0], range(count)], names=["a", "user"]),
        }[spec["index"]]
    more: dict[str, Any] = {}
    known = [n for name, _, numbers in spec["columns"] if name == "item" for n in numbers] or [0]
    kind = next((kind for name, kind, _ in spec["columns"] if name == "item"), "str")
    ids = list(dict.fromkeys(map(EXACT.get(kind, str), known)))
    raw = [int(one) for one in ids] if kind in ("int64", "int8", "uint32", "Int64", "uint64") else ids
    if "features" in spec:
        more["features"] = {name: FEATURES[form](raw) for name, form in spec["features"].items()}
    if "items" in spec:
        column, key = spec["items"]
        values = pd.Series(KINDS[column](list(range(len(raw)))))
        table = pd.DataFrame({"title": values, **({key: raw} if key in ("item", "id") else {})})
        more["items"] = table.set_axis(pd.Index(raw), axis=0) if key == "index" else table
    more |= made(dict(spec.get("odd", {})))
    source: Any = frame
    if spec["via"] == "parquet":
        try:
            frame.to_parquet(folder / "log.parquet", index=False)
        except Exception:  # noqa: BLE001 (not every frame can be written)
            return
        source = "log.parquet"
    before = frame.copy(deep=True) if spec["via"] == "frame" else None
    dataset = load_dataset(source, **more)
    check_dataset(dataset)
    expect(len(dataset.interactions) <= len(frame), "more interactions than rows")
    if before is not None:
        expect(frame.columns.equals(before.columns) and frame.index.equals(before.index), "the caller's frame was changed")
    if spec.get("pairs") is not None and spec["index"] is None:
        check_right(dataset, spec)


object_cases = st.builds(
    lambda name, how: Case({}, {"object": name, "how": how}), odd_objects, st.sampled_from(("fit", "load_dataset"))
)
"""Objects that are no data, given as the data."""
NO_DATA = sorted(set(ODD) - {"frame", "path", "str_"})


def read_object(case: Case, folder: Path) -> None:
    """Give an object as the data; only a refusal is right."""
    given = made(case.spec["object"])
    if case.spec["how"] == "fit":
        gmmrec.fit(given, "popularity", progress=False)
    else:
        load_dataset(given)
    expect(False, "an object that is no data was read as data", case.spec["object"].name)
