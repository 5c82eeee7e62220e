"""Script that writes attribute tokens."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gmmrec.data.load import load_dataset

SCRIPT = Path(__file__).resolve().parents[2] / "data_scripts" / "attribute_regions.py"
N, SIDE = 120, 3


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("attribute_regions", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Shirts show a neck in one region, colours another pattern elsewhere; item 0 has no picture, every fourth no neck."""
    folder, rng = tmp_path_factory.mktemp("shop"), np.random.default_rng(0)
    neck, colour, warm = rng.integers(2, size=N), rng.integers(3, size=N), rng.integers(2, size=N)
    positions = np.stack([rng.permutation(SIDE * SIDE)[:3] for _ in range(N)])
    regions = 0.05 * rng.normal(size=(N, SIDE * SIDE, 7))
    for row in range(N):
        if row % 4:
            regions[row, positions[row, 0], neck[row]] += 1
        regions[row, positions[row, 1], 2 + colour[row]] += 1
        regions[row, positions[row, 2], 5 + warm[row]] += 1
    ids = np.arange(N)
    np.savez(folder / "regions_feat.npz", ids=ids[1:], values=regions[1:].astype(np.float32))
    necks = [("round", "wide")[v] if row % 4 else "" for row, v in enumerate(neck)]
    colours = [("red", "blue", "green")[v] if row % 3 else "" for row, v in enumerate(colour)]
    tags = ["warm|new" if v else "new" for v in warm]
    pd.DataFrame({"item": ids, "neck": necks, "colour": colours, "tags": tags}).to_csv(folder / "items.csv", index=False)
    pd.DataFrame({"user": ids % 7, "item": ids}).to_csv(folder / "interactions.csv", index=False)
    return folder, positions, warm


def test_applicable_attributes_become_tokens_with_their_boxes(script, shop):
    folder, positions, warm = shop
    flags = ["--columns", "neck,colour", "--optional", "neck", "--lists", "tags", "--hidden", "0", "--lr", "0.1", "--epochs", "60"]
    script.main([str(folder), *flags, "--threshold", "0.6"])
    report = json.loads((folder / "attribute_regions.json").read_text())
    assert report["names"] == ["neck", "colour", "tags: new", "tags: warm"]
    assert report["classes"] == [["round", "wide"], ["blue", "green", "red"], ["no", "yes"], ["no", "yes"]]
    assert min(report["accuracy"]) > 0.9

    dataset = load_dataset(folder)
    table = dataset.features["attribute_regions"]
    rows = dataset.vocabularies["item"].rows(list(range(N))).numpy()
    assert table.values.shape == (N, 4, 7)
    expected = np.stack([np.arange(N) % 4 > 0, np.ones(N, bool), np.ones(N, bool), warm == 1], 1)
    expected[0] = False
    assert np.array_equal(table.mask.numpy()[rows], expected)  # an unknown colour is predicted, a missing neck is masked

    with np.load(folder / "attribute_regions_maps.npz") as arrays:
        ids, boxes, classes = arrays["ids"], arrays["boxes"].astype(int), arrays["classes"]
        assert arrays["maps"].shape == (N - 1, 4, SIDE, SIDE)
    assert np.array_equal(classes == -1, ~expected[ids])
    assert (classes[expected[ids][:, 3], 3] == 1).all()
    for token, position in ((0, 0), (1, 1), (3, 2)):
        applies = expected[ids][:, token]
        top, left, bottom, right = boxes[applies, token].T
        row, column = positions[ids[applies], position] // SIDE, positions[ids[applies], position] % SIDE
        inside = (top <= row) & (row < bottom) & (left <= column) & (column < right)
        assert inside.mean() > 0.9
        assert ((bottom - top) * (right - left) == 1).mean() > 0.7


def test_no_column_is_refused(script, shop):
    with pytest.raises(ValueError, match="there is no attribute to learn"):
        script.main([str(shop[0])])
