import logging
from dataclasses import replace

import pytest
import torch

from gmmrec.data.dataset import Dataset
from gmmrec.data.interactions import Interactions
from gmmrec.data.split import (
    SplitConfig,
    by_time,
    chosen_strategy,
    cold_items,
    cold_users,
    complete,
    leave_last_out,
    random,
    split_dataset,
)
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.errors import DataError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def log_of(counts, **columns):
    """Return a log in which user ``u`` has ``counts[u]`` interactions with distinct items, in shuffled order."""
    counts = torch.tensor(counts)
    user = torch.repeat_interleave(torch.arange(len(counts)), counts)
    item = torch.arange(len(user)) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    order = torch.randperm(len(user), generator=generator(7))
    return Interactions(user[order], item[order], **columns)


def dataset_of(log, given=None):
    num_users, num_items = int(log.user.max()) + 1, int(log.item.max()) + 1
    vocabularies = {"user": Vocabulary(range(num_users), name="user"), "item": Vocabulary(range(num_items), name="item")}
    return Dataset("toy", vocabularies, log, given_split=given)


def sizes(log, part, user):
    return tuple(int(((part == code) & (log.user == user)).sum()) for code in range(3))


def test_random_follows_the_rule_for_every_length():
    counts = [1, 2, 3, 4, 9, 10, 14, 15, 20, 29, 30, 55, 100]
    log = log_of(counts)
    part = random(log, 0.1, 0.1, generator())
    for user, n in enumerate(counts):
        held_out = 0 if n < 3 else 2 if n < 10 else int(0.2 * n)
        valid = 0 if n < 3 else 1 if n < 10 else held_out // 2
        assert sizes(log, part, user) == (n - held_out, valid, held_out - valid)


def test_random_is_random_and_repeatable():
    log = log_of([50, 50])
    part = random(log, 0.1, 0.1, generator(1))
    assert torch.equal(part, random(log, 0.1, 0.1, generator(1)))
    assert not torch.equal(part, random(log, 0.1, 0.1, generator(2)))
    tested = torch.zeros(50)
    for seed in range(400):  # every item is tested with probability 0.1
        tested.index_add_(0, log.item, (random(log, 0.1, 0.1, generator(seed)) == 2).float())
    assert torch.allclose(tested / 800, torch.full((50,), 0.1), atol=0.05)


def test_random_keeps_repeated_pairs_together():
    user = torch.randint(6, (400,), generator=generator())
    item = torch.randint(30, (400,), generator=generator(1))
    part = random(Interactions(user, item), 0.1, 0.1, generator(2))
    for u, i in set(zip(user.tolist(), item.tolist(), strict=True)):
        assert len(part[(user == u) & (item == i)].unique()) == 1
    assert (part > 0).any()


def test_leave_last_out_orders_by_time_then_position():
    log = Interactions(
        user=torch.tensor([0, 1, 0, 0, 1, 0, 2]),
        item=torch.tensor([0, 1, 2, 3, 4, 5, 6]),
        time=torch.tensor([40, 1, 10, 40, 2, 20, 3]),
    )
    assert leave_last_out(log).tolist() == [1, 0, 0, 2, 0, 0, 0]  # users 1 and 2 have fewer than three


def test_by_time_keeps_equal_times_together_and_respects_time():
    time = torch.randint(40, (300,), generator=generator())
    log = Interactions(torch.zeros(300, dtype=torch.long), torch.arange(300), time=time)
    part = by_time(log, 0.2, 0.1)
    assert time[part == 0].max() < time[part == 1].min()
    assert time[part == 1].max() < time[part == 2].min()
    assert abs(int((part == 2).sum()) - 30) < 20
    assert abs(int((part == 1).sum()) - 60) < 20


def test_by_time_puts_the_boundary_second_into_the_later_part():
    time = torch.tensor([9, 1, 8, 2, 9, 3, 8, 4, 7, 5])  # in order: 1 2 3 4 5 | 7 8 8 | 9 9
    log = Interactions(torch.zeros(10, dtype=torch.long), torch.arange(10), time=time)
    assert by_time(log, 0.3, 0.2).tolist() == [2, 0, 1, 0, 2, 0, 1, 0, 1, 0]
    assert by_time(log, 0.1, 0.2).tolist() == [2, 0, 1, 0, 2, 0, 1, 0, 0, 0]  # one of the two eights would do, but both are valid
    assert by_time(log, 0.1, 0.1).tolist() == [2, 0, 0, 0, 2, 0, 0, 0, 0, 0]  # the boundaries meet at 9, so nothing is valid


def test_cold_items_are_never_trained_on():
    log = log_of([20] * 10)
    part = cold_items(log, 0.1, 0.2, generator())
    groups = [set(log.item[part == code].tolist()) for code in range(3)]
    assert [len(group) for group in groups] == [14, 2, 4]
    assert not groups[0] & (groups[1] | groups[2])
    assert not groups[1] & groups[2]
    assert not torch.equal(part, cold_items(log, 0.1, 0.2, generator(1)))


def test_cold_users_are_the_newest_and_never_trained_on():
    log = log_of([2, 9, 5, 1, 4, 7, 3, 2, 6, 8])
    log = Interactions(log.user, log.item, time=torch.randint(500, (len(log),), generator=generator()))
    part = cold_users(log, 0.4)
    first_time = [int(log.time[log.user == user].min()) for user in range(10)]
    newest = sorted(range(10), key=lambda user: first_time[user])[-4:]
    for user in range(10):
        is_user = log.user == user
        expected = [0] * int(is_user.sum())
        if user in newest:
            count = len(expected)
            expected = [3] * count if count < 3 else [3] * (count - 2) + [1, 2]
        assert part[is_user][log.time[is_user].argsort(stable=True)].tolist() == expected
    assert log.time[part == 0].max() > min(first_time[user] for user in newest)  # other users train on later events


def test_users_of_the_same_second_are_held_out_together():
    log = log_of([3, 3, 3])
    log = Interactions(log.user, log.item, time=(log.user > 0).long())
    assert torch.equal(cold_users(log, 0.1) == 0, log.user == 0)


def test_support_is_a_separate_part():
    log = log_of([4, 5, 6])
    log = Interactions(log.user, log.item, time=10 * log.user + log.item)
    split = split_dataset(dataset_of(log), SplitConfig(strategy="cold_users", test=0.3))
    assert split.support.user.tolist() == [2] * 4
    assert sorted(split.support.item.tolist()) == [0, 1, 2, 3]
    assert (split.valid.item.tolist(), split.test.item.tolist()) == ([4], [5])
    assert split.train.user.unique().tolist() == [0, 1]
    assert split.past == [split.train, split.support]
    assert split_dataset(dataset_of(log), SplitConfig(strategy="leave_last_out")).support is None


def test_complete_draws_a_tenth_of_the_training_part():
    log = log_of([2, 3, 20, 50])
    given = torch.zeros(75, dtype=torch.int8)
    part = complete(log, given, 0.1, generator())
    assert [sizes(log, part, user) for user in range(4)] == [(2, 0, 0), (2, 1, 0), (18, 2, 0), (45, 5, 0)]
    given[torch.nonzero(log.user == 2).flatten()] = 2
    part = complete(log, given, 0.1, generator())
    assert sizes(log, part, 2) == (0, 0, 20)
    assert given.tolist().count(1) == 0  # the input is not modified


def test_complete_keeps_a_given_validation_part():
    log = log_of([4])
    given = torch.tensor([0, 0, 1, 2])
    assert torch.equal(complete(log, given, 0.1, generator()), given)


@pytest.mark.parametrize("strategy", ["random", "leave_last_out", "by_time", "cold_items", "cold_users", "given", "auto"])
def test_every_strategy_divides_the_whole_log(strategy):
    log = log_of([12] * 8)
    log = Interactions(log.user, log.item, time=torch.arange(96), weight=torch.arange(96.0))
    given = torch.arange(96) % 3 if strategy == "given" else None
    split = split_dataset(dataset_of(log, given), SplitConfig(strategy=strategy), generator())
    weights = torch.cat([part.weight for part in (*split.past, split.valid, split.test)])
    assert weights.sort().values.tolist() == list(range(96))
    assert len(split.train) > 0
    assert len(split.test) > 0


def test_auto_prefers_the_given_split():
    log = log_of([6])
    given = torch.tensor([2, 0, 0, 0, 0, 1])
    assert torch.equal(split_dataset(dataset_of(log, given)).test.item, log.item[:1])
    assert len(split_dataset(dataset_of(log), SplitConfig(), generator()).test) == 1


def test_users_of_test_alone_are_reported(caplog):
    log = Interactions(torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 2, 0]))
    with caplog.at_level(logging.WARNING):
        split = split_dataset(dataset_of(log, torch.tensor([0, 1, 2, 2])))
    assert "2 users, such as 1, are in valid or test but never in train" in caplog.text
    assert split.test.user.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("log", "given", "strategy", "message"),
    [
        (log_of([2, 2]), None, "random", "split 'random' of toy (4 interactions) has an empty valid part"),
        (log_of([5]), torch.tensor([0, 0, 0, 1, 1]), "given", "split 'given' of toy (5 interactions) has an empty test part"),
        (log_of([5]), None, "given", "toy has no given split"),
        (log_of([5]), None, "by_time", "split 'by_time' needs times"),
        (log_of([5]), None, "leave_last_out", "split 'leave_last_out' needs times"),
        (log_of([5]), None, "cold_users", "split 'cold_users' needs times"),
        (log_of([5], time=torch.arange(5)), None, "cold_users", "has an empty train part"),
        (log_of([5], time=torch.zeros(5, dtype=torch.long)), None, "by_time", "has an empty train part"),
    ],
)
def test_impossible_splits_are_refused(log, given, strategy, message):
    with pytest.raises(DataError) as caught:
        split_dataset(dataset_of(log, given), SplitConfig(strategy=strategy), generator())
    assert message in str(caught.value)


def test_shares_are_checked():
    with pytest.raises(ValueError, match="add up to 1"):
        SplitConfig(valid=0.5, test=0.5)
    with pytest.raises(ValueError, match="valid must be greater than 0"):
        SplitConfig(valid=0)
    with pytest.raises(ValueError, match="strategy must be one of"):
        SplitConfig(strategy="chronological")


def test_events_of_a_boundary_stand_in_the_later_part():
    log = log_of([8], time=torch.tensor([1, 2, 2, 3, 3, 3, 4, 4]))
    assert by_time(log, 0.25, 0.125).tolist() == [0, 0, 0, 1, 1, 1, 2, 2]  # the cuts fall on the last of 4, and on the last of 3


def test_models_of_histories_leave_the_last_out_of_a_log_with_times():
    timed, untimed = (dataset_of(log_of([6], time=time)) for time in (torch.arange(6), None))
    given = dataset_of(log_of([6], time=torch.arange(6)), torch.tensor([2, 0, 0, 0, 0, 1]))
    ordered = replace(timed, interactions=replace(timed.interactions, time=None, order=torch.arange(6)))
    chosen = [chosen_strategy(dataset, "auto", reads_histories=True) for dataset in (timed, ordered, untimed, given)]
    assert chosen == ["leave_last_out", "leave_last_out", "random", "given"]
    assert chosen_strategy(timed, "random", reads_histories=True) == "random"  # asked for by name
    assert chosen_strategy(timed, "auto") == "random"


def ordered(*events):
    """Return a data set with an order; events are (user, number)."""
    user, order = torch.tensor(events).unbind(1)
    return dataset_of(Interactions(user, torch.arange(len(events)), order=order))


@pytest.mark.parametrize("strategy", ["by_time", "cold_users"])
def test_positions_within_users_are_no_times_between_them(strategy):
    counted = ordered(*((user, position) for user in range(3) for position in range(4 + user)))
    with pytest.raises(DataError, match=f"split '{strategy}' compares the times of users, but those of toy are no dates"):
        split_dataset(counted, SplitConfig(strategy))
    assert len(split_dataset(counted, SplitConfig("leave_last_out")).test) == 3


def test_an_order_that_all_users_share_divides_with_a_warning(caplog):
    weeks = ordered(*((user, 10 * user + position) for user in range(5) for position in range(4)))
    split = split_dataset(weeks, SplitConfig("by_time", 0.2, 0.2))
    assert split.test.order.tolist() == [40, 41, 42, 43]
    assert "the times of toy are an order without dates" in caplog.text


def test_order_and_nanoseconds_decide_between_equal_seconds():
    user = torch.zeros(4, dtype=torch.long)
    log = Interactions(user, torch.arange(4), time=torch.full((4,), 7), nanosecond=torch.tensor([0, 900, 300, 600]))
    assert leave_last_out(log).tolist() == [0, 2, 0, 1]
    assert by_time(log, 0.25, 0.25).tolist() == [0, 2, 0, 1]
    assert leave_last_out(Interactions(user, torch.arange(4), order=torch.tensor([0, 9, 3, 6]))).tolist() == [0, 2, 0, 1]
