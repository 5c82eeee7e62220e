"""Metrics of deterministic models for the same data with its rows in another order, and under other names."""

import numpy as np
import pandas as pd
import pytest

import gmmrec


@pytest.fixture(scope="module")
def log():
    """Return 120 users with 12 of 160 items each; whole items are held out, so that test items are cold."""
    draw = np.random.default_rng(0)
    share = 1 / np.arange(1, 161) ** 0.8
    pairs = [(f"u{user:03d}", item) for user in range(120) for item in draw.choice(160, 12, replace=False, p=share / share.sum())]
    frame = pd.DataFrame(pairs, columns=["user", "item"])
    frame["split"] = draw.choice(["train", "valid", "test"], 160, p=[0.6, 0.2, 0.2])[frame["item"]]
    return frame.assign(item=np.array([f"q{number:03d}" for number in draw.permutation(160)])[frame["item"]])


def orders(log):
    count = log["item"].map(log["item"].value_counts()).to_numpy()
    return {
        "as logged": log,
        "shuffled": log.sample(frac=1, random_state=0),
        "test rows first": pd.concat([log[log["split"] == "test"], log[log["split"] != "test"]]),
        "by item": log.sort_values("item"),
        "rare items first": log.iloc[np.argsort(count, kind="stable")],
    }


def numbers(log, model, **settings):
    """Return all means of a run, of groups as well, on both parts, and what it monitored."""
    run = gmmrec.fit(log, model, split={"strategy": "given"}, bootstrap=0, metrics=("recall", "ndcg", "mrr", "map"), **settings)
    means = {} if run.history is None or run.history.best_value is None else {"monitored": run.history.best_value}
    for part, results in run.results.items():
        for group in ("all", *results.groups):
            means |= {f"{part}/{group}/{metric}": value for metric, value in results.mean(group).items()}
        means |= {f"{part}/{name}": value for name, value in results.catalogue.items()}
    return run, means


@pytest.mark.parametrize("model", ["ease", "popularity"])
def test_no_number_depends_on_the_order_of_rows(log, model):
    found = {name: numbers(frame, model)[1] for name, frame in orders(log).items()}
    for name, means in found.items():
        assert means == pytest.approx(found["as logged"], rel=1e-5, abs=1e-6), name
    cold = log.loc[log["split"] != "train", "item"].nunique()
    if model == "ease":  # all cold items score 0
        assert found["as logged"]["test/cold items among themselves/recall@20"] == pytest.approx(20 / cold, abs=1e-6)


def test_no_metric_depends_on_names(log):
    _, expected = numbers(log, "popularity")
    other = log.assign(item="x" + (1000 - log["item"].str[1:].astype(int)).astype(str))
    _, found = numbers(other, "popularity")
    kept = {name: value for name, value in expected.items() if "coverage" not in name}  # lists show lower ids first
    assert {name: found[name] for name in kept} == pytest.approx(kept, abs=1e-6)


@pytest.mark.parametrize("model", ["ease", "popularity"])
def test_lists_show_popular_items_first_and_then_lower_ids(log, model):
    degree = log.loc[log["split"] == "train", "item"].value_counts()
    lists = []
    for frame in orders(log).values():
        run, _ = numbers(frame, model)
        shown = run.recommend(["u005", "u017"], 160, exclude_seen=False)
        shown["degree"] = shown["item_id"].map(degree).fillna(0)
        key = ["user_id", "score", "degree", "item_id"]
        assert shown["item_id"].tolist() == shown.sort_values(key, ascending=[True, False, False, True])["item_id"].tolist()
        lists.append(run.recommend(["u005"], 20)["item_id"].tolist() + run.similar_items(["q005"], 5)["similar_id"].tolist())
    if model == "popularity":
        assert all(each == lists[0] for each in lists)
