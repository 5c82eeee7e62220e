import pandas as pd
import pytest

from gmmrec.data.load import DataConfig, load_dataset
from gmmrec.errors import DataError, UsageError


def test_an_unknown_name_lists_the_bundled_ones():
    with pytest.raises(DataError) as caught:
        load_dataset("movie-small")
    assert (
        "no file, folder or bundled data set 'movie-small' (did you mean 'movies-small'?); bundled data sets are 'movies-small'"
        in str(caught.value)
    )


def test_settings_of_a_configuration_can_be_overridden(tmp_path):
    (tmp_path / "interactions.csv").write_text("user,item,rating\n1,1,5\n1,1,4\n2,1,3\n2,2,1\n")
    config = DataConfig(str(tmp_path), min_rating=2)
    assert len(load_dataset(config).interactions) == 2
    assert len(load_dataset(config, duplicates="keep").interactions) == 3
    assert load_dataset(tmp_path, duplicates="sum", min_rating=9).interactions.weight.tolist() == [9.0]


def test_filters_are_applied_in_order(tmp_path):
    """A 2-core applied before the rating filter would keep item 3."""
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating\n1,1,5\n1,2,5\n2,1,5\n2,2,5\n1,3,1\n2,3,1\n3,1,5\n")
    dataset = load_dataset(tmp_path, min_rating=2, k_core=2)
    assert dataset.vocabularies["item"].ids() == [1, 2]
    assert dataset.vocabularies["user"].ids() == [1, 2]


def test_the_format_is_detected_or_set(tmp_path):
    (tmp_path / "toy.inter").write_text("userID\titemID\tx_label\n0\t0\t2\n")
    assert load_dataset(tmp_path).given_split.tolist() == [2]
    assert load_dataset(tmp_path / "toy.inter").name == "toy"
    assert load_dataset(tmp_path, format="mmrec").name == "toy"
    with pytest.raises(DataError, match="column 'userID' has no type"):
        load_dataset(tmp_path, format="atomic")
    (tmp_path / "interactions.csv").write_text("user,item\n1,1\n")
    assert load_dataset(tmp_path, format="folder").name == tmp_path.name


def test_wrong_formats_are_refused(tmp_path):
    (tmp_path / "a.xlsx").write_text("x")
    with pytest.raises(DataError, match=r"a\.xlsx is not a table; expected a folder or a file that ends in one of '\.csv'"):
        load_dataset(tmp_path / "a.xlsx")
    with pytest.raises(DataError, match=r"holds no \.inter file, which format 'mmrec' needs"):
        load_dataset(tmp_path, format="mmrec")
    with pytest.raises(DataError, match="is a folder, but format 'table' expects one file"):
        load_dataset(tmp_path, format="table")


def test_settings_are_checked():
    with pytest.raises(ValueError, match="duplicates must be one of"):
        DataConfig(duplicates="all")
    with pytest.raises(ValueError, match="k_core must be 0 or more"):
        DataConfig(k_core=-1)


def test_merged_pairs_are_reported(tmp_path, caplog):
    (tmp_path / "interactions.csv").write_text("user,item\n1,1\n1,1\n2,1\n")
    load_dataset(tmp_path)
    assert "1 repeated user-item pairs are merged (duplicates='first')" in caplog.text


def test_modalities_can_be_left_out():
    assert list(load_dataset("movies-small", modalities=["text"]).features) == ["text"]
    assert list(load_dataset("movies-small", modalities="text,image").features) == ["text", "image"]
    with pytest.raises(DataError, match="has no features named 'sound'; it has 'image', 'text'"):
        load_dataset("movies-small", modalities=["sound"])


def test_times_are_shifted_to_the_local_clock(tmp_path):
    (tmp_path / "interactions.csv").write_text("user,item,time\n1,1,1000036000\n2,1,1000090000\n")
    assert load_dataset(tmp_path, utc_offset=-5.5).interactions.time.tolist() == [1000016200, 1000070200]
    (tmp_path / "interactions.csv").write_text("user,item\n1,1\n2,1\n")
    with pytest.raises(DataError, match="have no times to shift; leave utc_offset out"):
        load_dataset(tmp_path, utc_offset=2)
    (tmp_path / "interactions.csv").write_text("user,item,time\n1,1,3\n2,1,4\n")
    with pytest.raises(DataError, match="have an order, but no dates to shift; leave utc_offset out"):
        load_dataset(tmp_path, utc_offset=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k_cor": 2}, "unknown setting 'k_cor'; the nearest known name is 'k_core'"),
        ({"title_column": True}, "title_column must be the name of a column, but is True"),
        ({"user_column": ["a"]}, r"user_column must be the name of a column, but is \['a'\]"),
        ({"min_rating": float("nan")}, "min_rating must be a finite number, but is nan"),
        ({"min_rating": "4"}, "min_rating must be a finite number, but is '4'"),
        ({"utc_offset": None}, "utc_offset must be a finite number, but is None"),
        ({"modalities": 3}, "modalities must be a list of names, but is 3"),
        ({"modalities": [1]}, r"modalities must be a list of names, but is \[1\]"),
        ({"features": [1]}, "features must be a dictionary from modality to array, but is a list"),
    ],
)
def test_settings_of_other_types_are_refused(settings, message):
    with pytest.raises(UsageError, match=f"^{message}$"):
        load_dataset(pd.DataFrame({"user": [1], "item": [2]}), **settings)
