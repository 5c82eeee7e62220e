"""Metrics against hand-computed values, PyG and ranx."""

import math
import warnings

import pytest
import torch
from torch_geometric import metrics as pyg

from gmmrec.evaluation.metrics import METRICS, average_precision, hit, mrr, ndcg, parse_metric, precision, recall

HITS = torch.tensor([[False, True, False, True], [True, True, True, True], [False] * 4])
NUM_RELEVANT = torch.tensor([3, 9, 1])


def test_values_computed_by_hand():
    gain = [1 / math.log2(rank + 1) for rank in (1, 2, 3, 4)]
    expected = {
        recall: [2 / 3, 4 / 9, 0],
        precision: [2 / 4, 1, 0],
        hit: [1, 1, 0],
        mrr: [1 / 2, 1, 0],
        ndcg: [(gain[1] + gain[3]) / sum(gain[:3]), 1, 0],
        average_precision: [(1 / 2 + 2 / 4) / 3, 1, 0],
    }
    for metric, values in expected.items():
        torch.testing.assert_close(metric(HITS, NUM_RELEVANT), torch.tensor(values, dtype=torch.float32), msg=metric.__name__)
    assert set(expected) == set(METRICS.values())


def random_lists(num_queries: int = 200, num_items: int = 40, k: int = 15):
    """Ranked lists [Q, k] and relevant pairs [2, n], one to thirty relevant items per query."""
    generator = torch.Generator().manual_seed(1)
    top = torch.rand(num_queries, num_items, generator=generator).argsort(1)[:, :k]
    count = torch.randint(1, 31, (num_queries,), generator=generator)
    relevant = torch.rand(num_queries, num_items, generator=generator).argsort(1).argsort(1) < count[:, None]
    return top, relevant


@pytest.mark.parametrize("k", [1, 5, 15])
@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("recall", pyg.LinkPredRecall),
        ("precision", pyg.LinkPredPrecision),
        ("ndcg", pyg.LinkPredNDCG),
        ("map", pyg.LinkPredMAP),
        ("mrr", pyg.LinkPredMRR),
        ("hit", getattr(pyg, "LinkPredHitRatio", None)),
    ],
)
def test_agrees_with_pyg(name, peer, k):
    if peer is None:
        pytest.skip("this PyG has no LinkPredHitRatio")
    top, relevant = random_lists()
    reference = peer(k)
    reference.update(top, relevant.nonzero().t())
    value = METRICS[name](relevant.gather(1, top)[:, :k], relevant.sum(1)).mean()
    torch.testing.assert_close(value, reference.compute(), rtol=1e-5, atol=1e-6)


@pytest.mark.slow  # ranx compiles its metrics first
def test_agrees_with_ranx():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ranx = pytest.importorskip("ranx")
        top, relevant = random_lists(num_queries=30)
        k = 10
        qrels = ranx.Qrels({str(q): {str(i): 1 for i in row.nonzero().flatten().tolist()} for q, row in enumerate(relevant)})
        run = ranx.Run({str(q): {str(i): 100.0 - r for r, i in enumerate(row)} for q, row in enumerate(top.tolist())})
        names = {"recall": "recall", "precision": "precision", "ndcg": "ndcg", "hit": "hit_rate", "mrr": "mrr", "map": "map"}
        found = ranx.evaluate(qrels, run, [f"{name}@{k}" for name in names.values()], make_comparable=True)
    hits, num_relevant = relevant.gather(1, top)[:, :k], relevant.sum(1)
    for name, ranx_name in names.items():
        values = METRICS[name](hits, num_relevant)
        if name == "map":  # ranx divides by all relevant items, we by at most k
            values = values * num_relevant.clamp(max=k) / num_relevant
        assert values.mean().item() == pytest.approx(found[f"{ranx_name}@{k}"], abs=1e-6), name


@pytest.mark.parametrize("text", ["recall", "recall@", "recall@0", "auc@5", "recall@-1", "@3"])
def test_malformed_metric_is_refused(text):
    with pytest.raises(ValueError, match="NAME@K"):
        parse_metric(text)
