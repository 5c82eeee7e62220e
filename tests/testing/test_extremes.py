"""The contract of extremes finds models that break it; all models of the package pass it in ``tests/models/test_contract.py``."""

import pytest
import torch

from gmmrec.abilities import FoldsInUsers, IgnoresFeatures
from gmmrec.errors import UsageError
from gmmrec.models.lightgcn import LightGCN
from gmmrec.models.popularity import Popularity, PopularityConfig
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import UserQuery
from gmmrec.testing import I, U, checkerboard
from gmmrec.testing.boards import corner, with_equal_features, without_interactions
from gmmrec.testing.extremes import ExtremesContract


class Alike(Recommender[UserQuery, PopularityConfig], FoldsInUsers):
    """Declares that it folds in new users, but ranks alike for all of them."""

    encode, score, loss = Popularity.encode, Popularity.score, Popularity.loss


class Standardized(Recommender[UserQuery, PopularityConfig], IgnoresFeatures):
    """Declares that it ignores features, but reads them, and divides by their deviation."""

    score, loss = Popularity.score, Popularity.loss

    def encode(self, graph):
        text = graph.features["text"].pooled
        return Encoded({"user": torch.ones(graph.num_nodes("user"), 4), "item": (text - text.mean(0)) / text.std(0, correction=0)})


class Refusing(Standardized):
    """Model that refuses every graph."""

    def encode(self, graph):
        raise UsageError("too small")


@pytest.fixture
def suite():
    made = ExtremesContract()
    made._chosen = {}
    return made


def test_a_model_that_follows_the_contract_passes(suite):
    suite.test_users_and_items_without_interactions_get_no_arbitrary_answer(LightGCN)
    suite.test_features_are_ignored_if_declared(LightGCN)


def test_new_users_with_one_list_for_all_are_found(suite):
    with pytest.raises(AssertionError):
        suite.test_users_and_items_without_interactions_get_no_arbitrary_answer(Alike)


def test_features_that_are_read_in_spite_of_the_declaration_are_found(suite):
    with pytest.raises(AssertionError):
        suite.test_features_are_ignored_if_declared(Standardized)


def test_undefined_scores_are_found_and_refusals_accepted(suite):
    with pytest.raises(AssertionError):
        suite.test_equal_features_are_learned_from(Standardized)
    with pytest.raises(AssertionError):
        suite.test_the_smallest_data_are_scored_or_refused(Standardized, (U, 1))
    suite.test_the_smallest_data_are_scored_or_refused(Refusing, (U, 1))


def test_boards_of_extremes():
    board = checkerboard(U, I)[0]
    bare = without_interactions(board, 5, 6)
    assert not bool(((bare.interactions.user == 5) | (bare.interactions.item == 6)).any())
    assert [bool(table.mask[6]) for table in bare.features.values()] == [False, False]
    assert bool(bare.features["text"].mask[7])
    small = corner(board, 2, 3)
    assert (small.num_users, small.num_items, len(small.features["image"].values)) == (2, 3, 3)
    pairs = {
        (u, i) for u, i in zip(board.interactions.user.tolist(), board.interactions.item.tolist(), strict=True) if u < 2 and i < 3
    }
    assert set(zip(small.interactions.user.tolist(), small.interactions.item.tolist(), strict=True)) == pairs
    assert all(bool((table.values == 1).all()) for table in with_equal_features(board).features.values())
