"""Invariants of accepted data, and the call of readers."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from gmmrec.data import write
from gmmrec.data.dataset import Dataset
from gmmrec.data.describe import describe
from gmmrec.data.load import load_dataset
from gmmrec.data.split import Split, SplitConfig, split_dataset
from gmmrec.data.vocabulary import Vocabulary
from tests.fuzz.case import Case
from tests.fuzz.values import made
from tests.fuzz.verdict import Fault

WRITERS = {"folder": write.write_folder, "mmrec": write.write_mmrec, "atomic": write.write_atomic}


def expect(holds: bool, message: str, *details: Any) -> None:
    """Raise a fault unless something holds."""
    if not holds:
        raise Fault(message, *details)


def read(case: Case, folder: Path) -> None:
    """Read data, check it, split it, write it, and compare what was written."""
    spec = case.spec
    dataset = load_dataset(spec["path"], **made(spec.get("settings", {})))
    check_dataset(dataset)
    expect(len(dataset.interactions) <= case.size, "more interactions than bytes")
    if spec.get("pairs") is not None:
        check_right(dataset, spec)
    if spec.get("strategy"):
        check_split(dataset, split_dataset(dataset, SplitConfig(spec["strategy"]), torch.Generator().manual_seed(0)))
    if spec.get("write"):
        written = WRITERS[spec["write"]](dataset, folder / "out" / "copy")
        again = load_dataset(written, duplicates="keep")
        check_dataset(again)
        check_same(dataset, again, in_order=spec["write"] == "folder")


def check_right(dataset: Dataset, spec: Mapping[str, Any]) -> None:
    """Check that a valid source was read to the last value."""
    found = dict(zip(raw_pairs(dataset), range(len(dataset.interactions)), strict=True))
    expect(len(found) == len(dataset.interactions) and set(found) == set(spec["pairs"]), "wrong pairs", found, spec["pairs"])
    rows = [found[pair] for pair in spec["pairs"]]
    for name, column in (("weights", dataset.interactions.weight), ("times", dataset.interactions.moment)):
        if spec[name] is not None:
            expect(column is not None and column[rows].tolist() == list(spec[name]), f"wrong {name}", column, spec[name])


def raw_pairs(dataset: Dataset) -> list[tuple[str, str]]:
    """Return user and item of every interaction, as texts."""
    log = dataset.interactions
    ends = (dataset.vocabularies[kind].ids(getattr(log, kind)) for kind in ("user", "item"))
    return [(str(user), str(item)) for user, item in zip(*ends, strict=True)]


def check_vocabulary(vocabulary: Vocabulary) -> None:
    """Check that ids and rows map to each other, also through text."""
    ids = vocabulary.ids()
    expect(len(set(map(type, ids))) <= 1, "ids of two types", ids)
    expect(vocabulary.rows(ids).tolist() == list(range(len(ids))) if ids else True, "ids and rows differ", ids)
    expect(all(vocabulary.parse(str(raw)) == raw for raw in ids), "an id differs after parsing", ids)
    expect(vocabulary.name != "user" or all(str(raw).strip() for raw in ids), "a blank id", ids)


def check_dataset(dataset: Dataset) -> None:
    """Check everything that must hold of any data set."""
    for vocabulary in dataset.vocabularies.values():
        check_vocabulary(vocabulary)
    log = dataset.interactions
    for name, column in log.columns().items():
        expect(column.shape == (len(log),), "columns of different lengths", name)
        expect(column.dtype == (torch.float32 if name == "weight" else torch.int64), "a column of another type", name, column.dtype)
    for kind in ("user", "item"):
        rows = getattr(log, kind)
        expect(not rows.numel() or 0 <= int(rows.min()) <= int(rows.max()) < len(dataset.vocabularies[kind]), "a row out of range")
    expect(log.weight is None or bool(torch.isfinite(log.weight).all()), "a weight that is not finite")
    for table in dataset.features.values():
        expect(table.num_rows == len(dataset.vocabularies[table.node_type]), "features of another number of nodes")
        expect(bool(torch.isfinite(table.values).all()), "a feature that is not finite", table.name)
        expect(not bool(table.values[~table.mask].any()), "values under the mask", table.name)
    if dataset.given_split is not None:
        expect(len(dataset.given_split) == len(log) and set(dataset.given_split.tolist()) <= {0, 1, 2}, "parts out of range")
    for kind, frame in dataset.attributes.items():
        expect(len(frame) == len(dataset.vocabularies[kind]), "attributes of another number of nodes", kind)
        expect(frame.columns.is_unique, "repeated columns of attributes", list(frame.columns))
    _check_rest(dataset)
    figures = asdict(describe(dataset))
    expect(_is_finite(figures), "a description that is not finite", figures)
    json.dumps(figures)


def _check_rest(dataset: Dataset) -> None:
    items = dataset.num_items
    if dataset.outfits is not None:
        values, part = dataset.outfits.items.values, dataset.outfits.part
        expect(0 <= int(values.min()) <= int(values.max()) < items, "an outfit of an unknown item")
        expect(set(part.tolist()) <= {0, 1, 2} and int(dataset.outfits.items.counts.min()) >= 2, "parts or sizes of outfits")
    if dataset.impressions is not None:
        shown = dataset.impressions.shown
        expect(len(shown) == len(dataset.impressions.part) == len(dataset.impressions.time), "impressions of different lengths")
        expect(bool(shown.counts.min() > 0) and int(shown.values.max()) < items, "an impression of nothing, or of unknown items")
    if dataset.triples is not None:
        count = len(dataset.vocabularies["entity"])
        for end in ("head", "tail"):
            rows = getattr(dataset.triples, end)
            expect(len(rows) > 0 and 0 <= int(rows.min()) <= int(rows.max()) < count, "a triple of an unknown entity")


def _is_finite(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def check_split(dataset: Dataset, split: Split) -> None:
    """Check that the parts hold every interaction once."""
    parts = [split.train, split.valid, split.test, *([] if split.support is None else [split.support])]
    keys = torch.cat([part.user * max(1, dataset.num_items) + part.item for part in parts])
    log = dataset.interactions
    expect(
        torch.equal(keys.sort().values, (log.user * max(1, dataset.num_items) + log.item).sort().values),
        "parts that are no partition",
    )
    expect(not len(log) or all(map(len, parts[:3])), "an empty part")


def check_same(first: Dataset, again: Dataset, *, in_order: bool = True) -> None:
    """Check that a data set was read back as it was written.

    Raises:
        Fault: Pairs, weights, times, parts, features or titles differ.
    """
    for kind in ("user", "item"):
        ids = [list(map(str, d.vocabularies[kind].ids())) for d in (first, again)]
        expect(sorted(ids[0]) == sorted(ids[1]), "other ids after writing", ids)
        expect(not in_order or ids[0] == ids[1], "ids in another order after writing", ids)
    logs = [_rows(d, with_weights=first.interactions.weight is not None) for d in (first, again)]
    expect(logs[0] == logs[1], "another log after writing", logs)
    for name, table in first.features.items():
        own = name if name in again.features else f"{table.node_type}_{name}"
        if not bool(table.present.any()):
            continue  # an empty modality is not written
        expect(own in again.features, "a modality is lost by writing", name, list(again.features))
        vectors = [_vectors(d, n) for d, n in ((first, name), (again, own))]
        expect(vectors[0] == vectors[1], "other features after writing", name)
    for kind, frame in first.attributes.items():
        if len(frame.columns) and kind in again.attributes:
            texts = [_texts(d, kind) for d in (first, again)]
            expect(texts[0] == texts[1], "other attributes after writing", texts)


def _rows(dataset: Dataset, *, with_weights: bool) -> list[tuple[Any, ...]]:
    """Return the log in raw ids, sorted; MMRec's layout has weights of 1 where there were none."""
    log = dataset.interactions
    columns: list[Any] = [raw_pairs(dataset)]
    parts = (log.weight if with_weights else None, log.time, dataset.given_split)
    columns += [column.tolist() for column in parts if column is not None]
    return sorted(zip(*columns, strict=True))


def _vectors(dataset: Dataset, name: str) -> dict[str, Any]:
    table = dataset.features[name]
    ids, present = dataset.vocabularies[table.node_type].ids(), table.present.tolist()
    return {str(raw): table.values[row].tolist() for row, raw in enumerate(ids) if present[row]}


def _texts(dataset: Dataset, kind: str) -> dict[str, Any]:
    frame, ids = dataset.attributes[kind], dataset.vocabularies[kind].ids()
    return {
        str(raw): {column: _text(column, value) for column, value in row.items() if _text(column, value)}
        for raw, row in zip(ids, frame.to_dict("records"), strict=True)
    }


def _text(column: str, value: Any) -> str:
    """Return an attribute as text; all but titles may be read back as numbers, and outer white space is not kept."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    text = str(value).strip()
    try:
        return text if column == "title" else str(float(text))
    except ValueError:
        return text
