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
    features[0, ...] = 0  # of length 0
    lengths = features.norm(dim=-1) if scaled else None
    found = encoder(features, rows, lengths)
    plain = features.view(5, -1, 6)
    if scaled:
        plain = torch.nn.functional.normalize(plain, dim=-1)
    expected = encoder.project(plain if rows is None else plain[rows])
    torch.testing.assert_close(found, expected)
    factor = torch.randn_like(found)
    wanted = list(encoder.parameters())
    for f, e in zip(
        torch.autograd.grad((found * factor).sum(), wanted), torch.autograd.grad((expected * factor).sum(), wanted), strict=True
    ):
        torch.testing.assert_close(f, e)
