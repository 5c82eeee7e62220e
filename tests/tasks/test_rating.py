import pytest
import torch

from gmmrec.data.dataset import Dataset
from gmmrec.data.interactions import Interactions
from gmmrec.data.reviews import training_texts
from gmmrec.data.split import Split
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.graph.build import build_graph
from gmmrec.tasks.collaborative import CollaborativeTask
from gmmrec.tasks.inputs import BatchConfig, TaskInputs
from gmmrec.tasks.query import RatingQuery
from gmmrec.tasks.rating import RatingTask
from gmmrec.testing import rated_checkerboard


def log(*rows: tuple[int, int, float]) -> Interactions:
    table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 3)
    return Interactions(table[:, 0].long(), table[:, 1].long(), weight=table[:, 2].float())


SPLIT = Split(
    train=log((0, 1, 4), (0, 2, 2), (0, 1, 1), (1, 3, 5), (2, 0, 3)),  # (0, 1) was rated twice
    valid=log((0, 3, 1), (2, 1, 4)),
    test=log((2, 4, 2), (0, 3, 5), (0, 3, 4)),
)


def test_an_epoch_holds_every_pair_once_with_its_first_rating():
    task = RatingTask(TaskInputs(SPLIT, 4, 6, BatchConfig(batch_size=3)))
    batches = [batch for _, batch in task.batches(object(), torch.Generator().manual_seed(0))]
    assert [len(batch) for batch in batches] == [3, 1]
    assert task.num_batches == 2
    assert all(batch.negative.shape == (len(batch), 0) and batch.text is None for batch in batches)
    assert all(isinstance(batch.query, RatingQuery) for batch in batches)
    rated = [row for b in batches for row in zip(b.query.user.tolist(), b.positive.tolist(), b.rating.tolist(), strict=True)]
    assert sorted(rated) == [(0, 1, 4), (0, 2, 2), (1, 3, 5), (2, 0, 3)]


def test_the_order_is_redrawn_every_epoch():
    task, generator = RatingTask(TaskInputs(SPLIT, 4, 6)), torch.Generator().manual_seed(0)
    orders = {tuple(batch.positive.tolist()) for _ in range(20) for _, batch in task.batches(object(), generator)}
    assert len(orders) > 5


@pytest.mark.parametrize("sampled", [False, True])
def test_words_and_ratings_match_their_pair_in_subgraphs_too(sampled):
    dataset, _ = rated_checkerboard()
    nothing = dataset.interactions.take(torch.arange(0))
    split = Split(dataset.interactions, nothing, nothing)
    config = BatchConfig(batch_size=50, sampled=sampled, num_neighbors=(2,))
    task = RatingTask(TaskInputs(split, dataset.num_users, dataset.num_items, config, dataset.reviews))
    count, words = 0, training_texts(dataset.reviews, split).words
    for graph, batch in task.batches(build_graph(dataset, split), torch.Generator().manual_seed(0)):
        user, item = graph.rows("user")[batch.query.user], graph.rows("item")[batch.positive]
        likes = (user + item) % 2 == 0
        assert torch.equal(batch.rating, 1 + 4 * likes.float())
        expected = (2 + item % 2 + 2 * likes).tolist()
        assert [words[word] for word in batch.text[:, 1].tolist()] == [dataset.reviews.words[word] for word in expected]
        assert (graph.num_nodes("user") < dataset.num_users) or not sampled or len(batch) == 50
        count += len(batch)
    assert count == len(dataset.interactions)


def test_sampled_batches_equal_those_on_the_whole_graph():
    dataset, _ = rated_checkerboard()
    nothing = dataset.interactions.take(torch.arange(0))
    split = Split(dataset.interactions, nothing, nothing)
    graph = build_graph(dataset, split)
    small, large = (
        [
            (part.rows("user")[b.query.user].tolist(), part.rows("item")[b.positive].tolist(), b.rating.tolist())
            for part, b in RatingTask(TaskInputs(split, 24, 16, BatchConfig(30, sampled=sampled, num_neighbors=(3,)))).batches(
                graph, torch.Generator().manual_seed(4)
            )
        ]
        for sampled in (True, False)
    )
    assert small == large


def test_rankings_equal_those_of_the_collaborative_task():
    asked, usual = RatingTask(TaskInputs(SPLIT, 4, 6)).ranking("test"), CollaborativeTask(TaskInputs(SPLIT, 4, 6)).ranking("test")
    assert isinstance(asked.query, RatingQuery)
    assert torch.equal(asked.query.user, usual.query.user)
    assert torch.equal(asked.relevant.values, usual.relevant.values)
    assert torch.equal(asked.excluded.values, usual.excluded.values)


def test_every_held_out_rating_is_predicted():
    ratings = RatingTask(TaskInputs(SPLIT, 4, 6)).ratings("test")
    assert ratings.query.user.tolist() == [2, 0, 0]
    assert ratings.item.tolist() == [4, 3, 3]
    assert ratings.rating.tolist() == [2, 5, 4]
    assert ratings.bounds == (2, 5)  # the second rating of (0, 1) does not count
    assert len(ratings) == 3
    assert RatingTask(TaskInputs(SPLIT, 4, 6)).ratings("valid").bounds == (2, 5)  # those of training, though a 1 is held out


def test_bad_input_is_refused():
    bare = Interactions(SPLIT.train.user, SPLIT.train.item)
    with pytest.raises(ValueError, match="have no ratings to predict; set weight_column, or choose a model that ranks"):
        RatingTask(TaskInputs(Split(bare, bare, bare), 4, 6))
    with pytest.raises(ValueError, match="the valid part has no ratings"):
        RatingTask(TaskInputs(Split(SPLIT.train, log(), SPLIT.test), 4, 6)).ratings("valid")
    with pytest.raises(ValueError, match="part must be one of"):
        RatingTask(TaskInputs(SPLIT, 4, 6)).ratings("train")


def test_vocabularies_do_not_affect_the_task():
    dataset = Dataset("rated", {"user": Vocabulary(range(4)), "item": Vocabulary(range(6))}, SPLIT.train)
    assert build_graph(dataset, SPLIT).attribute(("user", "interacts", "item"), "rating").tolist() == [3, 4, 2, 5]
