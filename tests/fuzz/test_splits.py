"""Splits and filters against loops over Python lists."""

from collections import Counter, defaultdict

import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from gmmrec.data import split as splits
from gmmrec.data.dataset import Dataset
from gmmrec.data.filter import drop_duplicates, k_core
from gmmrec.data.interactions import Interactions
from gmmrec.data.parts import SUPPORT, TEST, TRAIN, VALID
from gmmrec.data.triples import Triples
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.errors import DataError

USERS, ITEMS = 5, 14
events = st.lists(st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1), st.integers(0, 12)), min_size=3, max_size=60)
shares = st.sampled_from((0.05, 0.1, 0.2, 0.3))
seeds = st.integers(0, 3).map(lambda n: torch.Generator().manual_seed(n))


def log_of(rows):
    user, item, time = (torch.tensor([row[n] for row in rows]).long() for n in range(3))
    return Interactions(user, item, time=time)


def dataset_of(rows):
    vocabularies = {"user": Vocabulary(range(USERS), name="user"), "item": Vocabulary(range(ITEMS))}
    return Dataset("made", vocabularies, log_of(rows))


def by_user(rows, part=None):
    """Return the positions of the rows of every user."""
    found = defaultdict(list)
    for position, row in enumerate(rows):
        if part is None or part[position]:
            found[row[0]].append(position)
    return found


@given(events, shares, shares, seeds)
def test_random_holds_out_whole_pairs_of_every_user(rows, valid, test, generator):
    part = splits.random(log_of(rows), valid, test, generator).tolist()
    for positions in by_user(rows).values():
        parts = defaultdict(set)
        for position in positions:
            parts[rows[position][1]].add(part[position])
        assert all(len(found) == 1 for found in parts.values())  # a repeated pair never leaks into another part
        count = len(parts)
        held_out = int((valid + test) * count)
        num_valid = int(held_out * (valid / (valid + test)))
        if count < 10:
            held_out, num_valid = 2, 1
        if count < 3:
            held_out, num_valid = 0, 0
        sizes = Counter(next(iter(found)) for found in parts.values())
        assert (sizes[VALID], sizes[TEST]) == (num_valid, held_out - num_valid)


@given(events)
def test_leave_last_out_holds_out_the_latest(rows):
    part = splits.leave_last_out(log_of(rows)).tolist()
    for positions in by_user(rows).values():
        latest = sorted(positions, key=lambda position: rows[position][2])  # stable: the order of the log within a second
        expected = [TRAIN] * len(latest) if len(latest) < 3 else [TRAIN] * (len(latest) - 2) + [VALID, TEST]
        assert [part[position] for position in latest] == expected


@given(events, shares, shares)
def test_by_time_cuts_at_two_moments(rows, valid, test):
    part = splits.by_time(log_of(rows), valid, test).tolist()
    moments = sorted(time for *_, time in rows)
    num_test, num_valid = max(1, round(test * len(rows))), max(1, round(valid * len(rows)))
    from_test, from_valid = moments[-num_test], moments[max(0, len(rows) - num_test - num_valid)]
    expected = [TEST if time >= from_test else VALID if time >= from_valid else TRAIN for *_, time in rows]
    assert part == expected
    for earlier, later in ((TRAIN, VALID), (VALID, TEST), (TRAIN, TEST)):
        times = [[row[2] for row, own in zip(rows, part, strict=True) if own == code] for code in (earlier, later)]
        assert not all(times) or max(times[0]) < min(times[1])


@given(events, shares)
def test_cold_users_are_the_newest_and_never_trained_on(rows, test):
    part = splits.cold_users(log_of(rows), test).tolist()
    first = {user: min(rows[position][2] for position in positions) for user, positions in by_user(rows).items()}
    bound = sorted(first.values())[-max(1, round(test * len(first)))]
    last_out = splits.leave_last_out(log_of(rows)).tolist()
    for (user, _, _), own, last in zip(rows, part, last_out, strict=True):
        if first[user] >= bound:
            assert own == (SUPPORT if last == TRAIN else last)
        else:
            assert own == TRAIN


@given(events, shares, shares, seeds)
def test_cold_items_stay_whole(rows, valid, test, generator):
    part = splits.cold_items(log_of(rows), valid, test, generator).tolist()
    parts = defaultdict(set)
    for (_, item, _), own in zip(rows, part, strict=True):
        parts[item].add(own)
    assert all(len(found) == 1 for found in parts.values())
    sizes = Counter(next(iter(found)) for found in parts.values())
    count = len(parts)
    num_valid, num_test = max(1, round(valid * count)), max(1, round(test * count))
    assert sizes[VALID] == min(num_valid, count)
    assert sizes[TEST] == max(0, min(num_test, count - num_valid))


@given(events, st.lists(st.sampled_from((TRAIN, TRAIN, TEST)), min_size=60, max_size=60), shares, seeds)
def test_a_validation_part_is_drawn_from_training_pairs_alone(rows, given_parts, share, generator):
    given_parts = torch.tensor(given_parts[: len(rows)])
    part = splits.complete(log_of(rows), given_parts, share, generator)
    assert torch.equal(part == TEST, given_parts == TEST)
    training = (given_parts == TRAIN).tolist()
    for positions in by_user(rows, training).values():
        pairs = {rows[position][1]: int(part[position]) for position in positions}
        assert all(pairs[rows[position][1]] == int(part[position]) for position in positions)
        expected = max(1, int(share * len(pairs))) if len(pairs) >= 3 else 0
        assert Counter(pairs.values())[VALID] == expected


@given(st.integers(1, 30), st.lists(st.sampled_from((0, 0, 0, 1, 2)), min_size=30, max_size=30), shares, seeds)
def test_parts_of_triples_are_drawn_once(count, parts, share, generator):
    row, part = torch.arange(count), torch.tensor(parts[:count])
    found = splits.assign_parts(Triples(row, row, row, part), share, generator).part
    has_valid, has_test = bool((part == VALID).any()), bool((part == TEST).any())
    drawn = round(share * count)
    held_out = part != TRAIN
    assert torch.equal(found[held_out], part[held_out])
    free = int((~held_out).sum())
    new_test = 0 if has_valid or has_test else min(drawn, free)
    new_valid = 0 if has_valid else min(drawn, free - new_test)
    assert (int((found == TEST).sum()), int((found == VALID).sum())) == (
        int((part == TEST).sum()) + new_test,
        int((part == VALID).sum()) + new_valid,
    )


@given(events, st.sampled_from(("auto", "random", "leave_last_out", "by_time", "cold_items", "cold_users")), seeds)
def test_the_parts_of_a_split_are_a_partition(rows, strategy, generator):
    dataset = dataset_of(rows)
    try:
        split = splits.split_dataset(dataset, splits.SplitConfig(strategy), generator)
    except DataError as error:
        refused = str(error)
    else:
        refused = ""
    if refused:
        assert "empty" in refused  # too few events for a part
        return
    parts = [split.train, split.valid, split.test, *([split.support] if split.support is not None else [])]
    found = Counter(
        triple for part in parts for triple in zip(part.user.tolist(), part.item.tolist(), part.time.tolist(), strict=True)
    )
    assert found == Counter(rows)
    assert all(map(len, parts[:3]))


@given(events, st.integers(1, 4))
def test_the_k_core_is_a_fixpoint(rows, k):
    alive = list(rows)
    while True:
        users, items = Counter(user for user, *_ in alive), Counter(item for _, item, _ in alive)
        left = [row for row in alive if users[row[0]] >= k and items[row[1]] >= k]
        if len(left) == len(alive):
            break
        alive = left
    try:
        found = k_core(dataset_of(rows), k)
    except DataError:
        assert not alive
        return
    log = found.interactions
    raw = zip(found.vocabularies["user"].ids(log.user), found.vocabularies["item"].ids(log.item), log.time.tolist(), strict=True)
    assert list(raw) == alive
    assert found.vocabularies["user"].ids() == sorted({user for user, *_ in alive})
    assert found.vocabularies["item"].ids() == sorted({item for _, item, _ in alive})


@given(events, st.sampled_from(("first", "last", "sum")))
def test_one_interaction_is_kept_of_every_pair(rows, keep):
    assume(len(rows) > 0)
    found = drop_duplicates(dataset_of(rows), keep).interactions
    kept = {}
    for position in sorted(range(len(rows)), key=lambda position: rows[position][2], reverse=False):
        pair = rows[position][:2]
        if keep == "last" or pair not in kept:
            kept[pair] = position
    if keep == "last":  # of several at the last moment, the last in the log
        assert all(rows[p][2] == max(r[2] for r in rows if r[:2] == pair) for pair, p in kept.items())
    assert found.time.tolist() == [rows[position][2] for position in sorted(kept.values())]
    assert list(zip(found.user.tolist(), found.item.tolist(), strict=True)) == [rows[p][:2] for p in sorted(kept.values())]
