"""Data sets twice: with the same training rows, and with other rows held out.

The tables are those of the golden file, with a part for every row. In the other version each held-out row names another known item
or entity, and has another rating, time and text; some are gone, and new ones follow. The users, items and entities stay as they
are, as they are nodes of the graph whether they train or not.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.random import RandomState

import gmmrec
from gmmrec.data.split import SplitConfig
from tests.golden.data import ITEMS, START, USERS, write_knowledge, write_outfits, write_pictures, write_shop, write_triples

TIMED = ("leave_last_out", "by_time", "cold_users")
UNTIMED = ("random", "cold_items")
WORDS = ("dull", "fine", "lovely", "cut", "colour", "really", "quite", "the", "unheard", "before")


def write(folder: Path, strategy: str = "given", *, altered: bool) -> None:
    """Write ``shop``, ``pictures``, ``knowledge``, ``triples``, ``outfits`` and ``news`` below a folder.

    Args:
        folder: Folder to make.
        strategy: Split of the interactions: ``given`` ones have a column of parts, and for others rows are altered as far as the
            strategy then divides them as before.
        altered: Whether held-out rows are those of the other version.
    """
    writers = {"shop": write_shop, "pictures": write_pictures, "knowledge": write_knowledge, "outfits": write_outfits}
    for name, writer in writers.items():
        writer(folder / name)
        _rewrite(folder / name / "interactions.csv", partial(_log, folder=folder / name, strategy=strategy, altered=altered))
    write_triples(folder / "triples")
    for name in ("knowledge", "triples"):
        _rewrite(folder / name / "triples.csv", lambda triples: _triples(triples) if altered else triples)
    if altered:
        _rewrite(folder / "outfits/outfits.csv", _outfits)
    _write_news(folder / "news", altered=altered)


def _rewrite(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_csv(path, keep_default_na=False)).to_csv(path, index=False)


def _log(log: pd.DataFrame, folder: Path, strategy: str, *, altered: bool) -> pd.DataFrame:
    """Return the log with its parts, or without where a strategy divides it."""
    log = log.assign(timestamp=log["timestamp"] + np.arange(len(log)) % 7)  # else rows of one second would be put in order by row
    if strategy == "given":
        log["split"] = RandomState(20).choice(["train", "valid", "test"], len(log), p=[0.7, 0.15, 0.15])
        held_out = (log["split"] != "train").to_numpy()
    else:
        held_out = _held_out(log, folder, strategy)
    if not altered:
        return log
    draws = RandomState(21)
    rows = np.flatnonzero(held_out)
    log.loc[rows, "rating"] = 6 - log.loc[rows, "rating"]
    log.loc[rows, "review"] = _texts(draws, len(rows))
    if strategy not in UNTIMED:
        log.loc[rows, "item"] = _other_items(log, rows, draws)
    if strategy in ("given", *UNTIMED):
        log.loc[rows, "timestamp"] += draws.randint(-(10**6), 10**6, len(rows))
    if strategy == "given":
        log = log.drop(rows[:5])
        new = log.loc[rows[5:30]].assign(split="test")
        new["item"] = _other_items(log, new.index.to_numpy(), draws)
        again = log[log["split"] == "train"].iloc[::40].assign(split="test", rating=1, review="unheard words")
        again["timestamp"] -= 10**7  # pairs of training, as if known before
        log = pd.concat([log, new, again], ignore_index=True)
    return log


def _held_out(log: pd.DataFrame, folder: Path, strategy: str) -> np.ndarray:
    """Return a mask of rows that a strategy holds out."""
    rank = log.groupby("user")["timestamp"].rank(method="first", ascending=False)
    if strategy == "leave_last_out":
        return (rank <= 2).to_numpy()
    if strategy == "by_time":
        return (log["timestamp"].rank(ascending=False) <= 0.19 * len(log)).to_numpy()
    if strategy == "cold_users":
        first = log.groupby("user")["timestamp"].min()
        newest = first.nlargest(round(0.1 * len(first))).index
        return (log["user"].isin(newest) & (rank <= 2)).to_numpy()
    return _drawn(log, folder, strategy)


def _drawn(log: pd.DataFrame, folder: Path, strategy: str) -> np.ndarray:
    """Return a mask of the rows that a strategy holds out by draws, which depend on the pairs of users and items alone."""
    whole, config = gmmrec.load_dataset(folder), SplitConfig(strategy=strategy)
    train = gmmrec.split_dataset(whole, config, torch.Generator().manual_seed(config.seed)).train
    ends = (whole.vocabularies[kind].ids(getattr(train, kind)) for kind in ("user", "item"))
    trained = set(zip(*ends, strict=True))
    return np.array([pair not in trained for pair in zip(log["user"], log["item"], strict=True)])


def _other_items(log: pd.DataFrame, rows: np.ndarray, draws: RandomState) -> list[str]:
    """Return items that the users of some rows have nowhere else."""
    taken = {user: set(items) for user, items in log.groupby("user")["item"]}
    chosen = []
    for user in log.loc[rows, "user"]:
        free = sorted({f"i{row}" for row in range(ITEMS)} - taken[user])
        chosen.append(free[draws.randint(len(free))] if free else f"i{draws.randint(ITEMS)}")
        taken[user].add(chosen[-1])
    return chosen


def _texts(draws: RandomState, count: int) -> list[str]:
    return [" ".join(WORDS[draws.randint(len(WORDS))] for _ in range(draws.randint(1, 9))) for _ in range(count)]


def _triples(triples: pd.DataFrame) -> pd.DataFrame:
    """Return triples whose held-out ones have other tails, with further ones at the end."""
    rows, draws = np.flatnonzero(triples["split"] != "train"), RandomState(22)
    known = set(zip(triples["head"], triples["relation"], triples["tail"], strict=True))
    tails = sorted(set(triples["tail"]))
    for row in rows:
        head, relation = triples.loc[row, "head"], triples.loc[row, "relation"]
        free = [tail for tail in tails if (head, relation, tail) not in known]
        triples.loc[row, "tail"] = free[draws.randint(len(free))]
        known.add((head, relation, triples.loc[row, "tail"]))
    heads = sorted(set(triples["head"]))
    new = [(heads[draws.randint(len(heads))], "next", tails[draws.randint(len(tails))], "test") for _ in range(20)]
    new = [row for row in new if row[:3] not in known]
    return pd.concat([triples, pd.DataFrame(new, columns=list(triples.columns))], ignore_index=True)


def _outfits(outfits: pd.DataFrame) -> pd.DataFrame:
    """Return outfits whose held-out ones have other items, histories and texts, with further ones at the end."""
    rows, draws = np.flatnonzero(outfits["split"] != "train"), RandomState(23)
    for row in rows:
        items = [f"i{item}" for item in draws.permutation(ITEMS)[: draws.randint(4, 9)]]
        outfits.loc[row, "items"], outfits.loc[row, "history"] = " ".join(items[:3]), " ".join(items[3:])
    outfits.loc[rows, "text"] = _texts(draws, len(rows))
    new = outfits.loc[rows[:10]].assign(outfit=[f"new{row}" for row in range(10)], split="test")
    return pd.concat([outfits, new], ignore_index=True)


def _write_news(folder: Path, *, altered: bool) -> None:
    """Write impressions of a training folder, the last tenth of which are for validation, and of one for test.

    A history holds the clicks before it, and one of every tenth item besides, which no impression showed.
    """
    lines: dict[str, list[str]] = {"train": [], "dev": []}
    past = {user: [f"i{(user + 3 * step) % ITEMS}" for step in range(3)] for user in range(USERS)}
    found: dict[int, int] = {}  # item that a user found elsewhere
    for number in range(240):
        is_held_out = number >= 162  # 180 are of the training folder, 18 of which are for validation
        draws = RandomState([24, number, int(altered and is_held_out)])
        user = number % USERS if number < USERS else int(draws.randint(USERS)) if not is_held_out else (5 * number) % USERS
        shown = draws.permutation(ITEMS)[: draws.randint(4, 9)]
        clicked = draws.rand(len(shown)) < 0.4
        if is_held_out and altered and user in found:
            shown = np.array([found[user], *(item for item in shown if item != found[user])])
            clicked = np.arange(len(shown)) == 0
        time = pd.Timestamp(START + 3607 * number, unit="s").strftime("%m/%d/%Y %I:%M:%S %p")
        if number % 10 == 9 and not is_held_out:
            found[user] = number % ITEMS
            past[user].append(f"i{number % ITEMS}")
        seen = " ".join(f"i{item}-{int(click)}" for item, click in zip(shown, clicked, strict=True))
        lines["train" if number < 180 else "dev"].append(f"{number}\tu{user}\t{time}\t{' '.join(past[user])}\t{seen}\n")
        past[user] += [f"i{item}" for item, click in zip(shown, clicked, strict=True) if click]
    for name, text in lines.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "behaviors.tsv").write_text("".join(text), encoding="utf-8")
    draws = RandomState(25)
    values, ids = draws.randn(ITEMS, 6), np.array([f"i{row}" for row in range(ITEMS)])
    np.savez(folder / "image_feat.npz", ids=ids, values=values.astype(np.float32))
    words, mask = draws.randn(ITEMS, 4, 5), np.arange(4) < draws.randint(1, 5, ITEMS)[:, None]
    np.savez(folder / "text_feat.npz", ids=ids, values=words.astype(np.float32), mask=mask)
    pd.DataFrame({"id": ids}).rename(columns={"id": "item"}).to_csv(folder / "items.csv", index=False)
