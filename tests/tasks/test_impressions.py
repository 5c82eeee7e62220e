"""Examples and queries of impressions agree with a slow version, and contain nothing but their own history."""

from dataclasses import replace

import pytest
import torch

from gmmrec.data.impressions import Impressions
from gmmrec.data.interactions import Interactions
from gmmrec.data.ragged import RaggedLists
from gmmrec.data.split import Split
from gmmrec.tasks import task_of
from gmmrec.tasks.collaborative import CollaborativeTask
from gmmrec.tasks.impressions import ImpressionTask, draw
from gmmrec.tasks.inputs import BatchConfig, TaskInputs
from gmmrec.tasks.next_item import HistoryConfig, NextItemTask
from gmmrec.tasks.query import HistoryQuery, UserQuery

NUM_USERS, NUM_ITEMS, NUM = 9, 40, 60


def impressions(*, seed: int = 0) -> Impressions:
    """Histories of 0 to 7, 1 to 8 items shown; some all clicked, some without a click, some items shown twice."""
    generator = torch.Generator().manual_seed(seed)

    def lists(least: int, most: int) -> RaggedLists:
        sizes = torch.randint(least, most, (NUM,), generator=generator).tolist()
        return RaggedLists.from_sequences([torch.randint(NUM_ITEMS, (size,), generator=generator) for size in sizes])

    shown, history = lists(1, 9), lists(0, 8)
    clicked = torch.rand(shown.values.numel(), generator=generator) < 0.4
    user = torch.randint(NUM_USERS, (NUM,), generator=generator)
    time = torch.arange(history.values.numel()) + 1000
    return Impressions(user, shown, clicked, history, torch.arange(NUM) % 4 % 3, torch.arange(NUM), time)


def split_of(found: Impressions) -> Split:
    log = [Interactions(torch.arange(NUM_USERS), torch.arange(NUM_USERS) + 3 * part) for part in range(3)]
    return Split(*log, impressions=found)


def task_on(found: Impressions, length: int = 5, **settings: int) -> ImpressionTask:
    return ImpressionTask(
        TaskInputs(split_of(found), NUM_USERS, NUM_ITEMS, BatchConfig(**settings), settings=HistoryConfig(length))
    )


def spelled_out(found: Impressions) -> list[tuple[int, list[int], list[int], list[int], int]]:
    """Return user, history, clicked items, unclicked items and part: the slow version."""
    result = []
    for n in range(len(found)):
        a, b = found.shown.indptr[n : n + 2].tolist()
        items, labels = found.shown.values[a:b].tolist(), found.clicked[a:b].tolist()
        yes = {item for item, label in zip(items, labels, strict=True) if label}
        c, d = found.history.indptr[n : n + 2].tolist()
        history = found.history.values[c:d].tolist()
        result.append((int(found.user[n]), history, sorted(yes), [i for i in items if i not in yes], int(found.part[n])))
    return result


def rows(query: HistoryQuery) -> list[tuple[int, list[int]]]:
    return [(int(u), items[mask].tolist()) for u, items, mask in zip(query.user, query.items, query.mask, strict=True)]


def drawn(task: ImpressionTask, seed: int = 0) -> list[tuple[int, list[int], int, list[int]]]:
    return [
        (user, history, int(positive), negative.tolist())
        for _, batch in task.batches(None, torch.Generator().manual_seed(seed))
        for (user, history), positive, negative in zip(rows(batch.query), batch.positive, batch.negative, strict=True)
    ]


def test_every_click_with_an_unclicked_item_is_an_example():
    found = impressions()
    expected = [
        (user, history[-5:], click)
        for user, history, yes, no, part in spelled_out(found)
        for click in yes
        if part == 0 and no and history
    ]
    task = task_on(found, batch_size=8)
    assert sorted(example[:3] for example in drawn(task)) == sorted(expected)
    assert task.num_batches == -(-len(expected) // 8) == len(list(task.batches(None, torch.Generator().manual_seed(0))))


def test_negatives_are_unclicked_items_of_the_same_impression():
    found = impressions()
    task = task_on(found, length=50, num_negatives=3)
    allowed: dict[tuple[int, tuple[int, ...], int], list[int]] = {}
    for user, history, yes, no, part in spelled_out(found):
        for click in yes if part == 0 else []:
            allowed[user, tuple(history), click] = no
    seen: dict[tuple[int, tuple[int, ...], int], set[int]] = {}
    for seed in range(20):
        for user, history, click, negatives in drawn(task, seed):
            key = user, tuple(history), click
            assert len(negatives) == 3
            assert set(negatives) <= set(allowed[key])
            if len(allowed[key]) >= 3:  # drawn without replacement, but some items were shown twice
                assert all(negatives.count(item) <= allowed[key].count(item) for item in negatives)
            seen.setdefault(key, set()).update(negatives)
    assert all(found == set(allowed[key]) for key, found in seen.items())  # all are drawn eventually


def test_positions_are_drawn_uniformly():
    lists = RaggedLists(torch.tensor([0, 4, 6]), torch.tensor([1, 2, 3, 4, 8, 9])).take(torch.zeros(30_000, dtype=torch.long))
    counts = draw(lists, 2, torch.Generator().manual_seed(0)).flatten().bincount().tolist()
    assert counts[1:] == pytest.approx([15_000] * 4, rel=0.03)


def test_batches_are_as_wide_as_their_longest_history_and_have_no_empty_one():
    for _, batch in task_on(impressions(), length=6, batch_size=4).batches(None, torch.Generator().manual_seed(0)):
        lengths = batch.query.mask.sum(1)
        assert int(lengths.min()) > 0
        assert int(lengths.max()) == batch.query.items.shape[1] <= 6
        assert bool(batch.query.mask[:, -1].all())


def test_queries_are_impressions_with_their_histories():
    found = impressions()
    for part, code in (("valid", 1), ("test", 2)):
        own = [line for line in spelled_out(found) if line[4] == code]
        task = task_on(found)
        ranking = task.ranking(part, "none")
        told = [line for line in own if line[2]]
        assert rows(ranking.query) == [(user, history[-5:]) for user, history, *_ in told]
        assert ranking.relevant.values.tolist() == [click for line in told for click in line[2]]
        choices = task.evaluation_tasks(part)["impressions"]
        positions = found.telling(part)
        assert rows(choices.query) == rows(task.query(positions))
        for n, position in enumerate(positions.tolist()):
            a, b = found.shown.indptr[position : position + 2].tolist()
            one = choices.take(torch.tensor([n]))
            assert one.candidates.values.tolist() == found.shown.values[a:b].tolist()
            assert one.label.tolist() == found.clicked[a:b].tolist()
            assert 0 < int(one.label.sum()) < b - a
        expected = [
            n
            for n in range(NUM)
            if found.part[n] == code and found.clicked[found.shown.indptr[n] : found.shown.indptr[n + 1]].unique().numel() == 2
        ]
        assert positions.tolist() == expected


def test_training_items_are_neither_ranked_nor_relevant():
    found = impressions()
    asked = task_on(found).ranking("test", "train")
    for n, user in enumerate(asked.query.user.tolist()):
        assert asked.excluded.take(torch.tensor([n])).values.tolist() == [user]  # the one item of this user in training
        assert user not in asked.relevant.take(torch.tensor([n])).values.tolist()
    with pytest.raises(ValueError, match="would exclude every relevant item"):
        task_on(found).ranking("valid", "train+valid")


def test_other_impressions_do_not_leak_into_queries():
    """Later events and other users do not change a query or its candidates."""
    found = impressions()
    task = task_on(found)
    position = found.telling("test")[:1]
    shown = found.shown.values.clone()
    history = found.history.values.clone()
    clicked = found.clicked.clone()
    for values, lists in ((shown, found.shown), (history, found.history)):
        elsewhere = lists.groups != position
        values[elsewhere] = (values[elsewhere] + 1) % NUM_ITEMS
    clicked[found.shown.groups != position] ^= True
    other = replace(
        found, shown=replace(found.shown, values=shown), history=replace(found.history, values=history), clicked=clicked
    )
    assert rows(task.query(position)) == rows(task_on(other).query(position))
    twin = task_on(other).candidates("test")
    assert rows(task.candidates("test").query)[0] == rows(twin.query)[other.telling("test").tolist().index(int(position))]


def test_candidates_and_clicks_of_an_impression_do_not_leak_into_its_query():
    found = impressions()
    other = replace(found, clicked=~found.clicked, shown=replace(found.shown, values=(found.shown.values + 1) % NUM_ITEMS))
    everything = torch.arange(NUM)
    assert rows(task_on(found).query(everything)) == rows(task_on(other).query(everything))


def test_histories_contain_times_if_known():
    found = impressions()
    query = task_on(found, length=50).query(torch.arange(NUM))
    assert query.time[query.mask].tolist() == found.history_time.tolist()
    assert task_on(replace(found, history_time=None)).query(torch.arange(NUM)).time is None


def test_models_of_histories_use_impressions_if_available():
    split = split_of(impressions())
    assert task_of(HistoryQuery, split) is ImpressionTask
    assert task_of(HistoryQuery, replace(split, impressions=None)) is NextItemTask
    assert task_of(UserQuery, split) is CollaborativeTask
    own = CollaborativeTask(TaskInputs(split, NUM_USERS, NUM_ITEMS)).evaluation_tasks("test")["impressions"]
    same = task_on(impressions()).candidates("test")
    assert torch.equal(own.candidates.values, same.candidates.values)
    assert torch.equal(own.label, same.label)
    assert torch.equal(own.query.user, same.query.user)


def test_bad_input_is_refused():
    found = impressions()
    with pytest.raises(ValueError, match="has no impressions"):
        ImpressionTask(TaskInputs(replace(split_of(found), impressions=None), NUM_USERS, NUM_ITEMS))
    with pytest.raises(ValueError, match="set sampled: false"):
        ImpressionTask(TaskInputs(split_of(found), NUM_USERS, NUM_ITEMS, BatchConfig(sampled=True)))
    with pytest.raises(ValueError, match="no training impression has a history"):
        task_on(replace(found, clicked=torch.ones_like(found.clicked)))
    with pytest.raises(ValueError, match="clicks, but 3 times"):
        replace(found, history_time=torch.arange(3))
    with pytest.raises(ValueError, match="no impression with both a clicked and an unclicked item"):
        task_on(replace(found, part=torch.where(found.part == 2, 1, found.part))).candidates("test")
