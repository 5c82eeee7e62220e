import numpy as np
import pandas as pd
import pytest

from gmmrec.data.arrays import check_array, read_features
from gmmrec.errors import DataError


def refused(folder, catalogues=None):
    with pytest.raises(DataError) as caught:
        read_features(folder, catalogues or {})
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_npy_is_named_after_its_file(tmp_path):
    np.save(tmp_path / "image_feat.npy", np.ones((3, 2), dtype=np.float16))
    np.save(tmp_path / "user_text_features.npy", np.ones((4, 5)))
    np.save(tmp_path / "neighbours.npy", np.ones((4, 5)))
    image, text = read_features(tmp_path, {})
    assert (image.name, image.node_type, image.ids) == ("image", "item", None)
    assert (text.name, text.node_type, text.values.shape) == ("user_text", "user", (4, 5))


def test_npz_names_its_ids(tmp_path):
    np.savez(tmp_path / "text_feat.npz", ids=np.array(["b", "a"]), values=np.eye(2))
    (text,) = read_features(tmp_path, {})
    assert text.name == "text"
    assert text.ids.tolist() == ["b", "a"]


def test_rows_of_npz_without_ids_are_ids(tmp_path):
    np.savez(tmp_path / "spectral_features.npz", visual=np.eye(2), textual=np.eye(2))
    assert [(table.name, table.ids) for table in read_features(tmp_path, {})] == [("visual", None), ("textual", None)]


def test_ids_may_name_a_column_of_the_catalogue(tmp_path):
    items = pd.DataFrame({"id": ["0", "1", "2"], "movie_id": [1193, 661, 914]})
    np.savez(tmp_path / "image_features.npz", movie_id=np.array([914, 5, 1193]), feat=np.array([[3.0], [9.0], [1.0]]))
    np.savez(tmp_path / "text_features.npz", movie_id=np.array([661]), title=np.array([[2.0]]), description=np.array([[4.0]]))
    image, title, description = read_features(tmp_path, {"item": items})
    assert image.name == "image"
    assert image.ids.tolist() == ["2", "0"]  # movie 5 is not in the catalogue
    assert image.values.tolist() == [[3.0], [1.0]]
    assert (title.name, title.ids.tolist(), description.name) == ("title", ["1"], "description")


def test_tokens_may_have_a_mask(tmp_path):
    mask = np.array([[True, False]])
    np.savez(tmp_path / "regions_feat.npz", ids=np.array([5]), values=np.ones((1, 2, 3)), mask=mask)
    (regions,) = read_features(tmp_path, {})
    assert regions.mask.tolist() == mask.tolist()


def test_two_files_of_one_modality_are_refused(tmp_path):
    np.save(tmp_path / "image_feat.npy", np.ones((3, 2)))
    np.save(tmp_path / "image_features.npy", np.ones((3, 2)))
    assert "image_feat.npy and image_features.npy both hold the modality 'image'" in refused(tmp_path)


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"ids": np.arange(3), "values": np.ones((2, 2))}, "has 2 rows in 'values' but 3 ids"),
        ({"ids": np.array([4, 4]), "values": np.ones((2, 2))}, "has id 4 more than once"),
        ({"ids": np.array([0.5, 1.5]), "values": np.ones((2, 2))}, "must be integers or strings"),
        ({"ids": np.arange(2)}, "holds no two-dimensional array"),
        ({"ids": np.arange(2), "item": np.arange(2), "values": np.ones((2, 2))}, "holds 2 id arrays"),
        ({"barcode": np.arange(2), "values": np.ones((2, 2))}, "name the array 'ids'"),
        ({"values": np.ones((2, 2, 2, 2))}, "has shape (2, 2, 2, 2)"),
        ({"values": np.ones((2, 0))}, "has shape (2, 0)"),
        ({"values": np.array([["a", "b"]])}, "features must be numbers"),
        ({"values": np.ones((2, 2, 3)), "mask": np.ones(2, dtype=bool)}, "must be boolean (2, 2)"),
        ({"values": np.array([[{}]], dtype=object)}, "holds pickled objects, which can run code"),
    ],
)
def test_arrays_of_wrong_shape_or_type_are_refused(tmp_path, arrays, complaint):
    np.savez(tmp_path / "image_feat.npz", **arrays)
    message = refused(tmp_path)
    assert "image_feat.npz" in message
    assert complaint in message


def test_files_without_arrays_are_refused(tmp_path):
    path = tmp_path / "image_feat.npy"
    path.write_bytes(b"")
    assert "is empty" in refused(tmp_path)
    path.write_text("item,f1,f2\n0,1,2\n")
    assert "image_feat.npy is not a NumPy .npy file (it begins with 'item,f1,f2" in refused(tmp_path)
    path.write_bytes(b"\x80\x04\x95pickle")
    assert "is a pickle, which can run code" in refused(tmp_path)
    np.save(path, np.array([{}], dtype=object))
    assert "holds pickled objects" in refused(tmp_path)
    np.save(path, np.ones((100, 10)))
    path.write_bytes(path.read_bytes()[:5000])
    assert "image_feat.npy is" in refused(tmp_path)
    assert "damaged" in refused(tmp_path)
    np.save(path, np.ones(5))
    assert "holds no two-dimensional array" in refused(tmp_path)
    path.unlink()
    np.savez(tmp_path / "image_feat.npz", values=np.ones((100, 10)))
    (tmp_path / "image_feat.npz").write_bytes((tmp_path / "image_feat.npz").read_bytes()[:5000])
    assert "damaged" in refused(tmp_path)


@pytest.mark.parametrize("shape", [(0, 2), (2, 0), (2, 0, 3), (2,), (1, 1, 1, 1)])
def test_features_of_no_rows_tokens_or_width_are_refused(shape):
    with pytest.raises(DataError, match=r"^a\.npz: array 'image' has shape .*, but features must be \[rows, width\]"):
        check_array("a.npz", "image", np.ones(shape))


def test_a_column_with_gaps_is_matched_by_its_integers(tmp_path):
    """pandas makes a column with missing values one of floats."""
    items = pd.DataFrame({"id": ["a", "b", "c"], "movie_id": [1193.0, np.nan, 914.0]})
    np.savez(tmp_path / "image_features.npz", movie_id=np.array([914, 1193]), feat=np.array([[3.0], [1.0]]))
    (table,) = read_features(tmp_path, {"item": items})
    assert dict(zip(table.ids, table.values[:, 0], strict=True)) == {"c": 3.0, "a": 1.0}


def test_keys_of_another_spelling_are_refused_or_warned_of(tmp_path, caplog):
    items = pd.DataFrame({"id": ["a", "b", "c"], "asin": ["B1", "B2", "B3"]})
    np.savez(tmp_path / "image_features.npz", asin=np.array(["b1", "b2", "b3"]), feat=np.eye(3))
    text = refused(tmp_path, {"item": items})
    assert (
        "no id of image_features.npz (such as 'b1') occurs among the 3 items of column 'asin' of the table (such as 'B1')" in text
    )
    assert "regardless of letter case, 3 would" in text
    np.savez(tmp_path / "image_features.npz", asin=np.array(["B1 ", "b2", "b3"]), feat=np.eye(3))
    (table,) = read_features(tmp_path, {"item": items})
    assert table.ids.tolist() == ["a"]
    assert "image_features.npz: 1 of 3 ids occur among the 3 items of column 'asin'" in caplog.text


def test_ids_of_arrays_are_ids(tmp_path):
    np.savez(tmp_path / "text_feat.npz", ids=np.array([" b", "a "]), values=np.eye(2))
    (text,) = read_features(tmp_path, {})
    assert text.ids.tolist() == ["b", "a"]
    np.savez(tmp_path / "text_feat.npz", ids=np.array([2**63 + 1, 2], dtype=np.uint64), values=np.eye(2))
    assert "column 'ids' of the arrays of text_feat.npz holds the id 9223372036854775809" in refused(tmp_path)
    np.savez(tmp_path / "text_feat.npz", ids=np.array(["a", ""]), values=np.eye(2))
    assert "the arrays of text_feat.npz row 1 has no value" in refused(tmp_path)
