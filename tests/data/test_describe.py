import pandas as pd

from gmmrec.data.describe import Degrees, describe
from gmmrec.data.load import load_dataset
from gmmrec.data.overlap import Overlap
from gmmrec.data.unread import Unread
from gmmrec.testing import checkerboard


def test_statistics_of_a_small_log(tmp_path):
    (tmp_path / "interactions.csv").write_text(
        "user,item,rating,date,split\na,1,5,2018-09-20,train\na,2,3,2018-09-21,train\na,1,4,2018-09-22,valid\nb,3,1,2019-01-01,test\n"
    )
    (tmp_path / "items.csv").write_text("item,title\n1,One\n2,Two\n3,Three\n4,Four\n")
    figures = describe(load_dataset(tmp_path, duplicates="keep"))
    assert (figures.users, figures.items, figures.interactions, figures.duplicates) == (2, 4, 4, 1)
    assert figures.density == 0.5
    assert figures.user_degrees == Degrees(1, 2.0, 3)
    assert figures.item_degrees == Degrees(1, 1.0, 2)
    assert figures.cold_items == 2  # items 3 and 4 have nothing in train
    assert figures.inactive_users == 0
    assert (figures.first_time, figures.last_time) == ("2018-09-20", "2019-01-01")
    assert figures.weight_range == (1.0, 5.0)
    assert figures.split == {"train": 2, "valid": 1, "test": 1}
    assert figures.attributes == {"item": ["title"]}


def test_absent_statistics_are_none():
    figures = describe(load_dataset(pd.DataFrame({"user": [1], "item": [2]})))
    assert (figures.first_time, figures.weight_range, figures.split, figures.modalities) == (None, None, None, {})


def test_orders_are_not_dates():
    figures = describe(load_dataset(pd.DataFrame({"user": [1, 1], "item": [2, 3], "time": [0, 1]})))
    assert (figures.first_time, figures.last_time) == ("0", "1")


def test_share_of_a_modality():
    figures = describe(checkerboard()[0])
    assert figures.modalities == {"image": 15 / 16, "text": 1.0}
    assert figures.dims == {"image": 6, "text": 4}


def test_overlaps_and_what_is_not_read(tmp_path):
    (tmp_path / "interactions.csv").write_text("user,item,price\na,1,9\na,2,9\n")
    (tmp_path / "items.csv").write_text("item,title\n1,One\n2,Two\n3,Three\n")
    (tmp_path / "friends.csv").write_text("user,friend\na,b\n")
    (tmp_path / "README.md").write_text("about")
    figures = describe(load_dataset(tmp_path))
    assert figures.overlaps == [Overlap("item", "items.csv", "the interactions", 3, 2, 2)]
    assert figures.unread == Unread({"interactions.csv": ["price"]}, ["friends.csv"])
