import pytest
import torch
from torch.autograd import gradcheck
from torch_geometric import EdgeIndex
from torch_geometric.nn import LGConv

from gmmrec.nn.conv.light import LightConv

EDGES = torch.tensor([[5, 0, 1, 2, 2, 4, 1, 3], [3, 3, 0, 1, 0, 2, 2, 1]])  # target 4 is isolated
WEIGHT = torch.arange(1.0, 9.0, dtype=torch.float64)


def draw(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape))).requires_grad_()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("sort_order", ["plain", None, "row", "col"])
@pytest.mark.parametrize("weighted", [True, False])
def test_equals_the_dense_product(fused, sort_order, weighted):
    edges, weight = EDGES, WEIGHT
    if sort_order == "col":
        order = EDGES[1].argsort(stable=True)
        edges, weight = EDGES[:, order], WEIGHT[order]
    elif sort_order == "row":
        order = EDGES[0].argsort(stable=True)
        edges, weight = EDGES[:, order], WEIGHT[order]
    edge_index = edges if sort_order == "plain" else EdgeIndex(edges, sparse_size=(6, 5), sort_order=sort_order)
    source, target = draw(6, 3), draw(5, 3)
    matrix = torch.zeros(5, 6, dtype=torch.float64)
    matrix[EDGES[1], EDGES[0]] = WEIGHT if weighted else torch.ones_like(WEIGHT)
    out = LightConv(fused=fused)((source, target), edge_index, weight if weighted else None)
    assert torch.allclose(out, matrix @ source, atol=1e-12)
    (gradient,) = torch.autograd.grad((out * draw(5, 3).detach()).sum(), source)
    assert torch.allclose(gradient, matrix.t() @ draw(5, 3).detach(), atol=1e-12)


@pytest.mark.parametrize("fused", [True, False])
def test_gradcheck(fused):
    conv = LightConv(fused=fused)
    assert gradcheck(lambda x, w: conv(x, EDGES, w), (draw(6, 3), WEIGHT.clone().requires_grad_()))


def test_equals_pyg_with_symmetric_weights():
    edges = torch.cat([EDGES, EDGES.flip(0)], 1).unique(dim=1)
    degree = torch.bincount(edges[1], minlength=6).double()
    weight = (degree[edges[0]] * degree[edges[1]]).rsqrt()
    x = draw(6, 3)
    assert torch.allclose(LightConv()(x, edges, weight), LGConv()(x, edges), atol=1e-6)  # PyG normalises in float32


def test_has_no_parameters():
    assert not list(LightConv().parameters())
