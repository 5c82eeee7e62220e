"""Rows of a stored split that no vocabulary has, and tensors of other types and shapes, are refused by name."""

from dataclasses import replace

import pytest
import torch

from gmmrec.data.bounds import check_split
from gmmrec.data.impressions import Impressions
from gmmrec.data.interactions import Interactions
from gmmrec.data.outfits import Compatibilities, FillInTheBlank, Outfits
from gmmrec.data.pack import packed
from gmmrec.data.ragged import RaggedLists
from gmmrec.data.split import Split
from gmmrec.data.triples import Triples
from gmmrec.errors import DataError

SIZES = {"user": 3, "item": 4, "entity": 5, "relation": 2}
WORDS = 6


def lists(*groups: list[int]) -> RaggedLists:
    return RaggedLists.from_sequences([torch.tensor(group, dtype=torch.long) for group in groups])


def whole_split() -> Split:
    row = torch.tensor([0, 1, 2])
    log = Interactions(row, row + 1, time=row * 100, weight=row.float(), review=row - 1)
    shown = Impressions(
        torch.tensor([0, 2]), lists([0, 1], [3]), torch.tensor([True, False, True]), lists([], [2, 2]), torch.tensor([0, 2]),
        torch.tensor([5, 6]), torch.tensor([1, 2]),
    )  # fmt: skip
    outfits = Outfits(
        lists([0, 1], [2, 3]), torch.tensor([0, 1]), torch.tensor([-1, 2]), lists([1], []), torch.tensor([0, 1, -1, 2]),
        torch.tensor([[2, 5], [3, 0]]), FillInTheBlank(lists([0]), lists([1, 2]), torch.tensor([True, False])),
        Compatibilities(lists([0, 1], [2]), torch.tensor([True, False])),
    )  # fmt: skip
    triples = Triples(
        torch.tensor([0, 4]), torch.tensor([0, 1]), torch.tensor([3, 2]), torch.tensor([0, 2]), torch.tensor([-1, 0, 4, 1])
    )
    return Split(log, log, log, shown, outfits, triples, log)


def test_a_whole_split_passes():
    check_split(whole_split(), SIZES, WORDS)
    check_split(Split(*[Interactions(torch.tensor([0]), torch.tensor([0]))] * 3), SIZES)


NAMES = sorted(packed(whole_split()))


def changed(value, name: str, change):
    """Return a dataclass with one tensor changed in place of the checks of its constructor."""
    first, _, rest = name.partition(".")
    inner = getattr(value, first)
    copy = object.__new__(type(value))
    copy.__dict__.update(value.__dict__)
    copy.__dict__[first] = changed(inner, rest, change) if rest else change(inner)
    return copy


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_is_checked(name):
    split = whole_split()
    changes = [lambda x: x.reshape(1, *x.shape), lambda x: x.to(torch.complex64)]
    if name.endswith(("weight",)):
        changes.append(lambda x: x * float("nan"))
    elif not name.endswith(("time", "clicked", "label", "relevant", "history_time")):
        changes.append(lambda x: x - 10)
        if not name.endswith("review"):
            changes.append(lambda x: x + 1_000_000_000_000 if x.dtype == torch.long else x + 100)
    if not name.endswith(("values", "user", "head")):
        changes.append(lambda x: x[:-1])
    for change in changes:
        with pytest.raises(DataError, match=f"'{name.rsplit('.', 1)[0]}"):
            check_split(changed(split, name, change), SIZES, WORDS)


def test_rows_are_compared_with_their_own_vocabulary():
    split = whole_split()
    for kind, message in {
        "user": "'train.user' holds the row 2, but rows run from 0 to 1",
        "item": "'train.item' holds the row 3",
    }.items():
        with pytest.raises(DataError, match=message):
            check_split(replace(split, impressions=None, outfits=None), {**SIZES, kind: SIZES[kind] - 1}, WORDS)
    with pytest.raises(DataError, match=r"'triples\.relation' holds the row 1"):
        check_split(split, {**SIZES, "relation": 1}, WORDS)
    with pytest.raises(DataError, match=r"'outfits\.text' holds the row 5"):
        check_split(split, SIZES, 5)


def test_offsets_that_do_not_divide_their_values_are_refused():
    for indptr in ([0, 3, 2, 4], [1, 2, 4], [0, 2, 3], []):
        outfits = Outfits(lists([0, 1], [2, 3]), torch.tensor([0, 1]))
        offsets = torch.tensor(indptr, dtype=torch.long)
        broken = changed(outfits, "items.indptr", lambda _, offsets=offsets: offsets)
        with pytest.raises(DataError, match=r"'outfits\.(items\.indptr|part)"):
            check_split(replace(whole_split(), outfits=broken), SIZES, WORDS)
