import numpy as np
import pytest
from PIL import Image

from gmmrec.data.encode.images import Pictures, find_pictures, five_crops, open_picture
from gmmrec.errors import DataError
from tests.data.encode.tiny import MeanColour, colour, save_picture


def test_names_are_matched_exactly(tmp_path):
    for name in ("007.jpg", "7.PNG", "a.b.webp", "deep/er/8.jpeg", "._9.jpg", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    matches = find_pictures(tmp_path, ["7", "007", "a.b", "8", "9", None, "notes", "007.jpg"])
    names = [path and path.relative_to(tmp_path).as_posix() for path in matches]
    assert names == ["7.PNG", "007.jpg", "a.b.webp", "deep/er/8.jpeg", None, None, None, "007.jpg"]


def test_two_images_of_one_name_are_refused_only_if_needed(tmp_path):
    for name in ("1.jpg", "1.png", "2.jpg"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"1\.jpg and 1\.png are both named '1'"):
        find_pictures(tmp_path, ["1", "2"])
    assert find_pictures(tmp_path, ["2", "3"]) == [tmp_path / "2.jpg", None]
    assert find_pictures(tmp_path, [2, 3]) == [tmp_path / "2.jpg", None]  # ids that are integers


def test_subfolders_named_after_ids_give_their_first_image(tmp_path):
    for name in ("m.01/b.jpg", "m.01/a.png", "deep/m.02/c.webp", "m.03/notes.txt", "m.04/._a.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    matches = find_pictures(tmp_path, ["/m/02", "m.01", "/m/03", "/m/04", None])
    names = [path and path.relative_to(tmp_path).as_posix() for path in matches]
    assert names == ["deep/m.02/c.webp", "m.01/a.png", None, None, None]
    (tmp_path / "m.02.png").write_bytes(b"")
    assert find_pictures(tmp_path, ["/m/02", "m.01"]) == [tmp_path / "m.02.png", None]  # subfolder names are then ignored


def test_a_folder_without_matching_names_is_refused(tmp_path):
    with pytest.raises(DataError, match="there is no image folder"):
        find_pictures(tmp_path / "none", ["1"])
    with pytest.raises(DataError, match="it holds no images"):
        find_pictures(tmp_path, ["1"])
    (tmp_path / "0001.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"it holds '0001\.jpg', but expected are names such as '1', '2'"):
        find_pictures(tmp_path, ["1", "2"])


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "1", "CMYK", "I;16"])
def test_every_image_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    Image.new("RGB", (3, 2), "white").convert("L" if mode == "I;16" else mode).save(path)
    if mode == "I;16":
        Image.fromarray(np.full((2, 3), 65535, np.uint16)).save(path)
    picture = open_picture(path)
    assert (picture.mode, picture.size) == ("RGB", (3, 2))
    assert (np.asarray(picture) == 255).all()


def test_transparency_becomes_white_and_animations_give_their_first_frame(tmp_path):
    Image.new("RGBA", (1, 1), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert open_picture(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)
    frames = [Image.new("RGB", (1, 1), name) for name in ("red", "blue")]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    assert open_picture(tmp_path / "film.gif").getpixel((0, 0)) == (255, 0, 0)


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    Image.new("RGB", (30, 10)).save(tmp_path / "x.jpg", exif=exif)
    assert open_picture(tmp_path / "x.jpg").size == (10, 30)


def test_missing_and_broken_images_are_reported_and_the_others_keep_their_rows(tmp_path):
    good = [save_picture(tmp_path / f"{row}.png", row) for row in range(3)]
    whole = (tmp_path / "big.png").with_suffix(".jpg")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(whole)
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    empty = tmp_path / "empty.png"
    empty.write_bytes(b"")
    paths = [good[0], cut, None, good[1], empty, tmp_path / "deleted.png", good[2]]
    encoded = Pictures(list("abcdefg"), paths, MeanColour()).encode([6, 0, 1, 2, 3, 4, 5])
    assert encoded.rows == [6, 0, 3]
    assert np.allclose(encoded.values.numpy() * 255, [colour(2), colour(0), colour(1)])
    assert sorted(encoded.missing) == [1, 2, 4, 5]
    assert encoded.missing[2] == "no image"
    assert "truncated" in encoded.missing[1]
    assert encoded.missing[4].startswith("empty.png cannot be read")


def test_a_batch_without_images_skips_the_encoder(tmp_path):
    encoder = MeanColour()
    encoded = Pictures([1, 2], [None, None], encoder).encode([0, 1])
    assert encoded.values is None
    assert encoder.calls == []


def test_decompression_bombs_are_reported_as_broken(tmp_path, monkeypatch):
    path = save_picture(tmp_path / "1.png", 0, size=(100, 100))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    encoded = Pictures([1], [path], MeanColour()).encode([0])
    assert "decompression bomb" in encoded.missing[0]


def test_five_crops_are_the_corners_and_the_centre():
    pixels = np.arange(8 * 4, dtype=np.uint8).reshape(4, 8)
    crops = [np.asarray(crop) for crop in five_crops(Image.fromarray(pixels))]
    expected = [pixels[:3, :6], pixels[:3, 2:], pixels[1:, :6], pixels[1:, 2:], pixels[:3, 1:7]]
    assert all((crop == part).all() for crop, part in zip(crops, expected, strict=True))
    assert [crop.size for crop in five_crops(Image.new("RGB", (1, 1)))] == [(1, 1)] * 5


def test_crops_become_a_token_axis(tmp_path):
    paths = [save_picture(tmp_path / f"{row}.png", row) for row in range(2)]
    encoded = Pictures([0, 1], paths, MeanColour(), crops=True).encode([0, 1])
    assert encoded.values.shape == (2, 5, 3)
    assert np.allclose(encoded.values.numpy() * 255, np.repeat([[colour(0)], [colour(1)]], 5, axis=1).reshape(2, 5, 3))


def test_missing_pillow_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs Pillow, which is not installed; run: pip install 'gmmrec\[encoders\]'"):
        Pictures([], [], MeanColour())


def test_contradictory_settings_are_refused():
    with pytest.raises(ValueError, match="regions and crops"):
        Pictures([], [], MeanColour(), regions=7, crops=True)
    with pytest.raises(ValueError, match="there are 0 for 1"):
        Pictures([1], [], MeanColour())
