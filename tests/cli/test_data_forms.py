"""``gmmrec data describe`` on data as it is distributed, with nothing but the path, or with the flags that messages name."""

import json

import pytest

from gmmrec.cli.main import main
from tests.data.formats.test_json_folder import AMAZON_2018
from tests.data.formats.test_lines import FACTS, FOUR, THREE
from tests.data.formats.test_movielens import movielens_1m, movielens_100k


def described(capsys, *arguments):
    assert main(["data", "describe", "--json", "-d", *map(str, arguments)]) == 0
    return json.loads(capsys.readouterr().out)


def sizes(figures):
    return figures["users"], figures["items"], figures["interactions"]


def test_reviews_as_json_lines(tmp_path, capsys):
    path = tmp_path / "reviews.json"
    path.write_text("".join(f"{json.dumps(entry)}\n" for entry in AMAZON_2018))
    figures = described(capsys, path)
    assert sizes(figures) == (3, 9, 9)
    assert (figures["weight_range"], figures["first_time"], figures["reviews"]) == ([3.0, 5.0], "2016-09-01", 1.0)


def test_a_file_without_a_header(tmp_path, capsys):
    path = tmp_path / "ratings_only.csv"
    path.write_text("A39H,0205616461,5.0,1369699200\nA3JM,0558925278,3.0,1355443200\n")
    assert main(["data", "describe", "-d", str(path)]) == 2
    assert "set header to 'none'" in capsys.readouterr().err
    columns = ["--user-column", 1, "--item-column", 2, "--weight-column", 3, "--time-column", 4]
    assert sizes(described(capsys, path, "--header", "none", *columns)) == (2, 2, 2)
    assert sizes(described(capsys, path, "--data.header=none", "--data.separator=,", *columns)) == (2, 2, 2)


@pytest.mark.parametrize("separator", [";", "::", "tab", "space", "|", ","])
def test_separators_as_flags(tmp_path, capsys, separator):
    path = tmp_path / "a.csv"
    path.write_text("user,item\n1,2\n".replace(",", {"tab": "\t", "space": " "}.get(separator, separator)))
    assert sizes(described(capsys, path, "--separator", separator)) == (1, 1, 1)


def test_movielens(tmp_path, capsys):
    figures = described(capsys, movielens_1m(tmp_path))
    assert sizes(figures) == (2, 3, 3)
    assert "title" in figures["attributes"]["item"]
    assert sizes(described(capsys, movielens_1m(tmp_path) / "ratings.dat")) == (2, 2, 3)
    (tmp_path / "ratings.dat").unlink()
    assert sizes(described(capsys, movielens_100k(tmp_path))) == (2, 2, 3)
    assert sizes(described(capsys, tmp_path / "u.data")) == (2, 2, 3)


@pytest.mark.parametrize("files", [FOUR, THREE])
def test_lines_of_ratings(tmp_path, capsys, files):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    figures = described(capsys, tmp_path)
    assert sizes(figures) == (2, 4, 7)
    assert figures["weight_range"] == [3.0, 5.0]
    assert figures["split"] == {"train": 5, "valid": 0, "test": 2}


def test_triples_with_spaces(tmp_path, capsys):
    for name, text in FACTS.items():
        (tmp_path / name).write_text(text)
    for flags in ((), ("--format", "knowledge")):
        assert described(capsys, tmp_path, *flags)["knowledge"]["triples"] == 23
