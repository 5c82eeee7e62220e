from dataclasses import replace

import pandas as pd
import pytest
import torch

from gmmrec.data.dataset import Dataset
from gmmrec.data.filter import drop_duplicates, hide_features, k_core, min_weight, select_modalities, shift_times
from gmmrec.data.interactions import Interactions
from gmmrec.data.load import load_dataset
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.errors import DataError
from gmmrec.testing import checkerboard


def repeats(**settings):
    """Return a log in which user a interacts with x three times, at 30, 10 and 20, and b once."""
    frame = pd.DataFrame(
        {"user": ["a", "a", "b", "a"], "item": ["x", "x", "x", "x"], "time": [30, 10, 5, 20], "rating": [1.0, 2.0, 3.0, 4.0]}
    )
    frame["split"] = ["train", "valid", "train", "test"]
    return load_dataset(frame, duplicates="keep", **settings)


@pytest.mark.parametrize(
    ("keep", "time", "weight", "part"),
    [
        ("first", [30, 5], [1.0, 3.0], [0, 0]),  # the event of training, though held-out ones are earlier
        ("last", [30, 5], [1.0, 3.0], [0, 0]),
        ("sum", [30, 5], [1.0, 3.0], [0, 0]),
        ("keep", [30, 10, 5, 20], [1.0, 2.0, 3.0, 4.0], [0, 1, 0, 2]),
    ],
)
def test_repeated_pairs(keep, time, weight, part):
    dataset = drop_duplicates(repeats(), keep)
    assert dataset.interactions.order.tolist() == time
    assert dataset.interactions.weight.tolist() == weight
    assert dataset.given_split.tolist() == part


@pytest.mark.parametrize(
    ("keep", "time", "weight"), [("first", [10, 5], [2.0, 3.0]), ("last", [30, 5], [1.0, 3.0]), ("sum", [10, 5], [7.0, 3.0])]
)
def test_repeated_pairs_without_parts(keep, time, weight):
    dataset = drop_duplicates(replace(repeats(), given_split=None), keep)
    assert dataset.interactions.order.tolist() == time
    assert dataset.interactions.weight.tolist() == weight


def test_repeated_pairs_without_time_go_by_position_and_sum_counts():
    frame = pd.DataFrame({"user": [1, 2, 1, 1], "item": [5, 5, 5, 6]})
    assert load_dataset(frame, duplicates="first").interactions.user.tolist() == [0, 1, 0]
    assert load_dataset(frame, duplicates="last").interactions.user.tolist() == [1, 0, 0]
    assert load_dataset(frame, duplicates="sum").interactions.weight.tolist() == [2.0, 1.0, 1.0]


def test_repeated_pairs_may_be_refused():
    with pytest.raises(DataError, match=r"user 'a' and item 'x' interact more than once \(2 repeated rows in total\)"):
        drop_duplicates(repeats(), "error")


def test_sums_that_overflow_are_refused():
    frame = pd.DataFrame({"user": [1, 1, 2], "item": [5, 5, 5], "weight": [3e38, 3e38, 1]})
    with pytest.raises(DataError, match=r"the weights of user 1 and item 5 add up to more than 3.4e38; scale the column"):
        load_dataset(frame, duplicates="sum")


def test_minimum_rating():
    kept = min_weight(repeats(), 2.0)
    assert kept.interactions.weight.tolist() == [2.0, 3.0, 4.0]
    assert kept.given_split.tolist() == [1, 0, 2]
    assert kept.num_users == 2
    with pytest.raises(DataError, match=r"no interaction of frame reaches min_rating 5; the highest is 4"):
        min_weight(repeats(), 5)
    with pytest.raises(DataError, match="have no ratings"):
        min_weight(checkerboard()[0], 3)


def slow_core(pairs, k):
    while True:
        users, items = [u for u, _ in pairs], [i for _, i in pairs]
        left = [(u, i) for u, i in pairs if users.count(u) >= k and items.count(i) >= k]
        if left == pairs:
            return left
        pairs = left


@pytest.mark.parametrize("k", [2, 3, 4])
def test_k_core_reaches_the_fixed_point(k):
    generator = torch.Generator().manual_seed(k)
    pairs = torch.unique(torch.randint(40, (160, 2), generator=generator), dim=0)
    pairs = pairs[torch.randperm(len(pairs), generator=generator)]
    expected = slow_core([tuple(pair) for pair in pairs.tolist()], k)
    dataset = load_dataset(pd.DataFrame(pairs.numpy(), columns=["user", "item"]))
    if not expected:
        with pytest.raises(DataError, match=f"the {k}-core of frame is empty"):
            k_core(dataset, k)
        return
    core = k_core(dataset, k)
    users, items = core.vocabularies["user"].ids(core.interactions.user), core.vocabularies["item"].ids(core.interactions.item)
    assert list(zip(users, items, strict=True)) == expected
    assert core.num_users == len({u for u, _ in expected})
    assert torch.bincount(core.interactions.item).min() >= k


def test_k_core_keeps_features_and_attributes_aligned():
    dataset, _ = checkerboard()
    degree = torch.bincount(dataset.interactions.item, minlength=dataset.num_items)
    k = int(degree.min()) + 1
    core = k_core(dataset, k)
    assert 0 < core.num_items < dataset.num_items
    rows = dataset.vocabularies["item"].rows(core.vocabularies["item"].ids())
    assert torch.equal(core.features["image"].values, dataset.features["image"].values[rows])
    assert torch.equal(core.features["image"].mask, dataset.features["image"].mask[rows])


def test_modalities_are_selected_in_the_order_given():
    dataset, _ = checkerboard()
    assert list(select_modalities(dataset, ["text", "image"]).features) == ["text", "image"]
    assert not select_modalities(dataset, []).features
    with pytest.raises(DataError, match=r"has no features named 'imag' \(did you mean 'image'\?\); it has 'image', 'text'"):
        select_modalities(dataset, ["imag"])


def test_hidden_features_are_a_share_of_those_present():
    dataset, _ = checkerboard()  # the image of item 3 is missing: 15 of 16 are present
    hidden = hide_features(dataset, "image", 0.4, torch.Generator().manual_seed(0))
    before, after = dataset.features["image"], hidden.features["image"]
    assert int(after.present.sum()) == 15 - 6
    assert not bool((after.present & ~before.present).any())
    assert torch.equal(after.values[after.present], before.values[after.present])
    assert not bool(after.values[~after.present].any())
    assert hidden.features["text"] is dataset.features["text"]


@pytest.mark.parametrize("hours", [25, -1e300, float("nan")])
def test_times_move_by_a_day_at_most(hours):
    log = Interactions(torch.tensor([0]), torch.tensor([0]), time=torch.tensor([5]))
    data = Dataset("toy", {"user": Vocabulary([0], name="user"), "item": Vocabulary([0])}, log)
    assert shift_times(data, -1.5).interactions.time.tolist() == [-5395]
    with pytest.raises(DataError, match=r"^utc_offset must lie between -24 and 24 hours, but is "):
        shift_times(data, hours)
