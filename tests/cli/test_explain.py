"""``gmmrec explain`` from a run folder to a table and a picture."""

import json

import numpy as np
import pytest
from PIL import Image

import gmmrec
from gmmrec.cli.main import main
from tests.toy import checkerboard


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("run")
    gmmrec.fit(checkerboard()[0], "mario", out=base / "run", epochs=1, dim=8, batch_size=64, progress=False)
    (base / "pictures").mkdir()
    Image.new("RGB", (40, 60), (10, 200, 10)).save(base / "pictures" / "5.png")
    return base


def test_weights_are_printed(folder, capsys):
    assert main(["explain", str(folder / "run"), "--user", "u3", "--item", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("score ")
    assert [line.split()[0] for line in lines[1:] if line] == ["image", "text", "interaction"]
    assert main(["explain", str(folder / "run"), "--user", "u3", "--item", "5", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert sum(row["weight"] for row in rows) == pytest.approx(1)


def test_the_picture_of_the_item_is_drawn_where_there_is_one(folder, tmp_path, capsys):
    for item, green in (("5", True), ("6", False)):
        out = tmp_path / f"{item}.png"
        flags = ["--images", str(folder / "pictures"), "--out", str(out)]
        assert main(["explain", str(folder / "run"), "--user", "u3", "--item", item, *flags]) == 0
        pixels = np.asarray(Image.open(out).convert("RGB")).astype(int)
        assert bool((np.abs(pixels - np.array([10, 200, 10])).max(-1) < 3).any()) == green


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--images", "somewhere"], "--images are drawn into a file; say with --out where"),
        (["--out", "a.png", "--image-column", "code"], "--image-column says how the pictures in --images are named"),
        (["--user", "ann"], "ann"),
    ],
)
def test_mistakes_are_one_sentence(folder, capsys, extra, message):
    assert main(["explain", str(folder / "run"), "--user", "u3", "--item", "5", *extra]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1
