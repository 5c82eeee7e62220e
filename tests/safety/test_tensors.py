"""Safetensors files of strangers."""

import json
import os
import struct

import pytest
import torch
from safetensors.torch import save_file

from gmmrec.errors import DataError
from gmmrec.safety import sizes
from gmmrec.safety.tensors import check_finite, check_tensor, header_json, read_tensors


def written(path, header, content=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + content)
    return path


HUGE = {"x": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}
HEADERS = {
    "not JSON": (b"{nothing", b"", None),
    "giant length": (b"{}", b"", 2**62),
    "giant tensor": (HUGE, bytes(16), None),
    "wrong offsets": ({"x": {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]}}, bytes(24), None),
    "wrong type": ({"x": {"dtype": "EVIL", "shape": [4], "data_offsets": [0, 16]}}, bytes(16), None),
    "negative": ({"x": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}}, bytes(16), None),
    "overflow": ({"x": {"dtype": "F32", "shape": [2**33, 2**33], "data_offsets": [0, 16]}}, bytes(16), None),
    "metadata": ({"__metadata__": {"a": 1}}, b"", None),
    "list": ([1], b"", None),
    "deep": (b'{"x":' + b"[" * 50_000, b"", None),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_hostile_headers_are_refused(tmp_path, kind):
    header, content, length = HEADERS[kind]
    path = written(tmp_path / "a.safetensors", header, content, length)
    with pytest.raises(DataError, match=r"a\.safetensors is damaged or not a saved model \(.*\); train it again") as caught:
        read_tensors(path, "a saved model", "train it again")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_types_that_gmmrec_never_writes_are_refused(tmp_path):
    save_file({"x": torch.zeros(2, dtype=torch.float8_e4m3fn)}, tmp_path / "a.safetensors")
    with pytest.raises(DataError, match=r"'x' is torch\.float8_e4m3fn, which gmmrec never writes"):
        read_tensors(tmp_path / "a.safetensors", "a graph", "write it again")


def test_a_sparse_file_larger_than_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sizes, "total_memory", lambda: 2**30)
    path = written(tmp_path / "a.safetensors", {"x": {"dtype": "F32", "shape": [2**29], "data_offsets": [0, 2**31]}})
    os.truncate(path, path.stat().st_size + 2**31)
    with pytest.raises(DataError, match="it has 2 GiB, but 1 GiB at most are read"):
        read_tensors(path, "a graph", "write it again")


def test_the_header_is_json_of_the_expected_kind(tmp_path):
    header = {"good": '{"a": 1}', "list": "[]", "deep": "[" * 100_000}
    assert header_json(header, "good", tmp_path, "again") == {"a": 1}
    for name, message in {"list": "expected an object", "deep": "nested too deeply", "none": "header has no 'none'"}.items():
        with pytest.raises(DataError, match=message):
            header_json(header, name, tmp_path, "again")


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (None, "'x' is missing"),
        (torch.zeros(2, 2, dtype=torch.long), r"has the shape \[2, 2\], expected \[3\]"),
        (torch.zeros(2, dtype=torch.long), r"has the shape \[2\], expected \[3\]"),
        (torch.zeros(3), "is torch.float32, expected torch.int64"),
        (torch.tensor([0, -1, 0]), "holds the row -1, but rows run from 0 to 4"),
        (torch.tensor([0, 5, 0]), "holds the row 5, but rows run from 0 to 4"),
    ],
)
def test_tensors_are_checked(tensor, message):
    check_tensor(torch.tensor([0, 4, 2]), "x", (3,), (torch.int64,), 0, 5)
    with pytest.raises(DataError, match=message):
        check_tensor(tensor, "x", (3,), (torch.int64,), 0, 5)


def test_numbers_are_finite():
    check_finite(torch.tensor([1.0]), "x")
    with pytest.raises(DataError, match="'x' holds NaN or infinity"):
        check_finite(torch.tensor([1.0, float("nan")]), "x")
