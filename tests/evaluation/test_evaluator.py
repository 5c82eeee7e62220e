"""Evaluator against a slow loop, with groups and modes."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch_geometric.data import HeteroData

from gmmrec.data.ragged import RaggedSets
from gmmrec.evaluation.evaluator import evaluate
from gmmrec.evaluation.groups import Group, default_groups
from gmmrec.evaluation.kinds import evaluate_task, monitored_value
from gmmrec.evaluation.settings import EvalConfig
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.evaluation_tasks import RankingEvaluation
from gmmrec.tasks.query import UserQuery

NUM_USERS, NUM_ITEMS = 12, 20


@dataclass(frozen=True)
class NoConfig:
    pass


class Fixed(Recommender[UserQuery, NoConfig]):
    """Random vectors; records the mode of every call."""

    def __init__(self, schema):
        super().__init__(schema, NoConfig())
        generator = torch.Generator().manual_seed(3)
        self.users = torch.nn.Parameter(torch.randn(NUM_USERS, 5, generator=generator))
        self.items = torch.nn.Parameter(torch.randn(NUM_ITEMS, 5, generator=generator))
        self.dropout, self.frozen = torch.nn.Dropout(), torch.nn.Dropout()
        self.asked = []

    def encode(self, graph):
        self.asked.append((self.training, self.dropout.training, torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
        return Encoded({"user": self.users, "item": self.items})

    def score(self, encoded, query, candidates):
        return inner_product(encoded["user"][query.user], encoded["item"][candidates])

    def loss(self, graph, batch):
        return {}


@pytest.fixture
def case():
    """Return a graph of degrees only, a task, known and relevant [U, I]; 15 to 19 are cold, images of 2 and 16 missing."""
    generator = torch.Generator().manual_seed(0)
    known = torch.rand(NUM_USERS, NUM_ITEMS, generator=generator) < torch.linspace(0.1, 0.6, NUM_USERS)[:, None]
    known[:, 15:] = False
    known[0] = False
    relevant = (torch.rand(NUM_USERS, NUM_ITEMS, generator=generator) < 0.25) & ~known
    relevant[4] = False
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = NUM_USERS, NUM_ITEMS
    data["user"].degree, data["item"].degree = known.sum(1).float(), known.sum(0).float()
    data["item"].image = torch.randn(NUM_ITEMS, 3, generator=generator)
    data["item"].image_mask = ~torch.isin(torch.arange(NUM_ITEMS), torch.tensor([2, 16]))
    data["item"].text, data["item"].text_mask = data["item"].image, torch.ones(NUM_ITEMS, dtype=torch.bool)
    schema = GraphSchema({"user": NUM_USERS, "item": NUM_ITEMS}, {"image": 3, "text": 3}, {"image": "item", "text": "item"}, ())
    asked = relevant.any(1).nonzero().flatten()
    sets = [RaggedSets.from_pairs(*mask.nonzero(as_tuple=True), NUM_USERS).take(asked) for mask in (relevant, known)]
    return MultimodalGraph(data, schema), RankingEvaluation(UserQuery(asked), *sets, masked="train"), known, relevant


def slow_recall(model, known, relevant, k, pool=None):
    """Return the mean over users with relevant items, computed with sets."""
    values = {}
    for user in relevant.any(1).nonzero().flatten().tolist():
        scores = (model.items @ model.users[user]).tolist()
        ranked = sorted((i for i in range(NUM_ITEMS) if not known[user, i] and (pool is None or pool[i])), key=lambda i: -scores[i])
        answers = set(relevant[user].nonzero().flatten().tolist())
        values[user] = len(answers & set(ranked[:k])) / len(answers)
    return values


def mean(values):
    return sum(values.values()) / len(values)


def test_equals_counting_by_hand(case):
    graph, ranking, known, relevant = case
    model = Fixed(graph.schema)
    results = evaluate(model, graph, ranking, groups=default_groups(graph, ranking), chunk_size=4, candidate_chunk=6)
    cold, missing = torch.arange(NUM_ITEMS) >= 15, torch.isin(torch.arange(NUM_ITEMS), torch.tensor([2, 16]))
    for k in (5, 10):
        assert results.mean()[f"recall@{k}"] == pytest.approx(mean(slow_recall(model, known, relevant, k)))
        for name, mask in {"cold items": cold, "warm items": ~cold, "items without image": missing}.items():
            found = results.mean(name)[f"recall@{k}"]
            assert found == pytest.approx(mean(slow_recall(model, known, relevant & mask, k))), name
    among = results.mean("cold items among themselves")
    assert among["recall@5"] == 1
    assert evaluate(model, graph, ranking, ks=(2,), groups={"cold": Group(cold, "items", only=True)}).mean("cold")[
        "recall@2"
    ] == pytest.approx(mean(slow_recall(model, known, relevant & cold, 2, cold)))
    assert "items without text" not in results.groups
    assert results.masked == "train"
    assert results.query.tolist() == ranking.query.user.tolist()


def test_training_monitors_full_rankings_even_if_the_report_samples(case):
    graph, ranking, known, relevant = case
    model, config = Fixed(graph.schema), EvalConfig(num_sampled=3, bootstrap=0)
    expected = mean(slow_recall(model, known, relevant, 5))
    assert monitored_value(model, graph, ranking, "recall@5", config) == pytest.approx(expected)
    found = evaluate_task(model, graph, ranking, replace(config, sampled_by="popularity"))
    assert found.mean()["recall@5"] > expected + 0.1
    assert (found.sampled, found.sampled_by) == (3, "popularity")


def test_sampled_rankings_have_no_group_ranked_alone(case):
    graph, ranking, _, _ = case
    cold = Group(graph.degree("item") == 0, "items")
    groups = {"cold": cold, "alone": replace(cold, only=True)}
    assert set(evaluate(Fixed(graph.schema), graph, ranking, groups=groups).groups) == {"cold", "alone"}
    assert set(evaluate(Fixed(graph.schema), graph, ranking, groups=groups, num_sampled=3).groups) == {"cold"}


def test_user_groups_are_quartiles_of_activity(case):
    graph, ranking, known, relevant = case
    model = Fixed(graph.schema)
    graph.data["user"].degree = torch.arange(NUM_USERS).float()  # ten users with 1, 2, 3, 5, 6, ... 11; user 4 has no query
    groups = default_groups(graph, ranking)
    results = evaluate(model, graph, ranking, groups=groups)
    names = [name for name in groups if name.startswith("users")]
    spans = ["1 to 3", "4 to 6", "7 to 9", "10 to 11"]
    assert names == ["users without training interactions", *(f"users with {span} training interactions" for span in spans)]
    together = torch.stack([groups[name].mask for name in names]).sum(0)
    assert together.tolist() == [1] * len(ranking)
    assert [int(groups[name].mask.sum()) for name in names] == [1, 3, 2, 3, 2]
    recall = slow_recall(model, known, relevant, 5)
    for name in names:
        users = ranking.query.user[groups[name].mask].tolist()
        assert results.mean(name)["recall@5"] == pytest.approx(mean({user: recall[user] for user in users}))


def test_no_cold_groups_without_cold_items(case):
    graph, ranking, *_ = case
    graph.data["item"].degree = graph.data["item"].degree + 1
    assert not any("cold" in name or "warm" in name for name in default_groups(graph, ranking))


def test_encodes_once_in_evaluation_mode_and_restores_every_module(case):
    graph, ranking, *_ = case
    model = Fixed(graph.schema)
    model.frozen.eval()
    evaluate(model, graph, ranking, chunk_size=2)
    assert model.asked == [(False, False, False, False)]
    assert (model.training, model.dropout.training, model.frozen.training) == (True, True, False)
    assert torch.is_grad_enabled()


def test_modes_are_restored_after_an_error(case):
    graph, ranking, *_ = case
    model = Fixed(graph.schema)
    model.users.data[3] = torch.nan
    with pytest.raises(ValueError, match="Fixed returned NaN scores"):
        evaluate(model, graph, ranking)
    assert model.training


def test_an_empty_task_is_refused(case):
    graph, ranking, *_ = case
    with pytest.raises(ValueError, match="nothing to evaluate"):
        evaluate(Fixed(graph.schema), graph, ranking.take(torch.empty(0, dtype=torch.long)))


@pytest.mark.parametrize("wrong", [{"metrics": ("auc",)}, {"ks": (0,)}, {"ks": ()}, {"chunk_size": 0}, {"candidate_chunk": 0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}.* but (is|are)"):
        EvalConfig(**wrong)
