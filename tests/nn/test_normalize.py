import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from gmmrec.nn.normalize import unit_rows


def test_unit_rows_equal_those_of_torch():
    x = torch.randn(5, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(unit_rows(x), F.normalize(x, dim=-1), atol=1e-15)


def test_first_and_second_derivatives():
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert gradcheck(unit_rows, x)
    assert gradgradcheck(unit_rows, x)


def test_zero_row_stays_zero_and_gets_no_gradient():
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    unit = unit_rows(x)
    (unit * torch.tensor([1.0, 2.0])).sum().backward()
    assert unit[0].tolist() == [0.0, 0.0]
    assert x.grad[0].tolist() == [0.0, 0.0]
    assert float(x.grad[1].abs().min()) > 0
