"""Bias: the closed form against its ridge regression limit, and an end-to-end run."""

import json

import numpy as np
import pytest
import torch

import gmmrec
from gmmrec.cli.main import main
from gmmrec.data.dataset import Dataset
from gmmrec.data.interactions import Interactions
from gmmrec.data.split import Split
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.evaluation.kinds import load_results
from gmmrec.graph.build import build_graph
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.bias import Bias, BiasConfig
from gmmrec.runs.config import read_config
from gmmrec.tasks.query import RatingQuery
from gmmrec.testing import rated_checkerboard

U, I = 7, 5  # noqa: E741


def rated(num_ratings: int = 20) -> tuple[MultimodalGraph, np.ndarray, np.ndarray, np.ndarray]:
    generator = torch.Generator().manual_seed(0)
    pair = torch.randperm((U - 1) * I, generator=generator)[:num_ratings]  # the last user rated nothing
    user, item = pair // I, pair % I
    weight = torch.randint(1, 6, (num_ratings,), generator=generator).float()
    log = Interactions(user, item, weight=weight)
    dataset = Dataset("rated", {"user": Vocabulary(range(U), name="user"), "item": Vocabulary(range(I))}, log)
    nothing = log.take(torch.arange(0))
    return build_graph(dataset, Split(log, nothing, nothing)), user.numpy(), item.numpy(), weight.numpy().astype(float)


def predictions(graph: MultimodalGraph, config: BiasConfig) -> np.ndarray:
    model = Bias(graph.schema, config)
    graph = model.prepare(graph)
    return model.score(model.encode(graph), RatingQuery(torch.arange(U)), torch.arange(I)).numpy()


def test_one_round_is_the_one_pass_estimate():
    graph, user, item, rating = rated()
    mean = rating.mean()
    items = np.array([(rating[item == i] - mean).sum() / ((item == i).sum() + 5) for i in range(I)])
    residual = rating - mean - items[item]
    users = np.array([residual[user == u].sum() / ((user == u).sum() + 5) for u in range(U)])
    actual = predictions(graph, BiasConfig(num_rounds=1))
    np.testing.assert_allclose(actual, mean + users[:, None] + items, rtol=1e-5)
    assert users[-1] == 0


def test_many_rounds_converge_to_ridge_regression():
    graph, user, item, rating = rated()
    design = np.zeros((len(rating), U + I))
    design[np.arange(len(rating)), user] = design[np.arange(len(rating)), U + item] = 1
    solution = np.linalg.solve(design.T @ design + 2 * np.eye(U + I), design.T @ (rating - rating.mean()))
    actual = predictions(graph, BiasConfig(shrinkage=2, num_rounds=200))
    np.testing.assert_allclose(actual, rating.mean() + solution[:U, None] + solution[U:], rtol=1e-4)


def test_single_ratings_are_trusted_without_shrinkage():
    log = Interactions(torch.tensor([0, 1]), torch.tensor([0, 1]), weight=torch.tensor([2.0, 4.0]))
    dataset = Dataset("two", {"user": Vocabulary(range(3), name="user"), "item": Vocabulary(range(2))}, log)
    graph = build_graph(dataset, Split(log, log.take(torch.arange(0)), log.take(torch.arange(0))))
    model = Bias(graph.schema, BiasConfig(shrinkage=0))
    model.prepare(graph)
    scores = model.score(model.encode(graph), RatingQuery(torch.arange(3)), torch.arange(2))
    torch.testing.assert_close(scores.diagonal(), torch.tensor([2.0, 4.0]))
    torch.testing.assert_close(scores[2], torch.tensor([2.0, 4.0]))  # the item biases explain everything


def test_missing_ratings_are_refused():
    log = Interactions(torch.tensor([0]), torch.tensor([0]))
    dataset = Dataset("bare", {"user": Vocabulary([0], name="user"), "item": Vocabulary([0])}, log)
    graph = build_graph(dataset, Split(log, log, log))
    with pytest.raises(
        ValueError, match=r"^the interactions have no ratings to predict; set weight_column, or choose a model that ranks$"
    ):
        Bias(graph.schema).prepare(graph)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return gmmrec.fit(rated_checkerboard(30, 20)[0], "bias", out=folder), folder


def test_run_reports_rating_errors_and_rankings(finished):
    run, folder = finished
    report = json.loads((folder / "metrics.json").read_text())
    assert run.config.monitor == "rmse"
    for part in ("test", "valid"):
        assert 0 < report[part]["mae"] < report[part]["rmse"]
        assert 0 <= report[part]["recall@20"] <= 1
    assert report["rating"]["num_queries"] == len(run.split.test)
    assert load_results(folder, "rating").mean() == run.other_results["rating"]["test"].mean()
    loaded = gmmrec.load(folder)
    assert loaded.evaluate_all("test")["rating"].mean() == run.other_results["rating"]["test"].mean()
    assert loaded.recommend(["u1"], k=3)["rank"].tolist() == [1, 2, 3]


def test_rmse_is_that_of_held_out_ratings(finished):
    run, _ = finished
    table = run.model.score(run.model.encode(run.graph), RatingQuery(torch.arange(30)), torch.arange(20)).clamp(1, 5)
    test = run.split.test
    expected = float((table[test.user, test.item] - test.weight).square().mean().sqrt())
    assert run.report["test"]["rmse"] == pytest.approx(expected, rel=1e-5)


def test_cli_prints_both_tables_and_compares_by_rating(finished, tmp_path, capsys):
    _, folder = finished
    other = tmp_path / "other"
    gmmrec.fit(rated_checkerboard(30, 20)[0], "bias", shrinkage=0.5, out=other)
    assert main(["evaluate", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "ratings predicted; lower is better" in text
    assert "| recall" in text
    assert main(["evaluate", str(folder), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {"rmse", "mae", "recall@20"} <= set(report["test"])
    assert main(["compare", str(folder), str(other), "--metric", "rmse"]) == 0
    assert "paired by rating" in capsys.readouterr().out


def test_monitor_defaults_to_the_models_task():
    assert read_config("bias").monitor is None  # the task's default
    assert read_config("bias", {"monitor": "mae"}).monitor == "mae"
    assert read_config("bias", arguments=["--monitor", "recall@20"]).monitor == "recall@20"
    board = rated_checkerboard(30, 20)[0]
    with pytest.raises(
        ValueError,
        match="'rmse' belongs to the evaluation task 'rating', which lightgcn does not have on this data; it has ranking",
    ):
        gmmrec.fit(board, "lightgcn", monitor="rmse", epochs=1)
    assert "recall@20" in gmmrec.fit(board, "bias", monitor="recall@20").report["valid"]
    monitors = [gmmrec.fit(board, model, epochs=1).config.monitor for model in ("bias", "popularity")]
    assert monitors == ["rmse", "recall@20"]
