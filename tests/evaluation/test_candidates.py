"""Rankings of given candidates: metrics agree with scikit-learn and with a loop, and padding does not matter."""

import math
from typing import Any

import pytest
import torch
from sklearn.metrics import ndcg_score, roc_auc_score

from gmmrec.data.ragged import RaggedLists
from gmmrec.evaluation.candidates import candidate_metrics, evaluate_candidates
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.recommender import Encoded
from gmmrec.tasks.evaluation_tasks import CandidateEvaluation
from gmmrec.tasks.query import UserQuery
from gmmrec.testing import I, U, toy_graph
from tests.evaluation.all_orders import mean_over_orders


class Table(torch.nn.Module):
    """Scores from a table ``[U, I]``."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = table

    def encode(self, graph: MultimodalGraph) -> Encoded:
        return Encoded({})

    def score(self, encoded: Any, query: UserQuery, candidates: torch.Tensor) -> torch.Tensor:
        return self.table[query.user].gather(1, candidates)


def asked(num: int = 40, *, seed: int = 0) -> CandidateEvaluation[UserQuery]:
    generator = torch.Generator().manual_seed(seed)
    rows, right = [], []
    for _ in range(num):
        count = int(torch.randint(2, I, (), generator=generator))
        rows.append(torch.randperm(I, generator=generator)[:count])
        labels = torch.rand(count, generator=generator) < 0.3
        labels[0], labels[1] = True, False
        right.append(labels)
    user = torch.randint(U, (num,), generator=generator)
    return CandidateEvaluation(UserQuery(user), RaggedLists.from_sequences(rows), torch.cat(right))


def test_metrics_agree_with_scikit_learn_and_a_loop():
    table = torch.rand(U, I, generator=torch.Generator().manual_seed(1))
    choices = asked()
    results = evaluate_candidates(Table(table), toy_graph(), choices, chunk_size=7)
    for n in range(len(choices)):
        a, b = choices.candidates.indptr[n : n + 2].tolist()
        scores = table[choices.query.user[n], choices.candidates.values[a:b]]
        labels = choices.label[a:b]
        order = scores.argsort(descending=True)
        ranks = [1 + order.tolist().index(i) for i in labels.nonzero().flatten().tolist()]
        assert results.values["auc"][n].item() == pytest.approx(roc_auc_score(labels, scores))
        assert results.values["mrr"][n].item() == pytest.approx(sum(1 / r for r in ranks) / len(ranks))
        assert results.values["accuracy"][n].item() == float(min(ranks) == 1)
        for k in (5, 10):
            expected = ndcg_score(labels.int().numpy()[None], scores.numpy()[None], k=k)
            assert results.values[f"ndcg@{k}"][n].item() == pytest.approx(expected, abs=1e-6)


def test_equal_scores_count_as_a_random_order():
    scores, right = torch.zeros(1, 4), torch.tensor([[True, False, False, False]])
    found = candidate_metrics(scores, right, torch.ones(1, 4) > 0)
    assert found["auc"].item() == 0.5
    assert found["mrr"].item() == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert found["accuracy"].item() == 0.25
    assert found["ndcg@5"].item() == pytest.approx(sum(1 / math.log2(rank + 1) for rank in (1, 2, 3, 4)) / 4)


@pytest.mark.parametrize("seed", range(5))
def test_ties_are_means_over_all_orders(seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(1 + seed % 4, (12, 6), generator=generator).float()
    present = torch.rand(12, 6, generator=generator) < 0.9
    relevant = (torch.rand(12, 6, generator=generator) < 0.4) & present
    relevant[:, 0], relevant[:, 1] = True, False
    present[:, :2] = True
    scores = scores.masked_fill(~present, -torch.inf)
    found = candidate_metrics(scores, relevant, present)

    def value(name):
        def of(labels):
            ranks = [rank for rank, label in enumerate(labels, 1) if label]
            ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(ranks), 5) + 1))
            pairs = [(a, b) for a in ranks for b in range(1, len(labels) + 1) if not labels[b - 1]]
            return {
                "auc": sum(a < b for a, b in pairs) / len(pairs),
                "mrr": sum(1 / rank for rank in ranks) / len(ranks),
                "ndcg@5": sum(1 / math.log2(rank + 1) for rank in ranks if rank <= 5) / ideal,
                "accuracy": float(labels[0]),
            }[name]

        return of

    for name in ("auc", "mrr", "ndcg@5", "accuracy"):
        slow = [mean_over_orders(*pair, value(name)) for pair in zip(scores.tolist(), relevant.tolist(), strict=True)]
        assert found[name].tolist() == pytest.approx(slow, abs=1e-6), name


def test_scores_of_minus_infinity_rank_last():
    scores = torch.tensor([[1.0, -torch.inf, 0.0]])
    found = candidate_metrics(scores, torch.tensor([[False, True, False]]), torch.ones(1, 3) > 0)
    assert found["auc"].item() == 0.0
    assert found["mrr"].item() == pytest.approx(1 / 3)


def test_queries_with_one_kind_of_candidate_are_refused():
    lists = RaggedLists(torch.tensor([0, 2]), torch.tensor([0, 1]))
    for right in ([True, True], [False, False]):
        with pytest.raises(ValueError, match="every query needs a relevant candidate and another one"):
            CandidateEvaluation(UserQuery(torch.tensor([0])), lists, torch.tensor(right))


def test_nan_is_reported():
    with pytest.raises(ValueError, match="Table returned NaN scores; its training has diverged"):
        evaluate_candidates(Table(torch.full((U, I), torch.nan)), toy_graph(), asked(3))
