"""Makes a data set of every region of a log of visits: the domains of a transfer from one dense region to sparse ones.

The source is a folder with ``checkins.csv.gz`` (user, poi, unix_time), ``pois.csv.gz`` (poi, lat, lon, region and perhaps
categories) and ``split.csv.gz`` (user, poi, split). The new folder gets one folder a region, named like ``new-york``:

- ``interactions.csv.gz``: user, item, time, split, in the order of time; the first visit of every pair alone. Times are local:
  seconds since 1970 plus a whole number of hours, one for every 15 degrees of the region's mean longitude, which may be an hour
  off the legal time. Times that are all midnight name days, and stay as they are;
- ``items.csv``: item, lat, lon, and categories where there are such;
- ``location_feat.npz`` [I, 2]: latitude and longitude at mean 0 and deviation 1 over the places of the region, so that regions
  share what "north of the centre" or "two deviations away" means;
- ``categories_feat.npz`` [I, C], where there are categories: a column for each of the most frequent ones of the whole source, the
  same in every region, 1 for those of the place.

A region with fewer visits than ``--least`` is left out, and so are visits outside of all regions.

    python data_scripts/regions.py foursquare-us-regions --out runs/content/foursquare
"""

import argparse
import re
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

OUTSIDE = "other"
DAY = 86_400
HOUR = 3_600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--least", type=int, default=500, help="visits (first ones of a pair) a region must have")
    parser.add_argument("--categories", type=int, default=64, help="most frequent categories that get a column")
    flags = parser.parse_args()

    visits = first_visits(flags.source)
    positions = pd.read_csv(flags.source / "pois.csv.gz", dtype={"poi": "int64"}).rename(columns={"poi": "item"})
    frequent = frequent_categories(positions, flags.categories)
    for region, inside in positions[positions["region"] != OUTSIDE].groupby("region"):
        log = visits[visits["item"].isin(inside["item"])]
        if len(log) < flags.least:
            continue
        folder = flags.out / folder_name(str(region))
        items = inside[inside["item"].isin(log["item"])]
        offset = write_region(folder, log, items, frequent)
        parts = log["split"].value_counts()
        print(
            f"{folder}: {log['user'].nunique()} users, {len(items)} places, {len(log)} visits "
            f"({', '.join(f'{count} {part}' for part, count in parts.items())}), UTC{offset:+d} h",
            flush=True,
        )


def first_visits(source: Path) -> pd.DataFrame:
    """The first visit of every pair with its part: user, item, time, split, in the order of time."""
    log = pd.read_csv(source / "checkins.csv.gz").sort_values("unix_time", kind="stable").drop_duplicates(["user", "poi"])
    split = pd.read_csv(source / "split.csv.gz")[["user", "poi", "split"]]
    visits = log.merge(split, on=["user", "poi"], how="left", validate="one_to_one")
    unknown = visits["split"].isna()
    if unknown.any():
        raise ValueError(f"split.csv.gz has no part for {int(unknown.sum())} of the pairs in checkins.csv.gz; add them")
    found: pd.DataFrame = visits.rename(columns={"poi": "item", "unix_time": "time"})[["user", "item", "time", "split"]]
    return found


def folder_name(region: str) -> str:
    """Lower case, with hyphens.

    >>> folder_name("Washington DC")
    'washington-dc'
    """
    return re.sub(r"[^a-z0-9]+", "-", region.lower()).strip("-")


def frequent_categories(positions: pd.DataFrame, count: int) -> list[str]:
    """The categories that most places have, most frequent first; none where the source has no categories."""
    if "categories" not in positions:
        return []
    counts = positions["categories"].astype(str).str.split().explode().value_counts()
    return [str(category) for category in counts.sort_index().sort_values(ascending=False, kind="stable").index[:count]]


def write_region(folder: Path, log: pd.DataFrame, items: pd.DataFrame, frequent: list[str]) -> int:
    """Writes one data set; returns the hours that were added to its times."""
    folder.mkdir(parents=True, exist_ok=True)
    days_alone = bool((log["time"] % DAY == 0).all())
    offset = 0 if days_alone else round(items["lon"].mean() / 15)
    zipped = {"method": "gzip", "mtime": 0}
    log.assign(time=log["time"] + offset * HOUR).to_csv(folder / "interactions.csv.gz", index=False, compression=zipped)
    items.drop(columns="region").to_csv(folder / "items.csv", index=False)
    ids = items["item"].to_numpy()
    np.savez_compressed(folder / "location_feat.npz", ids=ids, values=standardized(items[["lat", "lon"]].to_numpy(np.float64)))
    if frequent:
        words = items["categories"].astype(str).str.split()
        columns = np.array([[category in own for category in frequent] for own in words], dtype=np.float32)
        np.savez_compressed(folder / "categories_feat.npz", ids=ids, values=columns)
    return offset


def standardized(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Columns at mean 0 and deviation 1."""
    scaled: NDArray[np.float32] = ((values - values.mean(0)) / values.std(0).clip(min=1e-9)).astype(np.float32)
    return scaled


if __name__ == "__main__":
    main()
