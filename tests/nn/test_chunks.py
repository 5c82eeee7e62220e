import pytest
import torch

from gmmrec.nn.chunks import in_chunks


@pytest.mark.parametrize("step", [0, 1, 3, 7, 100])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_chunks_are_concatenated_in_order(count, step) -> None:
    values, sizes = torch.arange(2.0 * count).view(2, count), []

    def score(part: slice) -> torch.Tensor:
        sizes.append(part.stop - part.start)
        return values[:, part]

    with torch.no_grad():
        assert torch.equal(in_chunks(score, count, step), values)
    assert max(sizes) <= max(1, step)


def test_chunks_are_recomputed_in_the_backward_pass() -> None:
    x, calls = torch.randn(2, 6, requires_grad=True), []

    def score(part: slice) -> torch.Tensor:
        calls.append(part)
        return x[:, part].exp()

    in_chunks(score, 6, 6).sum().backward()
    assert len(calls) == 1  # a single chunk is kept
    whole, x.grad = x.grad, None
    in_chunks(score, 6, 2).sum().backward()
    assert len(calls) == 1 + 3 + 3
    assert torch.equal(x.grad, whole)
