"""Make a data set of outfits from a log of purchases: the items a user bought on one day are a bundle.

The source is a folder with ``interactions.csv.gz`` (user, item and the day in the column ``date``), ``items.csv`` (item, and its
category in the column ``type``), feature files, and photos in ``images.zip``; here a sample of the H&M purchases. Baskets are
split at two points in time, the same for all users: the last ones are for test, those before for validation. The history of a
basket holds the items its user bought on earlier days, oldest first, and nothing later; interactions are split at the same times.

    python data_scripts/baskets.py --source hm-fashion-sample --least 2 --out hm-baskets
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from gmmrec.data.parts import GIVEN_PARTS

GZIP = {"method": "gzip", "compresslevel": 9, "mtime": 0}
PARTS = np.array([part.value for part in GIVEN_PARTS])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--least", type=int, default=2, help="minimum number of items per basket")
    parser.add_argument("--share", type=float, default=0.15, help="validation share, and equal test share, of the baskets")
    parser.add_argument("--length", type=int, default=50, help="maximum length of a history")
    flags = parser.parse_args()
    flags.out.mkdir(parents=True, exist_ok=True)

    bought = pd.read_csv(flags.source / "interactions.csv.gz", usecols=["user", "item", "date"])
    bought = bought.drop_duplicates(ignore_index=True)  # pieces of one product on one day
    bundles = baskets(bought, flags.least, flags.length)
    moments = bundles["date"].sort_values().to_numpy()
    cuts = [moments[int(len(moments) * (1 - share))] for share in (2 * flags.share, flags.share)]
    bundles["split"] = PARTS[np.searchsorted(cuts, bundles["date"], side="right")]
    bought["split"] = PARTS[np.searchsorted(cuts, bought["date"], side="right")]
    bundles.to_csv(flags.out / "outfits.csv.gz", index=False, compression=GZIP)
    bought.to_csv(flags.out / "interactions.csv.gz", index=False, compression=GZIP)
    items = pd.read_csv(flags.source / "items.csv")
    items.assign(category=items["type"]).to_csv(flags.out / "items.csv", index=False)
    for path in (*flags.source.glob("*_feat.np[yz]"), *flags.source.glob("images.zip")):
        shutil.copy2(path, flags.out / path.name)


def baskets(bought: pd.DataFrame, least: int, length: int) -> pd.DataFrame:
    """Return columns ``outfit, user, date, items, history`` from a log with one row per user, item and day.

    >>> log = pd.DataFrame({"user": [1, 1, 1], "item": [7, 8, 9], "date": ["2020-01-02", "2020-01-02", "2020-01-01"]})
    >>> baskets(log, 2, 50).to_dict("records")
    [{'outfit': 0, 'user': 1, 'date': '2020-01-02', 'items': '7 8', 'history': '9'}]
    """
    rows = []
    for user, events in bought.sort_values("date", kind="stable").groupby("user", sort=True):
        history: list[str] = []
        for date, items in events.groupby("date", sort=True)["item"]:
            basket = items.astype(str).tolist()
            if len(basket) >= least:
                rows.append((user, date, " ".join(basket), " ".join(history[-length:])))
            history += basket
    table: pd.DataFrame = pd.DataFrame(rows, columns=["user", "date", "items", "history"]).sort_values("date", kind="stable")
    table.insert(0, "outfit", range(len(table)))
    numbered: pd.DataFrame = table.reset_index(drop=True)
    return numbered


if __name__ == "__main__":
    main()
