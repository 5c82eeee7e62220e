import sys

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from gmmrec.nn.segment import segment_max, segment_softmax, segment_sum

SIZES = [0, 3, 1, 0, 4, 0]
INDPTR = torch.tensor([0, 0, 3, 4, 4, 8, 8])
INDEX = torch.repeat_interleave(torch.arange(6), torch.tensor(SIZES))


@pytest.fixture(params=["torch", "scatter"])
def backend(request):
    if request.param == "scatter":
        pytest.importorskip("torch_scatter")
    return request.param


def draw(*shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


def one_by_one(values, function, empty):
    """Apply a function to every segment by slicing."""
    return torch.stack(
        [function(part) if len(part) else torch.full(part.shape[1:], empty).to(part) for part in values.split(SIZES)]
    )


@pytest.mark.parametrize("shape", [(8,), (8, 3)])
@pytest.mark.parametrize("index", [None, INDEX])
@pytest.mark.parametrize("indptr", [INDPTR, INDPTR.int()])
def test_results_equal_those_of_each_segment(shape, index, indptr, backend):
    values = draw(*shape)
    assert torch.allclose(segment_sum(values, indptr, index, backend=backend), one_by_one(values, lambda v: v.sum(0), 0.0))
    assert torch.equal(segment_max(values, indptr, index, backend=backend), one_by_one(values, lambda v: v.amax(0), -torch.inf))
    softmax = torch.cat([part.softmax(0) for part in values.split(SIZES)])
    assert torch.allclose(segment_softmax(values, indptr, index, backend=backend), softmax)


@pytest.mark.parametrize("shape", [(8,), (8, 3)])
@pytest.mark.parametrize("function", [segment_sum, segment_softmax])
def test_first_and_second_derivatives(function, shape, backend):
    values = draw(*shape).requires_grad_()
    assert gradcheck(lambda v: function(v, INDPTR, backend=backend), values)
    assert gradgradcheck(lambda v: function(v, INDPTR, backend=backend), values)


def test_derivative_of_the_maximum(backend):
    values = draw(8).requires_grad_()
    assert gradcheck(lambda v: segment_max(v, INDPTR, backend=backend)[[1, 2, 4]], values)


def test_equal_maxima_share_the_gradient(backend):
    values = torch.tensor([5.0, 1.0, 5.0, 2.0], requires_grad=True)
    segment_max(values, torch.tensor([0, 3, 4]), backend=backend).backward(torch.tensor([1.0, 10.0]))
    assert values.grad.tolist() == [0.5, 0.0, 0.5, 10.0]


def test_softmax_neither_overflows_nor_underflows(backend):
    values = torch.tensor([3e38, 3e38, -3e38, -3e38, 0.0, 1e4, -1e4], requires_grad=True)
    softmax = segment_softmax(values, torch.tensor([0, 2, 4, 7]), backend=backend)
    assert softmax.tolist() == [0.5, 0.5, 0.5, 0.5, 0.0, 1.0, 0.0]
    (softmax * torch.arange(7.0)).sum().backward()
    assert torch.isfinite(values.grad).all()


@pytest.mark.parametrize("indptr", [[0], [0, 0, 0]])
def test_no_values(indptr, backend):
    indptr, nothing = torch.tensor(indptr), torch.empty(0)
    assert segment_sum(nothing, indptr, backend=backend).tolist() == [0.0] * (len(indptr) - 1)
    assert segment_max(nothing, indptr, backend=backend).tolist() == [-torch.inf] * (len(indptr) - 1)
    assert segment_softmax(nothing, indptr, backend=backend).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dtype_is_preserved(dtype, backend):
    values = draw(8, dtype=torch.float64).to(dtype)
    for function in (segment_sum, segment_max, segment_softmax):
        assert function(values, INDPTR, backend=backend).dtype == dtype


def test_missing_torch_scatter_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_scatter", None)
    with pytest.raises(ImportError, match="--no-build-isolation"):
        segment_sum(draw(8), INDPTR, backend="scatter")
    assert torch.equal(segment_sum(draw(8), INDPTR), segment_sum(draw(8), INDPTR, backend="torch"))  # auto works without it
