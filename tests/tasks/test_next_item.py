"""Next-item examples and queries agree with a slow version in Python, and contain no later events."""

from dataclasses import replace

import pytest
import torch

from gmmrec.data.interactions import Interactions
from gmmrec.data.split import Split, by_time, cold_users, leave_last_out
from gmmrec.tasks.inputs import BatchConfig, TaskInputs
from gmmrec.tasks.next_item import HistoryConfig, NextItemTask, Timeline, by_length
from gmmrec.tasks.query import HistoryQuery

NUM_USERS, NUM_ITEMS = 12, 30


def log(num_events: int = 150, *, seed: int = 0, timed: bool = True) -> Interactions:
    generator = torch.Generator().manual_seed(seed)
    user = torch.randint(NUM_USERS, (num_events,), generator=generator)
    item = torch.randint(NUM_ITEMS, (num_events,), generator=generator)
    time = torch.randint(40, (num_events,), generator=generator) if timed else None  # many events of the same second
    return Interactions(user, item, time)


def split_of(whole: Interactions, part: torch.Tensor) -> Split:
    return Split(*(whole.take(part == code) for code in range(3)))


def sequences(events: Interactions) -> dict[int, list[int]]:
    """Return items by user, ordered by time and then by log: the slow version."""
    order = range(len(events)) if events.time is None else sorted(range(len(events)), key=lambda e: int(events.time[e]))
    found: dict[int, list[int]] = {}
    for e in order:
        found.setdefault(int(events.user[e]), []).append(int(events.item[e]))
    return found


def told(query: HistoryQuery) -> list[tuple[int, list[int]]]:
    return [(int(u), items[mask].tolist()) for u, items, mask in zip(query.user, query.items, query.mask, strict=True)]


def examples(task: NextItemTask, seed: int = 0) -> list[tuple[int, list[int], int]]:
    found = []
    for _, batch in task.batches(None, torch.Generator().manual_seed(seed)):
        found += [(u, items, int(p)) for (u, items), p in zip(told(batch.query), batch.positive, strict=True)]
    return found


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize(("max_length", "stride"), [(50, 1), (3, 1), (4, 4), (5, 2)])
def test_examples_equal_a_slow_version(timed, max_length, stride):
    train = log(timed=timed)
    task = NextItemTask(
        TaskInputs(
            Split(train, train, train),
            NUM_USERS,
            NUM_ITEMS,
            BatchConfig(batch_size=16),
            settings=HistoryConfig(max_length, stride),
        )
    )
    expected = [
        (user, items[max(0, end - max_length) : end], items[end])
        for user, items in sequences(train).items()
        for end in range(len(items) - 1, 0, -stride)
    ]
    assert sorted(examples(task)) == sorted(expected)
    assert task.num_batches == -(-len(expected) // 16)


@pytest.mark.parametrize("strategy", ["leave_last_out", "by_time"])
def test_histories_contain_exactly_the_earlier_events(strategy):
    whole = log(300)
    split = split_of(whole, leave_last_out(whole) if strategy == "leave_last_out" else by_time(whole, 0.2, 0.2))
    for part, known in (("valid", (split.train, split.valid)), ("test", (split.train, split.valid, split.test))):
        asked = NextItemTask(TaskInputs(split, NUM_USERS, NUM_ITEMS, settings=HistoryConfig(7))).ranking(part, "none")
        events = getattr(split, part)
        assert torch.equal(asked.relevant.values, events.item)
        joined = [
            (int(t), i, int(u), int(v))
            for i, (u, v, t) in enumerate(x for k in known for x in zip(k.user, k.item, k.time, strict=True))
        ]
        position = sum(len(k) for k in known[:-1])
        for n, (user, history) in enumerate(told(asked.query)):
            here = joined[position + n]
            assert user == here[2]
            assert history == [v for t, i, u, v in sorted(joined) if u == user and (t, i) < here[:2]][-7:]


def test_support_of_cold_users_is_history_but_never_trained_on():
    whole = log(300)
    part = cold_users(whole, 0.3)
    split = replace(split_of(whole, part), support=whole.take(part == 3))
    task = NextItemTask(TaskInputs(split, NUM_USERS, NUM_ITEMS))
    cold = set(split.support.user.tolist())
    assert not cold & {user for user, _, _ in examples(task)}
    for end, name in ((-2, "valid"), (-1, "test")):
        asked = task.ranking(name, "none")
        expected = {user: items for user, items in sequences(whole).items() if user in cold}
        assert dict(told(asked.query)) == {user: items[:end] for user, items in expected.items()}
        answers = dict(zip(asked.query.user.tolist(), asked.relevant.values.tolist(), strict=True))
        assert answers == {user: items[end] for user, items in expected.items()}
    known = sequences(split.support)
    for name, mask, more in (("valid", "train", {}), ("test", "train", {}), ("test", "train+valid", sequences(split.valid))):
        asked = task.ranking(name, mask)
        for n, user in enumerate(asked.query.user.tolist()):
            excluded = asked.excluded.take(torch.tensor([n])).values.tolist()
            assert set(excluded) == {*known[user], *more.get(user, [])}


def test_later_events_do_not_change_queries_or_examples():
    whole = log(300)
    part = by_time(whole, 0.2, 0.2)
    task = NextItemTask(TaskInputs(split_of(whole, part), NUM_USERS, NUM_ITEMS))
    later = whole.item.clone()
    later[part == 2] = (later[part == 2] + 7) % NUM_ITEMS
    other = NextItemTask(TaskInputs(split_of(replace(whole, item=later), part), NUM_USERS, NUM_ITEMS))
    assert examples(task) == examples(other)
    assert told(task.ranking("valid").query) == told(other.ranking("valid").query)


def test_histories_contain_times():
    train = log()
    timeline = Timeline(train, NUM_USERS)
    query = timeline.of(torch.arange(NUM_USERS), 50)
    pairs = set(zip(train.user.tolist(), train.item.tolist(), train.time.tolist(), strict=True))
    for user, items, mask, time in zip(query.user, query.items, query.mask, query.time, strict=True):
        assert {(int(user), i, t) for i, t in zip(items[mask].tolist(), time[mask].tolist(), strict=True)} <= pairs
        assert time[mask].tolist() == sorted(time[mask].tolist())
    assert Timeline(log(timed=False), NUM_USERS).of(torch.arange(2), 5).time is None


def test_masks_exclude_their_items():
    whole = log(300)
    split = split_of(whole, leave_last_out(whole))
    task = NextItemTask(TaskInputs(split, NUM_USERS, NUM_ITEMS))
    assert task.ranking("test", "none").excluded.values.numel() == 0
    assert len(task.ranking("test", "none")) == len(split.test)
    asked = task.ranking("test", "train+valid")
    known = [
        set(split.train.item[split.train.user == u].tolist()) | set(split.valid.item[split.valid.user == u].tolist())
        for u in range(12)
    ]
    for n, user in enumerate(asked.query.user.tolist()):
        assert set(asked.excluded.take(torch.tensor([n])).values.tolist()) == known[user]
        assert int(asked.relevant.values[n]) not in known[user]


def test_negatives_are_never_in_the_training_part_of_their_user():
    train = log()
    task = NextItemTask(TaskInputs(Split(train, train, train), NUM_USERS, NUM_ITEMS, BatchConfig(batch_size=32, num_negatives=5)))
    pairs = set(zip(train.user.tolist(), train.item.tolist(), strict=True))
    drawn = [
        (u, i)
        for _, batch in task.batches(None, torch.Generator().manual_seed(0))
        for u, row in zip(batch.query.user.tolist(), batch.negative.tolist(), strict=True)
        for i in row
    ]
    assert len(drawn) > 500
    assert not pairs & set(drawn)


def test_batches_depend_on_the_generator_alone_and_differ_by_epoch():
    train = log()
    task = NextItemTask(TaskInputs(Split(train, train, train), NUM_USERS, NUM_ITEMS, BatchConfig(batch_size=8)))
    assert examples(task, 3) == examples(task, 3)
    assert examples(task, 3) != examples(task, 4)


def test_batches_by_length_pad_little():
    lengths = torch.randint(1, 51, (20_000,), generator=torch.Generator().manual_seed(0))
    batches = by_length(lengths, 64, torch.Generator().manual_seed(0))
    assert torch.cat(batches).sort().values.tolist() == list(range(20_000))
    padded = sum(int(lengths[b].max()) * len(b) for b in batches) / int(lengths.sum())
    assert padded < 1.05


def test_bad_input_is_refused():
    one = Interactions(torch.arange(3), torch.arange(3))
    with pytest.raises(ValueError, match="no user has two training interactions"):
        NextItemTask(TaskInputs(Split(one, one, one), 3, 3))
    with pytest.raises(ValueError, match="set sampled: false"):
        NextItemTask(TaskInputs(Split(log(), log(), log()), NUM_USERS, NUM_ITEMS, BatchConfig(sampled=True)))
    with pytest.raises(ValueError, match="max_length"):
        HistoryConfig(0)


def test_users_who_have_every_item_give_no_examples(caplog):
    train = Interactions(torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 1, 2, 0, 1]))
    task = NextItemTask(TaskInputs(Split(train, train, train), 2, 3))
    assert examples(task) == [(1, [0], 1)]
    assert task.num_batches == 1
    assert "2 of the 3 training examples are left out: their users (0)" in caplog.text
