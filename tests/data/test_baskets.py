"""Script that makes baskets: items bought on one day, with earlier purchases as the history."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from gmmrec.data.load import load_dataset
from gmmrec.data.split import split_dataset

SCRIPT = Path(__file__).resolve().parents[2] / "data_scripts" / "baskets.py"


def main_of_the_script(*flags: str, monkeypatch) -> None:
    spec = importlib.util.spec_from_file_location("baskets", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["baskets.py", *flags])
    module.main()


def test_baskets_agree_with_a_slow_version(tmp_path, monkeypatch):
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    generator = np.random.default_rng(0)
    days = [f"2020-01-{day:02d}" for day in range(1, 29)]
    log = pd.DataFrame(
        {"user": generator.integers(6, size=300), "item": generator.integers(20, size=300), "date": generator.choice(days, 300)}
    ).sort_values("date", kind="stable")
    log.to_csv(source / "interactions.csv.gz", index=False)
    pd.DataFrame({"item": range(20), "type": [f"kind {i % 4}" if i else None for i in range(20)]}).to_csv(
        source / "items.csv", index=False
    )
    main_of_the_script("--source", str(source), "--out", str(out), "--least", "3", "--length", "7", monkeypatch=monkeypatch)
    table = pd.read_csv(out / "outfits.csv.gz", keep_default_na=False)
    log = log.drop_duplicates()
    assert len(table) > 10
    for row in table.itertuples():
        mine = log[log["user"] == row.user]
        basket = mine.loc[mine["date"] == row.date, "item"].tolist()
        assert [int(i) for i in row.items.split()] == basket
        assert len(basket) >= 3
        assert [int(i) for i in row.history.split()] == mine.loc[mine["date"] < row.date, "item"].tolist()[-7:]
    sizes = log.groupby(["user", "date"]).size()
    assert len(table) == int((sizes >= 3).sum())
    last = [table.loc[table["split"] == part, "date"].max() for part in ("train", "valid", "test")]
    first = [table.loc[table["split"] == part, "date"].min() for part in ("train", "valid", "test")]
    assert last[0] < first[1] <= last[1] < first[2]
    bought = pd.read_csv(out / "interactions.csv.gz")
    assert bought.loc[bought["split"] == "train", "date"].max() < first[1]
    dataset = load_dataset(str(out))
    assert len(split_dataset(dataset).outfits) == len(table)
    assert dataset.outfits.category.tolist().count(-1) == 1
