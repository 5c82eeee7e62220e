import pytest
import torch

from gmmrec.data.interactions import Interactions

LOG = Interactions(torch.tensor([0, 2, 1]), torch.tensor([5, 4, 3]), time=torch.tensor([30, 10, 20]))


def test_columns_are_those_that_are_present() -> None:
    assert list(LOG.columns()) == ["user", "item", "time"]
    assert len(LOG) == 3


@pytest.mark.parametrize("index", [torch.tensor([2, 0]), torch.tensor([True, False, True])], ids=["positions", "mask"])
def test_take_keeps_rows_together(index: torch.Tensor) -> None:
    rows = set(zip(*(column.tolist() for column in LOG.take(index).columns().values()), strict=True))
    assert rows == {(1, 3, 20), (0, 5, 30)}


def test_positions_may_reorder_and_repeat() -> None:
    assert LOG.take(torch.tensor([2, 2, 0])).item.tolist() == [3, 3, 5]


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"column 'weight' has \(2,\) values, but 'user' has \(1,\)"):
        Interactions(torch.tensor([0]), torch.tensor([0]), weight=torch.ones(2))


@pytest.mark.parametrize(("user", "item"), [(-1, 0), (0, -1)])
def test_negative_rows_are_refused(user: int, item: int) -> None:
    with pytest.raises(ValueError, match="negative row; look unknown ids up with Vocabulary"):
        Interactions(torch.tensor([user]), torch.tensor([item]))


def test_an_empty_log_is_valid() -> None:
    nothing = LOG.take(torch.arange(0))
    assert len(nothing) == 0
    assert nothing.time is not None
