"""NumPy files: what they declare is checked before it is made."""

import contextlib
import io
import zipfile

import numpy as np
import pytest

from gmmrec.errors import DataError
from gmmrec.safety.arrays import load_arrays
from tests.safety.bombs import npy_header, npz, zeros_npz


def test_ordinary_files_are_read(tmp_path):
    values = np.arange(12, dtype=np.float16).reshape(3, 4)
    np.save(tmp_path / "a.npy", values)
    np.save(tmp_path / "f.npy", np.asfortranarray(values))
    np.savez_compressed(tmp_path / "a.npz", ids=np.array(["x", "y", "z"]), values=values, empty=np.zeros((0, 4)))
    for name in ("a.npy", "f.npy"):
        assert np.array_equal(load_arrays(tmp_path / name)["values"], values)
    found = load_arrays(tmp_path / "a.npz")
    assert list(found) == ["ids", "values", "empty"]
    assert np.array_equal(found["values"], values)


def test_an_archive_that_unpacks_to_much_is_refused_unread(tmp_path):
    path = zeros_npz(tmp_path / "image_feat.npz", 260)
    assert path.stat().st_size < 300_000
    with pytest.raises(DataError, match=r"image_feat\.npz is refused before it fills the memory: it unpacks to 260 MiB"):
        load_arrays(path)


@pytest.mark.parametrize("shape", [(10**12, 64), (10**6, 10**6), (2**63, 2**63), (-1, 5), (-4, -4)])
@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_headers_that_declare_more_than_follows_are_refused(tmp_path, shape, ending):
    path, content = tmp_path / f"a.{ending}", npy_header(shape) + bytes(400)
    if ending == "npz":
        npz(path, {"values.npy": content})
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"is truncated or damaged \(.* declares .* follow\)"):
        load_arrays(path)


def test_texts_of_a_giant_width_are_refused(tmp_path):
    path = npz(tmp_path / "a.npz", {"ids.npy": npy_header((1,), "<U100000000") + bytes(100)})
    with pytest.raises(DataError, match="the array 'ids' declares 381 MiB"):
        load_arrays(path)


DEEP = "{'descr': '<f4', 'fortran_order': False, 'shape': " + "(" * 5000 + "}"


@pytest.mark.parametrize(
    "content",
    [
        b"\x93NUMPY\x01\x00",
        b"\x93NUMPY\x09\x00" + bytes(100),
        b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + b" " * 1000,
        b"\x93NUMPY\x01\x00" + len(DEEP).to_bytes(2, "little") + DEEP.encode(),
        b"\x93NUMPY\x01\x00\x0a\x00{'a': 1}\n\n",
        b"no array",
    ],
    ids=["cut", "version", "length", "deep", "keys", "text"],
)
def test_damaged_headers_are_refused(tmp_path, content):
    with pytest.raises(DataError, match=r"a\.npz is truncated or damaged|a\.npz: the array 'values' has the format"):
        load_arrays(npz(tmp_path / "a.npz", {"values.npy": content}))
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.npy is (truncated or damaged|not a NumPy)|a\.npy: its array has the format"):
        load_arrays(tmp_path / "a.npy")


def test_pickled_objects_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", values=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="holds pickled objects, which can run code"):
        load_arrays(tmp_path / "a.npz")


def test_repeated_and_damaged_members_are_refused(tmp_path):
    file = io.BytesIO()
    np.save(file, np.ones((2, 2)))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("values.npy", file.getvalue())
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("values.npy", file.getvalue())
    with pytest.raises(DataError, match="holds the array 'values' twice"):
        load_arrays(tmp_path / "a.npz")
    whole = npz(tmp_path / "b.npz", {"values.npy": file.getvalue()}).read_bytes()
    for position in range(0, len(whole), 7):
        broken = bytearray(whole)
        broken[position] ^= 0xFF
        (tmp_path / "b.npz").write_bytes(bytes(broken))
        with contextlib.suppress(DataError):  # nothing else may be raised
            load_arrays(tmp_path / "b.npz")
