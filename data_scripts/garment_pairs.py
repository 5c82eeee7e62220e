"""Make a data set of pairs from purchases: an upper and a lower garment bought by one user on one day, with a text.

The source is a folder made by ``data_scripts/content.py hm-fashion``. The rules:

- an item is an *upper* garment if its ``group`` is "Garment Upper body", a *lower* one if it is "Garment Lower body", and neither
  if its ``section`` is that of nightwear, socks and tights. Items without these columns, half of them, are dropped;
- a *pair* is an upper and a lower garment in the basket of one user and day. Only the first purchase of a pair counts, so that no
  pair is in two parts;
- pairs are split at two points in time: the last ones are for test, those before for validation; purchases are split at the same
  times;
- the *text* of a pair is the first sentence of the upper garment's description, then that of the lower one's. H&M's customers
  write no comments, so that these product descriptions substitute for comments on an outfit. No held-out text is seen in
  training: a training pair has a text only if both garments were sold before the day ``--described``, a held-out pair only if
  neither was, and a training text that shares a sentence with a held-out one is dropped.

The new folder holds ``outfits.csv.gz`` (outfit, user, date, items: upper then lower, text, split), ``interactions.csv.gz``,
``items.csv`` with the column ``category`` (upper or lower), ``regions_feat.npz`` and ``image_feat.npz``. It has no descriptions or
word vectors, so that a model generates text from images.

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
"""Name of the section, truncated in the source."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--valid", type=float, default=0.1, help="validation share of the pairs")
    parser.add_argument("--test", type=float, default=0.2, help="test share of the pairs")
    parser.add_argument("--described", default="2019-10-01", help="products first sold from this day on have held-out texts")
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
    """Return columns ``user, date, upper, lower`` sorted by day, with the first purchase of every pair of garments.

    >>> log = pd.DataFrame({"user": [1, 1, 1, 2, 2], "item": [7, 8, 9, 7, 9], "date": ["d2", "d2", "d2", "d1", "d1"]})
    >>> pairs_of(log, pd.Series({7: "upper", 8: "upper", 9: "lower"}))[["user", "upper", "lower"]].to_numpy().tolist()
    [[2, 7, 9], [1, 8, 9]]
    """
    sides = [
        bought[bought["item"].map(category) == side][["user", "date", "item"]].rename(columns={"item": side})
        for side in ("upper", "lower")
    ]
    pairs = sides[0].merge(sides[1], on=["user", "date"]).sort_values(["date", "user"], kind="stable")
    distinct: pd.DataFrame = pairs.drop_duplicates(["upper", "lower"], ignore_index=True)
    return distinct


def first_sentences(items: pd.DataFrame) -> "pd.Series[str]":
    """Return the first sentence of every description, by item, for items with a description."""
    described = items.set_index("item")["description"].dropna()
    sentences: pd.Series[str] = described.str.strip().str.split(r"(?<=[.!])\s+", regex=True).str[0]
    return sentences


def texts(pairs: pd.DataFrame, sentences: "pd.Series[str]", new: "set[int]") -> "pd.Series[str]":
    """Return the text of every pair, missing where the rules give none.

    >>> pairs = pd.DataFrame({"upper": [1, 1, 2, 2], "lower": [5, 6, 6, 7], "split": ["train", "train", "train", "test"]})
    >>> sentences = pd.Series({1: "A top.", 2: "A vest.", 5: "Jeans.", 6: "A skirt.", 7: "Jeans."})
    >>> texts(pairs, sentences, {2, 7}).tolist()
    [nan, 'A top. A skirt.', nan, 'A vest. Jeans.']
    """
    upper, lower = (pairs[side].map(sentences) for side in ("upper", "lower"))
    num_new = pairs["upper"].isin(new).astype(int) + pairs["lower"].isin(new).astype(int)
    is_training = pairs["split"] == "train"
    has_text = (num_new == np.where(is_training, 0, 2)) & upper.notna() & lower.notna()
    held_out = set(upper[has_text & ~is_training]) | set(lower[has_text & ~is_training])
    has_text &= ~(is_training & (upper.isin(held_out) | lower.isin(held_out)))
    text: pd.Series[str] = (upper + " " + lower).where(has_text)
    return text


def copy_rows(source: Path, target: Path, ids: "np.typing.NDArray[np.int64]") -> None:
    """Copy the rows of some items."""
    with np.load(source) as arrays:
        kept = np.isin(arrays["ids"], ids)
        np.savez_compressed(target, **{name: arrays[name][kept] for name in arrays.files})


if __name__ == "__main__":
    main()
