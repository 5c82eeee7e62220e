"""Scores of identical items, and of one pair in every batch and block, to the last bit."""

import pytest
import torch

from gmmrec.evaluation.scoring import full_tiles, tiled_scores
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.recommender import Encoded
from gmmrec.tasks.query import UserQuery
from tests.evaluation.test_ranking import Table


class Product(Table):
    """Inner products, of shared or separate candidates."""

    def score(self, encoded, query, candidates):
        return inner_product(encoded["user"][query.user], encoded["item"][candidates])


def vectors(num_users: int, num_items: int, dim: int) -> Encoded:
    """Return random users and items that are all alike."""
    generator = torch.Generator().manual_seed(dim)
    item = torch.randn(1, dim, generator=generator).repeat(num_items, 1)
    return Encoded({"user": torch.randn(num_users, dim, generator=generator), "item": item})


@pytest.mark.parametrize("dim", [16, 64, 100, 384])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 17, 257, 7051])
def test_identical_items_score_identically_for_any_batch_and_block(dim, count):
    encoded, whole = vectors(40, 7051, dim), {}
    for queries in (40, 1, 2, 3, 5, 9):
        query, items = UserQuery(torch.arange(queries)), torch.arange(count)
        scores = tiled_scores(Product(), encoded, query, items)
        assert scores.shape == (queries, count)
        assert torch.equal(scores, scores[:, :1].expand_as(scores))
        whole.setdefault("scores", scores[:, :1])
        assert torch.equal(scores[:, :1], whole["scores"][:queries])  # in a batch and alone
        if count < 300:
            separate = tiled_scores(Product(), encoded, query, items.expand(queries, -1))
            assert torch.equal(separate, separate[:, :1].expand_as(separate))


def test_nothing_is_scored_where_there_is_nothing():
    encoded, nobody = vectors(3, 4, 8), UserQuery(torch.arange(0))
    assert tiled_scores(Product(), encoded, nobody, torch.arange(4)).shape == (0, 4)
    assert tiled_scores(Product(), encoded, UserQuery(torch.arange(3)), torch.arange(0)).shape == (3, 0)


def test_separate_single_candidates_are_not_repeated():
    sizes = []

    class Counted(Product):
        def score(self, encoded, query, candidates):
            sizes.append(candidates.shape)
            return super().score(encoded, query, candidates)

    found = tiled_scores(Counted(), vectors(3, 4, 8), UserQuery(torch.arange(3)), torch.arange(3)[:, None])
    assert found.shape == (3, 1)
    assert sizes == [(8, 1)]


def test_tiles_repeat_the_last():
    row, column = full_tiles(9, 3, torch.device("cpu"))
    assert row.tolist() == [*range(9)] + [8] * 7
    assert column.tolist() == [0, 1] + [2] * 14
