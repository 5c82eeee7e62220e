import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from gmmrec.data.encode.extract import extract
from gmmrec.data.encode.images import Pictures, find_pictures
from gmmrec.data.encode.texts import Texts
from gmmrec.data.load import load_dataset
from gmmrec.errors import DataError
from tests.data.encode.tiny import HashWords, MeanColour, colour, save_picture

ROOT = Path(__file__).resolve().parents[3]


def folder_with(tmp_path, ids):
    """Write a data set with these items, as strings."""
    data = tmp_path / "data"
    data.mkdir()
    pd.DataFrame({"user": ["u"] * len(ids), "item": ids}).to_csv(data / "interactions.csv", index=False)
    return data


def pictures(tmp_path, count, encoder=None, **settings):
    paths = [save_picture(tmp_path / "pictures" / f"{row}.png", row) for row in range(count)]
    return Pictures(list(range(count)), paths, encoder or MeanColour(), **settings)


def read(path):
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def test_items_get_the_values_of_their_image_and_the_data_set_reads_them(tmp_path):
    ids = ["007", "7", "x.1", "B00", "gone", "hole"]
    data = folder_with(tmp_path, ids)
    for row, item in enumerate(ids[:4]):
        save_picture(tmp_path / "pictures" / f"{item}.png", row)
    (tmp_path / "pictures" / "hole.png").write_bytes(b"\x89PNG\r\n\x1a\nno image")
    paths = find_pictures(tmp_path / "pictures", ids)
    extraction = extract(Pictures(ids, paths, MeanColour()), data / "image_feat.npz", batch_size=2, part_size=3)

    dataset = load_dataset(data)
    table, items = dataset.features["image"], dataset.vocabularies["item"]
    assert sorted(items.ids()) == sorted(ids)
    expected = torch.tensor([colour(row) for row in range(4)]) / 255
    assert torch.allclose(table.values[items.rows(ids[:4])], expected, atol=1e-3)
    assert not table.mask[items.rows(["gone", "hole"])].any()
    assert table.mask.sum() == 4
    assert extraction.shape == (4, 3)
    assert list(extraction.missing) == ["gone", "hole"]

    listing = pd.read_csv(data / "image_feat.missing.csv", dtype=str)
    assert listing["id"].tolist() == ["gone", "hole"]
    assert listing["reason"][0] == "no image"
    assert listing["reason"][1].startswith("hole.png cannot be read: ")
    report = json.loads((data / "image_feat.json").read_text())
    assert report["encoder"] == "mean-colour"
    assert (report["items"], report["missing"], report["shape"]) == (6, 2, [4, 3])


def test_regions_keep_their_order_and_a_mask(tmp_path):
    from PIL import Image

    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:2, 2:], pixels[2:, :2] = 100, 200  # top right, bottom left
    Image.fromarray(pixels).save(tmp_path / "5.png")
    extract(Pictures([5], [tmp_path / "5.png"], MeanColour(), regions=2), tmp_path / "regions_feat.npz")
    arrays = read(tmp_path / "regions_feat.npz")
    assert np.allclose(arrays["values"][0, :, 0] * 255, [0, 100, 200, 0], atol=0.1)
    assert arrays["mask"].tolist() == [[True] * 4]
    assert arrays["ids"].dtype == np.int64


def test_ids_keep_their_type(tmp_path):
    for ids in ([3, 12], ["03", "12"]):
        path = tmp_path / f"{type(ids[0]).__name__}_feat.npz"
        extract(Texts(ids, ["a", "b"], HashWords()), path)
        assert read(path)["ids"].tolist() == ids


def test_missing_tokens_are_masked_and_zero(tmp_path):
    encoder = HashWords()
    texts = ["red green", "", "? ?", "a b c d e"]
    extraction = extract(Texts(list("wxyz"), texts, encoder, tokens=3), tmp_path / "words_feat.npz", batch_size=3)
    arrays = read(tmp_path / "words_feat.npz")
    assert arrays["ids"].tolist() == ["w", "z"]
    assert arrays["mask"].tolist() == [[True, True, False], [True, True, True]]
    assert np.allclose(arrays["values"][0, 1], encoder.word("green"), atol=2e-3)
    assert (arrays["values"][0, 2] == 0).all()
    assert extraction.missing == {"x": "no text", "y": "it holds no token that the encoder knows"}


def test_values_without_information_are_missing(tmp_path):
    class Odd(HashWords):
        def vectors(self, texts):
            values = super().vectors(texts)
            values[texts.index("nan")] = torch.nan
            values[texts.index("zero")] = 0
            return values

    extraction = extract(Texts([1, 2, 3], ["nan", "zero", "good"], Odd()), tmp_path / "text_feat.npz")
    assert extraction.missing == {1: "the encoder gave NaN or infinity", 2: "the encoder gave only zeros"}
    assert read(tmp_path / "text_feat.npz")["ids"].tolist() == [3]


def test_an_interrupted_run_resumes(tmp_path):
    whole = extract(pictures(tmp_path, 10), tmp_path / "whole_feat.npz", batch_size=2, part_size=4)
    assert whole.resumed == 0
    path = tmp_path / "image_feat.npz"
    with pytest.raises(KeyboardInterrupt):
        extract(pictures(tmp_path, 10, MeanColour(stop_after=3)), path, batch_size=2, part_size=4)
    assert not path.exists()

    paths = [tmp_path / "pictures" / f"{row}.png" for row in range(10)]
    encoder = MeanColour()
    extraction = extract(Pictures(list(range(10)), paths, encoder), path, batch_size=2, part_size=4)
    assert extraction.resumed == 4  # one part was done, the second half
    assert sum(encoder.calls) == 6
    resumed, uninterrupted = read(path), read(tmp_path / "whole_feat.npz")
    assert (resumed["values"] == uninterrupted["values"]).all()
    assert (resumed["ids"] == uninterrupted["ids"]).all()
    assert not path.with_suffix(".parts").exists()


def test_a_killed_process_leaves_whole_parts_and_no_feature_file(tmp_path):
    pictures(tmp_path, 6)
    script = f"""
import os, signal
from pathlib import Path
from gmmrec.data.encode.extract import extract
from gmmrec.data.encode.images import Pictures
from tests.data.encode.tiny import MeanColour
class Dies(MeanColour):
    def vectors(self, pictures):
        if len(self.calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().vectors(pictures)
paths = [Path({str(tmp_path / "pictures")!r}) / f"{{row}}.png" for row in range(6)]
extract(Pictures(list(range(6)), paths, Dies()), {str(tmp_path / "image_feat.npz")!r}, batch_size=2, part_size=2)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, timeout=120, check=False).returncode
    assert code == -signal.SIGKILL
    assert not (tmp_path / "image_feat.npz").exists()
    encoder = MeanColour()
    paths = [tmp_path / "pictures" / f"{row}.png" for row in range(6)]
    extraction = extract(Pictures(list(range(6)), paths, encoder), tmp_path / "image_feat.npz", batch_size=2, part_size=2)
    assert extraction.resumed == 4
    assert encoder.calls == [2]
    assert np.allclose(read(tmp_path / "image_feat.npz")["values"] * 255, [colour(row) for row in range(6)], atol=0.1)


@pytest.mark.parametrize("change", ["picture", "encoder", "crops"])
def test_parts_of_other_inputs_or_settings_are_not_reused(tmp_path, change):
    with pytest.raises(KeyboardInterrupt):
        extract(pictures(tmp_path, 4, MeanColour(stop_after=1)), tmp_path / "image_feat.npz", batch_size=2, part_size=2)
    paths = [tmp_path / "pictures" / f"{row}.png" for row in range(4)]
    encoder = MeanColour()
    if change == "picture":
        save_picture(paths[1], 99, size=(30, 20))
    if change == "encoder":
        encoder.name = "another"
    extraction = extract(
        Pictures(list(range(4)), paths, encoder, crops=change == "crops"), tmp_path / "image_feat.npz", batch_size=2, part_size=2
    )
    assert extraction.resumed == 0
    if change == "picture":
        assert np.allclose(read(tmp_path / "image_feat.npz")["values"][1] * 255, colour(99), atol=0.1)


def test_a_failed_write_leaves_no_partial_file(tmp_path, monkeypatch):
    source = Texts([1, 2], ["a", "b"], HashWords())
    real = os.replace

    def full(origin, target):
        if str(target).endswith("_feat.npz"):
            raise OSError("disk full")
        real(origin, target)

    monkeypatch.setattr("gmmrec.data.encode.parts.os.replace", full)
    with pytest.raises(OSError, match="disk full"):
        extract(source, tmp_path / "text_feat.npz")
    assert not list(tmp_path.glob("*.npz"))
    monkeypatch.undo()
    assert extract(source, tmp_path / "text_feat.npz").resumed == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text_feat.json", "text_feat.npz"]


def test_an_old_list_of_missing_items_is_removed(tmp_path):
    path = tmp_path / "text_feat.npz"
    extract(Texts([1, 2], ["a", ""], HashWords()), path)
    assert path.with_suffix(".missing.csv").exists()
    path.unlink()
    extract(Texts([1, 2], ["a", "b"], HashWords()), path)
    assert not path.with_suffix(".missing.csv").exists()


def test_principal_components_are_those_of_the_vectors_written(tmp_path):
    encoder = HashWords(dim=6)
    texts = [f"a{row} b{row}" if row != 3 else "" for row in range(30)]
    extraction = extract(Texts(list(range(30)), texts, encoder), tmp_path / "text_feat.npz", dim=2, part_size=7)
    vectors = encoder.vectors([text for text in texts if text]).double().numpy()
    centred = vectors - vectors.mean(0)
    _, singular, axes = np.linalg.svd(centred)
    expected = centred @ axes[:2].T
    values = read(tmp_path / "text_feat.npz")["values"].astype(float)
    assert np.allclose(np.abs((values * expected).sum(0)), (expected**2).sum(0), rtol=1e-2)  # equal but for the sign
    assert extraction.kept_variance == pytest.approx((singular[:2] ** 2).sum() / (singular**2).sum(), rel=1e-6)
    assert (extraction.encoder_dim, extraction.shape) == (6, (29, 2))


def test_principal_components_ignore_masked_tokens(tmp_path):
    encoder = HashWords(dim=3)
    texts = [f"a{row} b{row}" for row in range(9)]
    wide = extract(Texts(list(range(9)), texts, encoder, tokens=5), tmp_path / "wide_feat.npz", dim=2)
    tight = extract(Texts(list(range(9)), texts, encoder, tokens=2), tmp_path / "tight_feat.npz", dim=2)
    assert wide.kept_variance == pytest.approx(tight.kept_variance)
    assert np.allclose(read(tmp_path / "wide_feat.npz")["values"][:, :2], read(tmp_path / "tight_feat.npz")["values"])
    assert (read(tmp_path / "wide_feat.npz")["values"][:, 2:] == 0).all()


@pytest.mark.parametrize(("scale", "dtype"), [(1.0, np.float16), (1e5, np.float32), (1e-5, np.float32)])
def test_half_precision_only_if_the_values_are_in_range(tmp_path, scale, dtype):
    class Scaled(HashWords):
        def vectors(self, texts):
            return super().vectors(texts) * scale

    extract(Texts([1, 2], ["a", "b"], Scaled()), tmp_path / "text_feat.npz")
    values = read(tmp_path / "text_feat.npz")["values"]
    assert values.dtype == dtype
    assert np.allclose(values, np.stack([HashWords().word("a"), HashWords().word("b")]) * scale, rtol=2e-3)


def test_texts_of_similar_length_share_a_batch(tmp_path):
    encoder = HashWords()
    extract(Texts([1, 2, 3, 4], ["aaaa", "b", "cccc", "d"], encoder), tmp_path / "text_feat.npz", batch_size=2)
    assert encoder.batches == [["b", "d"], ["aaaa", "cccc"]]
    arrays = read(tmp_path / "text_feat.npz")
    assert arrays["ids"].tolist() == [1, 2, 3, 4]
    assert np.allclose(arrays["values"], torch.stack([encoder.word(word) for word in ("aaaa", "b", "cccc", "d")]), atol=2e-3)


@pytest.mark.parametrize(
    ("name", "message"),
    [("image.npz", "would not be read"), ("user_image_feat.npz", "would not be read"), ("old_feat.npz", "already exists")],
)
def test_existing_files_and_unreadable_names_are_refused(tmp_path, name, message):
    (tmp_path / "old_feat.npz").write_bytes(b"")
    with pytest.raises(DataError, match=message):
        extract(Texts([1], ["a"], HashWords()), tmp_path / name)
    assert (tmp_path / "old_feat.npz").read_bytes() == b""


def test_error_messages(tmp_path):
    path = tmp_path / "text_feat.npz"
    with pytest.raises(DataError, match="none of the 2 items has a value; the reason for the first one, 'a': no text"):
        extract(Texts(["a", "b"], ["", " "], HashWords()), path)
    texts = Texts(list(range(9)), [f"a{row}" for row in range(9)], HashWords(dim=4))
    with pytest.raises(ValueError, match="dim must be less than the encoder's width 4, but is 4"):
        extract(texts, path, dim=4)
    with pytest.raises(ValueError, match="dim must be less than the number of vectors, 2, but is 3"):
        extract(Texts([1, 2], ["a", "b"], HashWords(dim=4)), path, dim=3)

    class Flat(HashWords):
        def vectors(self, texts):
            return super().vectors(texts).flatten()

    with pytest.raises(ValueError, match=r"an encoder must give \[B, D\]"):
        extract(Texts([1], ["a"], Flat()), tmp_path / "flat_feat.npz")

    class Growing(HashWords):
        def vectors(self, texts):
            self.dim += 1
            return super().vectors(texts)

    for part_size in (1, 2):
        with pytest.raises(ValueError, match="the same number of tokens and width"):
            extract(Texts([1, 2], ["a", "b"], Growing()), tmp_path / "g_feat.npz", batch_size=1, part_size=part_size)
