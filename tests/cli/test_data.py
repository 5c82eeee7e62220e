import json

import pytest

from gmmrec.cli.main import parse
from gmmrec.data.load import load_dataset
from gmmrec.errors import DataError


def run(*arguments):
    known = parse(["data", *map(str, arguments)])
    return known.run(known)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ratings.csv").write_text("who,movieId,rating,part\n1,10,5,train\n1,11,2,valid\n2,10,4,test\n")
    return tmp_path / "in"


def test_describe_prints_a_table(folder, capsys):
    assert run("describe", "-d", folder, "--user-column", "who", "--split-column", "part") == 0
    out = capsys.readouterr().out
    assert "interactions    3 (75.000% of all pairs)\n" in out
    assert "1 train, 1 valid, 1 test" in out


def test_describe_prints_json_and_nothing_else(folder, capsys):
    assert run("describe", "-d", folder, "--user-column", "who", "--split-column", "part", "--min-rating", 4, "--json") == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["interactions"] == 2
    assert figures["split"] == {"train": 1, "valid": 0, "test": 1}


@pytest.mark.parametrize("layout", ["folder", "mmrec", "atomic"])
def test_convert(folder, tmp_path, capsys, layout):
    columns = ("--user-column", "who", "--split-column", "part")
    assert run("convert", "-d", folder, *columns, "--to", layout, "--out", tmp_path / "out") == 0
    assert "wrote 3 interactions to" in capsys.readouterr().out
    dataset = load_dataset(tmp_path / "out")
    assert dataset.vocabularies["item"].ids() == [10, 11]
    assert dataset.given_split.tolist() == [0, 1, 2]


def test_bad_data_raise_an_error_for_main(folder):
    with pytest.raises(DataError, match=r"ratings\.csv has no user column"):
        run("describe", "-d", folder)


def test_describe_says_how_tables_meet_and_what_is_not_read(folder, capsys):
    (folder / "ratings.csv").write_text("userId,movieId,price\n1,10,5\n1,11,2\n")
    (folder / "movies.csv").write_text("movieId,title\n10,Ten\n12,Twelve\n")
    (folder / "tags.csv").write_text("movieId,tag\n10,good\n")
    assert run("describe", "-d", folder) == 0
    lines = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in capsys.readouterr().out.splitlines()}
    assert lines["item ids of movies.csv"] == "1 of 2 occur in the interactions, 50.0% of its 2"
    assert lines["not read of ratings.csv"] == "price"
    assert lines["not read"] == "tags.csv"
    assert run("describe", "-d", folder, "--json") == 0
    figures = json.loads(capsys.readouterr().out)
    overlap = {"node_type": "item", "table": "movies.csv", "other": "the interactions", "ids": 2, "other_ids": 2, "common": 1}
    assert figures["overlaps"] == [overlap]
    assert figures["unread"] == {"columns": {"ratings.csv": ["price"]}, "files": ["tags.csv"]}
