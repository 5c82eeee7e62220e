import pytest
import torch
from torch import Tensor

from gmmrec.nn.closed_form import item_weights, ridge_inverse


def column_by_column(data: Tensor, reg: float, prior: Tensor) -> Tensor:
    """Solve the ridge regression of every column on the others, one at a time, towards ``prior``."""
    num_items = data.shape[1]
    weights = torch.zeros(num_items, num_items, dtype=data.dtype)
    for j in range(num_items):
        others = [i for i in range(num_items) if i != j]
        x, start = data[:, others], prior[others, j]
        left = x.T @ x + reg * torch.eye(len(others), dtype=data.dtype)
        weights[others, j] = torch.linalg.solve(left, x.T @ data[:, j] + reg * start)
    return weights


@pytest.fixture
def data() -> Tensor:
    return (torch.rand(30, 7, generator=torch.Generator().manual_seed(0)) < 0.4).double()


def test_columns_are_constrained_ridge_regressions(data: Tensor) -> None:
    weights = item_weights(data.T @ data, reg=3.0)
    assert not bool(weights.diagonal().any())
    torch.testing.assert_close(weights, column_by_column(data, 3.0, torch.zeros(7, 7, dtype=torch.float64)))


def test_with_a_prior_columns_are_ridge_regressions_towards_it(data: Tensor) -> None:
    prior = torch.randn(7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weights = item_weights(data.T @ data, reg=3.0, prior=prior.clone())
    assert not bool(weights.diagonal().any())
    torch.testing.assert_close(weights, column_by_column(data, 3.0, prior))


def test_simplified_formula_with_a_prior_equals_the_full_one(data: Tensor) -> None:
    gram, reg = data.T @ data, 3.0
    prior = torch.randn(7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    inverse = torch.linalg.inv(gram + reg * torch.eye(7, dtype=torch.float64))
    full = inverse @ (gram + reg * prior)
    full = full - inverse * (full.diagonal() / inverse.diagonal())
    torch.testing.assert_close(item_weights(gram, reg, prior=prior), full)


def test_zero_prior_equals_no_prior(data: Tensor) -> None:
    zeros = torch.zeros(7, 7, dtype=torch.float64)
    torch.testing.assert_close(item_weights(data.T @ data, 3.0, prior=zeros), item_weights(data.T @ data, 3.0))


def test_strong_regularisation_yields_the_prior_without_its_diagonal(data: Tensor) -> None:
    prior = torch.randn(7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = prior.clone().fill_diagonal_(0.0)
    torch.testing.assert_close(item_weights(data.T @ data, 1e9, prior=prior), expected, atol=1e-6, rtol=0)


def test_float32_agrees_with_float64(data: Tensor) -> None:
    single = item_weights((data.T @ data).float(), 3.0)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), item_weights(data.T @ data, 3.0), atol=1e-6, rtol=1e-5)


def test_ridge_inverse_is_the_inverse(data: Tensor) -> None:
    gram = data.T @ data
    product = ridge_inverse(gram.clone(), 3.0) @ (gram + 3 * torch.eye(7, dtype=torch.float64))
    torch.testing.assert_close(product, torch.eye(7, dtype=torch.float64))


def test_singular_matrix_is_rejected() -> None:
    with pytest.raises(ValueError, match="1e-09 is too small"):
        item_weights(torch.ones(40, 40), 1e-9)
