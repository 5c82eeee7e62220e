"""Training holds as many tensors after many epochs as after a few; ``benchmarks/memory.py`` measures a process over 200."""

import gc
import warnings

import pytest
import torch

import gmmrec
from gmmrec.evaluation.kinds import monitored_value
from gmmrec.runs import recipe
from gmmrec.testing import checkerboard, with_outfits


def live() -> tuple[int, int]:
    """Return the number and the elements of all tensors that Python can reach."""
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some modules warn of being looked at
        found = [thing.numel() for thing in gc.get_objects() if type(thing) in (torch.Tensor, torch.nn.Parameter)]
    return len(found), sum(found)


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("lightgcn", {"dim": 4}),
        ("freedom", {"dim": 4}),
        ("lattice", {"dim": 4}),
        ("mgat", {"dim": 4, "sampled": True, "num_neighbors": (3, 3)}),
        ("bert4rec", {"dim": 4, "num_layers": 1}),
        ("pog", {"dim": 4, "hidden_dim": 4}),
    ],
)
def test_no_epoch_leaves_tensors_behind(monkeypatch, tmp_path, model, settings):
    found = []

    def counted(*arguments, **named):
        value = monitored_value(*arguments, **named)
        found.append(live())
        return value

    monkeypatch.setattr(recipe, "monitored_value", counted)
    quick = {"epochs": 9, "patience": 9, "batch_size": 64, "bootstrap": 0, "progress": False, "accelerator": "cpu"}
    gmmrec.fit(with_outfits(checkerboard(24, 16)[0]), model, out=tmp_path / "run", **quick, **settings)
    assert len(found) == 9
    assert max(found[6:]) <= max(found[2:6]), found
