"""Outfit examples and queries agree with slow versions in Python; the answer does not leak."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gmmrec.data.interactions import Interactions
from gmmrec.data.outfits import Blanks, Compatibilities, Outfits
from gmmrec.data.ragged import RaggedLists
from gmmrec.data.split import Split
from gmmrec.tasks import TASKS
from gmmrec.tasks.inputs import BatchConfig, TaskInputs
from gmmrec.tasks.outfit import OutfitConfig, OutfitTask
from gmmrec.tasks.query import OutfitQuery

NUM_USERS, NUM_ITEMS, NUM_OUTFITS = 6, 60, 45


def made(*, seed: int = 0, users: bool = True) -> Split:
    generator = torch.Generator().manual_seed(seed)
    rows = [
        torch.randperm(NUM_ITEMS, generator=generator)[: int(torch.randint(2, 7, (), generator=generator))]
        for _ in range(NUM_OUTFITS)
    ]
    part = torch.arange(NUM_OUTFITS) % 3
    user = torch.randint(-1, NUM_USERS, (NUM_OUTFITS,), generator=generator) if users else None
    events = [
        Interactions(
            torch.randint(NUM_USERS, (n,), generator=generator),
            torch.randint(NUM_ITEMS, (n,), generator=generator),
            torch.randint(100, (n,), generator=generator),
        )
        for n in (200, 20, 20)
    ]
    return Split(*events, outfits=Outfits(RaggedLists.from_sequences(rows), part, user, text=torch.arange(NUM_OUTFITS)[:, None]))


def task_of(split: Split, **settings: Any) -> OutfitTask:
    return OutfitTask(
        TaskInputs(split, NUM_USERS, NUM_ITEMS, BatchConfig(batch_size=16, num_negatives=9), settings=OutfitConfig(**settings))
    )


def told(rows: torch.Tensor, mask: torch.Tensor) -> list[list[int]]:
    return [line[there].tolist() for line, there in zip(rows, mask, strict=True)]


def outfits_of(split: Split) -> list[list[int]]:
    lists = split.outfits.items
    return [lists.values[a:b].tolist() for a, b in zip(lists.indptr[:-1], lists.indptr[1:], strict=True)]


def test_every_item_of_every_training_outfit_is_one_example():
    split = made()
    found = []
    for _, batch in task_of(split).batches(None, torch.Generator().manual_seed(0)):
        for rest, item, text in zip(told(batch.query.outfit, batch.query.outfit_mask), batch.positive, batch.text, strict=True):
            found.append((int(text), int(item), rest))
    expected = [
        (o, item, [other for other in outfit if other != item])
        for o, outfit in enumerate(outfits_of(split))
        if o % 3 == 0
        for item in outfit
    ]
    assert sorted(found) == sorted(expected)


def test_as_examples_outfits_occur_once():
    split = made()
    outfits, answers = outfits_of(split), set()
    task = task_of(split, examples="outfits")
    assert task.num_batches == 1
    for seed in range(20):
        for _, batch in task.batches(None, torch.Generator().manual_seed(seed)):
            seen = batch.text.flatten().tolist()
            assert sorted(seen) == list(range(0, NUM_OUTFITS, 3))
            for o, rest, item in zip(seen, told(batch.query.outfit, batch.query.outfit_mask), batch.positive.tolist(), strict=True):
                assert rest == [other for other in outfits[o] if other != item]
                answers.add((o, item))
    assert len(answers) > 0.9 * sum(len(outfit) for outfit in outfits[::3])


def test_negatives_are_never_in_the_outfit():
    split = made()
    outfits = outfits_of(split)
    for _, batch in task_of(split).batches(None, torch.Generator().manual_seed(0)):
        assert batch.negative.shape[1] == 9
        for o, drawn in zip(batch.text.flatten().tolist(), batch.negative.tolist(), strict=True):
            assert not set(outfits[o]) & set(drawn)


def test_histories_are_the_training_interactions_before_the_first_item_of_the_outfit():
    split = made()
    log, outfits = split.train, outfits_of(split)
    task = task_of(split, max_length=5)
    query = task.query(torch.arange(NUM_OUTFITS))
    order = sorted(range(len(log)), key=lambda e: int(log.time[e]))
    cut = 0
    for o, history in enumerate(told(query.history, query.history_mask)):
        user, expected = int(split.outfits.user[o]), []
        for e in order:
            if int(log.user[e]) == user:
                if o % 3 == 0 and int(log.item[e]) in outfits[o]:
                    cut += 1
                    break
                expected.append(int(log.item[e]))
        assert history == expected[-5:]
    assert cut > 3


def test_histories_of_the_data_take_precedence():
    split = made()
    history = RaggedLists.from_groups(torch.arange(NUM_OUTFITS).repeat(2), torch.arange(2 * NUM_OUTFITS) % NUM_ITEMS, NUM_OUTFITS)
    split = replace(split, outfits=replace(split.outfits, history=history))
    query = task_of(split).query(torch.tensor([3, 4]))
    assert told(query.history, query.history_mask) == [[3, 48], [4, 49]]
    assert task_of(made(users=False)).query(torch.tensor([0])).history is None


@pytest.mark.parametrize("part", ["valid", "test"])
def test_evaluation_leaves_out_one_item_of_every_held_out_outfit(part):
    split = made()
    task, outfits = task_of(split), outfits_of(split)
    held_out = [outfits[o] for o in range(NUM_OUTFITS) if o % 3 == (1 if part == "valid" else 2)]
    found = task.evaluation_tasks(part)
    assert list(found) == ["ranking", "fill_in_the_blank", "compatibility"]
    ranking, blanks = found["ranking"], found["fill_in_the_blank"]
    pool = {item for outfit in held_out for item in outfit}
    for n, (outfit, rest) in enumerate(zip(held_out, told(ranking.query.outfit, ranking.query.outfit_mask), strict=True)):
        answer = int(ranking.relevant.values[n])
        assert rest == [item for item in outfit if item != answer]
        assert sorted(rest) == ranking.excluded.take(torch.tensor([n])).values.tolist()
        candidates = blanks.candidates.take(torch.tensor([n])).values.tolist()
        assert (candidates[0], len(set(candidates))) == (answer, 4)
        assert not set(candidates[1:]) & set(outfit)
        assert set(candidates) <= pool
    assert blanks.label.tolist() == [True, False, False, False] * len(held_out)
    sets = found["compatibility"]
    whole = told(sets.query.outfit, sets.query.outfit_mask)
    assert whole[: len(held_out)] == held_out
    assert [len(set(s)) for s in whole] == 2 * [len(s) for s in held_out]
    assert {item for s in whole for item in s} <= pool
    assert torch.equal(sets.query.user[: len(held_out)], sets.query.user[len(held_out) :])


def test_evaluation_of_the_same_outfits_is_reproducible():
    one, two = (task_of(made()).evaluation_tasks("test") for _ in range(2))
    assert torch.equal(one["ranking"].relevant.values, two["ranking"].relevant.values)
    assert torch.equal(one["fill_in_the_blank"].candidates.values, two["fill_in_the_blank"].candidates.values)
    assert torch.equal(one["compatibility"].query.outfit, two["compatibility"].query.outfit)


def test_queries_of_the_data_form_the_test_part():
    split = made()
    rows = RaggedLists.from_sequences([torch.tensor([1, 2, 3]), torch.tensor([4])])
    candidates = RaggedLists.from_sequences([torch.tensor([9, 8]), torch.tensor([7, 6])])
    blanks = Blanks(rows, candidates, torch.tensor([False, True, True, False]))
    sets = Compatibilities(rows, torch.tensor([True, False]))
    task = task_of(replace(split, outfits=replace(split.outfits, blanks=blanks, compatibilities=sets)))
    asked = task.evaluation_tasks("test")
    assert told(asked["fill_in_the_blank"].query.outfit, asked["fill_in_the_blank"].query.outfit_mask) == [[1, 2, 3], [4]]
    assert asked["fill_in_the_blank"].candidates is candidates
    assert told(asked["compatibility"].query.outfit, asked["compatibility"].query.outfit_mask) == [[1, 2, 3], [4]]
    assert asked["fill_in_the_blank"].query.user.tolist() == [-1, -1]
    assert not bool(asked["fill_in_the_blank"].query.history_mask.any())
    assert len(task.fill_in_the_blank("valid")) == NUM_OUTFITS // 3


def test_every_item_can_be_left_out_among_different_candidates():
    task = task_of(made())
    items, part = task.outfits.items, task.outfits.part
    blanks = task.fill_in_the_blank("test", rounds=3)
    candidates = blanks.candidates.values.view(-1, 4)
    asked = items.values[part[items.groups] == 2]
    assert torch.equal(candidates[:, 0], asked.repeat(3))
    assert torch.equal(blanks.label.view(-1, 4).sum(1), torch.ones(3 * len(asked)))
    wrong = candidates[:, 1:].sort(dim=1).values
    assert bool((wrong.diff(dim=1) > 0).all())
    owner = items.groups[part[items.groups] == 2].repeat(3)
    for row, outfit, query, there in zip(candidates, owner, blanks.query.outfit, blanks.query.outfit_mask, strict=True):
        whole = set(items.take(outfit[None]).values.tolist())
        assert set(query[there].tolist()) == whole - {int(row[0])}
        assert not set(row[1:].tolist()) & whole
    assert not torch.equal(wrong[: len(asked)], wrong[len(asked) : 2 * len(asked)])


def test_same_generator_same_batches():
    def answers(seed: int) -> list[int]:
        generator = torch.Generator().manual_seed(seed)
        return [int(i) for _, batch in task_of(made()).batches(None, generator) for i in batch.positive]

    assert answers(1) == answers(1)
    assert answers(1) != answers(2)


def test_the_task_belongs_to_its_query():
    assert TASKS[OutfitQuery](made()) is OutfitTask
    assert OutfitTask.monitor == "fill_in_the_blank/accuracy"


def test_bad_input_is_refused():
    split = made()
    with pytest.raises(ValueError, match="has no outfits"):
        task_of(replace(split, outfits=None))
    with pytest.raises(ValueError, match="set sampled: false"):
        OutfitTask(TaskInputs(split, NUM_USERS, NUM_ITEMS, BatchConfig(sampled=True)))
    with pytest.raises(ValueError, match="test part has no outfits"):
        task_of(replace(split, outfits=replace(split.outfits, part=torch.zeros(NUM_OUTFITS, dtype=torch.long)))).evaluation_tasks(
            "test"
        )
    alone = Outfits(RaggedLists.from_sequences([torch.tensor([1])]), torch.zeros(1, dtype=torch.long))
    with pytest.raises(ValueError, match="at least two items"):
        task_of(replace(split, outfits=alone))
    with pytest.raises(ValueError, match="max_length"):
        OutfitConfig(0)


def test_outfit_queries_need_more_than_users():
    from gmmrec.serving.service import Service

    service = Service.__new__(Service)
    service.model = SimpleNamespace(query_type=OutfitQuery)
    with pytest.raises(ValueError, match="gmmrec complete"):
        service.query(torch.tensor([0]))
