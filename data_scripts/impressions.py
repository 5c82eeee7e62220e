"""Make impressions from an interaction log: the next items of each user, among other items popular at the time.

Logs of H&M purchases or movie ratings hold no impressions. This script simulates them by one rule:

- An impression holds the items that a user interacted with for the first time in one second (on one day, if times are dates).
- These items count as clicked. They are shown with ``--shown`` other popular items: drawn, without repeats, in proportion to their
  interactions in the ``--days`` before, or in the last ``--least`` events if these days hold fewer. Earlier items of the user are
  excluded; later ones are not, since they are unknown at the time.
- The history holds the user's earlier items, the newest ``--history`` of them, with times.

Events at that time or later affect neither popularity nor history. Items are shown in random order. These are no records of actual
impressions: metrics on them measure how well a model finds the next item among popular ones, and are not comparable to those on a
real log of impressions.

The new folder is in the layout of MIND (``behaviors.tsv.gz``, with the times of histories as a sixth field), with copies of the
source's tables and feature files. The source is any data set with times that ``load_dataset`` reads.

    python data_scripts/impressions.py movies-small --out runs/content/movies-small-impressions
    python data_scripts/impressions.py runs/content/hm-fashion --out runs/content/hm-fashion-impressions
"""

import argparse
import gzip
import shutil
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gmmrec.data.dataset import Dataset
from gmmrec.data.formats.bundled import bundled_names
from gmmrec.data.load import load_dataset
from gmmrec.errors import UsageError

DAY = 86_400
LOGS = ("interactions.", "ratings.", "split.", "behaviors.")
"""Files that are not copied: the log itself, which the impressions replace."""
ROUNDS = 8
"""Maximum number of draws, for users who know most of the items drawn."""


class Impression(NamedTuple):
    """One impression, with users and items as rows."""

    user: int
    time: int
    history: list[int]
    history_time: list[int]
    shown: list[int]
    clicked: list[bool]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a folder, or the name of a bundled data set")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shown", type=int, default=20, help="number of other items shown")
    parser.add_argument("--days", type=float, default=7, help="period of popularity in days")
    parser.add_argument("--least", type=int, default=2_000, help="minimum number of events for popularity")
    parser.add_argument("--history", type=int, default=50, help="maximum length of a history")
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()

    dataset = load_dataset(flags.source)
    rows = impressions(
        dataset, flags.shown, days=flags.days, least=flags.least, history=flags.history, generator=np.random.default_rng(flags.seed)
    )
    flags.out.mkdir(parents=True, exist_ok=True)
    count = write(flags.out / "behaviors.tsv.gz", rows, dataset)
    copied = copy_rest(flags.source, flags.out)
    print(f"{flags.out}: {count} impressions of {dataset.num_users} users, and {', '.join(copied)}")


def impressions(
    dataset: Dataset, shown: int, *, days: float, least: int, history: int, generator: np.random.Generator
) -> Iterator[Impression]:
    """Yield all impressions, ordered by time.

    Args:
        dataset: Data set with times and distinct user-item pairs.
        shown: Number of other items shown; fewer if too few items were popular.
        days: Period of popularity in days.
        least: Minimum number of events for popularity, if there are so many.
        history: Maximum length of a history.
        generator: Source of randomness of the items shown and their order.

    Raises:
        UsageError: The data set has no times.
    """
    log = dataset.interactions
    if log.time is None:
        raise UsageError(f"{dataset.name} has no times, which popularity needs; name a time_column")
    order = np.lexsort((log.user.numpy(), log.time.numpy()))
    user, item, time = (column.numpy()[order] for column in (log.user, log.item, log.time))
    begins = np.flatnonzero(np.diff(user, prepend=-1) | np.diff(time, prepend=-1))
    ends = np.append(begins[1:], len(user))
    past: list[dict[int, int]] = [{} for _ in range(dataset.num_users)]  # items of each user so far, and their times
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        moment, known = int(time[begin]), past[user[begin]]
        taken = item[begin:end].tolist()
        before = int(np.searchsorted(time, moment))  # events before this moment
        recent = min(int(np.searchsorted(time, moment - days * DAY)), max(0, before - least))
        others = popular(item[recent:before], known.keys() | set(taken), shown, generator)
        both = np.array([True] * len(taken) + [False] * len(others))
        mixed = generator.permutation(len(both))
        newest = list(known.items())[-history:]
        yield Impression(
            user=int(user[begin]),
            time=moment,
            history=[row for row, _ in newest],
            history_time=[when for _, when in newest],
            shown=np.array(taken + others)[mixed].tolist(),
            clicked=both[mixed].tolist(),
        )
        known.update(dict.fromkeys(taken, moment))


def popular(events: NDArray[np.int64], known: set[int], count: int, generator: np.random.Generator) -> list[int]:
    """Draw distinct unknown items in proportion to their frequency in ``events``.

    >>> sorted(popular(np.array([5, 5, 6, 7]), {6}, 3, np.random.default_rng(0)))
    [5, 7]
    """
    items: dict[int, None] = {}
    for _ in range(ROUNDS):
        if not len(events):
            break
        drawn = events[generator.integers(len(events), size=2 * count)].tolist()
        items |= dict.fromkeys(item for item in drawn if item not in known)
        if len(items) >= count:
            break
    return list(items)[:count]


def write(path: Path, rows: Iterator[Impression], dataset: Dataset) -> int:
    """Write one line per impression, and return their number."""
    users, items = (dataset.vocabularies[kind].ids() for kind in ("user", "item"))
    count = 0
    with path.open("wb") as raw, gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as file:
        for count, one in enumerate(rows, 1):
            history = " ".join(str(items[item]) for item in one.history)
            shown = " ".join(f"{items[item]}-{int(click)}" for item, click in zip(one.shown, one.clicked, strict=True))
            times = " ".join(map(str, one.history_time))
            file.write(f"{count}\t{users[one.user]}\t{written(one.time)}\t{history}\t{shown}\t{times}\n".encode())
    return count


def written(seconds: int) -> str:
    """Return a time in the format of MIND.

    >>> written(1_573_634_217)
    '11/13/2019 8:36:57 AM'
    """
    when = datetime.fromtimestamp(seconds, tz=timezone.utc)
    return f"{when.month}/{when.day}/{when.year} {when:%I}".replace(" 0", " ") + f":{when:%M:%S %p}"


def copy_rest(source: str, out: Path) -> list[str]:
    """Copy the tables of users and items and the feature files, and return their names."""
    folder = Path(str(files("gmmrec.data"))) / "bundled" / source if source in bundled_names() else Path(source)
    kept = [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(LOGS) and path.suffix in (".csv", ".gz", ".npy", ".npz", ".json", ".tsv")
    ]
    for path in kept:
        shutil.copyfile(path, out / path.name)
    return [path.name for path in kept]


if __name__ == "__main__":
    main()
