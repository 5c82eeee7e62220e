import pytest
import torch

from gmmrec.data.dataset import Dataset
from gmmrec.data.interactions import Interactions
from gmmrec.data.reviews import Reviews, training_texts
from gmmrec.data.split import Split
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.graph.build import build_graph
from gmmrec.models.lightgcn import LightGCN, LightGCNConfig
from gmmrec.tasks.collaborative import CollaborativeTask
from gmmrec.tasks.inputs import BatchConfig, TaskInputs


def interactions(*pairs: tuple[int, int]) -> Interactions:
    table = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)
    return Interactions(table[:, 0], table[:, 1])


SPLIT = Split(
    train=interactions((0, 1), (0, 2), (0, 1), (1, 3), (2, 0)),  # (0, 1) was logged twice
    valid=interactions((0, 3), (1, 3), (2, 1)),  # (1, 3) is in training too
    test=interactions((2, 4), (0, 3), (0, 4), (2, 1), (0, 4), (1, 3)),  # (0, 3) and (2, 1) are in validation too
)
GRAPH = object()  # full mode only passes the graph on


def task(**config) -> CollaborativeTask:
    return CollaborativeTask(TaskInputs(SPLIT, 4, 6, BatchConfig(**config)))


def epoch(task: CollaborativeTask, seed: int = 0) -> list:
    return list(task.batches(GRAPH, torch.Generator().manual_seed(seed)))


def test_an_epoch_holds_every_distinct_pair_once():
    made = task(batch_size=3)
    batches = epoch(made)
    assert [len(batch) for _, batch in batches] == [3, 1]
    assert made.num_batches == 2
    assert all(graph is GRAPH for graph, _ in batches)
    pairs = [pair for _, batch in batches for pair in zip(batch.query.user.tolist(), batch.positive.tolist(), strict=True)]
    assert sorted(pairs) == [(0, 1), (0, 2), (1, 3), (2, 0)]


def test_negatives_avoid_training_positives_and_come_from_the_pool():
    seen = {0: {1, 2}, 1: {3}, 2: {0}}
    for pool, allowed in (("all", set(range(6))), ("train", {0, 1, 2, 3})):
        drawn = {user: set() for user in seen}
        for _, batch in epoch(task(num_negatives=200, negatives_from=pool)):
            for user, negatives in zip(batch.query.user.tolist(), batch.negative.tolist(), strict=True):
                drawn[user].update(negatives)
        assert drawn == {user: allowed - items for user, items in seen.items()}


def test_a_user_who_has_every_item_stays_out_of_the_batches(caplog):
    train = interactions(*((3, item) for item in range(6)), (0, 1), (1, 3))
    inputs = TaskInputs(Split(train, SPLIT.valid, SPLIT.test), 4, 6, users=Vocabulary(["a", "b", "c", "all"], name="user"))
    made = CollaborativeTask(inputs)
    assert made.ranking("test") is not None  # evaluation draws nothing
    assert caplog.messages == []
    for _ in range(2):
        batches = epoch(made)
        assert sorted(u for _, batch in batches for u in batch.query.user.tolist()) == [0, 1]
    (message,) = caplog.messages  # once, not in every epoch
    assert "6 of the 8 training examples are left out: their users ('all') have all 6 items" in message
    assert made.num_batches == 1


def test_a_pool_that_some_users_know_by_heart_can_be_widened(caplog):
    epoch(
        CollaborativeTask(
            TaskInputs(
                Split(interactions((0, 1), (0, 2), (1, 1)), SPLIT.valid, SPLIT.test), 2, 6, BatchConfig(negatives_from="train")
            )
        )
    )
    assert caplog.messages[0].endswith(
        "(0) have all 2 items that negatives are drawn from; set negatives_from to 'all' to keep them"
    )


def test_the_generator_decides_order_and_negatives():
    def flat(seed):
        return [(b.query.user.tolist(), b.positive.tolist(), b.negative.tolist()) for _, b in epoch(task(num_negatives=4), seed)]

    assert flat(1) == flat(1)
    assert flat(1) != flat(2)


def test_excluded_items_are_not_relevant():
    asked = task().ranking("test")
    assert asked.query.user.tolist() == [0, 2]  # user 1's only test item is known from training; user 3 has none
    assert [asked.relevant.take(torch.tensor([q])).values.tolist() for q in (0, 1)] == [[3, 4], [1, 4]]
    assert [asked.excluded.take(torch.tensor([q])).values.tolist() for q in (0, 1)] == [[1, 2], [0]]
    assert asked.masked == "train"


def test_rankings_may_exclude_validation_items_too():
    asked = task().ranking("test", "train+valid")
    assert asked.query.user.tolist() == [0, 2]
    assert asked.relevant.values.tolist() == [4, 4]
    assert [asked.excluded.take(torch.tensor([q])).values.tolist() for q in (0, 1)] == [[1, 2, 3], [0, 1]]
    assert task().ranking("valid").query.user.tolist() == [0, 2]


def test_impossible_rankings_are_refused():
    with pytest.raises(ValueError, match="would exclude every relevant item"):
        task().ranking("valid", "train+valid")
    with pytest.raises(ValueError, match="part must be one of"):
        task().ranking("train")
    nothing = CollaborativeTask(TaskInputs(Split(SPLIT.train, interactions(), interactions((1, 3))), 4, 6))
    for part in ("valid", "test"):
        with pytest.raises(ValueError, match=f"the {part} part has no relevant item left"):
            nothing.ranking(part)


def sampled_and_whole(num_neighbors: tuple[int, ...]):
    """Return the graph of a sparse log, and its task in either mode: 200 interactions of 60 users and 80 items."""
    pairs = torch.randperm(60 * 80, generator=torch.Generator().manual_seed(3))[:200]
    log = Interactions(pairs // 80, pairs % 80)
    dataset = Dataset("sparse", {"user": Vocabulary(range(60), name="user"), "item": Vocabulary(range(80))}, log)
    split = Split(log, interactions(), interactions())
    modes = [
        CollaborativeTask(TaskInputs(split, 60, 80, BatchConfig(32, num_negatives=2, sampled=sampled, num_neighbors=num_neighbors)))
        for sampled in (True, False)
    ]
    return build_graph(dataset, split), *modes


def test_sampled_batches_equal_those_on_the_whole_graph():
    graph, sampled, whole = sampled_and_whole((2,))
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    global_state = torch.get_rng_state()
    small = list(sampled.batches(graph, generators[0]))
    large = list(whole.batches(graph, generators[1]))
    assert torch.equal(generators[0].get_state(), generators[1].get_state())
    assert torch.equal(torch.get_rng_state(), global_state)
    assert len(small) == len(large) == 7
    for (subgraph, local), (_, batch) in zip(small, large, strict=True):
        assert torch.equal(subgraph.rows("user")[local.query.user], batch.query.user)
        assert torch.equal(subgraph.rows("item")[local.positive], batch.positive)
        assert torch.equal(subgraph.rows("item")[local.negative], batch.negative)
        assert subgraph.num_nodes("user") < 60
        degrees = torch.bincount(subgraph.edges(("item", "rev_interacts", "user")).edge_index[1])
        assert int(degrees.max()) <= 2


def test_neighbours_are_redrawn_every_epoch():
    graph, sampled, _ = sampled_and_whole((1,))
    generator = torch.Generator().manual_seed(5)
    again = torch.Generator().manual_seed(5)

    def edges(state):
        return [
            subgraph.edges(("item", "rev_interacts", "user")).edge_index.tolist() for subgraph, _ in sampled.batches(graph, state)
        ]

    first = edges(generator)
    assert first == edges(again)
    assert first != edges(generator)


def test_training_with_all_neighbours_equals_training_on_the_whole_graph():
    graph, *tasks = sampled_and_whole((-1, -1))
    curves, weights = [], []
    for made in tasks:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = LightGCN(graph.schema, LightGCNConfig(dim=8, num_layers=2, l2=0.1))
        initial = model.users.detach().clone()
        optimizer = torch.optim.SGD(model.parameters(), lr=10.0)
        losses = []
        for step_graph, batch in made.batches(graph, torch.Generator().manual_seed(1)):
            loss = sum(model.loss(step_graph, batch).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        curves.append(losses)
        weights.append(model.users.detach())
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(weights[0], initial, atol=0.01)  # training changed something, so that equality is meaningful


def test_settings_and_an_empty_training_part():
    with pytest.raises(ValueError, match="batch_size must be greater than 0"):
        BatchConfig(batch_size=0)
    with pytest.raises(ValueError, match="negatives_from must be one of"):
        BatchConfig(negatives_from="most")
    with pytest.raises(ValueError, match="number for every hop, -1 for all, but is \\[-2\\]"):
        BatchConfig(num_neighbors=(-2,))
    with pytest.raises(ValueError, match="training part is empty"):
        CollaborativeTask(TaskInputs(Split(interactions(), SPLIT.valid, SPLIT.test), 4, 6))


def reviewed_split() -> tuple[Split, Reviews]:
    """Every training pair's first word is 2 + 6 user + item; user 1 wrote nothing."""
    train = SPLIT.train
    review = torch.arange(len(train)).masked_fill(train.user == 1, -1)
    code = (2 + 6 * train.user + train.item).int()
    reviews = Reviews(torch.stack([code, code], dim=1), tuple(map(str, range(40))))
    return Split(Interactions(train.user, train.item, review=review), SPLIT.valid, SPLIT.test), reviews


@pytest.mark.parametrize("sampled", [False, True])
def test_batches_contain_the_review_of_the_positive(sampled):
    split, reviews = reviewed_split()
    dataset = Dataset("written", {"user": Vocabulary(range(4)), "item": Vocabulary(range(6))}, split.train, reviews=reviews)
    made = CollaborativeTask(TaskInputs(split, 4, 6, BatchConfig(batch_size=3, sampled=sampled), reviews))
    graph, words = build_graph(dataset, split), training_texts(reviews, split).words
    for step_graph, batch in made.batches(graph, torch.Generator().manual_seed(0)):
        user, item = step_graph.rows("user")[batch.query.user], step_graph.rows("item")[batch.positive]
        expected = (2 + 6 * user + item).masked_fill(user == 1, 0)
        assert [words[word] for word in batch.text[:, 0].tolist()] == [reviews.words[word] for word in expected.tolist()]


def test_words_that_occur_once_in_training_are_unknown_in_batches():
    split, reviews = reviewed_split()
    tokens = torch.cat([reviews.tokens, torch.tensor([[39, 39]], dtype=torch.int32)])  # the last review is held out
    tokens[0, 1] = 39  # then the first word of this review also occurs once
    made = CollaborativeTask(TaskInputs(split, 4, 6, reviews=Reviews(tokens, reviews.words)))
    texts = {tuple(row) for _, batch in epoch(made) for row in batch.text.tolist()}
    assert (1, 1) in texts
    assert "39" not in training_texts(Reviews(tokens, reviews.words), split).words
    assert all(batch.text is None for _, batch in epoch(task()))
