"""Errors of predicted ratings, against numpy on hand-made numbers."""

import numpy as np
import pytest
import torch

from gmmrec.data.dataset import Dataset
from gmmrec.data.interactions import Interactions
from gmmrec.data.split import Split
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.evaluation.compare import compare
from gmmrec.evaluation.groups import Group
from gmmrec.evaluation.kinds import load_results
from gmmrec.evaluation.rating import RATING, evaluate_ratings, rating_groups
from gmmrec.evaluation.results import Results
from gmmrec.graph.build import build_graph
from gmmrec.recommender import Encoded
from gmmrec.tasks.evaluation_tasks import RatingEvaluation
from gmmrec.tasks.query import RatingQuery

USER, ITEM = np.array([0, 0, 1, 2, 3, 3]), np.array([1, 2, 0, 3, 4, 1])
TRUE = np.array([4.0, 1.0, 5.0, 3.0, 2.0, 4.5])
TABLE = np.array([[0, 3.5, 2, 0, 0], [7.0, 0, 0, 0, 0], [0, 0, 0, 3.25, 0], [0, 0.5, 0, 0, 2]])


class Guesser(torch.nn.Module):
    """Scores are read from a table."""

    def __init__(self, table: np.ndarray) -> None:
        super().__init__()
        self.table = torch.from_numpy(table)
        self.sizes: list[int] = []

    def encode(self, graph):
        return Encoded({})

    def score(self, encoded, query, candidates):
        self.sizes.append(len(query.user))
        return self.table[query.user[:, None], candidates]


@pytest.fixture
def graph():
    train = Interactions(torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 3, 2, 1, 0]), weight=torch.tensor([1.0, 2, 5, 4, 3]))
    dataset = Dataset("rated", {"user": Vocabulary(range(4), name="user"), "item": Vocabulary(range(5))}, train)
    nothing = train.take(torch.arange(0))
    return build_graph(dataset, Split(train, nothing, nothing))


def asked():
    rows = (torch.from_numpy(x) for x in (USER, ITEM))
    user, item = rows
    return RatingEvaluation(RatingQuery(user), item, torch.from_numpy(TRUE).float(), (1.0, 5.0))


def rmse(predicted, true=TRUE):
    return np.sqrt(np.mean((predicted - true) ** 2))


def test_errors_equal_the_formulas(graph):
    predicted = TABLE[USER, ITEM]
    raw = evaluate_ratings(Guesser(TABLE), graph, asked(), clip=False)
    assert raw.mean()["rmse"] == pytest.approx(rmse(predicted))
    assert raw.mean()["mae"] == pytest.approx(np.abs(predicted - TRUE).mean())
    clipped = evaluate_ratings(Guesser(TABLE), graph, asked())
    assert clipped.mean()["rmse"] == pytest.approx(rmse(predicted.clip(1, 5)))
    assert clipped.mean()["rmse"] < raw.mean()["rmse"]


def test_chunks_do_not_change_the_values(graph):
    model = Guesser(TABLE)
    assert evaluate_ratings(model, graph, asked(), chunk_size=4).mean() == evaluate_ratings(Guesser(TABLE), graph, asked()).mean()
    assert model.sizes == [4, 2]


def test_groups_contain_only_their_ratings(graph):
    found = rating_groups(graph, asked())
    assert set(found) == {
        "warm items",
        "cold items",
        "users without training interactions",
        "users with 1 training interactions",
        "users with 2 training interactions",
    }
    results = evaluate_ratings(Guesser(TABLE), graph, asked(), clip=False, groups=found)
    for name, rows in (("cold items", [4]), ("warm items", [0, 1, 2, 3, 5]), ("users without training interactions", [4, 5])):
        assert results.mean(name)["rmse"] == pytest.approx(rmse(TABLE[USER, ITEM][rows], TRUE[rows]))
    assert "users without training interactions" in results.to_markdown()
    assert evaluate_ratings(Guesser(TABLE), graph, asked(), groups={"no": Group(torch.zeros(6) > 1, "queries")}).groups == {}


def test_intervals_are_those_of_the_root(graph):
    generator = torch.Generator().manual_seed(0)
    error = torch.rand(400, generator=generator)
    results = Results(RATING, {"rmse": error.square(), "mae": error}, torch.arange(400), torch.arange(400), "none", bootstrap=2000)
    low, high = results.intervals()["rmse"]
    resampled = np.random.default_rng(0).integers(0, 400, (2000, 400))
    expected = np.quantile(np.sqrt((error.numpy() ** 2)[resampled].mean(1)), [0.025, 0.975])
    assert (low, high) == pytest.approx(tuple(expected), abs=2e-3)
    assert low < results.mean()["rmse"] < high
    assert results.to_dict()["metrics"]["rmse"] == results.mean()["rmse"]
    assert f"{results.mean()['rmse']:.4f} ({low:.4f} to {high:.4f})" in results.to_markdown()
    assert "400 ratings predicted; lower is better" in results.to_markdown()


def test_errors_and_rankings_have_separate_files(graph, tmp_path):
    results = evaluate_ratings(Guesser(TABLE), graph, asked(), groups=rating_groups(graph, asked()))
    results.save(tmp_path)
    again = load_results(tmp_path, "rating")
    assert again.to_dict() == results.to_dict()
    with pytest.raises(ValueError, match=r"has no results_ranking\.safetensors"):
        load_results(tmp_path)


def test_the_lowest_error_wins_a_comparison_by_rating():
    generator = torch.Generator().manual_seed(0)
    pair, base = torch.arange(300), torch.rand(300, generator=generator)
    runs = {
        name: Results(RATING, {"rmse": (base + shift).square(), "mae": base + shift}, pair, pair * 7, "none")
        for name, shift in (("worst", 0.2), ("best", 0.0), ("good", 0.01))
    }
    found = compare(runs, metric="rmse")
    assert [row.run for row in found.rows] == ["best", "good", "worst"]
    assert found.reference == "best"
    worst = found.rows[2]
    means = {name: float(np.sqrt((base.numpy() + shift) ** 2).mean()) for name, shift in (("b", 0.0), ("w", 0.2))}
    assert compare(runs, metric="mae").rows[2].difference == pytest.approx(means["w"] - means["b"], abs=1e-6)
    roots = [float(np.sqrt(((base.numpy().astype(float) + shift) ** 2).mean())) for shift in (0.0, 0.2)]
    assert worst.mean == pytest.approx(roots[1], abs=1e-6)
    assert worst.difference == pytest.approx(roots[1] - roots[0], abs=1e-6)
    assert 0 < worst.low < worst.difference < worst.high
    assert worst.p == pytest.approx(1 / 10_001)
    assert found.note == "rmse over 300 ratings, lower is better, differences to best, paired by rating."


def test_runs_on_different_ratings_are_not_compared(graph):
    ratings = asked()
    other = RatingEvaluation(ratings.query, ratings.item, ratings.rating + 0.5, ratings.bounds)
    runs = {name: evaluate_ratings(Guesser(TABLE), graph, part) for name, part in (("a", ratings), ("b", other))}
    with pytest.raises(ValueError, match="cannot be compared"):
        compare(runs, metric="rmse")


def test_nan_is_named(graph):
    with pytest.raises(ValueError, match="Guesser predicts NaN ratings; its training has diverged"):
        evaluate_ratings(Guesser(TABLE * np.nan), graph, asked())
