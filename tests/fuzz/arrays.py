"""Files of arrays: NumPy and safetensors, right and wrong."""

import io
import json
import struct
import zipfile

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save

DTYPES = ("float32", "float64", "float16", "int64", "int8", "uint8", "bool", "complex64", "U4", "S4", "M8[s]", "object")
NAMES = ("values", "ids", "mask", "item", "asin", "image", "feat", "../../evil", "/evil", "a/b", "é", "", "x" * 300, "title")


def npy(array: NDArray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def npz(arrays: dict[str, NDArray]) -> bytes:
    """Return an archive; unlike ``numpy.savez``, it takes any name."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), npy(array))
    return file.getvalue()


@st.composite
def arrays(draw: st.DrawFn, rows: int) -> NDArray:
    """Arrays of odd shapes, types and values."""
    shape = draw(
        st.sampled_from(((rows, 2), (rows, 1), (rows, 0), (rows, 2, 3), (rows, 0, 2), (rows,), (), (0, 2), (rows + 1, 2)))
        | st.just((rows, 1, 2, 1))
    )
    dtype = draw(st.sampled_from(DTYPES))
    count = int(np.prod(shape))
    array = np.arange(1, count + 1).astype("int64").reshape(shape).astype(dtype)
    if array.dtype.kind == "f" and count:
        flat = array.reshape(-1)
        odd = draw(st.sampled_from((np.nan, np.inf, -np.inf, 0.0, 1e39, 1e-40)))
        with np.errstate(over="ignore"):
            flat[slice(None) if draw(st.booleans()) else draw(st.integers(0, count - 1))] = odd
    if draw(st.booleans()) and array.ndim > 1:
        array = np.asfortranarray(array)
    return array.astype(array.dtype.newbyteorder(">")) if draw(st.integers(0, 9)) == 0 else array


@st.composite
def archives(draw: st.DrawFn, rows: int) -> bytes:
    """Archives of arrays with odd names, ids and masks."""
    found = {draw(st.sampled_from(NAMES)): draw(arrays(rows)) for _ in range(draw(st.integers(0, 2)))}
    if draw(st.booleans()):
        ids = np.array(draw(st.lists(st.integers(-1, rows + 1), min_size=0, max_size=rows + 1)), dtype=np.int64)
        found["ids"] = ids.astype(draw(st.sampled_from(("int64", "U4", "float32", "uint64", "object", "S3", "int8"))))
    if draw(st.booleans()):
        found["mask"] = np.ones(
            draw(st.sampled_from(((rows,), (rows, 2), (0,), ()))), dtype=draw(st.sampled_from(("bool", "int8")))
        )
    return npz(found)


@st.composite
def damaged_headers(draw: st.DrawFn, content: bytes) -> bytes:
    """Change the header of a safetensors file: lengths, types, shapes, offsets and texts."""
    if len(content) < 9:
        return content
    (length,) = struct.unpack("<Q", content[:8])
    header, body = content[8 : 8 + length], content[8 + length :]
    kind = draw(st.integers(0, 4))
    if kind == 0:
        return struct.pack("<Q", draw(st.sampled_from((0, 1, length - 1, length + 1, 2**31, 2**63, 2**64 - 1)))) + header + body
    try:
        entries = json.loads(header)
    except ValueError:  # damaged before
        return content[: draw(st.integers(0, len(content)))]
    name = draw(st.sampled_from(sorted(entries)))
    if kind == 1:
        del entries[name]
    elif kind == 2:
        entries[draw(st.sampled_from(("x", "../../evil", "", "__metadata__", "graph.x")))] = entries.pop(name)
    elif name == "__metadata__":
        key = draw(st.sampled_from(sorted(entries[name]) or [""]))
        entries[name][key] = draw(st.sampled_from(("", "{}", "[]", "null", "1", "x", '{"a": 1}', '"' * 9, "[" * 3000, "1e999")))
    elif kind == 3:
        shape = draw(st.sampled_from(([], [0], [-1], [1], [2**62], [2**32, 2**32], [10**30], ["1"], None)))
        entries[name]["shape"] = shape
    else:
        key = draw(st.sampled_from(("dtype", "data_offsets")))
        odd = {
            "dtype": ("F16", "BOOL", "I8", "F64", "Q", "", None),
            "data_offsets": ([0, 0], [8, 0], [0, 2**62], [-1, 1], [], None),
        }
        entries[name][key] = draw(st.sampled_from(odd[key]))
    changed = json.dumps(entries).encode()
    return struct.pack("<Q", len(changed)) + changed + body


def tensors(**values: NDArray) -> bytes:
    return save(values)
