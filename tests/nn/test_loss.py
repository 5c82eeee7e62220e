import math

import pytest
import torch

from gmmrec.nn import loss
from gmmrec.nn.loss import bpr, contrast_with_first, embedding_norm, expected_bpr, info_nce


def test_bpr_is_the_mean_over_all_pairs() -> None:
    positive, negative = torch.tensor([[2.0], [0.0]]), torch.tensor([[1.0, 2.0], [0.0, -3.0]])
    expected = sum(math.log(1 + math.exp(-difference)) for difference in (1, 0, 0, 3)) / 4
    assert float(bpr(positive, negative)) == pytest.approx(expected)


@pytest.mark.parametrize("variance", [0.0, 0.3, 2.0, 20.0])
def test_expected_bpr_approximates_the_mean_over_normal_scores(variance) -> None:
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    density = (-z.square() / 2).exp()
    for margin in (-3.0, 0.0, 1.0, 4.0):
        exact = (torch.nn.functional.softplus(z * variance**0.5 - margin) * density).sum() / density.sum()
        found = expected_bpr(torch.tensor(margin).double(), torch.tensor(variance).double())
        torch.testing.assert_close(found, exact, rtol=1e-9, atol=0.035 * variance**0.5)


def test_bpr_neither_overflows_nor_loses_its_gradient() -> None:
    positive = torch.tensor([[-500.0], [500.0]], requires_grad=True)
    value = bpr(positive, torch.tensor([[500.0], [-500.0]]))
    value.backward()
    assert float(value.detach()) == pytest.approx(500)  # (1000 + 0) / 2
    assert positive.grad is not None
    assert positive.grad.flatten().tolist() == pytest.approx([-0.5, 0])


def test_bpr_decreases_as_the_positive_rises() -> None:
    negative = torch.zeros(1, 1)
    assert float(bpr(torch.ones(1, 1), negative)) < float(bpr(torch.zeros(1, 1), negative))


def test_embedding_norm_is_half_the_squared_norm_per_batch_row() -> None:
    users, items = torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.ones(2, 3, 2)  # 14 and 12, for a batch of 2
    assert float(embedding_norm(users, items)) == (14 + 12) / 4


def test_embedding_norm_divides_by_the_rows_of_the_first_table() -> None:
    users, items = torch.tensor([[3.0, 4.0]]), torch.ones(5, 2)  # 25 and 10
    assert float(embedding_norm(users, items)) == (25 + 10) / 2
    assert float(embedding_norm(items, users)) == (25 + 10) / 10


def test_embedding_norm_pulls_towards_zero() -> None:
    users = torch.tensor([[1.0, -2.0], [3.0, 0.0]], requires_grad=True)
    embedding_norm(users).backward()
    assert users.grad is not None
    assert torch.equal(users.grad, users.detach() / 2)


def test_info_nce_with_counts_equals_that_of_repeated_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    count, repeats = torch.tensor([1, 4, 2]), torch.tensor([0, 1, 1, 1, 1, 2, 2])
    anchor = torch.randn(3, 5, generator=generator, dtype=torch.double, requires_grad=True)
    target = torch.randn(3, 5, generator=generator, dtype=torch.double, requires_grad=True)
    short, long = info_nce(anchor, target, 0.3, count), info_nce(anchor[repeats], target[repeats], 0.3)
    torch.testing.assert_close(short, long)
    cosine = torch.cosine_similarity(anchor[repeats][:, None], target[repeats][None], dim=-1) / 0.3
    torch.testing.assert_close(long, -cosine.log_softmax(1).diagonal().mean())
    for actual, expected in zip(
        torch.autograd.grad(short, (anchor, target)), torch.autograd.grad(long, (anchor, target)), strict=True
    ):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("block_cells", [1, 13, 10**6])
@pytest.mark.parametrize("temperature", [0.01, 0.2, 5.0])  # below 0.025 the row maximum is subtracted
def test_info_nce_and_its_gradients_equal_cross_entropy_on_cosines(temperature, block_cells, monkeypatch) -> None:
    monkeypatch.setitem(loss.BLOCK_CELLS, "cpu", block_cells)
    generator = torch.Generator().manual_seed(0)
    anchor, target = (torch.randn(6, 4, generator=generator, requires_grad=True) for _ in range(2))
    cosine = torch.cosine_similarity(anchor[:, None], target[None], dim=-1) / temperature
    slow, fast = torch.nn.functional.cross_entropy(cosine, torch.arange(6)), info_nce(anchor, target, temperature)
    torch.testing.assert_close(fast, slow)
    for actual, expected in zip(
        torch.autograd.grad(fast, (anchor, target)), torch.autograd.grad(slow, (anchor, target)), strict=True
    ):
        torch.testing.assert_close(actual, expected)


def test_info_nce_is_finite_for_opposite_vectors() -> None:
    anchor = torch.tensor([[1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    for temperature in (0.001, 0.025, 0.2):
        value = info_nce(anchor, -anchor.detach(), temperature)
        assert float(value.detach()) == pytest.approx(math.log(2), abs=1e-4)
        assert bool(torch.isfinite(torch.autograd.grad(value, anchor)[0]).all())


def test_info_nce_in_mixed_precision_equals_single_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    anchor, target = (torch.randn(6, 4, generator=generator).bfloat16().float() for _ in range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = info_nce(anchor.bfloat16(), target.bfloat16(), 0.2)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, info_nce(anchor, target, 0.2))


def test_views_are_contrasted_with_the_first_over_rows_with_both() -> None:
    generator = torch.Generator().manual_seed(0)
    views = [torch.randn(5, 3, generator=generator, dtype=torch.float64) for _ in range(3)]
    present = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]]).bool()
    expected = 0.0
    for column, rows in ((1, [0, 1, 4]), (2, [1, 3, 4])):
        x, y = (torch.nn.functional.normalize(views[c][rows]) for c in (0, column))
        for logits in (x @ y.T / 0.5, y @ x.T / 0.5):
            expected += float(-logits.log_softmax(1).diagonal().mean()) / 4
    assert float(contrast_with_first(views, present, 0.5)) == pytest.approx(expected)
    assert float(contrast_with_first(views, torch.zeros(5, 3).bool(), 0.5)) == 0
    assert float(contrast_with_first(views[:1], present[:, :1], 0.5)) == 0
