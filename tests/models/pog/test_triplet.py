"""The triplet loss, and the categories of drawn triplets."""

import torch

from gmmrec.models.pog.triplet import draw_triplets, triplet_margin


def test_triplet_loss_is_zero_beyond_the_margin_and_the_margin_for_equal_distances():
    torch.manual_seed(0)
    anchor, same = torch.randn(5, 3), torch.randn(5, 3)
    far = anchor + 10 * torch.nn.functional.normalize(torch.randn(5, 3), dim=1)
    assert float(triplet_margin(anchor, same, far, 0.1)) == 0
    assert float(triplet_margin(anchor, same, same, 0.25)) == 0.25
    expected = sum(max(0.0, float((a - s).norm() - (a - o).norm()) + 4) for a, s, o in zip(anchor, same, far - 8, strict=True)) / 5
    torch.testing.assert_close(triplet_margin(anchor, same, far - 8, 4.0), torch.tensor(expected))


def test_drawn_triplets_have_the_right_kinds():
    torch.manual_seed(0)
    kind = torch.tensor([0, 1, 1, 0, 2, -1, 1, -1])
    seen = set()
    for _ in range(200):
        anchor, same, other = draw_triplets(kind, 4)
        assert len(anchor) <= 4
        assert bool((kind[anchor] == kind[same]).all())
        assert bool((anchor != same).all())
        assert bool((kind[anchor] != kind[other]).all())
        assert bool((kind[torch.cat([anchor, same, other])] >= 0).all())
        seen |= set(zip(anchor.tolist(), same.tolist(), other.tolist(), strict=True))
    assert len(seen) == 2 * 4 + 3 * 2 * 3  # all possible triplets; the only item of kind 2 is not an anchor
    assert draw_triplets(torch.tensor([3, 3]), 4)[0].numel() == 0
