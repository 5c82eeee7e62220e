import pytest
import torch
from torch import Tensor

from gmmrec.nn import additive
from gmmrec.nn.additive import additive_logits, rectified_logits


def summands(rows: int = 37, columns: int = 53, width: int = 6, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(width)
    return (
        scale * torch.randn(rows, width, generator=generator),
        scale * torch.randn(columns, width, generator=generator),
        torch.randn(width, generator=generator),
    )


def dense(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    return torch.tanh(x.double()[:, None] + y.double()) @ weight.double()


@pytest.mark.parametrize("scale", [0.01, 1.0, 2.5, 40.0])  # the last exceeds the range of the exponentials
@pytest.mark.parametrize("width", [1, 6, 7])
def test_logits_equal_the_plain_formula(width, scale) -> None:
    x, y, weight = summands(width=width, scale=scale)
    torch.testing.assert_close(additive_logits(x, y, weight).double(), dense(x, y, weight), rtol=0, atol=3e-6)


def test_opposite_summands_at_the_limit_do_not_cancel() -> None:
    x, weight = torch.tensor([[10.0, -10.0, 10.0, 9.5]]), torch.tensor([1.0, 2.0, 4.0, 8.0])
    for y in (-x, x, x.flip(1), torch.zeros_like(x)):
        torch.testing.assert_close(additive_logits(x, y, weight).double(), dense(x, y, weight), rtol=0, atol=1e-5)


def test_block_size_does_not_change_the_logits(monkeypatch) -> None:
    x, y, weight = summands()
    whole = additive_logits(x, y, weight)
    monkeypatch.setattr(additive, "_block", lambda x, y: (5, 7))
    torch.testing.assert_close(additive_logits(x, y, weight), whole)


def test_nan_propagates_and_empty_inputs_stay_empty() -> None:
    x, y, weight = summands()
    x[3, 2] = torch.nan
    assert additive_logits(x, y, weight).isnan().all(1).nonzero().flatten().tolist() == [3]
    assert additive_logits(x, y[:0], weight).shape == (37, 0)


@pytest.mark.parametrize("cells", [1, 200, 2**16])
def test_rectified_logits_equal_their_formula(cells, monkeypatch) -> None:
    monkeypatch.setattr(additive, "_cells", lambda x: cells)
    x, y, weight = summands()
    expected = (x.double()[:, None] + y.double()).clamp(min=0) @ weight.double()
    torch.testing.assert_close(rectified_logits(x, y, weight).double(), expected, rtol=0, atol=1e-5)
    assert rectified_logits(x, y[:0], weight).shape == (37, 0)
