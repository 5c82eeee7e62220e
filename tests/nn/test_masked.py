import torch

from gmmrec.nn.masked import hide_missing, masked_mean, masked_moments, masked_softmax

MASK = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])


def test_softmax_over_present_entries_only() -> None:
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    with torch.no_grad():
        logits[0, 1] = torch.nan  # never read
    weights = masked_softmax(logits, MASK)
    expected = torch.zeros(3, 3, dtype=torch.float64)
    for row in (0, 2):
        expected[row, MASK[row]] = logits[row, MASK[row]].detach().double().softmax(0)
    torch.testing.assert_close(weights.double(), expected, rtol=1e-5, atol=1e-7)
    (gradient,) = torch.autograd.grad((weights * torch.arange(9.0).view(3, 3)).sum(), logits)
    assert bool(torch.isfinite(gradient).all())
    assert not bool(gradient[~MASK].any())


def test_mean_of_present_tokens() -> None:
    tokens = torch.arange(18.0).view(3, 3, 2).masked_fill(~MASK[..., None], torch.inf)
    expected = torch.stack([(tokens[0, 0] + tokens[0, 2]) / 2, torch.zeros(2), tokens[2].mean(0)])
    torch.testing.assert_close(masked_mean(tokens, MASK), expected)
    torch.testing.assert_close(masked_mean(tokens[2], None), tokens[2].mean(0))


def test_hidden_tokens_are_zeros_without_gradient() -> None:
    tokens = torch.full((3, 3, 2), torch.nan, requires_grad=True)
    assert not bool(hide_missing(tokens, MASK)[~MASK].any())
    assert hide_missing(tokens, None) is tokens


def test_moments_of_present_vectors() -> None:
    vectors = torch.randn(3, 3, 2, generator=torch.Generator().manual_seed(0)).masked_fill(~MASK[..., None], torch.nan)
    vectors[:, 1], mask = torch.nan, MASK & torch.tensor([True, False, True])  # the second is never present
    mean, covariance = masked_moments(vectors, mask)
    for m in (0, 2):
        present = vectors[mask[:, m], m]
        torch.testing.assert_close(mean[m], present.mean(0))
        torch.testing.assert_close(covariance[m], torch.cov(present.T, correction=0))
    assert not bool(mean[1].any() | covariance[1].any())
