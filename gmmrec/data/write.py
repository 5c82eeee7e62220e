"""Writers of the package's own layout, MMRec's layout and RecBole's atomic files; each reads back to the same data.

Reviews are not written, since a data set holds word ids, not texts.
"""

import csv
import logging
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.data.interactions import Interactions
from gmmrec.data.parts import GIVEN_PARTS
from gmmrec.data.repeats import rows_of
from gmmrec.data.times import written_times
from gmmrec.data.triples import Triples
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.errors import DataError
from gmmrec.safety.names import check_name
from gmmrec.safety.sizes import NUMBERS, bound
from gmmrec.storage.whole_folder import whole_folder

logger = logging.getLogger(__name__)

LABELS = np.array([part.value for part in GIVEN_PARTS])
"""Labels of the parts, by code."""


class Writer(Protocol):
    """Writer of one layout."""

    def __call__(self, dataset: Dataset, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write a data set, and return the folder, which appears whole and with a manifest.

        Args:
            dataset: Data set.
            folder: Folder that is missing or empty, unless it is overwritten.
            overwrite: Replace a folder that holds nothing but what gmmrec wrote.

        Raises:
            UsageError: The folder cannot be replaced.
            DataError: The layout cannot hold the data set.
        """


def _whole(write: Callable[[Dataset, Path], None]) -> Writer:
    """Return a writer whose folder appears whole."""

    @wraps(write)
    def written(dataset: Dataset, folder: str | Path, *, overwrite: bool = False) -> Path:
        check_name(dataset.name, "name of the data set")  # names of files, and of modalities in their columns
        for name in dataset.features:
            check_name(name, "modality")
        with whole_folder(Path(folder), "data", overwrite=overwrite) as partial:
            write(dataset, partial)
        if dataset.reviews is not None:
            logger.warning("%s: reviews are not written, since only word ids are known; keep the original table", dataset.name)
        return Path(folder)

    return written


@_whole
def write_folder(dataset: Dataset, folder: Path) -> None:
    """Write ``interactions.csv.gz``, ``items.csv``, ``users.csv`` and ``NAME_feat.npz``.

    Names of user features get the prefix ``user_``. Ids without interactions or features are kept in the attribute tables.
    Triples go to ``triples.csv.gz``, ``entities.csv``, ``relations.csv`` and ``alignment.csv``, and names of entity features get
    the prefix ``entity_``. Without interactions, no files of users and items are written, and entity features get no prefix.

    Raises:
        DataError: A modality's name would be read back as that of another node type.
    """
    tables = {"entity": "entities.csv", "relation": "relations.csv"} if dataset.triples is not None else {}
    is_alone = dataset.triples is not None and not len(dataset.interactions)
    if not is_alone:
        _log(dataset, "user", "item").to_csv(folder / "interactions.csv.gz", index=False)
        tables |= {"item": "items.csv", "user": "users.csv"}
    for node_type, name in tables.items():
        _attributes(dataset, node_type, node_type).to_csv(folder / name, index=False)
    for table in dataset.features.values():
        name = table.name if is_alone else _prefixed(table, has_entities=dataset.triples is not None)
        _save_npz(folder / f"{name}_feat.npz", table, dataset.vocabularies[table.node_type])
    if dataset.triples is not None:
        _write_triples(dataset, dataset.triples, folder)


def _write_triples(dataset: Dataset, triples: Triples, folder: Path) -> None:
    kinds = {"head": "entity", "relation": "relation", "tail": "entity"}
    frame = pd.DataFrame({role: _raw(dataset, kind, getattr(triples, role).numpy()) for role, kind in kinds.items()})
    if bool(triples.part.any()):
        frame["split"] = LABELS[triples.part.numpy()]
    frame.to_csv(folder / "triples.csv.gz", index=False)
    if triples.entity is not None:
        item = torch.nonzero(triples.entity >= 0).flatten()
        ends = {"item": _raw(dataset, "item", item.numpy()), "entity": _raw(dataset, "entity", triples.entity[item].numpy())}
        pd.DataFrame(ends).to_csv(folder / "alignment.csv", index=False)


@_whole
def write_mmrec(dataset: Dataset, folder: Path) -> None:
    """Write ``NAME.inter``, ``NAME_feat.npy`` and the tables of raw ids ``u_id_mapping.csv``, ``i_id_mapping.csv``.

    Users and items are numbered by row. Missing modalities become rows of zeros, as MMRec has no mask. Weights go into ``rating``
    (1 without weights), attributes into ``items.csv`` and ``users.csv``, which MMRec ignores.

    Raises:
        DataError: The data set has no given split, or features have a token axis, which the layout does not support.
    """
    if dataset.given_split is None:
        raise DataError(f"{dataset.name} has no given split, which MMRec's x_label needs; set dataset.given_split before writing")
    log, given = _events(dataset)
    columns: dict[str, Any] = {"userID": log.user.numpy(), "itemID": log.item.numpy()}
    columns["rating"] = 1.0 if log.weight is None else _decimal(log.weight.numpy())
    times = written_times(log)
    if times is not None:
        columns["timestamp"] = times
    columns["x_label"] = given.numpy() if given is not None else 0
    pd.DataFrame(columns).to_csv(folder / f"{dataset.name}.inter", sep="\t", index=False)
    for node_type, name, number, raw in (
        ("user", "u_id_mapping.csv", "userID", "user_id"),
        ("item", "i_id_mapping.csv", "itemID", "item_id"),
    ):
        ids = dataset.vocabularies[node_type].ids()
        pd.DataFrame({raw: ids, number: range(len(ids))}).to_csv(folder / name, sep="\t", index=False)
        if node_type in dataset.attributes:
            _attributes(dataset, node_type, node_type).to_csv(folder / f"{node_type}s.csv", index=False)
    for table in dataset.features.values():
        if table.values.dim() != 2:
            raise DataError(f"features {table.name!r} have a token axis, which MMRec's layout does not support; pool them first")
        np.save(folder / f"{_prefixed(table, has_entities=dataset.triples is not None)}_feat.npy", table.values.numpy())


@_whole
def write_atomic(dataset: Dataset, folder: Path) -> None:
    """Write ``NAME.inter`` (or one file per given part), ``NAME.item`` and ``NAME.user``; features are ``float_seq`` columns.

    Raises:
        DataError: Features have a token axis, or the name of a column, which atomic files do not support.
    """
    log = _log(dataset, "user_id:token", "item_id:token").rename(columns={"weight": "rating:float", "timestamp": "timestamp:float"})
    if "split" in log:
        for part, rows in log.groupby("split", sort=False):
            _write_atomic(rows.drop(columns="split"), folder / f"{dataset.name}.{part}.inter")
    else:
        _write_atomic(log, folder / f"{dataset.name}.inter")
    for node_type in ("item", "user"):
        frame = _attributes(dataset, node_type, f"{node_type}_id:token")
        kinds = {column: "float" if pd.api.types.is_numeric_dtype(frame[column]) else "token_seq" for column in frame.columns[1:]}
        frame = frame.rename(columns={column: f"{column}:{kind}" for column, kind in kinds.items()})
        for table in dataset.features.values():
            if table.node_type != node_type:
                continue
            if table.values.dim() != 2:
                raise DataError(f"features {table.name!r} have a token axis, which atomic files do not support; pool them first")
            if table.name in kinds or table.name == f"{node_type}_id":
                raise DataError(
                    f"{dataset.name} has a column and a modality {table.name!r} of {node_type}s, which atomic files do not "
                    f"support; leave the modality out (modalities) or write another layout"
                )
            frame[f"{table.name}:float_seq"] = _vectors(table)
        _write_atomic(frame, folder / f"{dataset.name}.{node_type}")


def _log(dataset: Dataset, user: str, item: str) -> pd.DataFrame:
    log, given = _events(dataset)
    frame: pd.DataFrame = pd.DataFrame(
        {user: _raw(dataset, "user", log.user.numpy()), item: _raw(dataset, "item", log.item.numpy())}
    )
    if log.weight is not None:
        frame["weight"] = _decimal(log.weight.numpy())
    times = written_times(log)
    if times is not None:
        frame["timestamp"] = times
    if given is not None:
        frame["split"] = LABELS[given.numpy()]
    return frame


def _events(dataset: Dataset) -> tuple[Interactions, Tensor | None]:
    """Return the log and its given parts; of summed pairs all events, so that a split of what is written can sum them anew."""
    if dataset.repeats is None:
        return dataset.interactions, dataset.given_split
    repeats = dataset.repeats.take(rows_of(dataset.repeats, dataset.interactions) >= 0)
    logger.warning("%s: summed pairs are written event by event; read them with duplicates='sum'", dataset.name)
    return repeats.log, repeats.given


def _raw(dataset: Dataset, node_type: str, rows: NDArray[np.int64]) -> NDArray[Any]:
    return np.array(dataset.vocabularies[node_type].ids(), dtype=object)[rows]


def _decimal(weight: NDArray[np.float32]) -> NDArray[Any]:
    """Return the shortest decimal text that reads back to the same float32."""
    return weight.astype(str)


def _attributes(dataset: Dataset, node_type: str, key: str) -> pd.DataFrame:
    ids = dataset.vocabularies[node_type].ids()
    frame: pd.DataFrame = pd.DataFrame({key: ids})
    if node_type in dataset.attributes:
        frame = pd.concat([frame, dataset.attributes[node_type].reset_index(drop=True)], axis=1)
    return frame


def _prefixed(table: FeatureTable, *, has_entities: bool) -> str:
    kinds = ("user", "entity") if has_entities else ("user",)
    other = next((kind for kind in kinds if table.name.startswith(f"{kind}_")), "item")
    if other not in ("item", table.node_type):
        raise DataError(f"{table.node_type} features {table.name!r} would be read back as those of another node type; rename them")
    return table.name if table.node_type == other else f"{table.node_type}_{table.name}"


def _save_npz(path: Path, table: FeatureTable, vocabulary: Vocabulary) -> None:
    """Save the rows present, with their ids, and a mask if they have a token axis."""
    present = table.present.numpy()
    ids = np.array(vocabulary.ids(), dtype=np.int64 if vocabulary.is_integer else np.str_)[present]
    arrays = {"ids": ids, "values": table.values.numpy()[present]}
    if table.mask.dim() > 1:
        arrays["mask"] = table.mask.numpy()[present]
    np.savez_compressed(path, **arrays)
    if sum(array.nbytes for array in arrays.values()) > bound(path.stat().st_size, NUMBERS) // 2:
        np.savez(path, **arrays)  # mostly empty arrays, which a reader would take for an attack


def _vectors(table: FeatureTable) -> "pd.Series[Any]":
    """Return space-separated numbers for every node, missing where the modality is missing."""
    text: pd.Series[Any] = pd.DataFrame(table.values.numpy().astype(str)).agg(" ".join, axis=1)
    present_only: pd.Series[Any] = text.where(table.present.numpy())
    return present_only


def _write_atomic(frame: pd.DataFrame, path: Path) -> None:
    """Write a tab-separated table without quotes, which the format lacks; tabs and line breaks in texts become spaces."""
    text = frame.select_dtypes(exclude="number").columns
    clean = frame.assign(**{column: frame[column].astype("string").str.replace(r"[\t\r\n]+", " ", regex=True) for column in text})
    clean.columns = clean.columns.str.replace(r"[\t\r\n]+", " ", regex=True)
    clean.to_csv(path, sep="\t", index=False, quoting=csv.QUOTE_NONE)
