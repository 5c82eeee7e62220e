"""Makes a data set of pairs from purchases: an upper and a lower garment that one user bought on one day, and what is said of them.

Source: a folder made by ``data_scripts/content.py hm-fashion``. The rules:

- an item is an *upper* garment if its ``group`` is "Garment Upper body", a *lower* one if it is "Garment Lower body", and neither
  if its ``section`` is that of nightwear, socks and tights. Items without these columns, half of them, are left out;
- a *pair* is an upper and a lower garment in the basket of one user and day. Of a pair that was bought again, the first time
  counts, so that no pair is in two parts;
- days are cut at two moments: the last pairs test, those before them validate; purchases are held out at the same moments;
- the *text* of a pair is the first sentence of the upper garment's description, then that of the lower one's. H&M's customers
  write no comments: these are the shop's own words on the two products, side by side, in place of what people say of an outfit.
  No held-out text was ever read in training: a training pair has a text only if both garments were sold before the day
  ``--described``, a held-out pair only if neither was, and a training text that shares a sentence with a held-out one is dropped.

What the new folder holds: ``outfits.csv.gz`` (outfit, user, date, items: upper then lower, text, split), ``interactions.csv.gz``,
``items.csv`` with the column ``category`` (upper or lower), ``regions_feat.npz``, ``image_feat.npz``. Descriptions stay behind, and
so do the vectors of words: a model shall say what it sees.

    python data_scripts/garment_pairs.py runs/content/hm-fashion --out runs/content/garment-pairs
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from gmmrec.data.parts import GIVEN_PARTS

GZIP = {"method": "gzip", "compresslevel": 9, "mtime": 0}
PARTS = np.array([part.value for part in GIVEN_PARTS])
GROUPS = {"Garment Upper body": "upper", "Garment Lower body": "lower"}
NIGHT = "Womens Nightwear, Socks & Tigh"
"""Cut off in the source."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--valid", type=float, default=0.1, help="share of the pairs that validates")
    parser.add_argument("--test", type=float, default=0.2, help="share of the pairs that tests")
    parser.add_argument(
        "--described", default="2019-10-01", help="products first sold from this day on are described after training"
    )
    flags = parser.parse_args()
    flags.out.mkdir(parents=True, exist_ok=True)

    items = pd.read_csv(flags.source / "items.csv")
    items["category"] = items["group"].map(GROUPS).where(items["section"] != NIGHT)
    log = pd.read_csv(flags.source / "interactions.csv.gz")
    first_sold = log.groupby("item")["date"].min()
    items = items[items["category"].notna()]
    bought = log[log["item"].isin(items["item"])].drop_duplicates(["user", "item", "date"], ignore_index=True)

    pairs = pairs_of(bought, items.set_index("item")["category"])
    days = pairs["date"].to_numpy()
    cuts = [days[int(len(days) * (1 - flags.valid - flags.test))], days[int(len(days) * (1 - flags.test))]]
    pairs["split"], bought["split"] = (PARTS[np.searchsorted(cuts, frame["date"], side="right")] for frame in (pairs, bought))
    is_new = first_sold >= flags.described
    pairs["text"] = texts(pairs, first_sentences(items), set(is_new[is_new].index))

    items = items.drop(columns=["description", "garment_group"])
    items.to_csv(flags.out / "items.csv", index=False)
    bought[["user", "item", "date", "split"]].to_csv(flags.out / "interactions.csv.gz", index=False, compression=GZIP)
    pairs = pairs.assign(items=pairs["upper"].astype(str) + " " + pairs["lower"].astype(str), outfit=range(len(pairs)))
    columns = ["outfit", "user", "date", "items", "text", "split"]
    pairs[columns].to_csv(flags.out / "outfits.csv.gz", index=False, compression=GZIP)
    for name in ("regions", "image"):
        copy_rows(flags.source / f"{name}_feat.npz", flags.out / f"{name}_feat.npz", items["item"].to_numpy())
    counts = pairs.groupby("split", sort=False)["text"].agg(["size", "count"])
    print(f"{len(items)} garments ({items['category'].value_counts().to_dict()}), {len(bought)} purchases")
    print(counts.rename(columns={"size": "pairs", "count": "with text"}).to_string())


def pairs_of(bought: pd.DataFrame, category: "pd.Series[str]") -> pd.DataFrame:
    """Columns ``user, date, upper, lower`` in the order of days; the first time of every pair of garments.

    >>> log = pd.DataFrame({"user": [1, 1, 1, 2, 2], "item": [7, 8, 9, 7, 9], "date": ["d2", "d2", "d2", "d1", "d1"]})
    >>> pairs_of(log, pd.Series({7: "upper", 8: "upper", 9: "lower"}))[["user", "upper", "lower"]].to_numpy().tolist()
    [[2, 7, 9], [1, 8, 9]]
    """
    sides = [
        bought[bought["item"].map(category) == side][["user", "date", "item"]].rename(columns={"item": side})
        for side in ("upper", "lower")
    ]
    found = sides[0].merge(sides[1], on=["user", "date"]).sort_values(["date", "user"], kind="stable")
    kept: pd.DataFrame = found.drop_duplicates(["upper", "lower"], ignore_index=True)
    return kept


def first_sentences(items: pd.DataFrame) -> "pd.Series[str]":
    """The first sentence of every description, by item; nothing for items without one."""
    described = items.set_index("item")["description"].dropna()
    sentences: pd.Series[str] = described.str.strip().str.split(r"(?<=[.!])\s+", regex=True).str[0]
    return sentences


def texts(pairs: pd.DataFrame, sentences: "pd.Series[str]", new: "set[int]") -> "pd.Series[str]":
    """What is said of every pair; missing where the rules say nothing.

    >>> pairs = pd.DataFrame({"upper": [1, 1, 2, 2], "lower": [5, 6, 6, 7], "split": ["train", "train", "train", "test"]})
    >>> said = pd.Series({1: "A top.", 2: "A vest.", 5: "Jeans.", 6: "A skirt.", 7: "Jeans."})
    >>> texts(pairs, said, {2, 7}).tolist()
    [nan, 'A top. A skirt.', nan, 'A vest. Jeans.']
    """
    upper, lower = (pairs[side].map(sentences) for side in ("upper", "lower"))
    news = pairs["upper"].isin(new).astype(int) + pairs["lower"].isin(new).astype(int)
    is_training = pairs["split"] == "train"
    told = (news == np.where(is_training, 0, 2)) & upper.notna() & lower.notna()
    held_out = set(upper[told & ~is_training]) | set(lower[told & ~is_training])
    told &= ~(is_training & (upper.isin(held_out) | lower.isin(held_out)))
    found: pd.Series[str] = (upper + " " + lower).where(told)
    return found


def copy_rows(source: Path, target: Path, ids: "np.typing.NDArray[np.int64]") -> None:
    """The rows of some items."""
    with np.load(source) as arrays:
        kept = np.isin(arrays["ids"], ids)
        np.savez_compressed(target, **{name: arrays[name][kept] for name in arrays.files})


if __name__ == "__main__":
    main()
