"""Script that turns attributes of items into a modality."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from gmmrec.data.load import load_dataset

SCRIPT = Path(__file__).resolve().parents[2] / "data_scripts" / "sequence_attributes.py"
spec = importlib.util.spec_from_file_location("sequence_attributes", SCRIPT)
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)


@pytest.fixture
def folder(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "sequences.txt").write_text("a 7 5 9\nb 5 11 7\n")
    (source / "items.csv").write_text("item,text\n5,five\n7,seven\n9,nine\n11,eleven\n")
    (source / "item2attributes.json").write_text(json.dumps({"5": [30, 10], "7": [10], "9": [20, 10, 10], "11": []}))
    return source


def test_items_have_their_attributes(folder, tmp_path):
    assert load_dataset(folder).features == {}
    script.main([str(folder), "--out", str(tmp_path / "made")])
    dataset = load_dataset(tmp_path / "made")
    assert len(dataset.interactions) == 6
    assert dataset.attributes["item"]["text"].tolist() == ["five", "seven", "nine", "eleven"]
    table = dataset.features["attribute"]
    columns = [int(line) for line in (tmp_path / "made" / "attributes.txt").read_text().split()]
    assert sorted(columns) == [10, 20, 30]
    assert columns[0] == 10
    expected = {5: {10, 30}, 7: {10}, 9: {10, 20}, 11: set()}
    for item, attributes in expected.items():
        row = int(dataset.vocabularies["item"].rows([item]))
        assert bool(table.present[row]) == bool(attributes)
        assert {columns[position] for position in torch.nonzero(table.values[row]).flatten()} == attributes
        assert table.values[row].sum() == len(attributes)


def test_rare_attributes_can_be_dropped(folder, tmp_path):
    script.main([str(folder), "--out", str(tmp_path / "made"), "--min-count", "2"])
    assert load_dataset(tmp_path / "made").features["attribute"].dim == 1
    with pytest.raises(ValueError, match="no attribute has 4 items; lower --min-count"):
        script.main([str(folder), "--out", str(tmp_path / "none"), "--min-count", "4"])


def test_a_folder_without_attributes_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no item2attributes\.json; give one"):
        script.main([str(tmp_path), "--out", str(tmp_path / "made")])
