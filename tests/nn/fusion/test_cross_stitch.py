import pytest
import torch
from torch import Tensor

from gmmrec.nn.fusion.cross_stitch import CrossStitch, CrossStitchFusion
from tests.nn.fusion.checks import assert_never_read, assert_same, random, random_mask

N, M, D, LAYERS = 6, 3, 4, 2


def build(share: str = "scalar", num_tokens: int = M) -> CrossStitchFusion:
    torch.manual_seed(0)
    fusion = CrossStitchFusion(D, num_tokens, LAYERS, share=share).double()
    if share == "scalar":  # as after some training: any sign
        for layer in fusion.layers:
            layer.stitch.share.data += 0.3 * torch.randn(num_tokens, num_tokens).double()
    return fusion


def slow(fusion: CrossStitchFusion, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    tops, fused = torch.zeros(N, M, D).double(), torch.zeros(N, D).double()
    for n in range(N):
        there = [m for m in range(M) if mask[n, m]]
        k = {m: tokens[n, m] for m in there}
        for layer in fusion.layers:
            h = {m: torch.relu(layer.towers[m].weight @ k[m] + layer.towers[m].bias) for m in there}
            for m in there:
                k[m] = torch.zeros(D).double()
                for o in there:
                    if layer.stitch.gate is not None:
                        share = torch.sigmoid(layer.stitch.gate[m, o] @ h[o])
                    else:
                        row = layer.stitch.share[m]
                        share = row[o] * sum(abs(s) for s in row) / sum(abs(row[t]) for t in there)
                    k[m] = k[m] + share * h[o]
        if there:
            fused[n] = fusion.fuse.project.bias
        for m in there:
            tops[n, m] = k[m]
            fused[n] = fused[n] + fusion.fuse.project.weight[:, m * D : (m + 1) * D] @ k[m]
    return fused, tops


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("share", ["scalar", "gate"])
def test_equals_the_formula_in_loops(share, masked) -> None:
    fusion, tokens = build(share), random(N, M, D).requires_grad_()
    mask = random_mask(N, M) if masked else torch.ones(N, M, dtype=torch.bool)
    fused, tops = slow(fusion, tokens, mask)
    given = mask if masked else None
    assert_same(fusion(tokens, given), fused, fusion, tokens)
    assert_same(fusion.forward_levels(tokens, given), tops, fusion, tokens)


@pytest.mark.parametrize("share", ["scalar", "gate"])
def test_values_under_the_mask_are_never_read(share) -> None:
    fusion, mask = build(share), random_mask(N, M)
    assert_never_read(lambda x: fusion(x, mask), random(N, M, D), mask, fusion)


def test_a_missing_token_leaves_its_share_to_the_others() -> None:
    unit = CrossStitch(1, 3)
    torch.testing.assert_close(unit.share.detach(), torch.tensor([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.05, 0.05, 0.9]]))
    tokens, mask = torch.tensor([[[1.0], [2.0], [torch.nan]]]), torch.tensor([[True, True, False]])
    expected = torch.tensor([[[(0.9 * 1 + 0.05 * 2) / 0.95], [(0.05 * 1 + 0.9 * 2) / 0.95], [0.0]]])
    torch.testing.assert_close(unit(tokens, mask).detach(), expected)


def test_a_token_whose_only_shares_are_of_missing_ones_is_zeros_with_a_gradient() -> None:
    unit = CrossStitch(1, 2)
    unit.share.data = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    mixed = unit(torch.ones(1, 2, 1), torch.tensor([[True, False]]))
    assert mixed.flatten().tolist() == [0.0, 0.0]
    mixed.sum().backward()
    assert bool(unit.share.grad.isfinite().all())


def test_towers_are_independent_without_sharing() -> None:
    fusion, tokens = build(), random(N, M, D)
    for layer in fusion.layers:
        layer.stitch.share.data = torch.eye(M).double()

    def dependence() -> Tensor:
        """How strongly every top depends on every token ``[M, M]``."""
        slopes = torch.autograd.functional.jacobian(lambda x: fusion.forward_levels(x).sum((0, 2)), tokens)  # [M, N, M, D]
        return slopes.abs().sum((1, 3))

    assert bool((dependence()[~torch.eye(M, dtype=torch.bool)] == 0).all())
    fusion.layers[0].stitch.share.data[0, 2] = 0.1
    assert dependence()[0, 2] > 0
    assert dependence()[2, 0] == 0


def test_one_modality_is_a_perceptron() -> None:
    torch.manual_seed(0)
    fusion, tokens = CrossStitchFusion(D, 1, LAYERS).double(), random(N, 1, D)
    hidden = tokens[:, 0]
    for layer in fusion.layers:
        hidden = torch.relu(layer.towers[0](hidden))
    torch.testing.assert_close(fusion(tokens), fusion.fuse.project(hidden))


def test_without_sharing_every_tower_is_a_perceptron() -> None:
    fusion, tokens = build(), random(N, M, D)
    tops = []
    for m in range(M):
        hidden = tokens[:, m]
        for layer in fusion.layers:
            layer.stitch.share.data = torch.eye(M).double()
            hidden = torch.relu(layer.towers[m](hidden))
        tops.append(hidden)
    torch.testing.assert_close(fusion.forward_levels(tokens), torch.stack(tops, 1))


def test_shapes() -> None:
    fusion, tokens = build(), random(2, N, M, D)
    fused, weights = fusion(tokens, return_weights=True)
    assert (fused.shape, weights.shape, fusion.forward_levels(tokens).shape) == ((2, N, D), (2, N, M), (2, N, M, D))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, N).double())


def test_unknown_shares_are_refused() -> None:
    with pytest.raises(ValueError, match="share must be 'scalar', 'gate' or 'none', but is 'vector'"):
        CrossStitch(D, M, share="vector")
