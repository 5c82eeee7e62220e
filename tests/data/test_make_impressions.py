"""Script that makes impressions from a log: its rule, checked event by event, and the folder it writes."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gmmrec.data.load import load_dataset

SCRIPT = Path(__file__).resolve().parents[2] / "data_scripts" / "impressions.py"
DAY = 86_400


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_impressions", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def log(num: int = 400) -> pd.DataFrame:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"user": random.integers(12, size=num), "item": random.integers(60, size=num)})
    frame["time"] = (random.integers(40, size=num) + 17_000) * DAY  # many events per day
    return frame.drop_duplicates(["user", "item"], ignore_index=True)


def made(script, frame: pd.DataFrame, **settings):
    dataset = load_dataset(frame)
    defaults = {"days": 5, "least": 20, "history": 8, "generator": np.random.default_rng(1)}
    rows = list(script.impressions(dataset, 6, **(defaults | settings)))
    users, items = (dataset.vocabularies[kind].ids() for kind in ("user", "item"))
    return [
        (users[row.user], row.time, [items[i] for i in row.history], [items[i] for i in row.shown], row.clicked) for row in rows
    ]


def test_each_time_of_a_user_is_an_impression(script):
    frame = log()
    taken = {key: set(group["item"]) for key, group in frame.groupby(["user", "time"])}
    rows = made(script, frame)
    assert {(user, time): {i for i, c in zip(shown, clicked, strict=True) if c} for user, time, _, shown, clicked in rows} == taken
    assert [time for _, time, *_ in rows] == sorted(time for _, time, *_ in rows)


def test_histories_and_shown_items_precede_the_impression(script):
    frame = log()
    first = int(frame["time"].min())
    for user, time, history, shown, clicked in made(script, frame):
        earlier = frame[frame["time"] < time].sort_values("time")
        past = earlier[earlier["user"] == user]
        assert set(history) <= set(past["item"])
        assert len(history) == min(8, len(past))
        newest = past.set_index("item")["time"]
        assert newest[history].is_monotonic_increasing
        assert newest[history].min() >= newest.nlargest(8).min() if history else True
        others = [item for item, click in zip(shown, clicked, strict=True) if not click]
        recent = earlier[earlier["time"] >= time - 5 * DAY]
        pool = set((recent if len(recent) >= 20 else earlier.tail(20 + 60))["item"])  # 60: events of the same second in any order
        assert set(others) <= pool - set(past["item"])
        assert len(others) == len(set(others)) == 6 or time < first + 10 * DAY


def test_later_events_change_nothing(script):
    frame = log()
    moment = int(frame["time"].median())
    later = frame["time"] >= moment
    other = frame.assign(item=frame["item"].where(~later, frame["item"] + 60))
    before = [one for one in made(script, frame) if one[1] < moment]
    assert len(before) > 50
    assert before == [one for one in made(script, other) if one[1] < moment]


def test_shown_items_follow_popularity(script):
    events = np.array([1] * 90 + [2] * 10)
    draws = [script.popular(events, set(), 1, np.random.default_rng(seed))[0] for seed in range(2_000)]
    assert np.mean(np.array(draws) == 1) == pytest.approx(0.9, abs=0.03)


def test_the_folder_is_read_with_features_and_times(script, tmp_path, monkeypatch):
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    frame = log()
    frame.to_csv(source / "interactions.csv", index=False)
    pd.DataFrame({"item": range(60), "title": [f"item {n}" for n in range(60)]}).to_csv(source / "items.csv", index=False)
    np.save(source / "image_feat.npy", np.ones((60, 4)))
    monkeypatch.setattr(sys, "argv", ["impressions.py", str(source), "--out", str(out), "--history", "500"])
    script.main()
    dataset = load_dataset(out)
    assert dataset.impressions.history_time is not None
    assert dataset.features["image"].values.shape == (60, 4)
    assert dataset.attributes["item"]["title"][3] == "item 3"
    users, items = (dataset.vocabularies[kind].ids() for kind in ("user", "item"))
    clicks = dataset.interactions
    rows = sorted(zip([users[u] for u in clicks.user], [items[i] for i in clicks.item], clicks.time.tolist(), strict=True))
    assert rows == sorted(map(tuple, frame.to_numpy().tolist()))  # the log comes back
    assert dataset.impressions.part.bincount().shape == (3,)


def test_a_log_without_times_is_refused(script):
    dataset = load_dataset(pd.DataFrame({"user": [1], "item": [2]}))
    with pytest.raises(ValueError, match="has no times"):
        next(script.impressions(dataset, 2, days=7, least=1, history=5, generator=np.random.default_rng(0)))
