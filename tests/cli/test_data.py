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
