import pytest
import torch

from gmmrec.nn.fusion.multi_order import MultiOrderFusion

N, M, D = 5, 3, 4


def inputs():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(N, M, D, generator=generator), torch.randn(N, D, generator=generator)


@torch.no_grad()
def test_what_is_read_goes_through_a_residual_perceptron():
    torch.manual_seed(0)
    fusion, (tokens, query) = MultiOrderFusion(D), inputs()
    fused, shares = fusion(tokens, None, query, return_weights=True)
    read, weights = fusion.weigh(tokens, None, query)
    x = read.double()
    for linear in fusion.mix.layers:
        x = torch.clamp(x @ linear.weight.double().T + linear.bias.double() + x, min=0)
    torch.testing.assert_close(fused.double(), x + read.double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(shares, (weights.order.unsqueeze(-1) * weights.token).sum(1))


@torch.no_grad()
def test_without_matrices_and_biases_the_result_is_h_and_its_positive_part():
    fusion, (tokens, query) = MultiOrderFusion(D), inputs()
    for parameter in fusion.mix.parameters():
        parameter.zero_()
    read, _ = fusion.weigh(tokens, None, query)
    torch.testing.assert_close(fusion(tokens, None, query), read + read.relu())


@torch.no_grad()
@pytest.mark.parametrize("num_orders", [0, 1, 3])
def test_the_query_changes_what_counts(num_orders):
    torch.manual_seed(0)
    fusion, (tokens, query) = MultiOrderFusion(D, num_orders), inputs()
    mine, theirs = (fusion(tokens, None, q, return_weights=True)[1] for q in (query, -query))
    assert not torch.allclose(mine, theirs)


@torch.no_grad()
def test_the_anchor_may_be_part_of_the_result():
    torch.manual_seed(0)
    fusion, (tokens, query) = MultiOrderFusion(D, 0, 0, shortcut="anchor"), inputs()
    fused, shares = fusion(tokens, None, query, return_weights=True)
    expected = torch.einsum("nm,nmd->nd", shares, tokens) + query
    torch.testing.assert_close(fused, 2 * expected)
