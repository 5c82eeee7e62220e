import torch

from gmmrec.tasks.query import Batch, ContextQuery, UserQuery

QUERY = ContextQuery(torch.tensor([4, 7, 9]), context=torch.tensor([[1.0], [2.0], [3.0]]))


def test_the_length_is_the_number_of_queries() -> None:
    assert len(QUERY) == 3


def test_take_indexes_every_field_but_none() -> None:
    taken = QUERY.take(torch.tensor([2, 0]))
    assert taken.user.tolist() == [9, 4]
    assert taken.context is not None
    assert taken.context.tolist() == [[3], [1]]
    sliced = ContextQuery(QUERY.user).take(slice(1, 3))
    assert sliced.user.tolist() == [7, 9]
    assert sliced.context is None


def test_queries_for_users_rank_items() -> None:
    assert UserQuery.target == ContextQuery.target == "item"


def test_candidates_put_the_positive_first() -> None:
    batch = Batch(UserQuery(torch.tensor([0, 1])), torch.tensor([5, 6]), torch.tensor([[1, 2], [3, 4]]))
    assert batch.candidates.tolist() == [[5, 1, 2], [6, 3, 4]]
    assert len(batch) == 2


def test_a_batch_moves_as_a_whole() -> None:
    batch = Batch(QUERY, torch.arange(3), torch.ones(3, 1, dtype=torch.long)).to("meta")
    assert {batch.query.user.device.type, batch.positive.device.type, batch.negative.device.type} == {"meta"}
    assert batch.query.context is not None
    assert batch.query.context.device.type == "meta"
    assert batch.rating is None
    assert batch.text is None


def test_ratings_and_words_move_with_a_batch() -> None:
    rows = torch.arange(3)
    batch = Batch(QUERY, rows, rows[:, None], rating=torch.rand(3), text=torch.ones(3, 7, dtype=torch.int32)).to("meta")
    assert batch.rating is not None
    assert batch.text is not None
    assert {batch.rating.device.type, batch.text.device.type} == {"meta"}
