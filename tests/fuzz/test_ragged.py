"""Ragged arrays and vocabularies against lists and dictionaries of Python."""

import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st

from gmmrec.data.interactions import Interactions
from gmmrec.data.ragged import RaggedLists, RaggedSets, windows
from gmmrec.data.vocabulary import Vocabulary

GROUPS = 5
groups = st.integers(0, GROUPS - 1)
pairs = st.lists(st.tuples(groups, st.integers(0, 9)), max_size=20)
raw_ids = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=12, unique=True),
    st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=6), min_size=1, max_size=12, unique=True),
)


def columns(found):
    """Two tensors of the first and second members of pairs."""
    return torch.tensor([first for first, _ in found]).long(), torch.tensor([second for _, second in found]).long()


def as_lists(ragged):
    bounds = ragged.indptr.tolist()
    return [ragged.values[start:end].tolist() for start, end in itertools.pairwise(bounds)]


@given(pairs.map(lambda found: list(dict.fromkeys(found))), st.lists(groups, max_size=6))
def test_sets_are_those_of_python(found, taken):
    slow = [sorted({value for group, value in found if group == g}) for g in range(GROUPS)]
    sets = RaggedSets.from_pairs(*columns(found), GROUPS)
    assert as_lists(sets) == slow
    assert sets.counts.tolist() == [len(values) for values in slow]
    assert sets.groups.tolist() == [g for g, values in enumerate(slow) for _ in values]
    assert as_lists(sets.take(torch.tensor(taken).long())) == [slow[g] for g in taken]
    inside = sets.contains(torch.arange(GROUPS)[:, None], torch.arange(12)[None])
    assert inside.tolist() == [[value in values for value in range(12)] for values in slow]


@given(pairs, st.lists(groups, max_size=6), st.integers(1, 6))
def test_lists_are_those_of_python(found, taken, length):
    slow = [[value for group, value in found if group == g] for g in range(GROUPS)]
    lists = RaggedLists.from_groups(*columns(found), GROUPS)
    assert as_lists(lists) == slow
    assert as_lists(RaggedLists.from_sequences([torch.tensor(values).long() for values in slow])) == slow
    assert as_lists(lists.take(torch.tensor(taken).long())) == [slow[g] for g in taken]
    values, mask = lists.last(length)
    assert [row[keep].tolist() for row, keep in zip(values, mask, strict=True)] == [values[-length:] for values in slow]
    assert not values[~mask].any()
    assert values.shape[1] == max(1, min(length, max(map(len, slow))))
    assert all(row.tolist() == sorted(row.tolist()) for row in mask)  # padding comes first


@given(
    st.lists(st.integers(0, 9), max_size=9),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=5),
    st.integers(1, 4),
)
def test_windows_are_slices(values, bounds, length):
    bounds = [(min(pair, key=int), max(pair)) for pair in bounds if max(pair) <= len(values)]
    first, end = columns(bounds)
    found, mask = windows(torch.tensor(values).long(), first, end, length)
    kept = [row[keep].tolist() for row, keep in zip(found, mask, strict=True)]
    assert kept == [values[start:stop][-length:] for start, stop in bounds]


@given(st.lists(st.tuples(groups, st.integers(0, 4), st.integers(1, 5)), max_size=15))
def test_distinct_keeps_the_first_of_every_pair(rows):
    user, item, weight = (torch.tensor([row[n] for row in rows]).long() for n in range(3))
    found = Interactions(user, item, weight=weight.float()).distinct()
    slow = {}
    for user, item, weight in rows:
        slow.setdefault((user, item), float(weight))
    assert list(zip(found.user.tolist(), found.item.tolist(), found.weight.tolist(), strict=True)) == [
        (*pair, slow[pair]) for pair in sorted(slow)
    ]


@given(raw_ids, st.randoms())
def test_ids_and_rows_map_to_each_other(ids, random):
    vocabulary = Vocabulary(ids)
    order = random.sample(range(len(ids)), len(ids))
    assert vocabulary.rows([ids[row] for row in order]).tolist() == order
    assert vocabulary.ids(torch.tensor(order)) == [ids[row] for row in order]
    assert vocabulary.ids() == ids
    assert [vocabulary.parse(str(raw)) for raw in ids] == ids
    assert all(type(found) is type(ids[0]) for found in vocabulary.ids())
    assert all(raw in vocabulary for raw in ids)
    stranger = max(ids) + "x" if isinstance(ids[0], str) else next(n for n in range(20) if n not in ids)
    assert stranger not in vocabulary
    assert vocabulary.find([ids[0], stranger]).tolist() == [0, -1]
