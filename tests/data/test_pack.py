"""Round trip of nested dataclasses of tensors."""

from dataclasses import fields

import pytest
import torch
from safetensors.torch import save_file

from gmmrec.data.impressions import Impressions
from gmmrec.data.interactions import Interactions
from gmmrec.data.outfits import FillInTheBlank, Outfits
from gmmrec.data.pack import packed, read_packed, unpacked
from gmmrec.data.ragged import RaggedLists
from gmmrec.data.split import Split
from gmmrec.errors import DataError
from gmmrec.runs.folder import load_split, save_split


def test_a_complete_split_round_trips(tmp_path):
    lists = RaggedLists(torch.tensor([0, 2, 3]), torch.tensor([1, 2, 0]))
    part = torch.tensor([0, 2])
    log = Interactions(torch.tensor([0, 1]), torch.tensor([1, 0]), time=torch.tensor([5, 6]))
    split = Split(
        *(log, log.take(slice(0, 0)), log),
        impressions=Impressions(part, lists, torch.tensor([True, False, True]), lists, part),
        outfits=Outfits(lists, part, fill_in_the_blank=FillInTheBlank(lists, lists, torch.tensor([True, False, True]))),
        support=log,
    )
    save_split(split, tmp_path / "split.safetensors")
    again = load_split(tmp_path / "split.safetensors")
    ours, theirs = packed(split), packed(again)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert again.triples is None
    assert again.outfits is not None
    assert again.outfits.fill_in_the_blank is not None
    assert again.outfits.history is None
    assert {f.name for f in fields(again)} == {"train", "valid", "test", "impressions", "outfits", "triples", "support"}


def test_unpacking_nothing_gives_none():
    assert unpacked(Interactions, {}, "train.") is None


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"user": torch.tensor([0])}, "'item' is missing"),
        ({"user": torch.tensor([0]), "item": torch.tensor([0]), "evil": torch.tensor([0])}, "'evil' is unknown"),
        ({"user": torch.tensor([0]), "item": torch.tensor([0]), "item.x": torch.tensor([0])}, r"'item\.x' is unknown"),
        ({"user": torch.tensor([0]), "item": torch.tensor([0, 1])}, "but 'user' has"),
        ({"user": torch.zeros(1, dtype=torch.complex64), "item": torch.zeros(1)}, "complex64"),
        ({"x": torch.tensor([0])}, "'user' is missing"),
    ],
)
def test_files_that_do_not_hold_the_dataclass_are_refused(tmp_path, tensors, message):
    path = tmp_path / "a.safetensors"
    save_file(tensors, path)
    with pytest.raises(DataError, match=rf"a\.safetensors is damaged .*{message}.*; split again"):
        read_packed(Interactions, path, "a log", "split again")


def test_errors_of_a_further_check_name_the_file(tmp_path):
    def check(log):
        raise DataError(f"{len(log)} are too few")

    save_file({"user": torch.tensor([0]), "item": torch.tensor([5])}, tmp_path / "a.safetensors")
    assert read_packed(Interactions, tmp_path / "a.safetensors", "a log", "again").item.tolist() == [5]
    with pytest.raises(DataError, match=r"a\.safetensors is damaged \(1 are too few\); again"):
        read_packed(Interactions, tmp_path / "a.safetensors", "a log", "again", check)
