from dataclasses import dataclass

import pytest
import torch

from gmmrec.data.ragged import RaggedSets
from gmmrec.evaluation.kinds import evaluate_task, monitored_mode, monitored_value
from gmmrec.evaluation.link_prediction import filtered_ties, link_groups
from gmmrec.evaluation.settings import EvalConfig
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.inputs import TaskInputs
from gmmrec.tasks.link_prediction import LinkPredictionTask
from gmmrec.tasks.query import LinkPredictionQuery
from gmmrec.testing import circle, graph_of


@dataclass(frozen=True)
class NoConfig:
    """No settings."""


class Oracle(Recommender[LinkPredictionQuery, NoConfig]):
    """Model that knows the direction of the circle, and scores everything else 0."""

    def __init__(self, num_entities: int, scale: float = 1.0) -> None:
        super().__init__(None, NoConfig())  # type: ignore[arg-type]
        self.size, self.scale = num_entities, scale

    def encode(self, graph):
        return Encoded({})

    def score(self, encoded, query, candidates):
        step = torch.tensor([1, self.size // 2, -1, self.size // 2])[query.relation]
        right = (query.head + step) % self.size
        return self.scale * (candidates[None] == right[:, None]).float()

    def loss(self, graph, batch):
        return {}


def slow_rank(scores, answer, known) -> float:
    """Return ranks one by one, by definition."""
    others = [s for entity, s in enumerate(scores.tolist()) if entity != answer and entity not in known]
    own = float(scores[answer])
    return 1 + sum(s > own for s in others) + sum(s == own for s in others) / 2


def test_ranks_equal_those_of_the_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(4, (50, 9), generator=generator).float()  # many ties
    answer = torch.randint(9, (50,), generator=generator)
    known = [torch.randperm(9, generator=generator)[: i % 5].tolist() + [int(answer[i])] * (i % 2) for i in range(50)]
    pairs = torch.tensor([(i, entity) for i, entities in enumerate(known) for entity in entities])
    above, tied = filtered_ties(scores, answer, RaggedSets.from_pairs(pairs[:, 0], pairs[:, 1], 50))
    assert (above + (1 + tied) / 2).tolist() == [slow_rank(scores[i], int(answer[i]), known[i]) for i in range(50)]


def test_the_true_entity_is_first_when_only_other_true_answers_score_higher() -> None:
    scores = torch.tensor([[5.0, 9.0, 1.0, 8.0]])
    for known, above in ((torch.tensor([0, 1, 3]), 0), (torch.tensor([0, 1]), 1)):
        found = filtered_ties(scores, torch.tensor([0]), RaggedSets(torch.tensor([0, len(known)]), known))
        assert [each.item() for each in found] == [above, 1]


def test_an_oracle_ranks_first_and_a_constant_in_the_middle() -> None:
    split, graph = graph_of(circle(12))
    task = LinkPredictionTask(TaskInputs(split, 0, 0)).evaluation_tasks("test")["link_prediction"]
    right = evaluate_task(Oracle(12), graph, task, EvalConfig(bootstrap=10))
    assert right.mean() == {"mrr": 1.0, "hits@1": 1.0, "hits@3": 1.0, "hits@10": 1.0, "mean_rank": 1.0}
    level = evaluate_task(Oracle(12, scale=0.0), graph, task, EvalConfig())
    mean_reciprocal = sum(1 / rank for rank in range(1, 13)) / 12
    blind = {"mrr": mean_reciprocal, "hits@1": 1 / 12, "hits@3": 3 / 12, "hits@10": 10 / 12, "mean_rank": 6.5}
    assert level.mean() == pytest.approx(blind)  # 12 candidates, all alike
    assert "triples with one end to predict" in right.to_markdown()


def test_the_mean_rank_is_monitored_and_minimised() -> None:
    split, graph = graph_of(circle(12))
    task = LinkPredictionTask(TaskInputs(split, 0, 0)).evaluation_tasks("test")["link_prediction"]
    assert monitored_value(Oracle(12), graph, task, "link_prediction/mean_rank", EvalConfig()) == 1
    assert [monitored_mode(task, f"link_prediction/{metric}") for metric in ("mean_rank", "mrr")] == ["min", "max"]
    assert monitored_value(Oracle(12), graph, task, "link_prediction/hits@3", EvalConfig()) == 1
    with pytest.raises(ValueError, match="is not a metric of this evaluation task"):
        monitored_value(Oracle(12), graph, task, "link_prediction/recall@20", EvalConfig())


def test_groups_are_the_ends_and_the_modalities_of_a_triple() -> None:
    dataset = circle(12)
    dataset.features["image"].mask[4] = False  # entities 3 and 4 have none, nor does the triple between them
    split, graph = graph_of(dataset)
    split.triples.part[3] = 2
    task = LinkPredictionTask(TaskInputs(split, 0, 0)).evaluation_tasks("test")["link_prediction"]
    groups = {name: group.mask.tolist() for name, group in link_groups(graph, task).items()}
    assert groups["tails"] == [True, True, False, False]
    assert groups["triples without image"] == [True, False, True, False]


def test_diverged_models_are_named() -> None:
    split, graph = graph_of(circle(12))
    task = LinkPredictionTask(TaskInputs(split, 0, 0)).evaluation_tasks("test")["link_prediction"]
    with pytest.raises(ValueError, match="Oracle returned NaN scores"):
        evaluate_task(Oracle(12, scale=float("nan")), graph, task, EvalConfig())
