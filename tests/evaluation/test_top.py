"""The best of scored candidates with an order among ties, against sorting."""

import pytest
import torch

from gmmrec.data.ragged import RaggedSets
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.evaluation.ranking import rank, tie_order
from gmmrec.evaluation.top import Top, top_columns
from gmmrec.tasks.evaluation_tasks import RankingEvaluation
from gmmrec.tasks.query import UserQuery
from tests.evaluation.test_ranking import Table


@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_ties_follow_the_order(levels):
    generator = torch.Generator().manual_seed(levels)
    scores, order = torch.randint(levels, (20, 11), generator=generator).float(), torch.randperm(11, generator=generator)
    separate = torch.stack([torch.randperm(11, generator=generator) for _ in range(20)])
    for k in (1, 4, 11, 15):
        for given in (order, separate):
            values, columns = top_columns(scores, k, given)
            for row, own in zip(range(20), given.expand(20, -1), strict=True):
                expected = sorted(range(11), key=lambda i: (-scores[row, i], own[i]))[:k]
                assert columns[row].tolist() == expected
                assert values[row].tolist() == scores[row, expected].tolist()


@pytest.mark.parametrize("k", [2, 5])
def test_merged_blocks_equal_the_whole_and_count_its_ties(k):
    generator = torch.Generator().manual_seed(k)
    scores, order = torch.randint(3, (30, 24), generator=generator).float(), torch.randperm(24, generator=generator)
    scores[0], scores[1, 1:] = -torch.inf, -torch.inf
    whole = Top.of(scores, torch.arange(24), k, order)
    merged = Top.empty(30, scores.device)
    for part in torch.arange(24).split(7):
        merged = merged.merge(Top.of(scores[:, part], part, k, order[part]), k, order)
    for one, other in zip(whole.padded(k), merged.padded(k), strict=True):
        assert torch.equal(one, other)
    last = whole.scores[:, -1:]
    assert merged.padded(k)[2].tolist() == [int((s == v).sum()) * bool(v > -torch.inf) for s, v in zip(scores, last, strict=True)]


def test_shown_lists_prefer_popular_items_and_then_lower_ids():
    ids, degree = Vocabulary([30, 4, 100, 5]), torch.tensor([2.0, 1.0, 1.0, 1.0])
    order = tie_order(degree, ids)
    assert order.tolist() == [0, 1, 3, 2]  # by number, not by text
    nothing = RaggedSets(torch.zeros(2, dtype=torch.long), torch.empty(0, dtype=torch.long))
    task = RankingEvaluation(UserQuery(torch.arange(1)), nothing, nothing, "train")
    for candidate_chunk in (None, 1):
        found = rank(Table(), {"table": torch.ones(1, 4)}, task, 4, k=3, candidate_chunk=candidate_chunk, order=order)
        assert ids.ids(found.items[0]) == [30, 4, 5]
