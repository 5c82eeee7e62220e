"""Interactions of sliced sequences, RecBole's: every row has a user, the items before (``item_id_list``) and the item after."""

import logging

import numpy as np
import pandas as pd

from gmmrec.data.formats.impressions import Codes
from gmmrec.data.parts import TRAIN

logger = logging.getLogger(__name__)

SUFFIX = "_list"
"""End of the names of columns of sequences."""


def expand(log: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return a log with the items of the column ``history`` as interactions of their own, oldest first, without that column.

    Rows of a user are read from the shortest history to the longest, those held out last. The history of the first row precedes
    all of its interactions; of other histories, only items without a row of their own are new. They are for training, since all
    of them are known when the row is asked. Without times, the position in the sequence becomes the time; else the items of a
    history are put in the seconds before its row.

    Args:
        log: Columns of :func:`~gmmrec.data.columns.interaction_log`, and ``history``: ids separated by spaces, or missing.
        name: Name of the table, for messages.

    >>> log = pd.DataFrame({"user": ["u", "u"], "item": ["c", "d"], "history": ["a b", "b c"], "split": [0, 2]})
    >>> expand(log, "s.inter")[["user", "item", "order", "split"]].values.tolist()
    [['u', 'a', 0, 0], ['u', 'b', 1, 0], ['u', 'c', 2, 0], ['u', 'd', 3, 2]]
    """
    histories = log["history"].fillna("").astype(str)
    time = {"time": log.get("time", log.get("order", 0)), "nanosecond": log.get("nanosecond", 0)}
    keys = pd.DataFrame({"part": log.get("split", 0), **time, "length": histories.str.len()}, index=log.index)
    rows = keys.sort_values(list(keys), kind="stable").index
    log, histories = log.loc[rows].drop(columns="history").reset_index(drop=True), histories.loc[rows]
    codes = Codes()
    item = np.fromiter(map(codes.__getitem__, log["item"].astype(str)), np.int64, len(log))
    words, counts = codes.of(histories)
    row = np.repeat(np.arange(len(log)), counts)
    to_end = np.repeat(np.cumsum(counts), counts) - np.arange(len(words))  # 1 for the newest
    user = pd.factorize(log["user"])[0].astype(np.int64)
    pair, past_pair = user * len(codes) + item, user[row] * len(codes) + words
    is_first = ~pd.Series(user).duplicated().to_numpy()[row]
    known = np.union1d(pair, past_pair[is_first])
    is_new = is_first | (~np.isin(past_pair, known) & ~pd.Series(past_pair).duplicated().to_numpy())
    row, words, to_end = row[is_new], words[is_new], to_end[is_new]
    past: pd.DataFrame = log.iloc[row].reset_index(drop=True).assign(item=np.array(list(codes), dtype=object)[words])
    if "split" in log:
        past["split"] = np.int8(TRAIN)
    if "time" in log:
        past["time"] -= to_end
    if "liked" in log:
        past["liked"], past["weight"] = True, np.float32(1)
    elif "weight" in log:
        logger.warning("%s: ratings are not read, since those of the items in histories are unknown", name)
        log, past = log.drop(columns="weight"), past.drop(columns="weight")
    whole: pd.DataFrame = pd.concat([past, log], ignore_index=True)
    position = pd.DataFrame({"row": np.concatenate([row, np.arange(len(log))]), "to_end": np.concatenate([to_end, 0 * user])})
    whole = whole.iloc[position.sort_values(["row", "to_end"], ascending=[True, False], kind="stable").index]
    if "time" not in whole:
        whole["order"] = whole.groupby("user", sort=False).cumcount()
    numbered: pd.DataFrame = whole.reset_index(drop=True)
    return numbered
