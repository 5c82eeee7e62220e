"""MovieLens 1M, 10M and 100K as they are distributed."""

import gzip

import pytest

from gmmrec.data.load import load_dataset
from gmmrec.errors import DataError

RATINGS = "1::1193::5::978300760\n1::661::3::978302109\n2::1193::4.5::978300000\n"


def movielens_1m(folder):
    (folder / "ratings.dat").write_text(RATINGS)
    (folder / "movies.dat").write_bytes(
        "1193::Café (1995)::Drama|Comedy\n661::Other: 2 (1996)::Drama\n7::New (1999)::War\n".encode("latin-1")
    )
    (folder / "users.dat").write_text("1::F::1::10::48067\n2::M::25::1::12345-6\n")
    return folder


def movielens_100k(folder):
    def flags(*genres):
        return "|".join("1" if n in genres else "0" for n in range(19))

    (folder / "u.data").write_text("196\t242\t3\t881250949\n186\t302\t3\t891717742\n186\t242\t1\t878887116\n")
    items = f"242|Kolya (1996)|24-Jan-1997||http://x/?Kolya%20(1996)|{flags(5)}\n302|Café (1997)|01-Jan-1997|||{flags(6, 8)}\n"
    (folder / "u.item").write_bytes(items.encode("latin-1"))
    (folder / "u.user").write_text("196|49|M|writer|55105\n186|39|F|executive|00000\n")
    (folder / "u.genre").write_text("unknown|0\nAction|1\n")
    return folder


def test_movielens_1m(tmp_path):
    dataset = load_dataset(movielens_1m(tmp_path))
    assert (dataset.num_users, dataset.num_items) == (2, 3)
    assert dataset.vocabularies["item"].ids(dataset.interactions.item) == [1193, 661, 1193]
    assert dataset.interactions.weight.tolist() == [5.0, 3.0, 4.5]
    assert dataset.interactions.time.tolist() == [978300760, 978302109, 978300000]
    items = dataset.attributes["item"]
    assert items["title"].tolist() == ["Café (1995)", "Other: 2 (1996)", "New (1999)"]
    assert items["genres"].tolist() == ["Drama|Comedy", "Drama", "War"]
    assert dataset.attributes["user"]["gender"].tolist() == ["F", "M"]
    assert dataset.attributes["user"]["zip"].tolist() == ["48067", "12345-6"]


def test_movielens_100k(tmp_path):
    dataset = load_dataset(movielens_100k(tmp_path))
    assert (dataset.num_users, dataset.num_items, len(dataset.interactions)) == (2, 2, 3)
    assert dataset.attributes["item"]["title"].tolist() == ["Kolya (1996)", "Café (1997)"]
    assert dataset.attributes["item"]["genres"].tolist() == ["Comedy", "Crime|Drama"]
    assert dataset.attributes["user"]["occupation"].tolist() == ["writer", "executive"]
    assert dataset.attributes["user"]["zip"].tolist() == ["55105", "00000"]


def test_texts_in_utf8(tmp_path):
    """MovieLens 10M is UTF-8."""
    (movielens_1m(tmp_path) / "movies.dat").write_text(
        "1193::Café (1995)::Drama\n661::Ōther::(no genres listed)\n", encoding="utf-8"
    )
    assert load_dataset(tmp_path).attributes["item"]["title"].tolist() == ["Café (1995)", "Ōther"]


@pytest.mark.parametrize("name", ["ratings.dat", "ratings.dat.gz", "u.data", "u1.base", "ua.test"])
def test_one_file_of_ratings(tmp_path, name):
    text = RATINGS if "dat" in name.split(".")[1] and name.startswith("r") else RATINGS.replace("::", "\t")
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    dataset = load_dataset(tmp_path / name)
    assert (dataset.num_users, dataset.num_items, len(dataset.interactions)) == (2, 2, 3)
    assert load_dataset(tmp_path / name, weight_column="none", time_column="none").interactions.weight is None


def test_other_files_of_these_names_are_tables(tmp_path):
    (tmp_path / "ratings.dat").write_text("userID\tmovieID\trating\n75\t3\t1\n75\t32\t4.5\n")
    dataset = load_dataset(tmp_path / "ratings.dat")
    assert dataset.interactions.weight.tolist() == [1.0, 4.5]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("ratings.dat", RATINGS + "2::661::good::978300001\n", r"ratings\.dat line 4 has 'good' in column '3'"),
        ("ratings.dat", RATINGS + "2::661::3::978300001::7\n", r"ratings\.dat line 4 has 5 fields, but the first line has 4"),
        ("ratings.dat", RATINGS + "2::661\n", r"ratings\.dat line 4 has no value in column '4'"),
        ("movies.dat", "1193::Title\n", r"movies\.dat has 2 columns, but must have 3, separated by '::': item, title, genres"),
        ("movies.dat", "1193::A::x\n1193::B::y\n", r"movies\.dat has item id '1193' more than once"),
        ("movies.dat", "1193::A::x\n::B::y\n", r"movies\.dat line 2 has no value in column 'item'"),
    ],
)
def test_bad_lines_are_named(tmp_path, file, text, message):
    (movielens_1m(tmp_path) / file).write_text(text)
    with pytest.raises(DataError, match=message):
        load_dataset(tmp_path)


def test_ratings_as_csv_keep_their_place(tmp_path):
    (movielens_1m(tmp_path) / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,1193,5,978300760\n")
    (tmp_path / "movies.csv").write_text('movieId,title,genres\n1193,"Heat, The (1995)",Drama|Comedy\n')
    dataset = load_dataset(tmp_path)
    assert len(dataset.interactions) == 1
    assert dataset.attributes["item"]["title"].tolist() == ["Heat, The (1995)"]


def test_a_folder_without_ratings_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds neither ratings\.dat nor u\.data"):
        load_dataset(tmp_path, format="movielens")
