import pytest
import torch

from gmmrec.nn.encoder.token import TokenEncoder

ROWS = torch.tensor([3, 0, 3])


@pytest.mark.parametrize("rows", [None, ROWS], ids=["all", "some"])
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("shape", [(5, 6), (5, 3, 6)], ids=str)
def test_equals_the_plain_formula_in_values_and_gradients(shape, scaled, rows) -> None:
    torch.manual_seed(0)
    encoder, features = TokenEncoder(6, 4), torch.randn(shape) * 3
    features[0, ...] = 0  # norm 0
    lengths = features.norm(dim=-1) if scaled else None
    actual = encoder(features, rows, lengths)
    tokens = features.view(5, -1, 6)
    if scaled:
        tokens = torch.nn.functional.normalize(tokens, dim=-1)
    expected = encoder.project(tokens if rows is None else tokens[rows])
    torch.testing.assert_close(actual, expected)
    factor = torch.randn_like(actual)
    parameters = list(encoder.parameters())
    for gradient, reference in zip(
        torch.autograd.grad((actual * factor).sum(), parameters),
        torch.autograd.grad((expected * factor).sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(gradient, reference)
