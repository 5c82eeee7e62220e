from dataclasses import dataclass

import pytest
import torch

from gmmrec.models import MODELS
from gmmrec.tasks.query import ContextQuery, HistoryQuery, LinkPredictionQuery, OutfitQuery, PersonalQuery, RatingQuery, UserQuery
from gmmrec.testing import I, U, asked, checkerboard, rated_checkerboard, training_batch
from gmmrec.testing.queries import ASKING, asking, board


@pytest.mark.parametrize(
    ("query_type", "base"),
    [(q, q) for q in (RatingQuery, HistoryQuery, OutfitQuery)] + [(UserQuery, PersonalQuery), (ContextQuery, PersonalQuery)],
)
def test_a_query_type_uses_the_row_of_its_nearest_base(query_type, base) -> None:
    @dataclass(frozen=True)
    class Mine(query_type):
        pass

    assert asking(query_type) is asking(Mine) is ASKING[base]


def test_link_prediction_is_not_covered() -> None:
    with pytest.raises(
        ValueError, match=r"rank items for users, not models of LinkPredictionQuery; test this model on other toy data"
    ):
        asking(LinkPredictionQuery)


def test_histories_contain_the_items_of_users_in_log_order() -> None:
    model = MODELS["bert4rec"]
    dataset, _ = board(model)
    log = dataset.interactions
    query = asked(model, torch.tensor([3, 0]), log)
    assert isinstance(query, HistoryQuery)
    for row, user in enumerate((3, 0)):
        assert query.items[row][query.mask[row]].tolist() == log.item[log.user == user].tolist()
    assert sorted(log.item[log.user == 3].tolist()) != log.item[log.user == 3].tolist()  # in an order independent of parity


def test_the_items_of_users_are_the_outfit_to_complete() -> None:
    query = asked(MODELS["pog"], torch.tensor([3]))
    assert isinstance(query, OutfitQuery)
    assert torch.equal(query.outfit, query.history)
    known = checkerboard(U, I)[0].interactions
    assert query.outfit[query.outfit_mask].tolist() == known.item[known.user == 3].tolist()


def test_batches_contain_every_interaction_and_unseen_negatives() -> None:
    log = checkerboard(U, I)[0].interactions
    batch = training_batch(log, torch.Generator().manual_seed(0))
    assert isinstance(batch.query, UserQuery)
    assert torch.equal(batch.query.user, log.user)
    known = torch.zeros(U, I, dtype=torch.bool)
    known[log.user, log.item] = True
    assert torch.equal(batch.positive, log.item)
    assert batch.negative.shape == (len(log), 2)
    assert not bool(known[log.user[:, None], batch.negative].any())


def test_ratings_are_part_of_the_batch() -> None:
    log = rated_checkerboard(U, I)[0].interactions
    batch = training_batch(log, torch.Generator(), RatingQuery)
    assert torch.equal(batch.rating, log.weight)
    assert batch.negative.shape == (len(log), 0)
