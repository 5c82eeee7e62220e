"""Compatibility: the AUC agrees with scikit-learn, the default score with a loop, and the values per outfit average to the AUC."""

from typing import Any

import pytest
import torch
from sklearn.metrics import roc_auc_score

from gmmrec.abilities import ScoresCompatibility
from gmmrec.evaluation.compatibility import evaluate_compatibility, shares
from gmmrec.evaluation.kinds import evaluate_task, monitored_value
from gmmrec.evaluation.settings import EvalConfig
from gmmrec.recommender import Encoded
from gmmrec.tasks.evaluation_tasks import CompatibilityEvaluation
from gmmrec.tasks.query import OutfitQuery
from gmmrec.testing import I, toy_graph

WEIGHTS = torch.randn(I, I, generator=torch.Generator().manual_seed(5))


class Pairs(torch.nn.Module):
    """An item fits an outfit by the sum of its weights with the given items."""

    def encode(self, graph: Any) -> Encoded:
        return Encoded({})

    def score(self, encoded: Any, query: OutfitQuery, candidates: torch.Tensor) -> torch.Tensor:
        return (WEIGHTS[query.outfit[:, :, None], candidates[:, None]] * query.outfit_mask[:, :, None]).sum(1)


class Judge(Pairs, ScoresCompatibility):
    def compatibility(self, encoded: Any, query: OutfitQuery) -> torch.Tensor:
        return query.outfit.masked_fill(~query.outfit_mask, 0).sum(1).float()


def asked(num: int = 40) -> CompatibilityEvaluation:
    generator = torch.Generator().manual_seed(0)
    outfit = torch.stack([torch.randperm(I, generator=generator)[:6] for _ in range(num)])
    mask = torch.arange(6) < torch.randint(2, 7, (num, 1), generator=generator)
    real = torch.rand(num, generator=generator) < 0.3
    return CompatibilityEvaluation(OutfitQuery(torch.full((num,), -1), outfit, mask), real)


def test_auc_agrees_with_scikit_learn_and_a_loop():
    sets = asked()
    scores = []
    for row, there in zip(sets.query.outfit, sets.query.outfit_mask, strict=True):
        items = row[there].tolist()
        scores.append(sum(float(WEIGHTS[a, b]) for b in items for a in items if a != b) / len(items))
    results = evaluate_compatibility(Pairs(), toy_graph(), sets, chunk_size=7)
    assert results.mean()["auc"] == pytest.approx(roc_auc_score(sets.label, scores))
    assert results.values["auc"].shape == (40,)
    config = EvalConfig(bootstrap=0)
    assert monitored_value(Pairs(), toy_graph(), sets, "compatibility/auc", config) == pytest.approx(results.mean()["auc"])
    assert "0.5" in evaluate_task(Pairs(), toy_graph(), sets, config).to_markdown()


def test_a_model_may_define_its_own_compatibility():
    sets = asked()
    expected = roc_auc_score(sets.label, Judge().compatibility({}, sets.query))
    assert evaluate_compatibility(Judge(), toy_graph(), sets).mean()["auc"] == pytest.approx(expected)


def test_ties_count_half_and_both_labels_have_the_same_mean():
    scores, real = torch.randint(5, (200,), generator=torch.Generator().manual_seed(1)).float(), torch.arange(200) % 3 == 0
    found = shares(scores, real)
    expected = roc_auc_score(real, scores)
    for part in (real, ~real):
        assert float(found[part].mean()) == pytest.approx(expected, abs=1e-6)


def test_queries_are_identified_by_their_items_and_labels():
    sets = asked()
    one = evaluate_compatibility(Pairs(), toy_graph(), sets).relevant
    other = CompatibilityEvaluation(OutfitQuery(sets.query.user, sets.query.outfit, sets.query.outfit_mask), sets.label.flip(0))
    assert torch.equal(one, evaluate_compatibility(Pairs(), toy_graph(), sets).relevant)
    assert not torch.equal(one, evaluate_compatibility(Pairs(), toy_graph(), other).relevant)


def test_bad_outfits_are_refused():
    sets = asked()
    with pytest.raises(ValueError, match="expected compatible outfits and others"):
        CompatibilityEvaluation(sets.query, torch.ones(40, dtype=torch.bool))
    with pytest.raises(ValueError, match="an outfit has no items"):
        CompatibilityEvaluation(
            OutfitQuery(sets.query.user, sets.query.outfit, torch.zeros_like(sets.query.outfit_mask)), sets.label
        )
