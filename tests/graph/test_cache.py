import logging

import pytest
import torch
from safetensors.torch import load_file, save_file

from gmmrec.graph.cache import cached_edges, content_key, default_folder

EDGES = torch.tensor([[1, 0], [0, 1]]), torch.tensor([0.5, 0.25])


class Builder:
    """Edge builder that counts its calls."""

    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1
        return EDGES


def fetch(folder, work, values=None, **settings):
    values = torch.arange(6.0).view(3, 2) if values is None else values
    found = cached_edges(folder, "knn", {"values": values}, {"k": 2, **settings}, work)
    assert all(torch.equal(a, b) for a, b in zip(found, EDGES, strict=True))


def test_edges_are_computed_once_and_then_read(tmp_path):
    work = Builder()
    for _ in range(3):
        fetch(tmp_path / "new", work)
    assert work.count == 1
    assert len(list((tmp_path / "new").iterdir())) == 1  # no temporary file is left


def test_without_a_folder_nothing_is_cached(tmp_path):
    work = Builder()
    fetch(None, work)
    fetch(None, work)
    assert work.count == 2


def test_different_inputs_have_different_keys(tmp_path):
    values = torch.arange(6.0).view(3, 2)
    variants = [
        (values, {}),
        (values.index_put((torch.tensor(2), torch.tensor(1)), torch.tensor(5.0001)), {}),
        (values.view(2, 3), {}),
        (values.double(), {}),
        (values, {"k": 3}),
        (values, {"weighting": "cosine"}),
    ]
    work = Builder()
    for changed, settings in variants:
        fetch(tmp_path, work, changed, **settings)
    assert work.count == len(variants) == len(list(tmp_path.iterdir()))
    mask = torch.tensor([True, False])
    assert content_key({"mask": mask}, {}) != content_key({"mask": ~mask}, {})
    assert content_key({"a": mask}, {}) != content_key({"b": mask}, {})


@pytest.mark.parametrize("damage", ["cut", "garbage", "other edges", "flipped", "empty"])
def test_damaged_file_is_recomputed_and_replaced(tmp_path, damage, caplog):
    work = Builder()
    fetch(tmp_path, work)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    if damage == "other edges":
        tensors = load_file(path)
        save_file({**tensors, "weight": tensors["weight"] + 1}, path)
    else:
        path.write_bytes(
            {"cut": content[:-7], "garbage": b"x" * 100, "flipped": content[:-1] + bytes([content[-1] ^ 1]), "empty": b""}[damage]
        )
    with caplog.at_level(logging.WARNING):
        fetch(tmp_path, work)
    assert work.count == 2
    assert "recomputing it" in caplog.text
    fetch(tmp_path, work)
    assert work.count == 2


def test_file_under_a_wrong_name_is_not_used(tmp_path):
    work = Builder()
    fetch(tmp_path, work)
    (first,) = tmp_path.iterdir()
    fetch(tmp_path, work, k=3)
    (second,) = set(tmp_path.iterdir()) - {first}
    first.replace(second)
    fetch(tmp_path, work, k=3)
    assert work.count == 3


def test_default_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "gmmrec"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "gmmrec"
