import json

import numpy as np
import pandas as pd
import pytest

from gmmrec.data.filter import k_core
from gmmrec.data.load import load_dataset
from gmmrec.data.tokens import TokenNames, read_maps, read_tokens, write_pieces


def write(folder, name, count, **files):
    np.savez(folder / f"{name}_feat.npz", ids=np.arange(4), values=np.ones((4, count, 2), np.float32))
    for ending, content in files.items():
        (folder / f"{name}{'_feat' if ending == 'made' else ''}.json").write_text(json.dumps(content))
    return folder / f"{name}_feat.npz"


def test_token_names_beside_a_file_are_read(tmp_path):
    assert read_tokens(write(tmp_path, "regions", 9, made={"regions": 3, "crops": False}), 9) == TokenNames("grid", size=3)
    assert read_tokens(write(tmp_path, "views", 5, made={"regions": None, "crops": True}), 5) == TokenNames("crops")
    slots = read_tokens(write(tmp_path, "slots", 2, names={"names": ["collar", "sleeve"], "grid": [7, 7]}), 2)
    assert slots == TokenNames("names", names=("collar", "sleeve"))
    path = write(tmp_path, "words", 3, made={"tokens": 3})
    assert read_tokens(path, 3) is None
    write_pieces(tmp_path / "words_pieces.csv.gz", [0, "007"], [["red", "fish"], ["a", '"', "##b"]])
    assert read_tokens(path, 3) == TokenNames("pieces", pieces={"0": "red fish", "007": 'a " ##b'})


def test_token_names_of_other_counts_are_ignored(tmp_path):
    assert read_tokens(write(tmp_path, "regions", 8, made={"regions": 3}), 8) is None
    assert read_tokens(write(tmp_path, "slots", 3, names={"names": ["collar", "sleeve"]}), 3) is None
    assert read_tokens(write(tmp_path, "lists", 3, names=["a", "b", "c"]), 3) is None


def test_maps_are_those_of_one_item(tmp_path):
    maps, boxes = np.random.default_rng(0).random((2, 3, 4, 4)).astype(np.float16), np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / "slots_maps.npz"
    assert read_maps(path, 7, 3) is None
    np.savez(path, ids=np.array([9, 7]), maps=maps, boxes=boxes, classes=np.zeros((2, 3)))
    selected = read_maps(path, 7, 3).take([0, 2])
    assert np.array_equal(selected.strength, maps[1, [0, 2]].astype(np.float32))
    assert selected.boxes.tolist() == boxes[1, [0, 2]].tolist()
    assert read_maps(path, 8, 3) is None
    with pytest.raises(ValueError, match="has maps of 3 tokens but the run was trained with 4; train it again"):
        read_maps(path, 7, 4)


@pytest.mark.parametrize(
    ("tokens", "labels"),
    [
        (TokenNames("crops"), ["top left", "top right", "bottom left", "bottom right", "centre"]),
        (TokenNames("grid", size=2), ["row 1, column 1", "row 1, column 2", "row 2, column 1", "row 2, column 2", "5"]),
        (TokenNames("names", names=("a", "b")), ["a", "b", "3", "4", "5"]),
        (TokenNames("numbered"), ["1", "2", "3", "4", "5"]),
        (TokenNames("pieces", pieces={"7": "red fish"}), ["red", "fish", "3", "4", "5"]),
    ],
)
def test_labels(tokens, labels):
    assert tokens.labels(7, 5) == labels


def test_filters_keep_token_names(tmp_path):
    write(tmp_path, "regions", 4, made={"regions": 2})
    log = pd.DataFrame({"user": [0, 0, 1, 1, 2], "item": [1, 2, 1, 2, 3]})
    log.to_csv(tmp_path / "interactions.csv", index=False)
    dataset = load_dataset(tmp_path)
    assert dataset.features["regions"].tokens == TokenNames("grid", size=2)
    assert k_core(dataset, 2).features["regions"].tokens == TokenNames("grid", size=2)
