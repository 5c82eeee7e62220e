"""Reader of iFashion outfits."""

from pathlib import Path

import pytest

from gmmrec.data.load import load_dataset
from gmmrec.errors import DataError
from tests.data.formats.test_outfits import lists_of, outfits_of


def ifashion(folder: Path) -> Path:
    """Write iFashion's files: text without quotes, titles with separators."""
    (folder / "outfit_data.txt").write_text("".join(f"o{n},i{n};i{n + 1};i{n + 2}\n" for n in range(20)))
    clicks = "".join(f"u{n % 5},i{n};i{(n + 7) % 20},o{n}\n" for n in range(0, 20, 2))
    (folder / "user_data.txt").write_text(clicks)
    (folder / "item_data.txt").write_text("".join(f"i{n},{50 + n % 4},http://p/{n}.jpg,red, long dress {n}\n" for n in range(22)))
    return folder


def test_ifashion(tmp_path):
    dataset = load_dataset(str(ifashion(tmp_path)))
    outfits = dataset.outfits
    assert outfits_of(dataset)[:2] == [["i0", "i1", "i2"], ["i2", "i3", "i4"]]
    assert len(outfits) == 20  # ten clicks, and the ten outfits without clicks
    assert dataset.vocabularies["user"].ids(outfits.user[:3]) == ["u0", "u2", "u4"]
    assert outfits.user[10:].tolist() == [-1] * 10
    assert lists_of(dataset, outfits.history)[:2] == [["i0", "i7"], ["i2", "i9"]]
    assert not lists_of(dataset, outfits.history)[10]
    assert outfits.part.bincount().tolist() == [16, 2, 2]
    assert len(dataset.interactions) == 20
    assert dataset.attributes["item"]["title"].iloc[3] == "red, long dress 3"
    assert dataset.features["category"].dim == 4


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("outfit_data.txt", "o1;i1\n", "must be outfit_id,item"),
        ("user_data.txt", "u1,i1;i2,o99\n", "names outfit o99, which outfit_data.txt does not list"),
        ("outfit_data.txt", "o1,i1;i2\no1,i2;i3\n", "outfit o1 more than once"),
        ("item_data.txt", "i1,5,http://p\n", "must be item_id,cate_id,pic_url,title"),
        ("item_data.txt", "i1,5,http://p,t\n", "holds the unknown item"),
        ("outfit_data.txt", "o0,i1\n", "needs at least two"),
        ("item_data.txt", "i1,5,http://p,t\ni1,6,http://p,t\n", r"item_data\.txt has item 'i1' more than once"),
    ],
)
def test_bad_lines_of_ifashion(tmp_path, file, text, message):
    folder = ifashion(tmp_path)
    if file == "outfit_data.txt":
        (folder / "user_data.txt").write_text("u1,i1,o1\n" if "o1," in text else "u1,i1,o0\n")
    (folder / file).write_text(text)
    with pytest.raises(DataError, match=message):
        load_dataset(str(folder))
