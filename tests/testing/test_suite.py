"""The suite in external use: an attribute, settings, a table of models, and its messages where it does not apply."""

import pytest

from gmmrec.testing.suite import ModelSuite
from tests.testing.outside import MODEL, run_tests

TESTS = """
from dataclasses import dataclass
import pytest
import torch
from gmmrec.recommender import Recommender
from gmmrec.tasks.query import LinkPredictionQuery, PersonalQuery
from gmmrec.testing import RecommenderContract
from mine import Mine, MineConfig


class TestSettings(RecommenderContract):
    model_class = Mine
    settings = {"dim": 3}

    def test_hooks_do_not_modify_their_input_graph(self, model_class, settings):
        from gmmrec.testing import toy_graph
        assert (model_class, settings) == (Mine, {"dim": 3})
        assert self.build(model_class, toy_graph())[0].config == MineConfig(dim=3)


@pytest.mark.parametrize(("model_class", "settings"), [(Mine, {"dim": 5}), (Mine, {})], ids=["five", "default"])
class TestTable(RecommenderContract):
    def test_hooks_do_not_modify_their_input_graph(self, model_class, settings, request):
        from gmmrec.testing import toy_graph
        assert self.build(model_class, toy_graph())[0].config.dim == (5 if "five" in request.node.name else 8)


class TestNothing(RecommenderContract):
    pass


class TestInstance(RecommenderContract):
    model_class = "Mine"


class Links(Recommender[LinkPredictionQuery, MineConfig]):
    pass


class TestLinks(RecommenderContract):
    model_class = Links


@dataclass(frozen=True)
class Evening(PersonalQuery):
    evening: torch.Tensor | None = None


class InTheEvening(Recommender[Evening, MineConfig]):
    def __init__(self, schema, config):
        super().__init__(schema, config)
        self.mine = Mine(schema, config)

    def encode(self, graph):
        return self.mine.encode(graph)

    def score(self, encoded, query, candidates):
        assert isinstance(query, Evening)
        return self.mine.score(encoded, query, candidates)

    def loss(self, graph, batch):
        assert isinstance(batch.query, Evening)
        return self.mine.loss(graph, batch)


class TestOwnQuery(RecommenderContract):
    model_class = InTheEvening
"""


HOOKS, UNSEEN = "test_hooks_do_not_modify_their_input_graph", "test_unseen_nodes_get_finite_scores"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outside")
    return run_tests(folder, "-k", f"{HOOKS} or {UNSEEN} or learns", mine=MODEL, test_mine=TESTS)


def test_the_attributes_name_the_model_and_its_settings(results) -> None:
    assert results[0][f"TestSettings.{HOOKS}"] == "passed"


def test_a_table_of_models_replaces_the_attributes(results) -> None:
    assert results[0][f"TestTable.{HOOKS}[five]"] == "passed"
    assert results[0][f"TestTable.{HOOKS}[default]"] == "passed"


def test_a_class_without_a_model_fails_with_a_remedy(results) -> None:
    outcomes, output = results
    assert {outcome for name, outcome in outcomes.items() if name.startswith(("TestNothing", "TestInstance"))} == {"error"}
    assert (
        "TestNothing.model_class must be a subclass of gmmrec.Recommender, but is missing; write 'model_class = MyModel'" in output
    )
    assert "TestInstance.model_class must be a subclass of gmmrec.Recommender, but is 'Mine'" in output


def test_uncovered_models_are_skipped_with_the_reason(results) -> None:
    outcomes, output = results
    assert {outcome for name, outcome in outcomes.items() if name.startswith("TestLinks")} == {"skipped"}
    assert "the contract suite covers models that rank items for users, not models of LinkPredictionQuery" in output


def test_a_custom_query_type_uses_the_row_of_its_base(results) -> None:
    assert {outcome for name, outcome in results[0].items() if name.startswith("TestOwnQuery")} == {"passed"}


def test_the_suite_itself_is_not_collected() -> None:
    assert not ModelSuite.__name__.startswith("Test")
