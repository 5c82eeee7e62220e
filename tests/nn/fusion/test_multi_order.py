import pytest
import torch

from gmmrec.nn.fusion.multi_order import MultiOrderFusion

N, M, D = 5, 3, 4


def inputs():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(N, M, D, generator=generator), torch.randn(N, D, generator=generator)


@torch.no_grad()
def test_result_goes_through_a_residual_mlp():
    torch.manual_seed(0)
    fusion, (tokens, query) = MultiOrderFusion(D), inputs()
    fused, shares = fusion(tokens, None, query, return_weights=True)
    hidden, weights = fusion.weigh(tokens, None, query)
    x = hidden.double()
    for linear in fusion.mix.layers:
        x = torch.clamp(x @ linear.weight.double().T + linear.bias.double() + x, min=0)
    torch.testing.assert_close(fused.double(), x + hidden.double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(shares, (weights.order.unsqueeze(-1) * weights.token).sum(1))


@torch.no_grad()
def test_zero_parameters_add_the_positive_part_of_the_input():
    fusion, (tokens, query) = MultiOrderFusion(D), inputs()
    for parameter in fusion.mix.parameters():
        parameter.zero_()
    hidden, _ = fusion.weigh(tokens, None, query)
    torch.testing.assert_close(fusion(tokens, None, query), hidden + hidden.relu())


@torch.no_grad()
@pytest.mark.parametrize("num_orders", [0, 1, 3])
def test_weights_depend_on_the_query(num_orders):
    torch.manual_seed(0)
    fusion, (tokens, query) = MultiOrderFusion(D, num_orders), inputs()
    positive, negative = (fusion(tokens, None, q, return_weights=True)[1] for q in (query, -query))
    assert not torch.allclose(positive, negative)


@torch.no_grad()
def test_anchor_shortcut_is_added_to_the_result():
    torch.manual_seed(0)
    fusion, (tokens, query) = MultiOrderFusion(D, 0, 0, shortcut="anchor"), inputs()
    fused, shares = fusion(tokens, None, query, return_weights=True)
    expected = torch.einsum("nm,nmd->nd", shares, tokens) + query
    torch.testing.assert_close(fused, 2 * expected)
