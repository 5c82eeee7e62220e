import logging

import numpy as np
import pytest
import torch

from gmmrec.data.load import load_dataset
from gmmrec.errors import DataError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "interactions.csv").write_text("user,item\nbob,2\nann,0\nbob,0\n")
    return tmp_path


def refused(folder):
    with pytest.raises(DataError) as caught:
        load_dataset(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_order_without_a_catalogue(folder):
    dataset = load_dataset(folder)
    assert dataset.vocabularies["user"].ids() == ["bob", "ann"]  # strings in order of appearance
    assert dataset.vocabularies["item"].ids() == [0, 2]  # integers in order
    assert dataset.interactions.user.tolist() == [0, 1, 0]
    assert dataset.interactions.item.tolist() == [1, 0, 0]


def test_order_of_the_catalogue(folder):
    (folder / "items.csv").write_text("item,title\n9,Nine\n2,\n7,Seven\n")
    dataset = load_dataset(folder)
    assert dataset.vocabularies["item"].ids() == [9, 2, 7, 0]
    assert dataset.attributes["item"]["title"].tolist() == ["Nine", "2", "Seven", "0"]  # items without a title are titled by id


def test_one_odd_id_makes_all_of_them_strings(folder):
    (folder / "interactions.csv").write_text("user,item\n007,2\n8,1.0\n")
    dataset = load_dataset(folder)
    assert dataset.vocabularies["user"].ids() == ["007", "8"]
    assert dataset.vocabularies["item"].ids() == ["2", "1.0"]


def test_rows_of_npy_are_integer_ids(folder, caplog):
    values = [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0], [4.0, 4.0], [0.0, 0.0]]
    np.save(folder / "image_feat.npy", np.array(values, dtype=np.float16))
    dataset = load_dataset(folder)
    image = dataset.features["image"]
    assert dataset.vocabularies["item"].ids() == [0, 2, 3]  # 3 has features alone, 1 and 4 have an empty row and nothing else
    assert image.values.dtype == torch.float32
    assert image.values[:, 0].tolist() == [1.0, 0.0, 4.0]
    assert image.mask.tolist() == [True, False, True]
    assert "image_feat.npy: 1 of 3 items have no image (1 rows of zeros, 0 ids without a row) and are masked" in caplog.text


def test_rows_of_npy_follow_ids_instead_of_the_catalogue(folder):
    (folder / "items.csv").write_text("item,title\n2,Two\n0,Zero\n1,One\n")
    np.save(folder / "image_feat.npy", np.array([[10.0], [11.0], [12.0]]))
    dataset = load_dataset(folder)
    assert dataset.vocabularies["item"].ids() == [2, 0, 1]
    assert dataset.features["image"].values.flatten().tolist() == [12.0, 10.0, 11.0]


def test_ids_from_one_to_the_number_of_rows(folder, caplog):
    (folder / "interactions.csv").write_text("user,item\n1,1\n2,3\n")
    np.save(folder / "image_feat.npy", np.array([[1.0], [2.0], [3.0]]))
    dataset = load_dataset(folder)
    assert dataset.vocabularies["item"].ids() == [1, 2, 3]
    assert dataset.features["image"].values.flatten().tolist() == [1.0, 2.0, 3.0]
    assert "row 0 is read as id 1" in caplog.text


def test_too_few_rows(folder):
    np.save(folder / "image_feat.npy", np.ones((2, 2)))
    assert "image_feat.npy has 2 rows but item id 2 needs row 2" in refused(folder)
    np.save(folder / "image_feat.npy", np.ones((6709, 1)))
    (folder / "interactions.csv").write_text("user,item\n1,0\n1,6709\n")
    assert "image_feat.npy has 6,709 rows but item id 6709 needs row 6709; add the missing rows" in refused(folder)
    (folder / "interactions.csv").write_text("user,item\n1,-1\n")
    assert "item id -1 needs row -1" in refused(folder)


def test_rows_of_npy_are_refused_for_string_ids(folder):
    np.save(folder / "user_age_feat.npy", np.ones((2, 2)))
    message = refused(folder)
    assert "user_age_feat.npy is indexed by integer ids, but user ids are strings such as 'bob'" in message
    assert "save user_age_feat.npz with the arrays 'ids' and 'values'" in message


def test_npz_masks_ids_without_a_row(folder, caplog):
    np.savez(folder / "text_feat.npz", ids=np.array([5, 2]), values=np.array([[5.0], [2.0]]))
    np.savez(folder / "user_bio_feat.npz", ids=np.array(["ann"]), values=np.array([[7.0]]))
    with caplog.at_level(logging.INFO):
        dataset = load_dataset(folder)
    assert dataset.vocabularies["item"].ids() == [5, 2, 0]
    assert dataset.features["text"].mask.tolist() == [True, True, False]
    bio = dataset.features["user_bio"]
    assert bio.node_type == "user"
    assert bio.values[dataset.vocabularies["user"].rows(["ann"])].tolist() == [[7.0]]
    assert bio.present.tolist() == [True, False]  # features come first in the catalogue
    assert "text_feat.npz: 1 of 3 items have no text (0 rows of zeros, 1 ids without a row)" in caplog.text


def test_tokens_keep_their_mask(folder):
    values, mask = np.ones((1, 3, 2)), np.array([[True, True, False]])
    values[0, 1] = 0
    np.savez(folder / "regions_feat.npz", ids=np.array([2]), values=values, mask=mask)
    regions = load_dataset(folder).features["regions"]
    assert regions.mask.tolist() == [[True, False, False], [False] * 3]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_values_that_are_not_finite_are_named_by_row(folder, bad, dtype):
    values = np.ones((4, 3), dtype=dtype)
    values[2, 1] = bad
    np.save(folder / "image_feat.npy", values)
    assert "image_feat.npy row 2 (item id 2) holds NaN or infinity" in refused(folder)


def test_ids_of_two_types(folder):
    (folder / "interactions.csv").write_text("user,item\n1,B007\n")
    np.savez(folder / "text_feat.npz", ids=np.array([5, 2]), values=np.ones((2, 1)))
    assert "item ids are strings such as 'B007' in the interactions but integers such as 5 in text_feat.npz" in refused(folder)


def test_texts_of_outfits_share_words_with_reviews_and_known_words_come_from_training(tmp_path) -> None:
    (tmp_path / "interactions.csv").write_text("user,item,review\nu,1,good shirt\nu,2,\nv,3,good skirt\n")
    rows = ["1 2,train,red red shirt", "2 3,train,", "3 1,valid,blue blue shirt", "1 3,test,red shirt blue"]
    (tmp_path / "outfits.csv").write_text("items,split,text\n" + "\n".join(rows) + "\n")
    dataset = load_dataset(tmp_path, review_words=4)
    words = dataset.reviews.words
    texts = [[words[word] for word in text if word] for text in dataset.outfits.text.tolist()]
    # "shirt" occurs once in training outfits, "blue" never; "skirt" is too rare in all texts
    assert texts == [["red", "red", "<unknown>"], [], ["<unknown>"] * 3, ["red", "<unknown>", "<unknown>"]]
    written = dataset.reviews.at(dataset.interactions.review).tolist()
    assert [[words[word] for word in text if word] for text in written] == [["good", "shirt"], [], ["good", "<unknown>"]]
