import pytest
import torch

from gmmrec.nn import memory
from gmmrec.nn.memory import GIB, available_memory, check_memory


def test_available_memory_is_plausible() -> None:
    assert 2**20 < (available_memory() or 0) < 2**50


def test_memory_of_a_meta_device_is_unknown() -> None:
    assert available_memory(torch.device("meta")) is None
    check_memory(2**80, "a table", "wait", "meta")


def test_allocation_of_all_available_memory_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda device: 3 * GIB)
    check_memory(3 * GIB, "a table", "ask for less")
    with pytest.raises(ValueError, match=r"^a table needs 4.5 GiB of memory, but 3.0 GiB are available; ask for less$"):
        check_memory(9 * GIB // 2, "a table", "ask for less")
