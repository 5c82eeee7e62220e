"""Make one data set per region from a log of visits: the domains of a transfer from a dense region to sparse ones.

The source is a folder with ``checkins.csv.gz`` (user, poi, unix_time), ``pois.csv.gz`` (poi, lat, lon, region and optionally
categories) and ``split.csv.gz`` (user, poi, split). The new folder gets one subfolder per region, named like ``new-york``:

- ``interactions.csv.gz``: user, item, time, split, sorted by time, with only the first visit of every pair. Times are local:
  seconds since 1970 plus a whole number of hours, one per 15 degrees of the region's mean longitude, which may differ from the
  legal time by an hour. Times that are all at midnight are days and stay unchanged;
- ``items.csv``: item, lat, lon, and categories if present;
- ``location_feat.npz`` [I, 2]: latitude and longitude, standardized to mean 0 and standard deviation 1 over the region's POIs, so
  that they are comparable across regions;
- ``categories_feat.npz`` [I, C], if there are categories: one column per most frequent category of the whole source, the same in
  every region, 1 for the categories of the POI.

Regions with fewer visits than ``--least`` and visits outside of all regions are dropped.

    python data_scripts/regions.py foursquare-us-regions --out runs/content/foursquare
"""

import argparse
import re
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmmrec.errors import UsageError

OUTSIDE = "other"
DAY = 86_400
HOUR = 3_600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--least", type=int, default=500, help="minimum number of distinct user-POI pairs per region")
    parser.add_argument("--categories", type=int, default=64, help="number of most frequent categories with a column")
    flags = parser.parse_args()

    visits = first_visits(flags.source)
    pois = pd.read_csv(flags.source / "pois.csv.gz", dtype={"poi": "int64"}).rename(columns={"poi": "item"})
    frequent = frequent_categories(pois, flags.categories)
    for region, inside in pois[pois["region"] != OUTSIDE].groupby("region"):
        log = visits[visits["item"].isin(inside["item"])]
        if len(log) < flags.least:
            continue
        folder = flags.out / folder_name(str(region))
        items = inside[inside["item"].isin(log["item"])]
        offset = write_region(folder, log, items, frequent)
        parts = log["split"].value_counts()
        print(
            f"{folder}: {log['user'].nunique()} users, {len(items)} POIs, {len(log)} visits "
            f"({', '.join(f'{count} {part}' for part, count in parts.items())}), UTC{offset:+d} h",
            flush=True,
        )


def first_visits(source: Path) -> pd.DataFrame:
    """Return the first visit of every pair with its part: user, item, time, split, sorted by time."""
    log = pd.read_csv(source / "checkins.csv.gz").sort_values("unix_time", kind="stable").drop_duplicates(["user", "poi"])
    split = pd.read_csv(source / "split.csv.gz")[["user", "poi", "split"]]
    visits = log.merge(split, on=["user", "poi"], how="left", validate="one_to_one")
    unknown = visits["split"].isna()
    if unknown.any():
        raise UsageError(f"split.csv.gz has no part for {int(unknown.sum())} of the pairs in checkins.csv.gz; add them")
    table: pd.DataFrame = visits.rename(columns={"poi": "item", "unix_time": "time"})[["user", "item", "time", "split"]]
    return table


def folder_name(region: str) -> str:
    """Return a region's name in lower case, with hyphens.

    >>> folder_name("Washington DC")
    'washington-dc'
    """
    return re.sub(r"[^a-z0-9]+", "-", region.lower()).strip("-")


def frequent_categories(pois: pd.DataFrame, count: int) -> list[str]:
    """Return the most frequent categories of POIs, most frequent first; none if the source has no categories."""
    if "categories" not in pois:
        return []
    counts = pois["categories"].astype(str).str.split().explode().value_counts()
    return [str(category) for category in counts.sort_index().sort_values(ascending=False, kind="stable").index[:count]]


def write_region(folder: Path, log: pd.DataFrame, items: pd.DataFrame, frequent: list[str]) -> int:
    """Write one data set, and return the hours added to its times."""
    folder.mkdir(parents=True, exist_ok=True)
    is_daily = bool((log["time"] % DAY == 0).all())
    offset = 0 if is_daily else round(items["lon"].mean() / 15)
    zipped = {"method": "gzip", "mtime": 0}
    log.assign(time=log["time"] + offset * HOUR).to_csv(folder / "interactions.csv.gz", index=False, compression=zipped)
    items.drop(columns="region").to_csv(folder / "items.csv", index=False)
    ids = items["item"].to_numpy()
    np.savez_compressed(folder / "location_feat.npz", ids=ids, values=standardized(items[["lat", "lon"]].to_numpy(np.float64)))
    if frequent:
        words = items["categories"].astype(str).str.split()
        columns = np.array([[category in row for category in frequent] for row in words], dtype=np.float32)
        np.savez_compressed(folder / "categories_feat.npz", ids=ids, values=columns)
    return offset


def standardized(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Standardize columns to mean 0 and standard deviation 1."""
    scaled: NDArray[np.float32] = ((values - values.mean(0)) / values.std(0).clip(min=1e-9)).astype(np.float32)
    return scaled


if __name__ == "__main__":
    main()
