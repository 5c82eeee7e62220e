"""``gmmrec complete`` prints outfits in raw ids, and writes them as a self-contained page."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from gmmrec.cli.main import main
from gmmrec.report.outfits import write_outfits
from gmmrec.runs.recipe import fit
from gmmrec.testing import checkerboard, with_outfits
from tests.runs.folders import listed_again


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("run") / "pog"
    dataset = with_outfits(checkerboard(12, 16)[0])
    fit(dataset, "pog", dim=8, hidden_dim=8, num_heads=2, epochs=1, out=path, eval={"bootstrap": 0}, split={"strategy": "given"})
    return path


def test_completes_in_raw_ids(folder, capsys, tmp_path):
    pool = tmp_path / "pool.txt"
    pool.write_text("2\n5\n7\n\n")
    flags = ["complete", str(folder), "--items", "3,4", "--user", "u1", "-k", "2", "--pool", str(pool), "--max-items", "4"]
    assert main([*flags, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = found["rows"]
    assert found["page"] is None
    for number in (1, 2):
        outfit = [row for row in rows if row["outfit"] == number]
        assert [row["item_id"] for row in outfit[:2]] == [3, 4]
        assert [row["given"] for row in outfit[:2]] == [True, True]
        assert {row["item_id"] for row in outfit[2:]} <= {2, 5, 7}
        assert 3 <= len(outfit) <= 4
    assert main(flags) == 0
    assert "probability" in capsys.readouterr().out


def test_writes_a_page_with_pictures(folder, capsys, tmp_path):
    image = pytest.importorskip("PIL.Image")
    images = tmp_path / "photos"
    images.mkdir()
    for item in range(0, 16, 2):
        image.new("RGB", (300, 200), (16 * item, 0, 0)).save(images / f"{item}.png")
    page = tmp_path / "out" / "outfits.html"
    flags = ["complete", str(folder), "--items", "2", "-k", "3", "--min-items", "4", "--max-items", "4"]
    assert main([*flags, "--images", str(images), "--page", str(page), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows, text = found["rows"], page.read_text(encoding="utf-8")
    assert found["page"] == str(page)
    assert text.count("<figure") == len(rows) == 12
    assert text.count('<figure class="given"') == 3
    assert text.count("data:image/jpeg;base64,") == sum(row["item_id"] % 2 == 0 for row in rows)
    assert "://" not in text  # no external resources
    said = re.findall(r"<small>(\d+) · (kind \d) · ", text)
    assert said == [(str(row["item_id"]), row["category"]) for row in rows]
    assert main([*flags, "--images", str(images)]) == 0
    assert capsys.readouterr().out.endswith(f"\nwrote {folder / 'outfits.html'}\n")
    assert (folder / "outfits.html").read_text(encoding="utf-8") == text


def test_pictures_in_the_data_folder_make_a_page(folder, capsys, caplog, tmp_path):
    image = pytest.importorskip("PIL.Image")
    copy, pictures = tmp_path / "run", tmp_path / "shop" / "pictures"
    copy.mkdir()
    pictures.mkdir(parents=True)
    for file in folder.iterdir():
        if file.is_file() and file.suffix != ".html":
            (copy / file.name).write_bytes(file.read_bytes())
    config = yaml.safe_load((copy / "config.yaml").read_text())
    config["data"]["path"] = str(tmp_path / "shop")
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    listed_again(copy)
    flags = ["complete", str(copy), "--items", "2", "-k", "1", "--min-items", "4"]
    image.new("RGB", (3, 2)).save(pictures / "hat.png")
    assert main(flags) == 0  # pictures were not requested, so outfits are completed without them
    assert "page not written: no image or subfolder of images in pictures" in caplog.text
    assert "wrote" not in capsys.readouterr().out
    assert not (copy / "outfits.html").exists()
    image.new("RGB", (3, 2)).save(pictures / "2.png")
    assert main(flags) == 0
    assert f"wrote {copy / 'outfits.html'}" in capsys.readouterr().out
    assert (copy / "outfits.html").read_text(encoding="utf-8").count("data:image/jpeg;base64,") == 1


def test_the_page_has_comments_and_omits_unknown_categories(tmp_path):
    frame = pd.DataFrame({"outfit": 1, "item_id": ["a", "b"], "given": [True, False], "probability": [1.0, 0.25], "score": -1.5})
    frame = frame.assign(category=[None, "hats"], comment=["", "red & warm"])
    text = write_outfits(frame, tmp_path / "page.html", {}, "Outfits").read_text(encoding="utf-8")
    assert "<small>a · given</small></figcaption>" in text
    assert "<small>b · hats · 25.0% of the choices</small><br><q>red &amp; warm</q></figcaption>" in text


def test_mistakes_are_reported_in_one_sentence(folder, capsys, tmp_path):
    for flags, words in (
        (["--items", "99"], "unknown item id 99"),
        (["--items", "3", "--images", str(tmp_path)], "it holds no images"),
        (["--items", "3", "--image-column", "category"], "give both"),
        (["--items", "3", "--page", str(tmp_path / "x.png")], "must end in .html"),
        (["--items", "3,4", "--max-items", "2"], "max_items"),
    ):
        assert main(["complete", str(folder), *flags]) == 2
        message = capsys.readouterr().err.strip()
        assert words in message
        assert message.count("\n") == 0
    assert main(["recommend", str(folder)]) == 2
    assert "gmmrec complete" in capsys.readouterr().err
