import pytest
import torch
from torch.nn import functional as F

from gmmrec.nn import project
from gmmrec.nn.project import project_rows


@pytest.fixture(params=[1, 100, 10**6], ids="blocks of {} bytes".format)
def _block_bytes(request, monkeypatch):
    monkeypatch.setitem(project.BLOCK_BYTES, "cpu", request.param)


@pytest.mark.usefixtures("_block_bytes")
@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize("has_bias", [True, False])
def test_projection_and_gradients_equal_the_plain_formula(count, has_bias):
    generator = torch.Generator().manual_seed(0)
    table, rows = torch.randn(5, 6, generator=generator), torch.randint(5, (count,), generator=generator)
    upstream = torch.randn(count, 3, generator=generator)
    results = []
    for function in (project_rows, lambda table, rows, weight, bias: F.linear(table[rows], weight, bias)):
        weight = torch.ones(3, 6, requires_grad=True)
        bias = torch.ones(3, requires_grad=True) if has_bias else None
        out = function(table, rows, weight, bias)
        out.backward(upstream)
        results.append([out.detach(), weight.grad] + ([bias.grad] if has_bias else []))
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.usefixtures("_block_bytes")
def test_no_rows_means_all_rows():
    generator = torch.Generator().manual_seed(0)
    table, upstream = torch.randn(5, 6, generator=generator), torch.randn(5, 3, generator=generator)
    results = []
    for function in (lambda w, b: project_rows(table, None, w, b), lambda w, b: F.linear(table, w, b)):
        weight, bias = torch.ones(3, 6, requires_grad=True), torch.ones(3, requires_grad=True)
        out = function(weight, bias)
        out.backward(upstream)
        results.append([out.detach(), weight.grad, bias.grad])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.usefixtures("_block_bytes")
def test_gradients_equal_finite_differences():
    generator = torch.Generator().manual_seed(0)
    table, rows = torch.randn(4, 5, generator=generator, dtype=torch.double), torch.tensor([3, 0, 3])
    weight = torch.randn(2, 5, generator=generator, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: project_rows(table, rows, w), weight)


def test_table_that_requires_a_gradient_gets_one():
    table = torch.ones(3, 2, requires_grad=True)
    project_rows(table, torch.tensor([2, 2]), torch.tensor([[1.0, 5.0]])).sum().backward()
    assert table.grad.tolist() == [[0, 0], [0, 0], [2, 10]]


def test_mixed_precision_is_disabled():
    table, weight = torch.ones(3, 2), torch.ones(1, 2, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = project_rows(table, torch.tensor([0, 1]), weight.to(torch.bfloat16))
    out.sum().backward()
    assert out.dtype == torch.float32
    assert weight.grad.tolist() == [[2, 2]]


def test_gathered_rows_are_not_saved():
    table, rows = torch.ones(4, 2), torch.zeros(1000, dtype=torch.long)
    out = project_rows(table, rows, torch.ones(1, 2, requires_grad=True))
    assert {tuple(t.shape) for t in out.grad_fn.saved_tensors} == {(4, 2), (1000,), (1, 2)}
