"""Detection of the form of a text table, and settings that decide."""

import pandas as pd
import pytest

from gmmrec.data.files import line_of, read_table
from gmmrec.data.load import DataConfig, load_dataset
from gmmrec.data.text_form import SPACES, TextForm, detect_separator, encoding_of, read_as, with_decimal_points
from gmmrec.errors import DataError, UsageError


@pytest.mark.parametrize(
    ("lines", "usual", "separator"),
    [
        (["user,item", "1,2"], ",", ","),
        (["user\titem", "1\t2"], ",", "\t"),
        (["user;item;rating", "1;2;4,5"], ",", ";"),
        (['"user";"item";"rating, stars"', "1;2;4,5"], ",", ";"),
        (["user,item;rating", "1,2;3", "1,2,9;3"], ",", ";"),  # only semicolons divide all lines evenly
        (["user|item", "1|2"], "\t", "|"),
        (["user::item", "1::2"], ",", "::"),
        (["user  item", "1 2"], ",", SPACES),
        (["the title"], "\t", SPACES),
        (["item title", "7", "8"], "\t", "\t"),
        (["user", "1"], ",", ","),
        ([], ",", ","),
    ],
)
def test_separators(lines, usual, separator):
    assert detect_separator(lines, usual) == separator


@pytest.mark.parametrize(
    ("text", "separator", "numbers"),
    [
        (["4,5", "3", None], "\t", ["4.5", "3", None]),
        (["4,500", "3"], ";", ["4.500", "3"]),
        (["1.234,5", "2"], "\t", ["1234.5", "2"]),
        (["4.5", "3"], ";", ["4.5", "3"]),
        (["4,5", "3.5"], "\t", ["4,5", "3.5"]),  # neither form: refused later as no number
        (["good, bad"], ";", ["good, bad"]),
    ],
)
def test_decimal_commas(text, separator, numbers):
    column = pd.Series(text, dtype="str", name="rating")
    found = with_decimal_points(column, separator, "x.tsv")
    assert [None if pd.isna(value) else value for value in found] == numbers


def test_commas_before_three_digits_are_refused_without_a_setting():
    column = pd.Series(["4,500", "12"], dtype="str", name="rating")
    with pytest.raises(DataError, match=r"x\.tsv has '4,500' in column 'rating', .* set decimal to ',' or to '\.'"):
        with_decimal_points(column, "\t", "x.tsv")
    with read_as(TextForm(decimal=",")):
        assert with_decimal_points(column, "\t", "x.tsv").tolist() == ["4.500", "12"]
    with read_as(TextForm(decimal=".")):
        assert with_decimal_points(column, "\t", "x.tsv").tolist() == ["4500", "12"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks(tmp_path, encoding):
    (tmp_path / "a.csv").write_text("user;item;rating\r\nJörg;1;4,5\r\n", encoding=encoding, newline="")
    dataset = load_dataset(tmp_path / "a.csv")
    assert dataset.vocabularies["user"].ids() == ["Jörg"]
    assert dataset.interactions.weight.tolist() == [4.5]


def test_other_encodings_need_a_setting(tmp_path):
    (tmp_path / "a.csv").write_bytes("user,item\nJörg,1\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.csv is not UTF-8 text .* or set encoding, such as latin-1"):
        load_dataset(tmp_path / "a.csv")
    assert load_dataset(tmp_path / "a.csv", encoding="latin-1").vocabularies["user"].ids() == ["Jörg"]
    (tmp_path / "b.csv").write_text("user,item\n1,2\n", encoding="utf-16-le")
    with pytest.raises(DataError, match=r"b\.csv holds zero bytes.*set encoding to utf-16-le"):
        load_dataset(tmp_path / "b.csv")
    assert load_dataset(tmp_path / "b.csv", encoding="utf-16-le").num_users == 1
    with pytest.raises(DataError, match=r"b\.csv is not utf-16 text"):
        load_dataset(tmp_path / "b.csv", encoding="utf-16")
    assert encoding_of(b"\xef\xbb\xbfuser", "a.csv") == "utf-8-sig"


@pytest.mark.parametrize("settings", [{"encoding": "foo"}, {"encoding": "base64"}, {"separator": ""}, {"separator": '"'}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UsageError, match=next(iter(settings))):
        DataConfig(**settings)


@pytest.mark.parametrize(
    ("separator", "text"),
    [("::", "1::a::4\n2::b::5\n"), ("tab", "1\ta\t4\n2\tb\t5\n"), ("space", "1  a 4\n2 b  5\n"), ("x", "1xax4\n2xbx5\n")],
)
def test_files_without_a_header_have_columns_by_number(tmp_path, separator, text):
    (tmp_path / "a.csv").write_text(text)
    settings = {"user_column": 1, "item_column": 2, "weight_column": "3", "header": "none", "separator": separator}
    dataset = load_dataset(tmp_path / "a.csv", **settings)
    assert dataset.vocabularies["item"].ids() == ["a", "b"]
    assert dataset.interactions.weight.tolist() == [4.0, 5.0]


def test_files_without_a_header_are_recognised_and_refused_with_the_setting(tmp_path):
    """Amazon's files of ratings: users come first in those of 2014, items in those of 2018, so no order is guessed."""
    path = tmp_path / "ratings_only.csv"
    path.write_text("A39H,0205616461,5.0,1369699200\nA3JM,0558925278,3.0,1355443200\nA1Z5,0558925278,4.0,1404691200\n")
    with pytest.raises(DataError, match=r"its first line looks like data: 'A39H', .* set header to 'none'"):
        load_dataset(path)
    with pytest.raises(DataError, match="or header to 'none' to name columns by number"):
        load_dataset(path, user_column=1, item_column=2)
    with pytest.raises(DataError, match="set item_column to the number of the item column; its first line is 1: 'A39H'"):
        load_dataset(path, header="none", user_column=1)
    dataset = load_dataset(path, header="none", user_column=1, item_column=2, weight_column=3, time_column=4)
    assert (dataset.num_users, dataset.vocabularies["item"].ids()) == (3, ["0205616461", "0558925278"])
    assert dataset.interactions.weight.tolist() == [5.0, 3.0, 4.0]
    path.write_text("a,b\nc,d\n")
    with pytest.raises(DataError, match="its first line looks like data"):
        load_dataset(path)


def test_a_header_read_as_data_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("user,item\n1,2\n")
    with pytest.raises(DataError, match=r"begins with the column names 'user', 'item'; leave header='none' out"):
        load_dataset(tmp_path / "a.csv", header="none", user_column=1, item_column=2)


def test_lines_are_named_by_the_form(tmp_path):
    (tmp_path / "a.csv").write_text("1::a::4\n\n2::b::x\n")
    settings = {"user_column": 1, "item_column": 2, "weight_column": 3, "header": "none", "separator": "::"}
    with pytest.raises(DataError, match=r"a\.csv line 3 has 'x' in column '3'"):
        load_dataset(tmp_path / "a.csv", **settings)
    (tmp_path / "a.csv").write_text("1::a::4\n2::b::5::6\n")
    with pytest.raises(DataError, match=r"a\.csv line 2 has 4 fields, but the first line has 3"):
        load_dataset(tmp_path / "a.csv", **settings)


def test_tables_of_spreadsheets(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text('user\titem\trating\ttext\r\na\tb\t4,5\t"two\r\nlines ""quoted"""\r\nc\td\t3\t"x\ty"\r\n', newline="")
    frame = read_table(path)
    assert frame["text"].tolist() == ['two\r\nlines "quoted"', "x\ty"]
    assert line_of(path, 1) == 4
    assert load_dataset(path).interactions.weight.tolist() == [4.5, 3.0]
    (tmp_path / "b.csv").write_text("sep=;\nuser;item\n1;2\n")
    with pytest.raises(DataError, match="begins with 'sep=;', a hint for spreadsheets; delete this line"):
        load_dataset(tmp_path / "b.csv")


def test_stray_quotes_do_not_join_lines(tmp_path):
    """Amazon's tab-separated reviews hold quotes that are never closed."""
    path = tmp_path / "a.tsv"
    path.write_text('user\titem\ttext\na\tb\t"hello\nc\td\tit was "good\ne\tf\t"yes" it is\n')
    assert read_table(path)["text"].tolist() == ['"hello', 'it was "good', '"yes" it is']
    assert line_of(path, 2) == 4


@pytest.mark.parametrize("name", ["a.txt", "a.dat"])
def test_text_files_with_a_header_are_tables(tmp_path, name):
    (tmp_path / name).write_text("userID\tartistID\tweight\n2\t51\t13883\n2\t52\t11690\n")
    dataset = load_dataset(tmp_path / name)
    assert dataset.vocabularies["item"].ids() == [51, 52]
    assert dataset.interactions.weight.tolist() == [13883.0, 11690.0]
