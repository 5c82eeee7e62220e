import torch

from gmmrec.models.mmt_net.standardize import Standardize


def test_present_rows_get_mean_0_and_deviation_1() -> None:
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 10.0, 0.1]) + 5
    mask = torch.arange(50) % 3 > 0
    standardize = Standardize(3)
    standardize.fit(x.masked_fill(~mask[:, None], 1000.0), mask)
    actual = standardize(x[mask])
    torch.testing.assert_close(actual.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(actual.std(0, correction=0), torch.ones(3))


def test_empty_fit_changes_nothing_and_constants_become_zero() -> None:
    standardize = Standardize(2)
    standardize.fit(torch.full((4, 2), 9.0), torch.zeros(4, dtype=torch.bool))
    assert torch.equal(standardize(torch.ones(1, 2)), torch.ones(1, 2))
    standardize.fit(torch.full((4, 2), 0.1))
    torch.testing.assert_close(standardize(torch.tensor([[0.1, 2.1]])), torch.tensor([[0.0, 2.0]]))
