import numpy as np
import pytest

from gmmrec.data.load import load_dataset
from gmmrec.errors import DataError


def test_mmrec_layout(tmp_path):
    (tmp_path / "baby.inter").write_text(
        "userID\titemID\trating\ttimestamp\tx_label\n0\t1\t5.0\t9\t0\n0\t2\t3.0\t8\t1\n1\t0\t4.0\t7\t2\n"
    )
    np.save(tmp_path / "image_feat.npy", np.arange(8, dtype=np.float32).reshape(4, 2) + 1)
    dataset = load_dataset(tmp_path)
    assert dataset.name == "baby"
    assert dataset.num_items == 4  # item 3 has features only
    assert dataset.given_split.tolist() == [0, 1, 2]
    assert dataset.interactions.item.tolist() == [1, 2, 0]
    assert dataset.interactions.order.tolist() == [9, 8, 7]
    assert dataset.features["image"].values[3].tolist() == [7.0, 8.0]


@pytest.mark.parametrize("separator", [",", ";"])
def test_other_separators_stand_in_the_header(tmp_path, separator):
    text = "userID\titemID\trating\tx_label\n0\t1\t5.0\t0\n0\t2\t3.0\t1\n"
    (tmp_path / "baby.inter").write_text(text.replace("\t", separator))
    assert load_dataset(tmp_path).given_split.tolist() == [0, 1]


def test_mmrec_mappings_give_raw_ids(tmp_path):
    (tmp_path / "baby.inter").write_text("userID\titemID\tx_label\n0\t1\t0\n")
    (tmp_path / "i_id_mapping.csv").write_text("asin\titemID\nB00X\t0\nB00Y\t1\n")
    np.save(tmp_path / "image_feat.npy", np.array([[1.0], [2.0]]))
    dataset = load_dataset(tmp_path)
    item = dataset.vocabularies["item"].rows(["B00Y"])
    assert dataset.interactions.item.tolist() == item.tolist()
    assert dataset.features["image"].values[item].tolist() == [[2.0]]
    (tmp_path / "i_id_mapping.csv").write_text("asin\titemID\nB00X\t0\n")
    with pytest.raises(DataError, match=r"baby\.inter uses number 1, which i_id_mapping\.csv does not list"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(("text", "cell", "column"), [("a\t0\na\t1\n", "a", "asin"), ("a\t0\nb\t0\n", "0", "itemID")])
def test_mappings_are_one_to_one(text, cell, column, tmp_path):
    (tmp_path / "baby.inter").write_text("userID\titemID\tx_label\n0\t0\t0\n")
    (tmp_path / "i_id_mapping.csv").write_text(f"asin\titemID\n{text}")
    with pytest.raises(DataError, match=rf"^i_id_mapping\.csv has '{cell}' twice in column '{column}'; keep one line for each id$"):
        load_dataset(tmp_path)
