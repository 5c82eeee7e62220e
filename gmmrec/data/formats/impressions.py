"""Reader of impressions and clicks in the layout of the MIND news data set.

The files are in one folder, or in its subfolders ``train`` and ``dev`` (or names ending so, such as ``MINDsmall_train``), gzipped
or not:

- ``behaviors.tsv``, without a header, one line per impression: its id, the user, the time (``11/15/2019 8:55:22 AM``), the items
  clicked before (ids separated by spaces, oldest first, maybe none), and the items shown (``N55689-1 N35729-0``; 1 for clicked).
  A sixth field, which MIND does not have, may hold the times of the clicks in the fourth one (seconds since 1970).
- ``news.tsv``, without a header, one line per article: id, category, subcategory, title, abstract, URL, and two JSON lists of
  the entities of title and abstract. Alternatively ``items.csv`` and ``NAME_feat.npz``, as in any folder.
- ``entity_embedding.vec``: one line per entity, its Wikidata id and its vector. Entities of titles become the modality ``entity``.
- ``word_embedding.vec``: one line per word and its vector, as GloVe's. The first words of titles become the modality ``words``.
- ``news_entity.csv``: columns ``news`` and ``entity``, one line per pair, for entities without vectors. The most frequent
  entities become the modality ``entity``, ones and zeros.

Impressions of ``dev`` are for test, and the last tenth of those of ``train`` for validation; in a single folder, the last tenth is
for test and the one before for validation. With a third folder ``test`` whose clicks are known, ``dev`` is for validation; MIND's
own ``test`` withholds them (``N55689 N35729``) and is not read. Interactions are the clicks, in the part of their impression, and
the earlier clicks of histories, in training; if their times are unknown, they are put, in order, in the seconds before the first
impression with them.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmmrec.data.files import first_line
from gmmrec.data.formats.news import find_plain_or_gzipped, numbered_lines, read_catalogue, read_entity_labels
from gmmrec.data.parts import TEST, TRAIN, VALID
from gmmrec.data.tables import RawImpressions, Tables
from gmmrec.data.time_numbers import YEAR_2100
from gmmrec.data.unread import note_file
from gmmrec.errors import DataError, literal

logger = logging.getLogger(__name__)

TIME = "%m/%d/%Y %I:%M:%S %p"
FOLDERS = ("train", "dev", "test")
"""Ends of the names of folders of impressions."""
LABELLED = r"\s*\S+-[01](\s+\S+-[01])*\s*"
"""Items shown, each with its label."""
HELD_OUT = 0.1
"""Validation share of the impressions, and test share without ``dev``."""


def is_impressions(folder: Path) -> bool:
    """Return whether a folder, or its subfolder ``train``, holds ``behaviors.tsv``."""
    return bool(_folders(folder))


def read_impressions(folder: Path) -> Tables:
    """Read a data set of impressions.

    Raises:
        DataError: A file is missing, or a line is malformed; the message names file and line.
    """
    folders = _folders(folder)
    for name, path in folders:
        if name == "test" and not _has_labels(path):
            logger.warning("%s is not read: the items it shows have no labels, as its clicks are withheld", path.name)
            folders = [named for named in folders if named[1] != path]
    if not folders:
        raise DataError(f"folder {folder.name} holds no behaviors.tsv, nor does a subfolder 'train'; add the file")
    codes = Codes()
    behaviors = [_behaviors(path, codes) for _, path in folders]
    names = [part for part, _ in folders]
    parts = [_parts(table.time, part, names) for part, table in zip(names, behaviors, strict=True)]
    table, part = _Behaviors.joined(behaviors), np.concatenate(parts)
    items, item_of, clicked = codes.decoded()
    raw = RawImpressions(
        user=table.user,
        items=pd.Series(items, dtype=object),
        shown=item_of[table.shown],
        num_shown=table.num_shown,
        clicked=clicked[table.shown],
        history=item_of[table.history],
        num_history=table.num_history,
        part=part,
        time=table.time,
        history_time=table.history_time,
    )
    paths = [path for _, path in folders]
    attributes, features = read_catalogue(folder, paths)
    ids = attributes["item"]["id"] if "item" in attributes else raw.items
    features += [] if any(feature.name == "entity" for feature in features) else read_entity_labels(paths, ids)
    if len({feature.name for feature in features}) < len(features):
        raise DataError(f"folder {folder.name} holds two modalities of the same name; rename or remove a feature file")
    return Tables(folder.resolve().name, _log(raw), attributes, features, impressions=raw)


class Codes(dict[str, int]):
    """Numbers of distinct texts, in order of appearance."""

    def __missing__(self, text: str) -> int:
        self[text] = len(self)
        return self[text]

    def of(self, texts: "pd.Series[str]") -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the numbers of the words of all texts, concatenated, and the number of words of each text.

        >>> Codes().of(pd.Series(["b a", "", "b"]))
        (array([0, 1, 0]), array([2, 0, 1]))
        """
        counts = texts.str.count(r"\S+").to_numpy(np.int64)
        words = (word for text in texts for word in text.split())
        return np.fromiter(map(self.__getitem__, words), np.int64, int(counts.sum())), counts

    def decoded(self) -> tuple[list[str], NDArray[np.int64], NDArray[np.bool_]]:
        """Return the distinct items, and the item and click label (``-1``) of every text; an unlabelled text is an item itself.

        >>> codes = Codes()
        >>> _ = codes.of(pd.Series(["N2 N1-0", "N2-1"]))
        >>> codes.decoded()
        (['N2', 'N1'], array([0, 1, 0]), array([False, False,  True]))
        """
        items: dict[str, int] = {}
        names = [text[:-2] if text.endswith(("-0", "-1")) else text for text in self]
        item_of = np.array([items.setdefault(name, len(items)) for name in names], dtype=np.int64)
        return list(items), item_of, np.array([text.endswith("-1") for text in self], dtype=bool)


@dataclass(frozen=True)
class _Behaviors:
    """Columns of one or more ``behaviors.tsv``; items are numbers of :class:`Codes`."""

    user: "pd.Series[str]"
    time: NDArray[np.int64]
    history: NDArray[np.int64]
    num_history: NDArray[np.int64]
    shown: NDArray[np.int64]
    num_shown: NDArray[np.int64]
    history_time: NDArray[np.int64] | None

    @classmethod
    def joined(cls, parts: "Sequence[_Behaviors]") -> "_Behaviors":
        if len(parts) == 1:
            return parts[0]
        names = ("time", "history", "num_history", "shown", "num_shown")
        timed = all(part.history_time is not None for part in parts)
        return cls(
            user=pd.concat([part.user for part in parts], ignore_index=True),
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names},
            history_time=np.concatenate([part.history_time for part in parts]) if timed else None,
        )


def _folders(folder: Path) -> list[tuple[str, Path]]:
    """Return the folders of impressions by part: the folder itself, or its subfolders ``train`` and ``dev``."""
    if not folder.is_dir():
        return []
    if find_plain_or_gzipped(folder, "behaviors.tsv") is not None:
        return [("train", folder)]
    inner = sorted(path for path in folder.iterdir() if path.is_dir() and find_plain_or_gzipped(path, "behaviors.tsv") is not None)
    folders = [(part, path) for part in FOLDERS for path in inner if path.name.lower().endswith(part)]
    return folders if folders and folders[0][0] == "train" else []


def _has_labels(folder: Path) -> bool:
    """Return whether the items shown in the first impression of a folder have labels."""
    path = find_plain_or_gzipped(folder, "behaviors.tsv")
    assert path is not None
    fields = first_line(path).rstrip("\r\n").split("\t")
    note_file(path, is_read=False)
    return len(fields) < 5 or re.fullmatch(LABELLED, fields[4]) is not None


def _behaviors(folder: Path, codes: Codes) -> _Behaviors:
    path = find_plain_or_gzipped(folder, "behaviors.tsv")
    assert path is not None
    numbers, rows = [], []
    for number, line in numbered_lines(path):
        fields = line.split("\t")
        if len(fields) not in (5, 6):
            raise DataError(
                f"{path.name} line {number} has {len(fields)} fields, but an impression must have five, separated by tabs: "
                "id, user, time, history and items shown; fix it"
            )
        numbers.append(number)
        rows.append((*fields, "")[:6])
    frame = pd.DataFrame(rows, columns=["id", "user", "time", "history", "shown", "history_time"])

    def check(valid: "NDArray[np.bool_]", column: str, complaint: str) -> None:
        if not valid.all():
            row = int(valid.argmin())
            raise DataError(f"{path.name} line {numbers[row]} has {frame[column][row][:60]!r} as its {complaint}")

    check((frame["user"].str.strip() != "").to_numpy(), "user", "user; write an id")
    time = pd.to_datetime(frame["time"], format=TIME, errors="coerce")
    check(time.notna().to_numpy(), "time", "time, but expected is a time such as '11/15/2019 8:55:22 AM'; fix it")
    labelled = frame["shown"].str.fullmatch(LABELLED)
    if not labelled.any():
        raise DataError(
            f"{path.name} of folder {folder.name} shows items without labels, such as {literal(frame['shown'][0][:60])}: its "
            "clicks are withheld, so it can be neither learned from nor evaluated on; give the folder of train and dev instead"
        )
    check(labelled.to_numpy(bool), "shown", "items shown, but expected are items as 'N1-1 N2-0' (1 for clicked); fix or drop it")
    history, num_history = codes.of(frame["history"])
    times = None
    if (frame["history_time"] != "").any():
        timed = frame["history_time"].str.split()
        plain = timed.map(lambda words: all(word.isdigit() and int(word) <= YEAR_2100 for word in words)).to_numpy(bool)
        is_complete = plain & (timed.str.len().to_numpy() == num_history)
        check(is_complete, "history_time", "times of the history; write one for each click, in seconds since 1970")
        times = np.array([int(word) for words in timed for word in words], dtype=np.int64)
    shown, num_shown = codes.of(frame["shown"])
    seconds = time.astype("datetime64[s]").astype("int64").to_numpy(copy=True)
    return _Behaviors(frame["user"].str.strip(), seconds, history, num_history, shown, num_shown, times)


def _parts(time: "NDArray[np.int64]", part: str, folders: Sequence[str]) -> "NDArray[np.int64]":
    """Assign the impressions of one of the folders to parts, the last of ``train`` to those without a folder, seconds undivided."""
    if part != "train":
        return np.full(len(time), VALID if part == "dev" and "test" in folders else TEST)
    if "dev" in folders and "test" in folders:
        return np.full(len(time), TRAIN)
    moments, count = np.sort(time), max(1, round(HELD_OUT * len(time)))
    ends = (moments[-count],) if len(folders) > 1 else (moments[-min(2 * count, len(time))], moments[-count])
    return np.searchsorted(np.array(ends), time, side="right")


def _log(raw: RawImpressions) -> pd.DataFrame:
    """Return all clicks with times and parts: those of impressions, and earlier ones known from histories only."""
    user, names = pd.factorize(raw.user)
    order = np.arange(len(user))
    clicks: pd.DataFrame = pd.DataFrame({"item": raw.shown, "row": np.repeat(order, raw.num_shown)})[raw.clicked]
    ends = np.cumsum(raw.num_history)
    past: pd.DataFrame = pd.DataFrame({"item": raw.history, "row": np.repeat(order, raw.num_history)})
    to_end = np.repeat(ends, raw.num_history) - np.arange(len(past))  # 1 for the newest click of a history
    past["time"] = raw.time[past["row"]] - to_end if raw.history_time is None else raw.history_time
    for frame in (clicks, past):
        frame["user"] = user[frame["row"]]
        frame["pair"] = frame["user"] * len(raw.items) + frame["item"]
    place = np.argsort(np.argsort(raw.time, kind="stable"), kind="stable")  # of every impression in time
    clicked = clicks.assign(place=place[clicks["row"]]).groupby("pair")["place"].min()
    of_impression = (past["pair"].map(clicked) < place[past["row"]]).to_numpy()  # later clicks, maybe held out, explain none before
    past = past[~of_impression].sort_values("time", kind="stable").drop_duplicates("pair")
    past["split"] = TRAIN
    clicks["time"], clicks["split"] = raw.time[clicks["row"]], raw.part[clicks["row"]]
    both = pd.concat([past, clicks], ignore_index=True).sort_values("time", kind="stable", ignore_index=True)
    items = raw.items.to_numpy()
    log: pd.DataFrame = both[["time"]].assign(
        user=names[both["user"]], item=items[both["item"]], split=both["split"].astype(np.int8)
    )
    return log
