import torch

from gmmrec.data.ragged import Ragged


def random_sets(num_groups: int = 7, num_values: int = 11, seed: int = 0) -> tuple[Ragged, list[set[int]]]:
    generator = torch.Generator().manual_seed(seed)
    group = torch.randint(num_groups - 1, (60,), generator=generator)  # the last group stays empty
    value = torch.randint(num_values, (60,), generator=generator)
    sets: list[set[int]] = [set() for _ in range(num_groups)]
    for g, v in zip(group.tolist(), value.tolist(), strict=True):
        sets[g].add(v)
    return Ragged.from_pairs(group, value, num_groups), sets


def lists(ragged: Ragged) -> list[list[int]]:
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
    values = torch.arange(15)  # beyond the greatest value too
    found = ragged.contains(torch.arange(7)[:, None], values)
    assert found.tolist() == [[v in s for v in values.tolist()] for s in sets]


def test_empty_sets_contain_nothing() -> None:
    empty = Ragged.from_pairs(torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long), 3)
    assert lists(empty) == [[], [], []]
    assert empty.contains(torch.tensor([0, 2]), torch.tensor([0, 5])).tolist() == [False, False]
