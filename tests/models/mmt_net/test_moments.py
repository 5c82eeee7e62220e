import pytest
import torch

from gmmrec.models.mmt_net.moments import RunningMoments


def test_batches_have_equal_weights_until_they_decay() -> None:
    moments = RunningMoments(2, momentum=0.25)
    batches = [torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(n)) + n for n in range(6)]
    for batch in batches[:4]:
        moments.update(batch)
    whole = torch.cat(batches[:4]).flatten(0, 1)
    torch.testing.assert_close(moments.mean, whole.mean(0))
    torch.testing.assert_close(moments.std, whole.std(0, correction=0))
    for batch in batches[4:]:
        before = moments.mean.clone()
        moments.update(batch)
        torch.testing.assert_close(moments.mean, 0.75 * before + 0.25 * batch.mean((0, 1)))


def test_distance_is_zero_for_equal_moments_and_has_correct_gradients() -> None:
    moments, x = RunningMoments(3).double(), torch.randn(8, 3, dtype=torch.float64)
    moments.update(x)
    torch.testing.assert_close(moments.distance(x[torch.randperm(8)]), torch.zeros((), dtype=torch.float64))
    other = (2 * torch.randn(4, 3, dtype=torch.float64)).requires_grad_()
    expected = (other.mean(0) - x.mean(0)).square().sum() + (other.std(0, correction=0) - x.std(0, correction=0)).square().sum()
    torch.testing.assert_close(moments.distance(other), expected)
    assert torch.autograd.gradcheck(moments.distance, other)


def test_constant_columns_have_finite_gradients() -> None:
    moments, x = RunningMoments(2), torch.zeros(4, 2, requires_grad=True)
    moments.update(torch.ones(4, 2))
    moments.distance(x).backward()
    assert bool(torch.isfinite(x.grad).all())


def test_moments_are_saved_with_the_weights() -> None:
    moments, other = RunningMoments(2), RunningMoments(2)
    assert moments.is_empty
    moments.update(torch.tensor([[1.0, 2.0], [5.0, 2.0]]))
    other.load_state_dict(moments.state_dict())
    assert not other.is_empty
    assert other.mean.tolist() == [3.0, 2.0]
    assert other.std.tolist() == pytest.approx([2.0, 0.0], abs=1e-3)
    assert list(moments.parameters()) == []
