import pytest
import torch
from torch import Tensor

from gmmrec.nn.fusion.multi_source import MultiSourceAttention
from tests.nn.fusion.checks import assert_never_read, assert_same, random, random_mask, softmax

B, D, STATE, LENGTHS = 5, 6, 4, (3, 5, 2)
MASKS = [random_mask(B, length, seed=n) for n, length in enumerate(LENGTHS)]
MASKS[1][2] = MASKS[2][2] = False
MASKS[0][1] = MASKS[1][1] = MASKS[2][1] = False  # nothing to look at


def build() -> MultiSourceAttention:
    torch.manual_seed(0)
    module = MultiSourceAttention(D, 3, STATE, 7).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module


def inputs() -> tuple[list[Tensor], Tensor]:
    return [random(B, length, D, seed=n) for n, length in enumerate(LENGTHS)], random(B, STATE, seed=9)


def slow(module: MultiSourceAttention, tokens: list[Tensor], masks: list[Tensor], state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    out, shares = torch.zeros(B, D).double(), torch.zeros(B, 3).double()
    regions = [torch.zeros(B, length).double() for length in LENGTHS]
    for b in range(B):
        seen, logits, there = [], [], []
        for s in range(3):
            rows = [n for n in range(LENGTHS[s]) if masks[s][b, n]]
            if not rows:
                continue
            w, u, m = (part[s].weight for part in (module.token, module.state, module.logit))
            weights = softmax([m[0] @ torch.tanh(w @ tokens[s][b, n] + u @ state[b]) for n in rows])
            z = sum(weight * tokens[s][b, n] for weight, n in zip(weights, rows, strict=True))
            for weight, n in zip(weights, rows, strict=True):
                regions[s][b, n] = weight
            seen.append(z)
            there.append(s)
            logits.append(state[b] @ module.source.weight.T @ z)
        for s, share, z in zip(there, softmax(logits) if logits else [], seen, strict=True):
            shares[b, s] = share
            out[b] = out[b] + share * z
    return out, torch.cat(regions, 1), shares


@pytest.mark.parametrize("masked", [False, True])
def test_equals_the_formula_in_loops(masked) -> None:
    module, (tokens, state) = build(), inputs()
    leaves = [x.requires_grad_() for x in (*tokens, state)]
    masks = MASKS if masked else [torch.ones_like(mask) for mask in MASKS]
    out, regions, shares = slow(module, tokens, masks, state)
    found, weights = module(tokens, masks if masked else None, state, return_weights=True)
    assert_same(found, out, module, *leaves)
    assert_same(torch.cat(weights.tokens, 1), regions, module, *leaves)
    assert_same(weights.sources, shares, module, *leaves)


def test_all_maps_sum_to_one() -> None:
    tokens, state = inputs()
    _, weights = build()(tokens, MASKS, state, return_weights=True)
    some = torch.cat(MASKS, 1).any(1).double()
    torch.testing.assert_close(weights.joint.sum(1), some)
    torch.testing.assert_close(weights.sources.sum(1), some)
    for own, mask in zip(weights.tokens, MASKS, strict=True):
        torch.testing.assert_close(own.sum(1), mask.any(1).double())
        assert bool((own[~mask] == 0).all())
        assert bool((own >= 0).all())
    assert bool((weights.joint[~torch.cat(MASKS, 1)] == 0).all())


def test_values_under_the_masks_are_never_read() -> None:
    module, (tokens, state) = build(), inputs()
    for position in range(3):
        assert_never_read(
            lambda x, position=position: module([*tokens[:position], x, *tokens[position + 1 :]], MASKS, state),
            tokens[position],
            MASKS[position],
            module,
        )


def test_what_is_missing_is_refused() -> None:
    tokens, state = inputs()
    with pytest.raises(ValueError, match="needs a query, the state that looks"):
        build()(tokens)
    with pytest.raises(ValueError, match="the tokens of 3 sources, found 2"):
        build()(tokens[:2], None, state)
