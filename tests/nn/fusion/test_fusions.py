"""The contract of all fusion modules."""

import pytest
import torch
from torch import Tensor, nn

from gmmrec.nn.fusion import FUSIONS
from gmmrec.nn.fusion.attribute import AttributeFusion
from gmmrec.nn.fusion.behaviour_aware import BehaviourAwareFusion
from gmmrec.nn.fusion.interest import InterestAttention
from gmmrec.nn.fusion.personalised import PersonalisedAttention
from gmmrec.nn.fusion.region import RegionFusion

N, M, D = 7, 3, 4
MASK = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [1, 1, 0]], dtype=torch.bool)
MODULES = {
    **FUSIONS,
    "region": lambda dim, num_tokens: RegionFusion(dim),
    "attribute": lambda dim, num_tokens: AttributeFusion(dim),
    "attribute_bilinear": lambda dim, num_tokens: AttributeFusion(dim, score="bilinear"),
    "behaviour_aware": BehaviourAwareFusion,
    "interest": lambda dim, num_tokens: InterestAttention(dim, beta=1.0),
    "personalised": lambda dim, num_tokens: PersonalisedAttention(dim),
}
ORDERED = ("behaviour_aware", "concat", "cross_stitch", "context")
"""Fusions with separate parameters per token."""


@pytest.fixture(params=MODULES)
def name(request) -> str:
    return request.param


@pytest.fixture
def fusion(name) -> nn.Module:
    torch.manual_seed(0)
    fusion = MODULES[name](D, M)
    if name in ORDERED:  # as after training: every ReLU has active units, and no factor is 0
        for parameter in fusion.parameters():
            if parameter.dim() == 1:
                parameter.data.fill_(1.0)
    return fusion


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(N, M, D, generator=generator), torch.randn(N, D, generator=generator)


def test_weights_sum_to_one_over_present_tokens(name, fusion) -> None:
    tokens, query = inputs()
    for mask in (None, MASK):
        fused, weights = fusion(tokens, mask, query, return_weights=True)
        assert fused.shape == (N, D)
        assert weights.shape == (N, M)
        torch.testing.assert_close(fused, fusion(tokens, mask, query))
        present = torch.ones(N, M, dtype=torch.bool) if mask is None else mask
        assert bool((weights[~present] == 0).all())
        assert bool((weights[present] > 0).all())
        if name not in ("sum", "gate"):
            torch.testing.assert_close(weights.sum(1), present.any(1).float())


def test_full_mask_equals_no_mask(fusion) -> None:
    tokens, query = inputs()
    torch.testing.assert_close(fusion(tokens, torch.ones(N, M, dtype=torch.bool), query), fusion(tokens, None, query))


def test_masked_values_are_never_read(fusion) -> None:
    tokens, query = inputs()
    results = []
    for hidden in (0.0, torch.nan):
        x = tokens.masked_fill(~MASK.unsqueeze(-1), hidden).requires_grad_()
        fusion.zero_grad()
        fused = fusion(x, MASK, query)
        fused.square().sum().backward()
        assert x.grad is not None
        assert bool((x.grad[~MASK] == 0).all())
        assert bool((x.grad[MASK] != 0).any(-1).all())
        results.append([fused.detach(), x.grad, *(p.grad.clone() for p in fusion.parameters() if p.grad is not None)])
    for with_zeros, with_nan in zip(*results, strict=True):
        assert torch.equal(with_zeros, with_nan)


def test_row_without_tokens_gives_zeros_and_no_gradient(fusion) -> None:
    tokens, query = inputs()
    x = tokens.requires_grad_()
    fused = fusion(x, torch.zeros(N, M, dtype=torch.bool), query)
    assert bool((fused == 0).all())
    fused.sum().backward() if fused.requires_grad else None
    for gradient in (x.grad, *(p.grad for p in fusion.parameters())):
        assert gradient is None or bool((gradient == 0).all())


def test_order_of_tokens_does_not_matter(name, fusion) -> None:
    tokens, query = inputs()
    order = torch.tensor([2, 0, 1])
    permuted, original = fusion(tokens[:, order], MASK[:, order], query), fusion(tokens, MASK, query)
    if name in ORDERED:
        assert not torch.allclose(permuted, original)
    else:
        torch.testing.assert_close(permuted, original)


def test_leading_axes_are_arbitrary(fusion) -> None:
    tokens, query = inputs()
    whole = fusion(tokens, MASK, query)
    parts = fusion(tokens.unsqueeze(0).expand(2, -1, -1, -1), MASK.expand(2, -1, -1), query.expand(2, -1, -1))
    torch.testing.assert_close(parts, whole.expand(2, -1, -1))


def test_gradients_reach_every_parameter(fusion) -> None:
    tokens, query = inputs()
    fusion(tokens.requires_grad_(), MASK, query).square().sum().backward()
    assert [key for key, p in fusion.named_parameters() if p.grad is None or not bool(p.grad.any())] == []
