"""Types, ids and titles of attribute tables."""

import numpy as np
import pytest

from gmmrec.data.attributes import read_attributes
from gmmrec.errors import DataError


def test_attributes_have_types_and_a_title(tmp_path):
    (tmp_path / "items.csv").write_text('item,name,code,lat\n7,"Sal\'s, Pizza",007,1.5\n8,,010,\n')
    frame = read_attributes(tmp_path / "items.csv", "item")
    assert frame["id"].tolist() == ["7", "8"]
    assert frame["title"].iloc[0] == "Sal's, Pizza"
    assert frame["code"].tolist() == ["007", "010"]
    assert frame["lat"].iloc[0] == 1.5
    assert np.isnan(frame["lat"].iloc[1])


def test_repeated_ids_are_refused(tmp_path):
    (tmp_path / "items.csv").write_text("item,title\n7,a\n7,b\n")
    with pytest.raises(DataError, match=r"items\.csv has item id '7' more than once"):
        read_attributes(tmp_path / "items.csv", "item")
