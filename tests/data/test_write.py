from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.data.interactions import Interactions
from gmmrec.data.load import load_dataset
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.data.write import write_atomic, write_folder, write_mmrec
from gmmrec.errors import DataError, UsageError

WRITERS = {"folder": write_folder, "mmrec": write_mmrec, "atomic": write_atomic}


def dataset_of(*, text_ids=False, split=True, tokens=False, given=None):
    """Return a data set with all fields: five users (one inactive), six items (two cold), values that are hard to write."""
    generator = torch.Generator().manual_seed(0)
    items = ["B00X", "007", "8", 'say "hi"', "e", "f"] if text_ids else [40, 3, 12, 7, 99, 1]
    log = Interactions(
        torch.tensor([0, 0, 1, 2, 3, 3, 3]),
        torch.tensor([0, 1, 0, 2, 3, 1, 0]),
        time=torch.tensor([1_260_759_144, 0, 5, 4, 3, 2, 1]),
        weight=torch.tensor([0.1, 1 / 3, 5, 4.5, 1e-7, 3, 2]),
    )
    image = torch.randn(6, 3, generator=generator)
    mask = torch.tensor([True, True, False, True, True, False])
    features = {
        "image": FeatureTable("image", image, mask),
        "user_bio": FeatureTable("user_bio", torch.randn(5, 2), node_type="user"),
    }
    if tokens:
        token_mask = torch.tensor([[True, True], [True, False], [False, False], [True, True], [False, True], [True, True]])
        features["regions"] = FeatureTable("regions", torch.randn(6, 2, 3, generator=generator), token_mask)
    titles = ["Toy, Story", 'The "Best"', "Ünï", "d", "tab", "f"]
    attributes = {"item": pd.DataFrame({"title": titles, "year": [1995.0, np.nan, 2000.5, 1.0, 2.0, 3.0]})}
    vocabularies = {"user": Vocabulary([5, 3, 4, 1, 2], name="user"), "item": Vocabulary(items, name="item")}
    given = torch.tensor([0, 0, 0, 0, 0, 1, 2], dtype=torch.int8) if split else None
    return Dataset("toy", vocabularies, log, features, attributes, given)


def raw_log(dataset):
    """Return the log as a sorted list in raw ids."""
    columns = [
        dataset.vocabularies["user"].ids(dataset.interactions.user),
        dataset.vocabularies["item"].ids(dataset.interactions.item),
    ]
    columns += [dataset.interactions.time.tolist(), dataset.interactions.weight.tolist()]
    if dataset.given_split is not None:
        columns.append(dataset.given_split.tolist())
    return sorted(zip(*columns, strict=True), key=str)


def assert_same(read, written):
    assert read.vocabularies == written.vocabularies
    assert raw_log(read) == raw_log(written)
    assert (read.given_split is None) == (written.given_split is None)
    assert set(read.features) == set(written.features)
    for name, table in written.features.items():
        assert read.features[name].node_type == table.node_type
        assert torch.equal(read.features[name].values, table.values)
        assert torch.equal(read.features[name].mask, table.mask)
    assert read.attributes["item"]["title"].tolist() == written.attributes["item"]["title"].tolist()
    assert np.allclose(read.attributes["item"]["year"], written.attributes["item"]["year"], equal_nan=True)


@pytest.mark.parametrize("text_ids", [False, True])
@pytest.mark.parametrize("layout", ["folder", "mmrec", "atomic"])
def test_round_trip(tmp_path, layout, text_ids):
    written = dataset_of(text_ids=text_ids)
    folder = WRITERS[layout](written, tmp_path / "out")
    read = load_dataset(folder, duplicates="error")
    assert_same(read, written)
    if layout != "folder":
        assert read.name == "toy"


@pytest.mark.parametrize("layout", ["folder", "atomic"])
def test_round_trip_without_a_split(tmp_path, layout):
    written = dataset_of(split=False)
    assert_same(load_dataset(WRITERS[layout](written, tmp_path / "out")), written)


def test_round_trip_of_tokens(tmp_path):
    written = dataset_of(tokens=True)
    assert_same(load_dataset(write_folder(written, tmp_path / "out")), written)


def test_round_trip_of_a_bare_log(tmp_path):
    frame = pd.DataFrame({"user": [4, 2, 4], "item": [9, 9, 1], "split": ["train", "valid", "test"]})
    written = load_dataset(frame)
    for layout, write in WRITERS.items():
        read = load_dataset(write(written, tmp_path / layout))
        assert read.vocabularies == written.vocabularies
        assert read.interactions.time is None
        assert read.given_split.tolist() == [0, 1, 2]


def test_mmrec_files_are_what_mmrec_reads(tmp_path):
    folder = write_mmrec(dataset_of(text_ids=True), tmp_path / "out")
    log = pd.read_csv(folder / "toy.inter", sep="\t")
    assert list(log) == ["userID", "itemID", "rating", "timestamp", "x_label"]
    assert log["itemID"].tolist() == [0, 1, 0, 2, 3, 1, 0]
    assert log["x_label"].tolist() == [0, 0, 0, 0, 0, 1, 2]
    image = np.load(folder / "image_feat.npy")
    assert image.shape == (6, 3)
    assert not image[2].any()


def test_atomic_files_have_typed_headers(tmp_path):
    folder = write_atomic(dataset_of(), tmp_path / "out")
    assert sorted(path.name for path in folder.iterdir()) == [
        "manifest.json",
        "toy.item",
        "toy.test.inter",
        "toy.train.inter",
        "toy.user",
        "toy.valid.inter",
    ]
    header = (folder / "toy.train.inter").read_text().splitlines()[0]
    assert header == "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    assert (folder / "toy.item").read_text().splitlines()[0] == "item_id:token\ttitle:token_seq\tyear:float\timage:float_seq"


def test_tabs_in_a_title_become_spaces(tmp_path):
    dataset = dataset_of()
    dataset.attributes["item"].loc[0, "title"] = "a\tb\nc"
    assert load_dataset(write_atomic(dataset, tmp_path / "out")).attributes["item"]["title"][0] == "a b c"


def test_unsupported_data_is_refused(tmp_path):
    with pytest.raises(DataError, match="has no given split, which MMRec's x_label needs"):
        write_mmrec(dataset_of(split=False), tmp_path / "a")
    for write in (write_mmrec, write_atomic):
        with pytest.raises(DataError, match="features 'regions' have a token axis"):
            write(dataset_of(tokens=True), tmp_path / write.__name__)


def test_a_non_empty_folder_is_refused(tmp_path):
    (tmp_path / "old.csv").write_text("x")
    with pytest.raises(UsageError, match="is not empty"):
        write_folder(dataset_of(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["old.csv"]


def test_a_column_and_a_modality_of_one_name_do_not_fit_into_an_atomic_file(tmp_path):
    dataset = dataset_of()
    dataset = replace(dataset, features={"year": replace(dataset.features["image"], name="year")})
    with pytest.raises(
        DataError, match=r"^toy has a column and a modality 'year' of items, which atomic files do not support; leave"
    ):
        write_atomic(dataset, tmp_path / "copy")
    assert load_dataset(write_folder(dataset, tmp_path / "folder")).features["year"].dim == 3
