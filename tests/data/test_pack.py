"""Round trip of nested dataclasses of tensors."""

from dataclasses import fields

import torch

from gmmrec.data.impressions import Impressions
from gmmrec.data.interactions import Interactions
from gmmrec.data.outfits import Blanks, Outfits
from gmmrec.data.pack import packed, unpacked
from gmmrec.data.ragged import RaggedLists
from gmmrec.data.split import Split
from gmmrec.runs.folder import load_split, save_split


def test_a_complete_split_round_trips(tmp_path):
    lists = RaggedLists(torch.tensor([0, 2, 3]), torch.tensor([1, 2, 0]))
    part = torch.tensor([0, 2])
    log = Interactions(torch.tensor([0, 1]), torch.tensor([1, 0]), time=torch.tensor([5, 6]))
    split = Split(
        *(log, log.take(slice(0, 0)), log),
        impressions=Impressions(part, lists, torch.tensor([True, False, True]), lists, part),
        outfits=Outfits(lists, part, blanks=Blanks(lists, lists, torch.tensor([True, False, True]))),
        support=log,
    )
    save_split(split, tmp_path / "split.safetensors")
    again = load_split(tmp_path / "split.safetensors")
    ours, theirs = packed(split), packed(again)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert again.triples is None
    assert again.outfits is not None
    assert again.outfits.blanks is not None
    assert again.outfits.history is None
    assert {f.name for f in fields(again)} == {"train", "valid", "test", "impressions", "outfits", "triples", "support"}


def test_unpacking_nothing_gives_none():
    assert unpacked(Interactions, {}, "train.") is None
