"""Makes impressions from a log of what users took: what each took next, among other things that were popular at that time.

No log of H&M purchases or of film ratings says what people saw. This script supposes it, by one rule:

- An impression is everything that a user took for the first time in one second (on one day, where times are dates).
- What was taken counts as clicked. Beside it stand ``--shown`` other items that were popular then: drawn, without repeats, in
  proportion to how often they were taken in the ``--days`` before that moment, or among the last ``--least`` events where these
  days hold fewer. Whatever the user had taken before is left out; what the user takes later is not, since nobody could know it.
- The history is what the user had taken before that moment, the newest ``--history`` of it, with times.

Nothing that happens at that moment or later has a part in what is popular, or in the history. The order in which items are shown
is random. So an impression is no record of what was seen: figures on it tell how well a model finds the next item among popular
ones, and cannot be compared with those of a real log of impressions.

The new folder is in the layout of MIND (``behaviors.tsv.gz``, with the times of histories as a sixth field), with the tables and
feature files of the source beside it. The source is anything that ``load_dataset`` reads and that has times.

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

DAY = 86_400
LOGS = ("interactions.", "ratings.", "split.", "behaviors.")
"""What is not copied: the log itself is told by impressions."""
ROUNDS = 8
"""How often items are drawn at most, where too many of those drawn had been taken before."""


class Impression(NamedTuple):
    """One line: rows of users and items."""

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
    parser.add_argument("--shown", type=int, default=20, help="other items beside what was taken")
    parser.add_argument("--days", type=float, default=7, help="how long something stays popular")
    parser.add_argument("--least", type=int, default=2_000, help="events that popularity is made of at least")
    parser.add_argument("--history", type=int, default=50, help="newest items of a history that are written")
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()

    dataset = load_dataset(flags.source)
    found = impressions(
        dataset, flags.shown, days=flags.days, least=flags.least, history=flags.history, generator=np.random.default_rng(flags.seed)
    )
    flags.out.mkdir(parents=True, exist_ok=True)
    count = write(flags.out / "behaviors.tsv.gz", found, dataset)
    copied = copy_rest(flags.source, flags.out)
    print(f"{flags.out}: {count} impressions of {dataset.num_users} users, and {', '.join(copied)}")


def impressions(
    dataset: Dataset, shown: int, *, days: float, least: int, history: int, generator: np.random.Generator
) -> Iterator[Impression]:
    """All impressions in the order of time.

    Args:
        dataset: With times; of every pair one interaction.
        shown: Other items beside what was taken; fewer where nothing else was popular.
        days: How long something stays popular.
        least: Events that popularity is made of at least, as far as there are so many.
        history: Longest history.
        generator: Draws what is shown, and its order.

    Raises:
        ValueError: There are no times.
    """
    log = dataset.interactions
    if log.time is None:
        raise ValueError(f"{dataset.name} has no times, but what was popular depends on them; name a time_column")
    order = np.lexsort((log.user.numpy(), log.time.numpy()))
    user, item, time = (column.numpy()[order] for column in (log.user, log.item, log.time))
    begins = np.flatnonzero(np.diff(user, prepend=-1) | np.diff(time, prepend=-1))
    ends = np.append(begins[1:], len(user))
    past: list[dict[int, int]] = [{} for _ in range(dataset.num_users)]  # what each has taken so far, and when
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        moment, own = int(time[begin]), past[user[begin]]
        taken = item[begin:end].tolist()
        before = int(np.searchsorted(time, moment))  # events before this moment
        recent = min(int(np.searchsorted(time, moment - days * DAY)), max(0, before - least))
        others = popular(item[recent:before], own.keys() | set(taken), shown, generator)
        both = np.array([True] * len(taken) + [False] * len(others))
        mixed = generator.permutation(len(both))
        newest = list(own.items())[-history:]
        yield Impression(
            user=int(user[begin]),
            time=moment,
            history=[known for known, _ in newest],
            history_time=[when for _, when in newest],
            shown=np.array(taken + others)[mixed].tolist(),
            clicked=both[mixed].tolist(),
        )
        own.update(dict.fromkeys(taken, moment))


def popular(events: NDArray[np.int64], known: set[int], count: int, generator: np.random.Generator) -> list[int]:
    """Distinct items, drawn in proportion to how often they occur in ``events``, none of them known.

    >>> sorted(popular(np.array([5, 5, 6, 7]), {6}, 3, np.random.default_rng(0)))
    [5, 7]
    """
    found: dict[int, None] = {}
    for _ in range(ROUNDS):
        if not len(events):
            break
        drawn = events[generator.integers(len(events), size=2 * count)].tolist()
        found |= dict.fromkeys(item for item in drawn if item not in known)
        if len(found) >= count:
            break
    return list(found)[:count]


def write(path: Path, found: Iterator[Impression], dataset: Dataset) -> int:
    """Writes a line for every impression; returns their number."""
    users, items = (dataset.vocabularies[kind].ids() for kind in ("user", "item"))
    count = 0
    with path.open("wb") as raw, gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as file:
        for count, one in enumerate(found, 1):
            history = " ".join(str(items[item]) for item in one.history)
            shown = " ".join(f"{items[item]}-{int(click)}" for item, click in zip(one.shown, one.clicked, strict=True))
            times = " ".join(map(str, one.history_time))
            file.write(f"{count}\t{users[one.user]}\t{written(one.time)}\t{history}\t{shown}\t{times}\n".encode())
    return count


def written(seconds: int) -> str:
    """A time as MIND writes it.

    >>> written(1_573_634_217)
    '11/13/2019 8:36:57 AM'
    """
    when = datetime.fromtimestamp(seconds, tz=timezone.utc)
    return f"{when.month}/{when.day}/{when.year} {when:%I}".replace(" 0", " ") + f":{when:%M:%S %p}"


def copy_rest(source: str, out: Path) -> list[str]:
    """Copies tables of users and items, and what belongs to features; returns their names."""
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
