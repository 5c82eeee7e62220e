import math

import pytest
import torch
from torch import Tensor

from gmmrec.nn.fusion import modality_aware
from gmmrec.nn.fusion.modality_aware import ModalityAwareFusion

B, C, M, D = 5, 11, 3, 4
FORMS = [(a, g) for a in ("additive", "dot") for g in ("scalar", "vector")]


@pytest.fixture(params=FORMS, ids="-".join)
def fusion(request) -> ModalityAwareFusion:
    torch.manual_seed(0)
    attention, granularity = request.param
    return ModalityAwareFusion(D, attention=attention, granularity=granularity)


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.rand(C, M, generator=generator) < 0.7
    mask[2], mask[3] = False, True
    return torch.randn(B, D, generator=generator), torch.randn(C, M, D, generator=generator), mask


def slow_weights(fusion: ModalityAwareFusion, u: Tensor, x: Tensor) -> Tensor:
    """Compute weights ``[M, D]`` in float64 for a query ``[D]`` and the present tokens ``[M, D]`` of an item."""
    wq, wk = fusion.query.weight.detach().double(), fusion.key.weight.detach().double()
    if fusion.logit is not None:
        matrix = torch.cat([wq, wk], 1)  # W_a on [u || x]
        hidden = torch.stack([torch.tanh(matrix @ torch.cat([u, row]) + fusion.query.bias.detach().double()) for row in x])
        logits = hidden @ fusion.logit.weight.detach().double().T
    else:
        products = (wq @ u) * (x @ wk.T)
        logits = products.sum(1, keepdim=True) / math.sqrt(D) if fusion.granularity == "scalar" else products
    return logits.softmax(0).expand(len(x), D)


def slow_scores(fusion: ModalityAwareFusion, query: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    scores = torch.zeros(B, C, dtype=torch.float64)
    for b in range(B):
        for c in range(C):
            u, x = query[b].double(), tokens[c][mask[c]].double()
            if len(x):
                scores[b, c] = u @ (slow_weights(fusion, u, x) * x).sum(0)
    return scores


def test_pairs_equal_the_dense_formula(fusion) -> None:
    query, tokens, mask = inputs()
    fused, weights = fusion(tokens, mask, query[:1].expand(C, D), return_weights=True)
    for c in range(C):
        x = tokens[c][mask[c]].double()
        expected = slow_weights(fusion, query[0].double(), x) if len(x) else torch.zeros(0, D, dtype=torch.float64)
        torch.testing.assert_close(fused[c].double(), (expected * x).sum(0), rtol=0, atol=1e-6)
        actual = weights[c][mask[c]] if fusion.granularity == "vector" else weights[c][mask[c], None].expand(-1, D)
        torch.testing.assert_close(actual.double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("cells", [1, 2**21])
def test_blocks_equal_pairs(fusion, cells, monkeypatch) -> None:
    for name in ("CELLS", "CACHED"):
        monkeypatch.setattr(modality_aware, name, cells)
    query, tokens, mask = inputs()
    expected = slow_scores(fusion, query, tokens, mask)
    with torch.no_grad():
        torch.testing.assert_close(fusion.score(query, tokens, mask).double(), expected, rtol=0, atol=3e-6)
    torch.testing.assert_close(fusion.score(query, tokens, mask).detach().double(), expected, rtol=0, atol=3e-6)
    full_mask = torch.ones_like(mask)
    with torch.no_grad():
        torch.testing.assert_close(fusion.score(query, tokens), fusion.score(query, tokens, full_mask))


def test_gradients_of_blocks_equal_those_of_pairs(fusion, monkeypatch) -> None:
    monkeypatch.setattr(modality_aware, "CELLS", 100)
    query, tokens, mask = inputs()
    query.requires_grad_()
    factor = torch.randn(B, C, generator=torch.Generator().manual_seed(2))
    actual = torch.autograd.grad((fusion.score(query, tokens, mask) * factor).sum(), [query, *fusion.parameters()])
    pairs = (fusion(tokens, mask, query[:, None]) * query[:, None]).sum(-1)
    expected = torch.autograd.grad((pairs * factor).sum(), [query, *fusion.parameters()])
    for gradient, reference in zip(actual, expected, strict=True):
        torch.testing.assert_close(gradient, reference)


def test_vector_weights_sum_to_one_in_every_dimension() -> None:
    query, tokens, mask = inputs()
    weights = ModalityAwareFusion(D, granularity="vector")(tokens, mask, query[:1].expand(C, D), return_weights=True)[1]
    assert weights.shape == (C, M, D)
    torch.testing.assert_close(weights.sum(1), mask.any(1, keepdim=True).float().expand(C, D))


def test_masked_values_do_not_reach_the_blocks(fusion) -> None:
    query, tokens, mask = inputs()
    with_nan = tokens.masked_fill(~mask.unsqueeze(-1), torch.nan)
    with torch.no_grad():
        assert torch.equal(fusion.score(query, with_nan, mask), fusion.score(query, tokens, mask))


def test_missing_query_is_rejected() -> None:
    with pytest.raises(ValueError, match="needs a query"):
        ModalityAwareFusion(D)(torch.zeros(1, M, D))


def test_unknown_forms_are_rejected() -> None:
    with pytest.raises(ValueError, match="attention must be 'additive' or 'dot'"):
        ModalityAwareFusion(D, attention="cosine")
