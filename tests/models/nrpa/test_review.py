import pytest
import torch
from torch.nn import functional as F

from gmmrec.models.nrpa.review import ReviewEncoder

V, W, D = 30, 5, 7


def build(window: int = 3) -> tuple[ReviewEncoder, torch.Tensor]:
    torch.manual_seed(0)
    encoder = ReviewEncoder(W, D, window).double()
    with torch.no_grad():
        encoder.bias.normal_()
    return encoder, torch.randn(V - 1, W, dtype=torch.float64)


@pytest.mark.parametrize("window", [1, 3, 5])
@pytest.mark.parametrize("num_texts", [2, 40])  # fewer words than the table has, and more
def test_matches_the_convolution_of_pytorch(window, num_texts):
    encoder, table = build(window)
    tokens = torch.randint(V, (num_texts, 6), generator=torch.Generator().manual_seed(1), dtype=torch.int32)
    vectors = F.pad(table, (0, 0, 1, 0))[tokens.long()]  # [n, T, W], zeros for padding
    expected = F.conv1d(vectors.transpose(1, 2), encoder.weight.permute(2, 1, 0), encoder.bias, padding="same").relu()
    torch.testing.assert_close(encoder(tokens, table), expected.transpose(1, 2))


def test_gradients_match_the_convolution_of_pytorch():
    encoder, table = build()
    tokens = torch.randint(V, (40, 6), generator=torch.Generator().manual_seed(1))
    table.requires_grad_()
    actual = torch.autograd.grad(encoder(tokens, table).square().sum(), (table, encoder.weight))
    vectors = F.pad(table, (0, 0, 1, 0))[tokens]
    slow = F.conv1d(vectors.transpose(1, 2), encoder.weight.permute(2, 1, 0), encoder.bias, padding="same").relu()
    for gradient, expected in zip(actual, torch.autograd.grad(slow.square().sum(), (table, encoder.weight)), strict=True):
        torch.testing.assert_close(gradient, expected)


def test_leading_axes_and_empty_input():
    encoder, table = build()
    tokens = torch.randint(V, (3, 4, 6), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(encoder(tokens, table)[2], encoder(tokens[2], table))
    assert encoder(tokens[:, :0], table).shape == (3, 0, 6, D)


def test_an_even_window_is_refused():
    with pytest.raises(ValueError, match="window must be an odd number of words, but is 2"):
        ReviewEncoder(W, D, 2)
