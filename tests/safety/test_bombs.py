"""Every kind of bomb is refused by the readers before it takes memory, in a process whose peak is measured."""

import os
import resource
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from gmmrec.cli.main import main
from gmmrec.data import write
from gmmrec.data.dataset import Dataset
from gmmrec.data.encode.images import BROKEN, find_pictures, open_picture
from gmmrec.data.features import FeatureTable
from gmmrec.data.interactions import Interactions
from gmmrec.data.load import load_dataset
from gmmrec.data.tokens import TokenNames, read_maps, read_tokens
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.errors import DataError
from gmmrec.safety import arrays
from tests.safety.bombs import gzip_bomb, npy_header, npz, zeros_npz

LOG = "user,item\na,1\nb,2\na,2\nb,1\n"
READ = """
import resource, sys
from pathlib import Path
from gmmrec.data.load import load_dataset
from gmmrec.errors import UsageError
load_dataset(Path(sys.argv[1]) / "plain")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for folder in sorted(Path(sys.argv[1]).iterdir()):
    try:
        load_dataset(folder)
    except UsageError as error:
        print(folder.name, str(error).replace("\\n", "NEWLINE"), sep="\\t")
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, sep="\\t")
"""


def folder_of(root: Path, name: str, log: bool = True) -> Path:
    folder = root / name
    folder.mkdir()
    if log:
        (folder / "interactions.csv").write_text(LOG)
    return folder


def test_bombs_are_refused_within_little_memory(tmp_path):
    folder_of(tmp_path, "plain")
    gzip_bomb(folder_of(tmp_path, "gzip table", log=False) / "interactions.csv.gz", line=b"1,1\n")
    gzip_bomb(folder_of(tmp_path, "gzip lists", log=False) / "sequences.txt.gz", b"", b"1 2 3 4 5 6 7 8 9 10\n")
    gzip_bomb(folder_of(tmp_path, "gzip header", log=False) / "interactions.csv.gz", b"user,item", b",")
    (folder_of(tmp_path, "plain header", log=False) / "interactions.csv").write_text("user,item" + "," * 200_000 + "\n1,2\n")
    zeros_npz(folder_of(tmp_path, "zip of zeros") / "image_feat.npz", 300)
    (folder_of(tmp_path, "npy header") / "image_feat.npy").write_bytes(npy_header((10**9, 4096)) + bytes(64))
    npz(folder_of(tmp_path, "npz header") / "image_feat.npz", {"values.npy": npy_header((10**9, 4096)) + bytes(64)})
    wide = np.zeros((2, 2**24), np.float16)
    wide[:, 0] = 1
    np.savez_compressed(folder_of(tmp_path, "wide rows") / "image_feat.npz", ids=[1, 2], values=wide)
    (tmp_path / "wide rows" / "items.csv").write_text("item\n" + "".join(f"{row}\n" for row in range(1, 100_000)))
    done = subprocess.run([sys.executable, "-c", READ, str(tmp_path)], capture_output=True, text=True, check=True)
    found = dict(line.split("\t") for line in done.stdout.splitlines())
    peak = int(found.pop("peak")) // (2**20 if sys.platform == "darwin" else 2**10)
    assert set(found) == {path.name for path in tmp_path.iterdir()} - {"plain"}, found
    assert not any("NEWLINE" in message for message in found.values())
    assert peak < 700, f"the peak rose by {peak} MiB"


def test_an_array_named_like_a_path_writes_nowhere_else(tmp_path, capsys):
    data, out = folder_of(tmp_path, "data"), tmp_path / "deep" / "out"
    np.savez(data / "image_feat.npz", **{"ids": [1, 2], "../../evil": np.ones((2, 3), np.float32)})
    for layout in ("folder", "mmrec", "atomic"):
        assert main(["data", "convert", "-d", str(data), "--to", layout, "--out", str(out)]) == 2
        message = capsys.readouterr().err
        if layout != "mmrec":  # which needs a split first
            assert "the modality '../../evil' cannot be part of a file name, since it holds '/'" in message
    assert not list(tmp_path.rglob("*evil*"))
    assert not out.exists()


def test_a_field_of_a_megabyte_is_read_and_never_shown_whole(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(f"user,item,rating\na,1,{'9' * 2**20}x\nb,2,3\n")
    with pytest.raises(DataError, match=r"log\.csv (line 2|row 0) has '9+'… in column 'rating'") as caught:
        load_dataset(path)
    assert len(str(caught.value)) < 500


def test_a_picture_bomb_and_other_formats_are_refused(tmp_path):
    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    for side in (8_000, 60_000):
        size = side.to_bytes(4, "big") * 2
        header = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + b"\x08\x02\x00\x00\x00")
        (tmp_path / "bomb.png").write_bytes(header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))
        with pytest.raises(DataError, match=r"bomb\.png is refused"):
            open_picture(tmp_path / "bomb.png")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) print\n"
    (tmp_path / "evil.jpg").write_bytes(postscript)
    with pytest.raises(BROKEN, match="cannot identify image file"):  # Pillow would start Ghostscript
        open_picture(tmp_path / "evil.jpg")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18


def test_names_of_pictures_from_tables_never_become_paths(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for path in (pictures / "a.png", tmp_path / "secret.png"):
        path.write_bytes(b"")
    names = ["a", "../secret", "../secret.png", str(tmp_path / "secret.png"), "..", "\x00", "/etc/passwd", "a/../../secret"]
    assert find_pictures(pictures, names) == [pictures / "a.png", *[None] * 7]


def test_mostly_empty_arrays_are_written_so_that_they_are_read(tmp_path, monkeypatch):
    for module in (arrays, write):
        monkeypatch.setattr(module, "NUMBERS", 2**20)
    values = torch.zeros(9, 200_000)
    values[:, 0] = 1
    row = torch.arange(9)
    ids = [*range(9)]
    vocabularies = {"user": Vocabulary(ids, name="user"), "item": Vocabulary(ids)}
    dataset = Dataset("sparse", vocabularies, Interactions(row, row), {"kind": FeatureTable("kind", values)})
    read = load_dataset(write.write_folder(dataset, tmp_path / "out"))
    assert torch.equal(read.features["kind"].values, values)


def test_documents_beside_features_are_bounded(tmp_path):
    (tmp_path / "image.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="nested too deeply"):
        read_tokens(tmp_path / "image_feat.npz", 3)
    assert TokenNames("grid", size=10**9).labels("a", 2) == ["row 1, column 1", "row 1, column 2"]
    np.savez(tmp_path / "image_maps.npz", ids=[1], maps=np.ones((1, 3, 2, 2), np.float16), boxes=np.ones((2, 3, 4), np.uint8))
    with pytest.raises(ValueError, match=r"must hold 'ids' \[N\], 'maps' \[N, T, H, W\] and 'boxes' \[N, T, 4\], but holds"):
        read_maps(tmp_path / "image_maps.npz", 1, 3)


def test_terminals_are_not_steered(tmp_path, capsys):
    data = folder_of(tmp_path, "data \x1b]0;evil\x07")
    (data / "items.csv").write_text("item,title\x1b[2J\n1,a\n2,b\n")
    assert main(["data", "describe", "-d", str(data)]) == 0
    assert main(["data", "describe", "-d", str(data), "--title-column", "\x1b[2J"]) == 2
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
    assert "title\ufffd[2J" in shown.out


def test_pipes_in_data_folders_are_not_waited_for(tmp_path):
    for name in ("interactions.csv", "image_feat.npz", "image_feat.npy", "log.inter"):
        folder = folder_of(tmp_path, name)
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        with pytest.raises(DataError, match=r"is no ordinary file|holds no interactions\.csv"):
            load_dataset(folder)
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="is no ordinary file"):
        open_picture(tmp_path / "a.jpg")
