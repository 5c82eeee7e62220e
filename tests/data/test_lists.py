"""Lists keep order and repeats, and windows end in the last column."""

import torch

from gmmrec.data.lists import Lists, windows


def test_order_and_repeats_are_kept():
    lists = Lists.from_groups(torch.tensor([2, 0, 2, 2]), torch.tensor([9, 1, 4, 9]), 4)
    assert lists.indptr.tolist() == [0, 1, 1, 4, 4]
    assert lists.values.tolist() == [1, 9, 4, 9]
    assert lists.groups.tolist() == [0, 2, 2, 2]
    assert len(lists) == 4


def test_taking_groups_agrees_with_python_lists():
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(50, (n,), generator=generator) for n in (3, 0, 5, 1, 7)]
    lists = Lists.from_sequences(rows)
    wanted = torch.tensor([4, 1, 0, 4, 3])
    taken = lists.take(wanted)
    assert [taken.values[a:b].tolist() for a, b in zip(taken.indptr, taken.indptr[1:], strict=False)] == [
        rows[g].tolist() for g in wanted
    ]
    place, _ = lists.places(wanted)
    assert torch.equal(lists.values[place], taken.values)


def test_last_agrees_with_python_lists():
    rows = [torch.tensor(values, dtype=torch.long) for values in ([1, 2, 3, 4], [], [5, 6])]
    values, mask = Lists.from_sequences(rows).last(3)
    assert values.tolist() == [[2, 3, 4], [0, 0, 0], [0, 5, 6]]
    assert mask.tolist() == [[True] * 3, [False] * 3, [False, True, True]]


def test_windows_are_no_wider_than_needed_but_never_empty():
    values = torch.arange(10, 20)
    found, mask = windows(values, torch.tensor([0, 5]), torch.tensor([2, 5]), 50)
    assert found.tolist() == [[10, 11], [0, 0]]
    assert mask.tolist() == [[True, True], [False, False]]
    nothing = windows(values[:0], torch.tensor([0]), torch.tensor([0]), 50)
    assert [x.tolist() for x in nothing] == [[[0]], [[False]]]
