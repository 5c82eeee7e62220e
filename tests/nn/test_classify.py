import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gmmrec.nn import classify as module
from gmmrec.nn.classify import classify

N, V, D = 9, 7, 4


def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = (N, D), (V, D), (V,)
    x, weight, bias = (torch.randn(shape, generator=generator).double().requires_grad_() for shape in shapes)
    return x, weight, bias, torch.randint(V, (N,), generator=generator)


@pytest.mark.parametrize("block", [1, 4, 2**9])
def test_equals_the_plain_formula_in_values_and_gradients(block, monkeypatch) -> None:
    monkeypatch.setitem(module.BLOCK, "cpu", block)
    x, weight, bias, target = inputs()
    found, expected = classify(x, weight, bias, target), F.cross_entropy(F.linear(x, weight, bias), target, reduction="none")
    torch.testing.assert_close(found, expected)
    factor = torch.randn(N, generator=torch.Generator().manual_seed(1)).double()
    grads = torch.autograd.grad((found * factor).sum(), (x, weight, bias))
    for actual, reference in zip(grads, torch.autograd.grad((expected * factor).sum(), (x, weight, bias)), strict=True):
        assert bool(actual.any())
        torch.testing.assert_close(actual, reference)


def test_large_logits_do_not_overflow() -> None:
    x, weight = torch.full((1, 1), 1e3, requires_grad=True), torch.tensor([[1.0], [-1.0]])
    found = classify(x, weight, torch.zeros(2), torch.tensor([1]))
    found.sum().backward()
    assert found.item() == 2000
    assert x.grad.item() == 2


def test_no_rows_have_no_loss() -> None:
    x, weight, bias, target = inputs()
    found = classify(x[:0], weight, bias, target[:0])
    found.sum().backward()
    assert found.shape == (0,)
    assert not bool(weight.grad.any())


def test_half_precision_is_computed_in_single_precision() -> None:
    x, weight, bias, target = (t.detach().float() if t.is_floating_point() else t for t in inputs())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = classify(x.bfloat16(), weight, bias, target)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, classify(x.bfloat16().float(), weight, bias, target))
