"""Sums of repeated pairs hold nothing later than the part of the pair, under every split."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from gmmrec.data.load import load_dataset
from gmmrec.data.split import SplitConfig, split_dataset
from gmmrec.data.write import write_atomic, write_folder


def weights(dataset, part):
    users, items = (dataset.vocabularies[kind].ids(getattr(part, kind)) for kind in ("user", "item"))
    return dict(zip(zip(users, items, strict=True), part.weight.tolist(), strict=True))


def loaded(rows, **settings):
    return load_dataset(pd.DataFrame(rows, columns=["user", "item", "timestamp", "weight"]), duplicates="sum", **settings)


def events(items, amounts):
    """Return rows of one user, in the order of time."""
    return [("u", item, time, weight) for time, (item, weight) in enumerate(zip(items, amounts, strict=True))]


def test_the_weight_of_the_last_event_is_not_trained_on():
    dataset = loaded(events("abcda", (1, 1, 1, 1, 10)))
    assert weights(dataset, dataset.interactions)[("u", "a")] == 11
    split = split_dataset(dataset, SplitConfig("leave_last_out"))
    assert weights(dataset, split.train) == {("u", "a"): 1, ("u", "b"): 1}
    assert weights(dataset, split.test) == {("u", "d"): 1}


def slow_sums(rows, split_of, cut):
    """Sum by hand: events of a pair before ``cut(user, part)``, and always the first."""
    sums = {}
    for user, item, time, weight in sorted(rows, key=lambda row: row[2]):
        if (user, item) not in sums:
            sums[user, item] = weight
        elif time < cut(user, split_of[user, item]):
            sums[user, item] += weight
    return sums


@pytest.mark.parametrize("strategy", ["leave_last_out", "by_time", "cold_users", "random", "cold_items"])
def test_sums_agree_with_a_slow_count(strategy):
    generator = torch.Generator().manual_seed(3)
    user, item = torch.randint(8, (400,), generator=generator), torch.randint(30, (400,), generator=generator)
    time, weight = torch.randperm(400, generator=generator), 1 + torch.randint(9, (400,), generator=generator)
    rows = list(zip(user.tolist(), item.tolist(), time.tolist(), weight.tolist(), strict=True))
    dataset = loaded(rows)
    split = split_dataset(dataset, SplitConfig(strategy, valid=0.2, test=0.2), torch.Generator().manual_seed(0))
    parts = {"train": split.train, "valid": split.valid, "test": split.test, "support": split.support}
    parts = {name: part for name, part in parts.items() if part is not None}
    of_pair = {pair: name for name, part in parts.items() for pair in weights(dataset, part)}
    first = {}
    for u, i, t, _ in rows:
        first[u, i] = min(t, first.get((u, i), 999))

    def cut(user, part):
        others = {"train": ("valid", "test"), "support": ("valid", "test"), "valid": ("test",), "test": ()}[part]
        if strategy in ("random", "cold_items"):
            return 999
        held_out = [t for pair, t in first.items() if of_pair[pair] in others and (strategy == "by_time" or pair[0] == user)]
        return min(held_out, default=999)

    expected = slow_sums(rows, of_pair, cut)
    found = {pair: weight for part in parts.values() for pair, weight in weights(dataset, part).items()}
    assert found == expected
    if strategy in ("leave_last_out", "by_time"):
        assert found != weights(dataset, dataset.interactions)


@pytest.mark.parametrize("strategy", ["leave_last_out", "by_time", "cold_users"])
def test_weights_of_events_after_training_change_no_weight_in_training(strategy):
    rows = [(u, i, 10 * i + u, 1.0) for u in range(6) for i in range(8)]
    later = [(u, i, 1000 + u, 50.0) for u in range(6) for i in range(3)]
    config = SplitConfig(strategy, valid=0.2, test=0.2)
    plain, canary = (split_dataset(loaded(found), config) for found in (rows, rows + later))
    known = [plain.support, canary.support] if strategy == "cold_users" else [plain.train, canary.train]
    assert [part.weight.unique().tolist() for part in known] == [[1], [1]]
    if strategy == "cold_users":  # old users hold nothing out, so all of their events are trained on
        assert float(canary.train.weight.max()) == 51


def test_a_minimum_rating_counts_what_training_may_know():
    dataset = loaded(events("abcdea", (1, 5, 5, 5, 5, 10)), min_rating=4)
    assert ("u", "a") in weights(dataset, dataset.interactions)
    assert weights(dataset, split_dataset(dataset, SplitConfig("leave_last_out")).train) == {("u", "b"): 5, ("u", "c"): 5}


def test_each_given_part_has_its_own_sums():
    frame = pd.DataFrame({"user": list("uuuuu"), "item": list("aaabc"), "weight": [2.0, 3.0, 100.0, 1.0, 1.0]})
    dataset = load_dataset(frame.assign(split=["train", "train", "test", "valid", "test"]), duplicates="sum")
    split = split_dataset(dataset)
    assert weights(dataset, split.train) == {("u", "a"): 5}
    whole = split_dataset(dataset, SplitConfig("cold_items"), torch.Generator().manual_seed(0))
    found = {pair: weight for part in ("train", "valid", "test") for pair, weight in weights(dataset, whole.part(part)).items()}
    assert found[("u", "a")] == 105


def test_filters_and_shifts_carry_the_events():
    rows = [(u, i, 1_000_000_000 + 10 * i + u, 1.0) for u in range(4) for i in range(4)]
    rows += [(u, 0, 1_000_000_900 + u, 7.0) for u in range(4)] + [(9, 9, 1_000_000_000, 1.0), (9, 9, 1_000_000_001, 1.0)]
    dataset = loaded(rows, k_core=2, utc_offset=3)
    assert dataset.num_users == 4
    split = split_dataset(dataset, SplitConfig("leave_last_out"))
    assert set(weights(dataset, split.train).values()) == {1.0}
    assert weights(dataset, dataset.interactions)[(0, 0)] == 8


@pytest.mark.parametrize("write", [write_folder, write_atomic])
def test_what_is_written_is_summed_anew(tmp_path, write):
    dataset = loaded(events("abcda", (1, 1, 1, 1, 10)))
    read = load_dataset(write(dataset, tmp_path / "out"), duplicates="sum")
    assert weights(read, read.interactions) == weights(dataset, dataset.interactions)
    assert weights(read, split_dataset(read, SplitConfig("leave_last_out")).train) == {("u", "a"): 1, ("u", "b"): 1}


def test_counts_without_weights():
    frame = pd.DataFrame({"user": "u", "item": list("abcda"), "timestamp": range(5)})
    dataset = load_dataset(frame, duplicates="sum")
    assert split_dataset(dataset, SplitConfig("leave_last_out")).train.weight.tolist() == [1, 1]
    assert split_dataset(replace(dataset, repeats=None), SplitConfig("leave_last_out")).train.weight.tolist() == [2, 1]
