"""The table of kinds: a kind added in this file alone is evaluated, monitored, reported, stored and compared."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

import gmmrec
import gmmrec.tasks
from gmmrec.cli.main import main
from gmmrec.evaluation.compare import compare
from gmmrec.evaluation.evaluator import evaluating
from gmmrec.evaluation.groups import Group
from gmmrec.evaluation.kinds import KINDS, evaluate_task, kind_of, load_results, monitored_mode, monitored_value, task_of_metric
from gmmrec.evaluation.report import table_report
from gmmrec.evaluation.results import EvaluationKind, GroupValues, Results
from gmmrec.evaluation.settings import EvalConfig
from gmmrec.tasks.collaborative import CollaborativeTask
from gmmrec.tasks.evaluation_tasks import EvaluationTask
from gmmrec.tasks.query import UserQuery
from gmmrec.testing import checkerboard


@dataclass(frozen=True)
class PairOrder:
    """Pairs of items, of which a user prefers one."""

    query: UserQuery
    better: Tensor
    worse: Tensor

    def __len__(self) -> int:
        return len(self.better)

    def take(self, index: Tensor) -> "PairOrder":
        return PairOrder(self.query.take(index), self.better[index], self.worse[index])

    def to(self, device: Any) -> "PairOrder":
        return PairOrder(self.query.to(device), self.better.to(device), self.worse.to(device))


def evaluate_order(model: Any, graph: Any, task: PairOrder, config: EvalConfig, groups: Mapping[str, Group]) -> Results:
    with evaluating(model):
        scores = model.score(model.encode(graph), task.query, torch.stack([task.better, task.worse], 1))
    values = {"mistakes": (scores[:, 0] <= scores[:, 1]).float()}
    parts = {name: group.mask.nonzero().flatten() for name, group in groups.items()}
    by_group = {name: GroupValues(rows, {"mistakes": values["mistakes"][rows]}) for name, rows in parts.items()}
    return Results(ORDER, values, task.query.user, task.better, "none", by_group, bootstrap=config.bootstrap)


ORDER = EvaluationKind(
    name="pair_order",
    task=PairOrder,
    unit="pairs",
    paired_by="pair",
    headline="pairs of items put in order",
    evaluate=evaluate_order,
    report=table_report,
    groups=lambda graph, task: {"first users": Group(task.query.user < 5, "queries")},
    lower_is_better=frozenset({"mistakes"}),
)


class OrderTask(CollaborativeTask):
    def evaluation_tasks(self, part: Any, mask: Any = "train") -> Mapping[str, EvaluationTask]:
        ranking = self.ranking(part, mask)
        better = ranking.relevant.values[ranking.relevant.indptr[:-1]]
        return {"ranking": ranking, "order": PairOrder(ranking.query, better, (better + 1) % self.num_items)}


@pytest.fixture
def added(monkeypatch):
    monkeypatch.setitem(KINDS, ORDER.name, ORDER)
    monkeypatch.setitem(gmmrec.tasks.TASKS, UserQuery, lambda split: OrderTask)


def test_a_kind_added_in_one_file_is_monitored_reported_stored_and_compared(added, tmp_path, capsys):
    folders = [tmp_path / name for name in ("one", "two")]
    settings = {"dim": 8, "epochs": 3, "lr": 0.05, "monitor": "order/mistakes", "eval": {"bootstrap": 20}}
    runs = [
        gmmrec.fit(checkerboard()[0], "lightgcn", out=folder, seed=seed, progress=False, **settings)
        for seed, folder in enumerate(folders)
    ]
    for run, folder in zip(runs, folders, strict=True):
        task = run.task().evaluation_tasks("test")["order"]
        scores = run.model.score(run.model.encode(run.graph), task.query, torch.stack([task.better, task.worse], 1))
        mistakes = float((scores[:, 0] <= scores[:, 1]).float().mean())
        report = json.loads((folder / "metrics.json").read_text())
        assert report["test"]["order/mistakes"] == pytest.approx(mistakes)
        assert report["order"]["kind"] == "pair_order"
        assert report["order"]["groups"]["first users"]["num_queries"] == int((task.query.user < 5).sum())
        found = load_results(folder, "order")
        assert found.to_dict() == run.other_results["order"]["test"].to_dict()
        assert f"{len(task)} pairs of items put in order; 95 % intervals in brackets." in found.to_markdown()
        assert "| group       | pairs |" in found.to_markdown()
        assert monitored_mode(task, "order/mistakes") == "min"
        assert monitored_value(run.model, run.graph, task, "order/mistakes", EvalConfig()) == pytest.approx(mistakes)
        assert report["best"] == {"epoch": run.history.best_epoch, "val/order/mistakes": run.history.best_value}
        values = run.history.to_frame()["val/order/mistakes"].tolist()
        assert run.history.best_value == min(values) < max(values)  # fewer mistakes are better
        assert run.history.best_epoch == values.index(min(values)) + 1
    assert runs[0].history.best_value == runs[0].report["valid"]["order/mistakes"]
    capsys.readouterr()
    assert main(["compare", *map(str, folders), "--metric", "order/mistakes", "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    means = [row["mean"] for row in compared["rows"]]
    assert means == sorted(run.report["test"]["order/mistakes"] for run in runs)  # lowest first
    assert "pairs, lower is better" in compared["note"]
    assert compared["note"].endswith("paired by pair.")
    assert main(["evaluate", str(folders[0])]) == 0
    assert "pairs of items put in order" in capsys.readouterr().out


def test_results_of_an_unknown_kind_are_refused(added, tmp_path, monkeypatch):
    Results(ORDER, {"mistakes": torch.ones(2)}, torch.arange(2), torch.arange(2), "none").save(tmp_path, "order")
    assert load_results(tmp_path, "order").kind is ORDER
    monkeypatch.delitem(KINDS, ORDER.name)
    with pytest.raises(ValueError, match="holds results of unknown kind 'pair_order'; add it to KINDS, which has ranking, cand"):
        load_results(tmp_path, "order")
    task = PairOrder(UserQuery(torch.arange(2)), torch.arange(2), torch.arange(2))
    with pytest.raises(TypeError, match=r"expected an evaluation task of one of the kinds Ranking.*, but got PairOrder"):
        kind_of(task)
    with pytest.raises(TypeError, match="but got PairOrder"):
        evaluate_task(torch.nn.Module(), None, task, EvalConfig())


def test_every_kind_has_a_distinct_name_and_data_class():
    assert all(name == kind.name for name, kind in KINDS.items())
    assert len({kind.task for kind in KINDS.values()}) == len(KINDS)


@pytest.mark.parametrize(
    ("old", "new"),
    [("links/mrr", "link_prediction/mrr"), ("blanks/auc", "fill_in_the_blank/auc"), ("ratings/rmse", "rating/rmse")],
)
def test_renamed_evaluation_tasks_are_refused_with_their_new_name(old, new):
    with pytest.raises(ValueError, match=f"'{old}' is now called '{new}'"):
        task_of_metric(old)
    assert task_of_metric(new) == new.split("/")[0]
    with pytest.raises(ValueError, match=f"'{old}' is now called '{new}'"):
        gmmrec.fit(checkerboard()[0], "lightgcn", monitor=old)


def test_results_of_different_kinds_are_not_compared(added):
    found = Results(ORDER, {"mistakes": torch.ones(2)}, torch.arange(2), torch.arange(2), "none")
    with pytest.raises(ValueError, match="a and b cannot be compared: the first holds results of pair_order, the second of rating"):
        compare({"a": found, "b": replace(found, kind=KINDS["rating"])}, metric="mistakes")
