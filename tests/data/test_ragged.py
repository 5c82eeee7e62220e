"""Ragged sets and lists against Python sets and lists, and left padded windows."""

import torch

from gmmrec.data.ragged import RaggedLists, RaggedSets, windows


def random_sets(num_groups: int = 7, num_values: int = 11, seed: int = 0) -> tuple[RaggedSets, list[set[int]]]:
    generator = torch.Generator().manual_seed(seed)
    group = torch.randint(num_groups - 1, (60,), generator=generator)  # the last group stays empty
    value = torch.randint(num_values, (60,), generator=generator)
    sets: list[set[int]] = [set() for _ in range(num_groups)]
    for g, v in zip(group.tolist(), value.tolist(), strict=True):
        sets[g].add(v)
    return RaggedSets.from_pairs(group, value, num_groups), sets


def lists(ragged: RaggedSets) -> list[list[int]]:
    return [ragged.values[a:b].tolist() for a, b in zip(ragged.indptr[:-1].tolist(), ragged.indptr[1:].tolist(), strict=True)]


def test_pairs_become_sorted_sets() -> None:
    ragged, sets = random_sets()
    assert lists(ragged) == [sorted(s) for s in sets]
    assert len(ragged) == 7
    assert ragged.counts.tolist() == [len(s) for s in sets]
    assert ragged.groups.tolist() == [g for g, s in enumerate(sets) for _ in s]


def test_take_picks_reorders_and_repeats() -> None:
    ragged, sets = random_sets()
    assert lists(ragged.take(torch.tensor([6, 2, 2, 0]))) == [sorted(sets[g]) for g in (6, 2, 2, 0)]
    assert lists(ragged.take(torch.arange(0))) == []


def test_contains_every_member_and_nothing_else() -> None:
    ragged, sets = random_sets()
    values = torch.arange(15)  # including values beyond the greatest one
    is_member = ragged.contains(torch.arange(7)[:, None], values)
    assert is_member.tolist() == [[v in s for v in values.tolist()] for s in sets]


def test_empty_sets_contain_nothing() -> None:
    empty = RaggedSets.from_pairs(torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long), 3)
    assert lists(empty) == [[], [], []]
    assert empty.contains(torch.tensor([0, 2]), torch.tensor([0, 5])).tolist() == [False, False]


def test_order_and_repeats_are_kept():
    ragged = RaggedLists.from_groups(torch.tensor([2, 0, 2, 2]), torch.tensor([9, 1, 4, 9]), 4)
    assert ragged.indptr.tolist() == [0, 1, 1, 4, 4]
    assert ragged.values.tolist() == [1, 9, 4, 9]
    assert ragged.groups.tolist() == [0, 2, 2, 2]
    assert len(ragged) == 4


def test_taking_groups_agrees_with_python_lists():
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(50, (n,), generator=generator) for n in (3, 0, 5, 1, 7)]
    ragged = RaggedLists.from_sequences(rows)
    groups = torch.tensor([4, 1, 0, 4, 3])
    taken = ragged.take(groups)
    assert [taken.values[a:b].tolist() for a, b in zip(taken.indptr, taken.indptr[1:], strict=False)] == [
        rows[g].tolist() for g in groups
    ]
    position, _ = ragged.positions(groups)
    assert torch.equal(ragged.values[position], taken.values)


def test_last_agrees_with_python_lists():
    rows = [torch.tensor(values, dtype=torch.long) for values in ([1, 2, 3, 4], [], [5, 6])]
    values, mask = RaggedLists.from_sequences(rows).last(3)
    assert values.tolist() == [[2, 3, 4], [0, 0, 0], [0, 5, 6]]
    assert mask.tolist() == [[True] * 3, [False] * 3, [False, True, True]]


def test_windows_are_no_wider_than_needed_but_never_empty():
    values = torch.arange(10, 20)
    rows, mask = windows(values, torch.tensor([0, 5]), torch.tensor([2, 5]), 50)
    assert rows.tolist() == [[10, 11], [0, 0]]
    assert mask.tolist() == [[True, True], [False, False]]
    nothing = windows(values[:0], torch.tensor([0]), torch.tensor([0]), 50)
    assert [x.tolist() for x in nothing] == [[[0]], [[False]]]
