import math

import pytest
import torch
from torch import Tensor

from gmmrec.models.saers.semantic_extraction import SemanticExtraction, labelled_loss, largest_boxes, pool_boxes

N, D, GRID, CLASSES = 5, 6, (3, 4), (2, 4, 3)


def build(hidden: int = 0) -> tuple[SemanticExtraction, Tensor, Tensor]:
    torch.manual_seed(0)
    net = SemanticExtraction(D, CLASSES, GRID, hidden=hidden).double()
    classes = torch.stack([torch.randint(count, (N,)) for count in CLASSES], 1)
    return net, torch.randn(N, GRID[0] * GRID[1], D).double(), classes


def test_logits_are_computed_from_the_mean_region() -> None:
    net, regions, _ = build()
    for head, logits in zip(net.heads, net(regions), strict=True):
        torch.testing.assert_close(logits, regions.mean(1) @ head.weight.T + head.bias)


@pytest.mark.parametrize("hidden", [0, 5])
def test_activation_maps_by_gradient_and_by_weight_agree(hidden) -> None:
    net, regions, classes = build(hidden)
    maps = net.maps(regions)
    actual = net.activation_maps(maps, classes, by="gradient")
    assert actual.shape == (N, 3, *GRID)
    for n in range(N):
        for a in range(3):
            weight = net.heads[a].weight[classes[n, a]] / (GRID[0] * GRID[1])
            expected = torch.einsum("c,chw->hw", weight, maps[n]).clamp(min=0)
            torch.testing.assert_close(actual[n, a], expected.detach())
    assert bool((actual >= 0).all())
    assert bool(actual.any())
    torch.testing.assert_close(net.activation_maps(maps, classes), actual)


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.7])
def test_box_lies_in_the_map_and_contains_the_maximum(threshold) -> None:
    maps = torch.rand(200, 5, 7, generator=torch.Generator().manual_seed(0)).pow(3)
    top, left, bottom, right = largest_boxes(maps, threshold).unbind(-1)
    row, column = maps.flatten(1).argmax(1) // 7, maps.flatten(1).argmax(1) % 7
    assert bool(((top >= 0) & (top <= row) & (row < bottom) & (bottom <= 5)).all())
    assert bool(((left >= 0) & (left <= column) & (column < right) & (right <= 7)).all())


def test_boxes_of_small_examples() -> None:
    maps = torch.tensor(
        [
            [[0.0, 9.0, 0.0, 3.0], [0.0, 8.0, 7.0, 0.0], [0.0, 0.0, 0.0, 0.0]],  # diagonal neighbours are not connected
            [[9.0, 0.0, 0.0, 0.0], [0.0, 0.0, 5.0, 5.0], [0.0, 0.0, 5.0, 0.0]],  # the maximum is isolated
            [[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]],
        ]
    )
    assert largest_boxes(maps).tolist() == [[0, 1, 2, 3], [0, 0, 3, 4], [0, 0, 3, 4]]
    assert largest_boxes(maps[0], 0.8).tolist() == [0, 1, 2, 2]
    assert largest_boxes(maps.view(1, 3, 3, 4)).shape == (1, 3, 4)


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_pooling_reads_the_regions_in_the_box(pool) -> None:
    _, regions, _ = build()
    boxes = torch.tensor([[[0, 0, 3, 4], [1, 2, 2, 3], [0, 1, 2, 4]]]).expand(N, 3, 4)
    actual = pool_boxes(regions, boxes, GRID, pool=pool)
    grid = regions.view(N, *GRID, D)
    for n in range(N):
        for a, (top, left, bottom, right) in enumerate(boxes[n].tolist()):
            box = grid[n, top:bottom, left:right].reshape(-1, D)
            torch.testing.assert_close(actual[n, a], box.mean(0) if pool == "mean" else box.amax(0))


def test_loss_ignores_unlabelled_attributes() -> None:
    net, regions, labels = build()
    labels[1:3, 0] = labels[4] = -1
    before = labelled_loss(net(regions), labels)
    expected = 0.0
    for n in range(N):
        for a, logits in enumerate(net(regions)):
            if labels[n, a] >= 0:
                expected -= math.log(float(logits[n].detach().softmax(0)[labels[n, a]])) / N
    assert float(before.detach()) == pytest.approx(expected)
    another = torch.nn.Linear(D, 7).double()
    logits = [*net(regions), another(regions.mean(1))]
    after = labelled_loss(logits, torch.cat([labels, torch.full((N, 1), -1)], 1))
    assert float(after.detach()) == float(before.detach())
    after.backward()
    assert not bool(another.weight.grad.any())
    assert all(bool(p.grad.any()) for p in net.parameters())


def test_localises_attributes() -> None:
    """Every image shows one of three patterns in one region, and another attribute's pattern in another."""
    torch.manual_seed(0)
    labels, patterns = torch.randint(3, (300, 2)), torch.eye(6)
    regions, positions = 0.1 * torch.randn(300, 12, 6), torch.stack([torch.randperm(12)[:2] for _ in range(300)])
    for a in range(2):
        regions[torch.arange(300), positions[:, a]] += patterns[labels[:, a] + 3 * a]
    net = SemanticExtraction(6, (3, 3), GRID)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        labelled_loss(net(regions), labels).backward()
        optimizer.step()
    maps = net.activation_maps(net.maps(regions), labels).flatten(2)
    assert float((maps.argmax(2) == positions).float().mean()) > 0.95


def test_invalid_input_is_refused() -> None:
    net, regions, _ = build()
    with pytest.raises(ValueError, match="a grid of 3 x 4 needs 12 regions, but there are 11"):
        net(regions[:, 1:])
    with pytest.raises(ValueError, match="one column for each of 3 attributes, but have 2"):
        labelled_loss(net(regions), torch.zeros(N, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="threshold must be at least 0 and below 1, but is 1"):
        largest_boxes(torch.ones(2, 2), 1.0)
