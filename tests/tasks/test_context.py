import math

import pytest
import torch
from torch.testing import assert_close

from gmmrec.data.interactions import Interactions
from gmmrec.data.split import Split
from gmmrec.graph.build import build_graph
from gmmrec.tasks.context import ContextTask, time_context
from gmmrec.tasks.inputs import BatchConfig, TaskInputs
from gmmrec.testing import checkerboard

HOUR, DAY = 3600, 86_400


def log(*rows: tuple[int, int, int]) -> Interactions:
    table = torch.tensor(rows, dtype=torch.long).reshape(-1, 3)
    return Interactions(table[:, 0], table[:, 1], time=table[:, 2])


SPLIT = Split(
    train=log((0, 1, 0), (0, 2, HOUR), (0, 1, 5 * HOUR), (1, 3, DAY)),  # (0, 1) was logged twice
    valid=log((0, 3, 2 * DAY), (1, 3, 0)),  # user 1 knows item 3
    test=log((1, 4, 9 * HOUR), (0, 4, 7), (1, 0, 3), (0, 1, 9), (0, 3, 11)),  # user 0 knows item 1, and item 3 from validation
)
GRAPH = object()  # full mode only passes the graph on


def task(**config) -> ContextTask:
    return ContextTask(TaskInputs(SPLIT, 3, 6, BatchConfig(**config)))


@pytest.mark.parametrize(
    ("time", "hour", "weekday"),
    [(0, 0, 3), (1_704_067_200, 0, 0), (1_704_067_200 + 5 * DAY + 18 * HOUR, 18, 5), (1_704_067_199, 23 + 3599 / 3600, 6)],
    ids=["Thursday 1970-01-01", "Monday 2024-01-01", "Saturday evening", "the second before"],
)
def test_time_context_values(time, hour, weekday) -> None:
    clock, week = 2 * math.pi * hour / 24, 2 * math.pi * weekday / 7
    expected = torch.tensor([[math.sin(clock), math.cos(clock), math.sin(week), math.cos(week), float(weekday >= 5)]])
    assert_close(time_context(torch.tensor([time])), expected, rtol=0, atol=1e-6)


def test_dates_without_a_time_encode_only_the_weekday() -> None:
    context = time_context(torch.arange(14) * DAY)
    assert bool((context[:, :2] == torch.tensor([0.0, 1.0])).all())
    assert torch.equal(context[:7], context[7:])
    assert len(context.unique(dim=0)) == 7


def test_an_epoch_holds_every_event_once_with_its_context() -> None:
    made = task(batch_size=3, num_negatives=2)
    batches = list(made.batches(GRAPH, torch.Generator().manual_seed(0)))
    assert [len(batch) for _, batch in batches] == [3, 1]
    assert made.num_batches == 2
    found = []
    for graph, batch in batches:
        assert graph is GRAPH
        assert batch.negative.shape == (len(batch), 2)
        found += zip(batch.query.user.tolist(), batch.positive.tolist(), map(tuple, batch.query.context.tolist()), strict=True)
    train = SPLIT.train
    context = map(tuple, time_context(train.time).tolist())
    assert sorted(found) == sorted(zip(train.user.tolist(), train.item.tolist(), context, strict=True))


def test_negatives_are_never_training_items() -> None:
    for _, batch in task(num_negatives=100).batches(GRAPH, torch.Generator().manual_seed(0)):
        for user, negative in zip(batch.query.user.tolist(), batch.negative.tolist(), strict=True):
            assert set(negative) == set(range(6)) - ({1, 2} if user == 0 else {3})


@pytest.mark.parametrize(
    ("mask", "asked", "excluded"),
    [
        ("train", [(1, 4, 9 * HOUR), (0, 4, 7), (1, 0, 3), (0, 3, 11)], {0: [1, 2], 1: [3]}),
        ("train+valid", [(1, 4, 9 * HOUR), (0, 4, 7), (1, 0, 3)], {0: [1, 2, 3], 1: [3]}),
    ],
)
def test_every_new_event_of_a_part_is_a_query(mask, asked, excluded) -> None:
    ranking = task().ranking("test", mask)
    assert ranking.query.user.tolist() == [user for user, _, _ in asked]
    assert ranking.relevant.values.tolist() == [item for _, item, _ in asked]
    assert ranking.relevant.counts.tolist() == [1] * len(asked)
    assert torch.equal(ranking.query.context, time_context(torch.tensor([time for _, _, time in asked])))
    for position, (user, _, _) in enumerate(asked):
        own = ranking.excluded.take(torch.tensor([position]))
        assert own.values.tolist() == excluded[user]
    assert ranking.masked == mask


def test_a_log_without_times_has_no_context() -> None:
    parts = [Interactions(part.user, part.item) for part in (SPLIT.train, SPLIT.valid, SPLIT.test)]
    made = ContextTask(TaskInputs(Split(*parts), 3, 6))
    assert made.ranking("test").query.context is None
    assert all(batch.query.context is None for _, batch in made.batches(GRAPH, torch.Generator()))


def test_sampled_batches_are_the_same_events() -> None:
    dataset, _ = checkerboard()
    known = dataset.interactions
    timed = Interactions(known.user, known.item, time=torch.arange(len(known)) * HOUR)
    split = Split(timed, timed.take(torch.arange(0)), timed.take(torch.arange(0)))
    graph, epochs = build_graph(dataset, split), []
    for sampled in (False, True):
        made = ContextTask(TaskInputs(split, dataset.num_users, dataset.num_items, BatchConfig(batch_size=50, sampled=sampled)))
        epochs.append(list(made.batches(graph, torch.Generator().manual_seed(0))))
    for (_, whole), (part, batch) in zip(*epochs, strict=True):
        assert torch.equal(part.rows("user")[batch.query.user], whole.query.user)
        assert torch.equal(part.rows("item")[batch.candidates], whole.candidates)
        assert torch.equal(batch.query.context, whole.query.context)


def test_empty_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="mask 'train\\+valid' would exclude"):
        task().ranking("valid", "train+valid")
    with pytest.raises(ValueError, match="the training part is empty"):
        ContextTask(TaskInputs(Split(log(), SPLIT.valid, SPLIT.test), 3, 6))
    with pytest.raises(ValueError, match="no relevant item left: its users have them all in train"):
        ContextTask(TaskInputs(Split(SPLIT.train, SPLIT.train, SPLIT.test), 3, 6)).ranking("valid")


def test_an_order_without_dates_has_no_context_and_says_so(caplog) -> None:
    parts = [Interactions(part.user, part.item, order=torch.arange(len(part))) for part in (SPLIT.train, SPLIT.valid, SPLIT.test)]
    made = ContextTask(TaskInputs(Split(*parts), 3, 6))
    assert made.ranking("test").query.context is None
    assert "the times of the log are an order without dates, so hour and weekday are unknown" in caplog.text


def test_users_who_have_every_item_give_no_events(caplog):
    train = Interactions(torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 1, 1, 0, 0]), torch.arange(5))
    made = ContextTask(TaskInputs(Split(train, train, train), 2, 2))
    (batch,) = [batch for _, batch in made.batches(None, torch.Generator().manual_seed(0))]
    assert batch.query.user.tolist() == [1, 1]
    assert batch.query.context.shape == (2, 5)
    assert made.num_batches == 1
    assert "3 of the 5 training examples are left out: their users (0)" in caplog.text
