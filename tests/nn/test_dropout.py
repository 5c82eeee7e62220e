import pytest
import torch

from gmmrec.nn.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_rate_and_mean(p):
    torch.manual_seed(0)
    found = Dropout(p)(torch.ones(200, 1001))
    assert float((found == 0).float().mean()) == pytest.approx(p, abs=0.005)
    assert found[found > 0].unique().tolist() == pytest.approx([1 / (1 - p)], rel=1e-4)
    assert float(found.mean()) == pytest.approx(1, rel=0.02)


def test_draws_are_independent_and_seeded():
    torch.manual_seed(0)
    layer = Dropout(0.5)
    first, second = layer(torch.ones(100, 64)) > 0, layer(torch.ones(100, 64)) > 0
    assert float((first == second).float().mean()) == pytest.approx(0.5, abs=0.03)
    for shift in (1, 2, 4, 64):  # four values share one draw
        assert float((first.flatten()[shift:] == first.flatten()[:-shift]).float().mean()) == pytest.approx(0.5, abs=0.03)
    torch.manual_seed(0)
    assert torch.equal(layer(torch.ones(100, 64)) > 0, first)


def test_gradient_has_the_mask_of_the_output():
    torch.manual_seed(0)
    x = torch.randn(7, 3, requires_grad=True)
    found = Dropout(0.4)(x)
    found.sum().backward()
    torch.testing.assert_close(x.grad * x, found)


def test_boundary_probabilities():
    x = torch.randn(5)
    assert Dropout(0)(x) is x
    assert Dropout(0.7).eval()(x) is x
    assert not bool(Dropout(1)(x).any())
    assert Dropout(0.5)(torch.ones(0, 3)).shape == (0, 3)
    with pytest.raises(ValueError, match="between 0 and 1"):
        Dropout(1.5)
