"""Script that writes data sets with token modalities, on small folders with small encoders."""

import importlib.util
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from gmmrec.data.load import load_dataset
from gmmrec.data.tokens import TokenNames
from tests.data.encode.tiny import HashWords, MeanColour, colour, save_picture

SCRIPT = Path(__file__).resolve().parents[2] / "data_scripts" / "content.py"
N = 130
"""Number of items; more than one part of 128, so that an interrupted run can be resumed."""


class Spelling(HashWords):
    def pieces(self, texts, count):
        return [text.split()[:count] for text in texts]


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location("content", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "load_text_encoder", lambda name: Spelling())
    monkeypatch.setattr(module, "load_image_encoder", lambda name: MeanColour())
    return module


def write(folder, items, archive, pictures):
    """Write the files common to both sources: a table of items, one purchase of each, users, and one-coloured images by name."""
    folder.mkdir()
    items.to_csv(folder / "items.csv", index=False)
    pd.DataFrame({"user": 0, "item": items["item"]}).to_csv(folder / "interactions.csv.gz", index=False)
    (folder / "users.csv").write_text("user,age\n0,30\n")
    with zipfile.ZipFile(folder / archive, "w") as file:
        for name, row in pictures.items():
            file.write(save_picture(folder / "drawn" / name, row), name)
    return folder


@pytest.fixture
def shop(tmp_path):
    """Products named by codes; every other one has a description, and the last one has no image."""
    rows = np.arange(N)
    attributes = {"name": "silk", "type": "dress", "group": "g", "section": "s", "appearance": "plain", "colour": "red"}
    items = pd.DataFrame({"item": rows, "product_code": rows + 1000, "image_article_id": rows, "has_text": rows % 2})
    items = items.assign(**{key: np.where(rows % 2, word, "") for key, word in attributes.items()})
    items["description"] = [f"w{row} fine" if row % 2 else "" for row in rows]
    folder = write(tmp_path / "shop", items, "images.zip", {f"{row + 1000}.jpg": row for row in rows[:-1]})
    np.save(folder / "image_feat.npy", np.arange(N * 5, dtype=np.float16).reshape(N, 5))
    return folder


@pytest.fixture
def films(tmp_path):
    """Three films: one without a poster, one without a description, and poster vectors in a different order."""
    items = pd.DataFrame({"item": [0, 1, 2], "movie_id": [30, 10, 20], "title": ["Jaws", "Alien", "Heat"]})
    items = items.assign(
        genres=["Horror", "Horror|Sci-Fi", "Crime"], has_poster=[1, 0, 1], image_row=[1, -1, 0], text_row=[0, 1, 2]
    )
    folder = write(tmp_path / "films", items, "posters.zip", {"30.jpg": 0, "20.jpg": 2})
    np.savez(folder / "image_features.npz", movie_id=[20, 30], feat=np.array([[2, 2], [3, 3]], np.float16))
    pd.DataFrame({"movie_id": [30, 10], "description": ["a shark", "a ship"]}).to_csv(folder / "descriptions.csv.gz", index=False)
    return folder


def run(script, monkeypatch, name, source, out):
    flags = ["--out", str(out), "--grid", "2", "--tokens", "3", "--dim", "2"]
    monkeypatch.setattr("sys.argv", ["content.py", name, str(source), *flags])
    script.main()
    return load_dataset(out)


def values_of(dataset, name, item):
    return dataset.features[name].values[dataset.vocabularies["item"].rows([item])[0]]


def test_products(script, shop, tmp_path, monkeypatch):
    dataset = run(script, monkeypatch, "hm-fashion", shop, tmp_path / "made")
    assert {name: (tuple(table.values.shape[1:]), int(table.present.sum())) for name, table in dataset.features.items()} == {
        "image": ((5,), N),
        "regions": ((4, 2), N - 1),
        "frames": ((5, 2), N - 1),
        "text": ((4,), N // 2),
        "words": ((3, 2), N // 2),
    }
    torch.testing.assert_close(values_of(dataset, "image", 7), torch.arange(35.0, 40.0))
    words = HashWords()
    expected = torch.stack([words.word(word) for word in ("silk.", "dress.", "g.", "s.", "w7", "fine")]).mean(0)
    torch.testing.assert_close(values_of(dataset, "text", 7), expected, rtol=0, atol=2e-3)
    assert dataset.features["words"].tokens == TokenNames(
        "pieces", pieces={str(row): f"silk. w{row} fine" for row in range(1, N, 2)}
    )
    assert dataset.features["regions"].tokens == TokenNames("grid", size=2)
    table = dataset.attributes["item"]
    assert table["image"].tolist() == [f"{row + 1000}.jpg" for row in range(N)]
    assert not {"image_article_id", "has_text"} & set(table)
    assert len(dataset.attributes["user"]) == 1

    first, second = (torch.tensor(colour(row)).float() / 255 for row in (10, 90))
    far = (values_of(dataset, "regions", 10) - values_of(dataset, "regions", 90)).norm(dim=-1)
    torch.testing.assert_close(far, (first - second).norm().expand(4), rtol=0.02, atol=0)  # three colours fit into two dimensions
    assert json.loads((tmp_path / "made" / "regions_feat.json").read_text())["kept_variance"] > 0.99
    assert not dataset.features["regions"].present[N - 1]


def test_films(script, films, tmp_path, monkeypatch):
    dataset = run(script, monkeypatch, "ml1m-posters", films, tmp_path / "made")
    assert [values_of(dataset, "image", item).tolist() for item in (0, 2)] == [[3, 3], [2, 2]]
    for name in ("image", "regions", "frames"):
        assert dataset.features[name].present.tolist() == [True, False, True]
    assert dataset.features["text"].present.tolist() == [True] * 3
    assert dataset.features["words"].present.tolist() == [True, True, False]
    assert dataset.features["words"].tokens == TokenNames("pieces", pieces={"0": "a shark", "1": "a ship"})
    table = dataset.attributes["item"]
    assert table.columns.tolist() == ["movie_id", "title", "genres", "description", "image"]
    assert table["image"].fillna("").tolist() == ["30.jpg", "", "20.jpg"]


def test_an_interrupted_run_resumes(script, shop, tmp_path, monkeypatch, capsys):
    out, encoders = tmp_path / "made", []

    def pictures(stop_after):
        encoders.append(MeanColour(stop_after))
        return lambda name: encoders[-1]

    monkeypatch.setattr(script, "load_image_encoder", pictures(stop_after=4))  # of 32: the first part of the frames is done
    with pytest.raises(KeyboardInterrupt):
        run(script, monkeypatch, "hm-fashion", shop, out)
    assert sorted(path.name for path in out.glob("*_feat.npz")) == [f"{x}_feat.npz" for x in ("image", "regions", "text", "words")]
    before = (out / "regions_feat.npz").stat().st_mtime_ns
    capsys.readouterr()

    texts = Spelling()
    monkeypatch.setattr(script, "load_text_encoder", lambda name: texts)
    monkeypatch.setattr(script, "load_image_encoder", pictures(stop_after=None))
    dataset = run(script, monkeypatch, "hm-fashion", shop, out)
    assert encoders[0].calls == [160] * 4
    assert encoders[1].calls == [5]  # one of the two remaining items has no image
    assert "'resumed': 128" in capsys.readouterr().out
    assert texts.batches == []
    assert (out / "regions_feat.npz").stat().st_mtime_ns == before
    assert int(dataset.features["frames"].present.sum()) == N - 1


def test_complete_images_are_kept_and_others_unpacked_again(script, films, tmp_path):
    out, content = tmp_path / "made", script.SOURCES["ml1m-posters"](films)
    out.mkdir()
    script.write_tables(content, films, out)
    whole, cut = out / "images" / "30.jpg", out / "images" / "20.jpg"
    content_of_cut, time = cut.read_bytes(), whole.stat().st_mtime_ns
    cut.write_bytes(content_of_cut[:100])
    script.write_tables(content, films, out)
    assert cut.read_bytes() == content_of_cut
    assert whole.stat().st_mtime_ns == time
