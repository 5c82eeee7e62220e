"""``gmmrec data features --image`` with broken pictures and interrupted runs."""

import csv

import numpy as np
import pytest

from gmmrec.cli.main import main
from gmmrec.data.load import load_dataset
from tests.data.encode.tiny import MeanColour, colour, save_picture

N = 130
"""Number of items; an interrupted run keeps its work in chunks of 128."""


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "interactions.csv").write_text("user,item\n" + "".join(f"ann,{item}\n" for item in range(N)))
    for item in range(N):
        save_picture(folder / "pictures" / f"{item}.png", item)
    return folder


def run(data, monkeypatch, encoder):
    monkeypatch.setattr("gmmrec.data.encode.encoders.load_image_encoder", lambda name, device: encoder)
    return main(["data", "features", "-d", str(data), "--image", str(data / "pictures"), "--encoder", "e"])


def colours(data):
    """Return the values of all items, ordered by id, in 255ths; NaN where masked."""
    dataset = load_dataset(data)
    table, rows = dataset.features["image"], dataset.vocabularies["item"].rows(list(range(N)))
    return table.values[rows].masked_fill(~table.mask[rows, None], np.nan) * 255


def test_a_broken_picture_is_masked_and_listed(data, monkeypatch, capsys):
    whole = (data / "pictures" / "5.png").read_bytes()
    (data / "pictures" / "5.png").write_bytes(whole[:40])
    (data / "pictures" / "9.png").write_text("no picture")
    (data / "pictures" / "11.png").unlink()
    assert run(data, monkeypatch, MeanColour()) == 0
    expected = np.array([colour(item) for item in range(N)], dtype=float)
    expected[[5, 9, 11]] = np.nan
    np.testing.assert_allclose(colours(data), expected, atol=0.2)
    out = capsys.readouterr().out
    assert f"{N - 3} of {N} items" in out
    assert "3, masked: 5 (5.png cannot be read: " in out
    with (data / "image_feat.missing.csv").open(newline="") as file:
        (_, *listed) = csv.reader(file)
    assert [item for item, _ in listed] == ["5", "9", "11"]
    assert [reason.split(":")[0] for _, reason in listed] == ["5.png cannot be read", "9.png cannot be read", "no image"]


def test_an_interrupted_run_is_resumed(data, monkeypatch, capsys):
    first, second = MeanColour(stop_after=4), MeanColour()  # of 32: the first part is done
    assert run(data, monkeypatch, first) == 130
    assert not (data / "image_feat.npz").exists()
    capsys.readouterr()
    assert run(data, monkeypatch, second) == 0
    assert "resumed         128 items were encoded by an earlier run\n" in capsys.readouterr().out
    assert (sum(first.calls), sum(second.calls)) == (128, 2)
    np.testing.assert_allclose(colours(data), np.array([colour(item) for item in range(N)]), atol=0.2)
    assert not (data / "image_feat.parts").exists()
