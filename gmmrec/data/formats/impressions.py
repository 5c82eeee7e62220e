"""Reads what people were shown and what of it they clicked, in the layout of the MIND news data set.

A folder, or its folders ``train`` and ``dev`` (or names that end so, such as ``MINDsmall_train``); every file may be gzipped:

- ``behaviors.tsv``, without a header, a line an impression: its id, the user, the time (``11/15/2019 8:55:22 AM``), what the user
  had clicked before (ids with blanks between, oldest first, perhaps none), and what was shown (``N55689-1 N35729-0``; 1 was
  clicked). A sixth field, which MIND does not have, may hold the times of the clicks of the fourth one (seconds since 1970).
- ``news.tsv``, without a header, a line a news article: id, category, subcategory, title, abstract, address, and two lists (JSON)
  of the entities of the title and of the abstract. Or ``items.csv`` and ``NAME_feat.npz``, as in any folder.
- ``entity_embedding.vec``: a line an entity, its Wikidata id and its vector. Entities of titles become the modality ``entity``.
- ``word_embedding.vec``: a line a word and its vector, such as GloVe's. The first words of titles become the modality ``words``.
- ``news_entity.csv``: columns ``news`` and ``entity``, a line a pair, where vectors are not known. The most frequent entities
  become the modality ``entity``, ones and zeros.

Impressions of ``dev`` test, and the last tenth of those of ``train`` validates; in one folder the last tenth tests and the one
before validates. Interactions are the clicks, in the part of their impression, and what histories tell of earlier ones, which
train; where their times are not known they lie, in their order, in the seconds before the first impression that tells of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmmrec.data.errors import DataError
from gmmrec.data.formats.news import find_plain_or_gzipped, numbered_lines, read_catalogue, read_entity_labels
from gmmrec.data.parts import TEST, TRAIN
from gmmrec.data.tables import RawImpressions, Tables

TIME = "%m/%d/%Y %I:%M:%S %p"
FOLDERS = {"train": TRAIN, "dev": TEST}
"""Part of the impressions of each folder, by the end of its name."""
HELD_OUT = 0.1
"""Share of the impressions that validates, and share that tests where there is no ``dev``."""


def is_impressions(folder: Path) -> bool:
    """Whether a folder, or a folder ``train`` in it, holds ``behaviors.tsv``."""
    return bool(_folders(folder))


def read_impressions(folder: Path) -> Tables:
    """A data set of impressions.

    Raises:
        DataError: A file is missing, or a line does not hold what it should; the message names file and line.
    """
    folders = _folders(folder)
    if not folders:
        raise DataError(f"folder {folder.name} holds no behaviors.tsv, nor does a folder 'train' in it; add the file")
    shows = Codes()
    read = [_behaviors(path, shows) for _, path in folders]
    parts = [_parts(seen.time, part, alone=len(folders) == 1) for (part, _), seen in zip(folders, read, strict=True)]
    seen, part = _Behaviors.joined(read), np.concatenate(parts)
    items, item_of, clicked = shows.decoded()
    raw = RawImpressions(
        user=seen.user,
        items=pd.Series(items, dtype=object),
        shown=item_of[seen.shown],
        num_shown=seen.num_shown,
        clicked=clicked[seen.shown],
        history=item_of[seen.history],
        num_history=seen.num_history,
        part=part,
        time=seen.time,
        history_time=seen.history_time,
    )
    paths = [path for _, path in folders]
    attributes, features = read_catalogue(folder, paths)
    ids = attributes["item"]["id"] if "item" in attributes else raw.items
    features += [] if any(table.name == "entity" for table in features) else read_entity_labels(paths, ids)
    if len({table.name for table in features}) < len(features):
        raise DataError(f"folder {folder.name} holds two modalities of one name; rename or remove a feature file")
    return Tables(folder.resolve().name, _log(raw), attributes, features, impressions=raw)


class Codes(dict[str, int]):
    """A number for every distinct text, in the order in which they come."""

    def __missing__(self, text: str) -> int:
        self[text] = len(self)
        return self[text]

    def of(self, texts: "pd.Series[str]") -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The numbers of all words of texts, one text behind the other, and how many words each has.

        >>> Codes().of(pd.Series(["b a", "", "b"]))
        (array([0, 1, 0]), array([2, 0, 1]))
        """
        counts = texts.str.count(r"\S+").to_numpy(np.int64)
        words = (word for text in texts for word in text.split())
        return np.fromiter(map(self.__getitem__, words), np.int64, int(counts.sum())), counts

    def decoded(self) -> tuple[list[str], NDArray[np.int64], NDArray[np.bool_]]:
        """The distinct items; and for every text its item, and whether it says ``-1``. A text without a label is an item.

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
    """The columns of one or more ``behaviors.tsv``; items are numbers of :class:`Codes`."""

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
    """Where impressions are, by part: the folder itself, or those for training and development."""
    if not folder.is_dir():
        return []
    if find_plain_or_gzipped(folder, "behaviors.tsv") is not None:
        return [("train", folder)]
    inner = sorted(path for path in folder.iterdir() if path.is_dir() and find_plain_or_gzipped(path, "behaviors.tsv") is not None)
    found = [(part, path) for part in FOLDERS for path in inner if path.name.lower().endswith(part)]
    return found if found and found[0][0] == "train" else []


def _behaviors(folder: Path, codes: Codes) -> _Behaviors:
    path = find_plain_or_gzipped(folder, "behaviors.tsv")
    assert path is not None
    numbers, rows = [], []
    for number, line in numbered_lines(path):
        fields = line.split("\t")
        if len(fields) not in (5, 6):
            raise DataError(
                f"{path.name} line {number} has {len(fields)} fields, but an impression has five with tabs between: "
                "its id, the user, the time, the history, and what was shown; mend it"
            )
        numbers.append(number)
        rows.append((*fields, "")[:6])
    frame = pd.DataFrame(rows, columns=["id", "user", "time", "history", "shown", "history_time"])

    def complain(wrong: "NDArray[np.bool_]", column: str, what: str) -> None:
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(f"{path.name} line {numbers[row]} has {frame[column][row][:60]!r} as its {what}")

    complain((frame["user"].str.strip() == "").to_numpy(), "user", "user; write an id")
    time = pd.to_datetime(frame["time"], format=TIME, errors="coerce")
    complain(time.isna().to_numpy(), "time", "time, which is not like '11/15/2019 8:55:22 AM'; mend it")
    labelled = frame["shown"].str.fullmatch(r"\s*\S+-[01](\s+\S+-[01])*\s*")
    complain(~labelled.to_numpy(bool), "shown", "items shown, which are not like 'N1-1 N2-0' (1 was clicked); mend or leave it out")
    history, num_history = codes.of(frame["history"])
    times = None
    if (frame["history_time"] != "").any():
        timed = frame["history_time"].str.split()
        plain = timed.map(lambda own: all(word.isdigit() for word in own)).to_numpy(bool)
        complain(~(plain & (timed.str.len().to_numpy() == num_history)), "history_time", "times of the history; write one for each")
        times = np.array([int(word) for own in timed for word in own], dtype=np.int64)
    seen, num_seen = codes.of(frame["shown"])
    seconds = time.astype("datetime64[s]").astype("int64").to_numpy(copy=True)
    return _Behaviors(frame["user"].str.strip(), seconds, history, num_history, seen, num_seen, times)


def _parts(time: "NDArray[np.int64]", part: str, *, alone: bool) -> "NDArray[np.int64]":
    """Parts by time: the last impressions validate, and test where nothing else does; those of the same second stay together."""
    if FOLDERS[part] == TEST:
        return np.full(len(time), TEST)
    moments, count = np.sort(time), max(1, round(HELD_OUT * len(time)))
    ends = (moments[-count],) if not alone else (moments[-min(2 * count, len(time))], moments[-count])
    return np.searchsorted(np.array(ends), time, side="right")


def _log(raw: RawImpressions) -> pd.DataFrame:
    """All clicks with their times and parts: those of impressions, and earlier ones that only histories tell of."""
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
    first = pd.Series(raw.time).groupby(user).transform("min").to_numpy()
    is_first = (raw.time == first)[past["row"]]  # in the history of the first impression it is no click of a later one
    past = past[is_first | ~past["pair"].isin(clicks["pair"])].sort_values("time", kind="stable").drop_duplicates("pair")
    past["split"] = TRAIN
    clicks["time"], clicks["split"] = raw.time[clicks["row"]], raw.part[clicks["row"]]
    both = pd.concat([past, clicks], ignore_index=True).sort_values("time", kind="stable", ignore_index=True)
    items = raw.items.to_numpy()
    log: pd.DataFrame = both[["time"]].assign(
        user=names[both["user"]], item=items[both["item"]], split=both["split"].astype(np.int8)
    )
    return log
