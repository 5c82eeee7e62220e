"""Neither the order of rows nor the names of ids mean anything: not for metrics, closed forms or splits by time.

No two items have as many training interactions, so that popularity has no ties; how ties count is tested with the metrics.
"""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch
from numpy.random import RandomState
from torch import Tensor

import gmmrec
from gmmrec.data.dataset import Dataset
from gmmrec.data.split import SplitConfig
from gmmrec.evaluation.kinds import evaluate_task
from gmmrec.evaluation.settings import EvalConfig
from gmmrec.graph.build import build_graph
from gmmrec.recommender import Encoded, encode
from gmmrec.tasks.collaborative import CollaborativeTask
from gmmrec.tasks.inputs import TaskInputs
from tests.evaluation.test_ranking import Table as TableModel

USERS, ITEMS = 50, 40
Tables = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]
"""Interactions; items, with their two features; users."""


def tables() -> Tables:
    """Return a log with distinct times, in which item ``i`` has ``i + 5`` training interactions."""
    draws, rows = RandomState(0), []
    for item in range(ITEMS):
        chosen = draws.permutation(USERS)[: item + 10]
        rows += [
            (f"u{user}", f"i{item}", "train" if place < item + 5 else ("valid", "test")[place % 2])
            for place, user in enumerate(chosen)
        ]
    log = pd.DataFrame(rows, columns=["user", "item", "split"]).sample(frac=1, random_state=1, ignore_index=True)
    log["timestamp"] = 1_600_000_000 + draws.permutation(len(log)) * 61
    log["rating"] = draws.randint(1, 6, len(log)).astype(float)
    features = pd.DataFrame(draws.randn(ITEMS, 2), columns=["x", "y"])
    items = pd.DataFrame({"item": [f"i{item}" for item in range(ITEMS)]}).join(features)
    return log, items, pd.DataFrame({"user": [f"u{user}" for user in range(USERS)]})


def shuffled_log(found: Tables) -> Tables:
    log, items, users = found
    return log.sample(frac=1, random_state=2), items, users


def shuffled_nodes(found: Tables) -> Tables:
    log, items, users = found
    return log, items.sample(frac=1, random_state=3), users.sample(frac=1, random_state=4)


def renamed(found: Tables) -> Tables:
    """Return tables whose ids stand in another order than before, be it by their letters or as numbers."""
    log, items, users = found
    user, item = new_names()
    return (
        log.assign(user=log["user"].map(user), item=log["item"].map(item)),
        items.assign(item=items["item"].map(item)),
        users.assign(user=users["user"].map(user)),
    )


def new_names() -> tuple[dict[str, Any], dict[str, Any]]:
    draws = RandomState(5)
    user = {f"u{row}": int(number) for row, number in enumerate(draws.permutation(10 * USERS)[:USERS])}
    item = {f"i{row}": f"{chr(97 + number % 26)}{number}" for row, number in enumerate(draws.permutation(10 * ITEMS)[:ITEMS])}
    return user, item


CHANGES: dict[str, Callable[[Tables], Tables]] = {
    "log": shuffled_log,
    "nodes": shuffled_nodes,
    "both": lambda found: shuffled_nodes(shuffled_log(found)),
    "names": renamed,
    "all": lambda found: renamed(shuffled_nodes(shuffled_log(found))),
}


def read(found: Tables) -> Dataset:
    log, items, users = (table.reset_index(drop=True) for table in found)
    features = {"image": (items["item"].tolist(), items[["x", "y"]].to_numpy())}
    return gmmrec.load_dataset(log, items=items[["item"]], users=users, features=features)


def in_first_names(dataset: Dataset) -> tuple[Tensor, Tensor]:
    """Return rows ``[USERS]`` and ``[ITEMS]`` of the users and items in the order of the first names."""
    ids = [[f"{kind}{row}" for row in range(count)] for kind, count in (("u", USERS), ("i", ITEMS))]
    found = []
    for kind, names, new in zip(("user", "item"), ids, new_names(), strict=True):
        vocabulary = dataset.vocabularies[kind]
        is_new = new[names[0]] in vocabulary.ids()
        found.append(vocabulary.find([new[name] for name in names] if is_new else names))
    assert all(bool((rows >= 0).all()) for rows in found)
    return found[0], found[1]


@pytest.fixture(scope="module", params=CHANGES)
def pair(request) -> tuple[Dataset, Dataset]:
    return read(tables()), read(CHANGES[request.param](tables()))


def values(results: Any, users: Tensor) -> Tensor:
    """Return metrics per user ``[n, metrics]``, in the order of the first names."""
    place = torch.full((USERS,), -1)
    place[users] = torch.arange(USERS)
    by_user = torch.argsort(place[results.query])
    return torch.stack([results.values[name].double() for name in sorted(results.values)], 1)[by_user]


@pytest.mark.parametrize("part", ["valid", "test"])
def test_given_scores_have_the_same_metrics(pair, part):
    table = torch.rand(USERS, ITEMS, generator=torch.Generator().manual_seed(0))
    found = []
    for dataset in pair:
        user, item = in_first_names(dataset)
        scores = torch.empty(USERS, ITEMS)
        scores[user[:, None], item] = table
        split = gmmrec.split_dataset(dataset)
        model = TableModel()
        model.encode = lambda graph, scores=scores: Encoded({"table": scores})
        task = CollaborativeTask(TaskInputs(split, USERS, ITEMS)).ranking(part)
        found.append((evaluate_task(model, build_graph(dataset, split), task, EvalConfig(bootstrap=0)), user))
    (one, first), (other, second) = found
    assert one.mean() == pytest.approx(other.mean(), rel=1e-12)
    assert 0 < one.mean()["ndcg@20"] < 1
    assert torch.equal(values(one, first), values(other, second))
    assert one.groups.keys() == other.groups.keys()
    for name in one.groups:
        assert one.mean(name) == pytest.approx(other.mean(name), rel=1e-12, nan_ok=True), name


CLOSED = {"popularity": {}, "ease": {}, "ease-features": {}, "graph-filter": {}, "bias": {}}


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_score_the_same_and_have_the_same_metrics(pair, name):
    scores, metrics = [], []
    for dataset in pair:
        user, item = in_first_names(dataset)
        run = gmmrec.fit(dataset, name, bootstrap=0, progress=False, **CLOSED[name])
        query = run.model.query_type.for_users(user)
        with torch.no_grad():
            scores.append(run.model.score(encode(run.model, run.graph), query, item))
        metrics.append({part: run.results[part].mean() for part in ("valid", "test")})
    torch.testing.assert_close(*scores, rtol=1e-5, atol=1e-6)
    ordered = scores[0].sort(dim=1).values
    assert bool((ordered.diff(dim=1) > 1e-6).all())  # no ties, so that metrics are exact
    for part in ("valid", "test"):
        assert metrics[0][part] == pytest.approx(metrics[1][part], rel=1e-5)


@pytest.mark.parametrize("strategy", ["given", "leave_last_out", "by_time", "cold_users"])
def test_splits_by_time_are_the_same(pair, strategy):
    found = []
    for dataset in pair:
        user, item = (torch.argsort(rows) for rows in in_first_names(dataset))  # first names of rows
        split = gmmrec.split_dataset(dataset, SplitConfig(strategy=strategy))
        parts = [split.train, split.valid, split.test, *([] if split.support is None else [split.support])]
        found.append([sorted(zip(user[x.user].tolist(), item[x.item].tolist(), x.time.tolist(), strict=True)) for x in parts])
    assert found[0] == found[1]
    assert all(len(part) > 3 for part in found[0])
