"""The torch-scatter backend has the values and gradients of torch's kernels; ``make test-scatter`` requires it."""

import pytest
import torch

from gmmrec.nn.segment import segment_max, segment_softmax, segment_sum

pytest.importorskip("torch_scatter", reason="torch-scatter is not installed; make scatter builds it")

FUNCTIONS = [segment_sum, segment_max, segment_softmax]


def segments(dtype: torch.dtype, width: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return integer values with some tied maxima; the first, an inner and the last segment are empty."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(1, 9, (40,), generator=generator)
    sizes[[0, 17, 39]] = 0
    indptr = torch.cat([torch.zeros(1, dtype=torch.long), sizes.cumsum(0)])
    return torch.randint(-4, 5, (int(indptr[-1]), *width), generator=generator).to(dtype), indptr


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [(), (3,)])
@pytest.mark.parametrize("index_dtype", [torch.int32, torch.int64])
def test_backends_agree_on_values_and_gradients(function, dtype, width, index_dtype):
    values, indptr = segments(dtype, width)
    indptr = indptr.to(index_dtype)
    found, gradients = {}, {}
    for backend in ("torch", "scatter"):
        leaf = values.clone().requires_grad_()
        out = function(leaf, indptr, backend=backend)
        finite = out[torch.isfinite(out)]  # the maximum of an empty segment is minus infinity
        (finite * torch.linspace(1, 2, finite.numel(), dtype=dtype)).sum().backward()
        found[backend], gradients[backend] = out.detach(), leaf.grad
    torch.testing.assert_close(found["scatter"], found["torch"])
    torch.testing.assert_close(gradients["scatter"], gradients["torch"])
    assert gradients["torch"].abs().sum() > 0


@pytest.mark.parametrize("function", [segment_sum, segment_softmax])
def test_gradients_are_the_derivative(function):
    values, indptr = segments(torch.float64, ())
    assert torch.autograd.gradcheck(lambda x: function(x, indptr, backend="scatter"), values.requires_grad_())
