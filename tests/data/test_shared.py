"""Loading of the public data sets in the shared folder, directly or by the recipes of ``docs/how-to/data.md``."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from gmmrec.data.load import load_dataset
from gmmrec.data.split import SplitConfig, split_dataset

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
DOCS = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "data.md"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not here")]

# Users, items, distinct pairs, modalities with the number of items that have them, given parts, as in their READMEs.
FIGURES = {
    "tiktok": (9308, 6710, 68722, {"audio": 6710, "image": 6710}, (59541, 3051, 6130)),
    "hm-fashion-sample": (713, 2314, 13812, {"image": 2314, "text": 1159}, None),
    "amazon-baby": (19445, 7050, 160792, {}, (118551, 21682, 20559)),
    "ml-100k": (943, 1682, 100000, {}, None),
    "ml-latest-small": (671, 9125, 100004, {}, None),
    "amazon-beauty-seq": (22363, 12101, 198502, {}, None),
    "amazon-toys-seq": (19412, 11924, 167597, {"text": 11924}, None),
    "yelp-seq": (30431, 20033, 316354 - 11830, {"text": 20033}, None),
    "foursquare-us-regions": (4969, 8000, 92103, {}, (74349, 0, 17754)),
    "yelp-city-checkins": (1000, 5255, 33859, {}, (23275, 3217, 7367)),
    "amazon-fashion-reviews": (406, 31, 3042, {}, None),
    "amazon-sports-neighbours": (28940, 15207, 239317, {"visual": 15207, "textual": 15207}, (158554, 30758, 50005)),
    "gowalla": (29858, 40981, 1027370, {}, (810128, 0, 217242)),
    "ml1m-posters": (6040, 3260, 998539, {"image": 3256, "title": 3260, "description": 3260}, (801218, 0, 197321)),
}


@pytest.mark.parametrize("name", FIGURES)
def test_folders_load_as_they_are(name):
    users, items, pairs, modalities, parts = FIGURES[name]
    dataset = load_dataset(SHARED / name)
    assert (dataset.num_users, dataset.num_items, len(dataset.interactions)) == (users, items, pairs)
    assert {modality: int(table.present.sum()) for modality, table in dataset.features.items()} == modalities
    given = None if dataset.given_split is None else tuple(dataset.given_split.long().bincount(minlength=3).tolist())
    assert given == parts
    split = split_dataset(dataset, SplitConfig(), torch.Generator().manual_seed(0))
    assert len(split.train) + len(split.valid) + len(split.test) == pairs


def test_features_belong_to_their_items():
    """Row numbers, keys of another column and ids from one, each against the file itself."""
    posters = load_dataset(SHARED / "ml1m-posters")
    with np.load(SHARED / "ml1m-posters" / "image_features.npz") as arrays:
        row = posters.attributes["item"]["image_row"].astype(int)
        has = np.flatnonzero(row >= 0)
        assert np.array_equal(posters.features["image"].values[has].numpy(), arrays["feat"][row[has]].astype(np.float32))
    tiktok = load_dataset(SHARED / "tiktok")
    item = tiktok.vocabularies["item"].rows([6709])
    assert np.array_equal(tiktok.features["audio"].values[item[0]], np.load(SHARED / "tiktok" / "audio_feat.npy")[6709])
    yelp = load_dataset(SHARED / "yelp-seq")
    item = yelp.vocabularies["item"].rows([1])
    assert yelp.attributes["item"]["title"][int(item)] == "The Great Greek"
    assert np.array_equal(yelp.features["text"].values[item[0]], np.load(SHARED / "yelp-seq" / "text_feat.npy")[0])


def test_missing_text_is_masked_and_reported(caplog):
    load_dataset(SHARED / "hm-fashion-sample")
    assert "1155 of 2314 items have no text (1155 rows of zeros" in caplog.text
    assert "4663 repeated user-item pairs are merged" in caplog.text


def test_reviews_of_critics_give_the_five_core_of_their_readme():
    dataset = load_dataset(SHARED / "rt-critic-reviews")
    assert (dataset.num_items, len(dataset.interactions)) == (1560, 33372)
    assert int(dataset.features["synopsis"].present.sum()) == 1560
    assert {"genre", "director", "synopsis"} <= set(dataset.attributes["item"])
    core = load_dataset(SHARED / "rt-critic-reviews", k_core=5)
    assert (core.num_users, core.num_items, len(core.interactions)) == (1002, 698, 30166)
    assert abs(float(core.interactions.weight.mean()) - 3.540) < 0.001
    assert len(load_dataset(SHARED / "rt-critic-reviews", weight_column="none").interactions) == 46737


def test_sequences_keep_their_repeats_on_request():
    dataset = load_dataset(SHARED / "yelp-seq", duplicates="keep")
    assert len(dataset.interactions) == 316354
    first = dataset.interactions.take(dataset.interactions.user == 0)
    assert first.order.tolist() == list(range(len(first)))


def recipe(heading: str) -> str:
    """Return the Python block under a heading of the page."""
    section = DOCS.read_text().split(f"### {heading}\n")[1]
    return section.split("```python\n")[1].split("```")[0]


def run(heading, folder, monkeypatch):
    monkeypatch.chdir(SHARED / folder)
    names: dict[str, object] = {"pd": pd, "load_dataset": load_dataset}
    exec(compile(recipe(heading), str(DOCS), "exec"), names)
    return names["dataset"]


def test_recipe_for_files_of_parts(monkeypatch):
    dataset = run("One file per split part", "amazon-cross-domain", monkeypatch)
    assert (dataset.num_users, len(dataset.interactions)) == (4998, 50558 + 3698)
    assert dataset.given_split.long().bincount().tolist() == [50558, 0, 3698]


def test_recipe_for_impressions(monkeypatch):
    dataset = run("A news click log", "mind-impressions-sample", monkeypatch)
    shown = dataset.impressions
    assert (dataset.num_users, dataset.num_items, len(shown)) == (1199, 13859, 1200)
    assert (shown.shown.values.numel(), int(shown.clicked.sum())) == (45592, 1966)
    assert int((shown.history.counts == 0).sum()) == 27
    assert shown.history.values.unique().numel() == 9858
    assert shown.part.bincount().tolist() == [960, 120, 120]
    assert dataset.given_split.bincount().tolist()[1:] == [184, 199]
    assert all(str(news).startswith("N") for news in dataset.vocabularies["item"].ids())
    assert int(dataset.features["entity"].values.sum()) == int(dataset.features["entity"].present.sum()) == 4938  # one each


def test_reviews_are_read():
    critics = load_dataset(SHARED / "rt-critic-reviews", k_core=5)
    assert len(critics.interactions) == 30_166
    assert bool((critics.interactions.review >= 0).all())
    words = (critics.reviews.at(critics.interactions.review) > 0).sum(1).float()
    assert 17 < float(words.mean()) < 21  # 20 in their README, cut at 32 here
    fashion = load_dataset(SHARED / "amazon-fashion-reviews")
    assert 0.99 < float((fashion.interactions.review >= 0).float().mean()) < 1  # a few texts are empty
