"""Script that makes pairs of garments with texts."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gmmrec.data.load import load_dataset

SCRIPT = Path(__file__).resolve().parents[2] / "data_scripts" / "garment_pairs.py"
TOPS, SKIRTS, TIGHTS, UNKNOWN = range(8), range(8, 16), 16, 17


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen garments; those with odd numbers are sold from day 9 on. A description has two sentences, two products share one."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("out")
    frame = pd.DataFrame({"item": range(18)})
    frame["group"] = ["Garment Upper body"] * 8 + ["Garment Lower body"] * 9 + [None]
    frame["section"] = ["Womens Casual"] * 16 + ["Womens Nightwear, Socks & Tigh", None]
    frame["description"] = [f"Garment number {item}. Nice." for item in range(18)]
    frame.loc[15, "description"] = frame.loc[8, "description"]
    frame["garment_group"] = "Garments"
    frame.to_csv(source / "items.csv", index=False)
    generator, rows = np.random.default_rng(0), []
    for day in range(1, 29):
        sold = [item for item in range(18) if item % 2 == 0 or day >= 9]
        for user in range(3):
            rows += [(user, int(item), f"2020-01-{day:02}") for item in generator.choice(sold, 3, replace=False)]
    pd.DataFrame(rows, columns=["user", "item", "date"]).to_csv(source / "interactions.csv.gz", index=False)
    for name, shape in (("regions", (4, 3)), ("image", (5,))):
        np.savez_compressed(source / f"{name}_feat.npz", ids=np.arange(18), values=generator.normal(size=(18, *shape)))
    spec = importlib.util.spec_from_file_location("garment_pairs", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    arguments, sys.argv = (
        sys.argv,
        ["", str(source), "--out", str(out), "--described", "2020-01-09", "--test", "0.3", "--valid", "0.2"],
    )
    try:
        module.main()
    finally:
        sys.argv = arguments
    return out


def test_pairs_are_distinct_upper_and_lower_garments(folder) -> None:
    outfits = pd.read_csv(folder / "outfits.csv.gz")
    pairs = outfits["items"].str.split(expand=True).astype(int)
    assert set(pairs[0]) <= set(TOPS)
    assert set(pairs[1]) <= set(SKIRTS)
    assert not pairs.duplicated().any()
    assert sorted(outfits["split"].unique()) == ["test", "train", "valid"]
    days = outfits.groupby("split")["date"].agg(["min", "max"])
    assert days.loc["train", "max"] <= days.loc["valid", "min"] < days.loc["test", "max"]
    assert days.loc["valid", "max"] <= days.loc["test", "min"]
    bought = pd.read_csv(folder / "interactions.csv.gz")
    assert not set(bought["item"]) & {TIGHTS, UNKNOWN}
    assert (bought[bought["split"] == "train"]["date"] <= days.loc["train", "max"]).all()


def test_no_held_out_sentence_is_in_a_training_text(folder) -> None:
    outfits = pd.read_csv(folder / "outfits.csv.gz").dropna(subset="text")
    sentences = {part: set(rows["text"].str.split(r"(?<=\.) ").explode()) for part, rows in outfits.groupby("split")}
    assert sentences["train"]
    assert sentences["test"]
    assert not sentences["train"] & (sentences["test"] | sentences.get("valid", set()))
    assert all(text.startswith("Garment number") and text.endswith(".") and "Nice" not in text for text in outfits["text"])


def test_the_folder_loads(folder) -> None:
    dataset = load_dataset(folder)
    assert dataset.num_items == 16
    assert dataset.outfits.category.bincount().tolist() == [8, 8]
    assert dataset.features["regions"].values.shape == (16, 4, 3)
    assert dataset.outfits.text.any(1).sum() == pd.read_csv(folder / "outfits.csv.gz")["text"].notna().sum()
