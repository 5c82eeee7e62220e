import pytest
import torch
from torch.autograd import gradcheck
from torch_geometric import EdgeIndex

from gmmrec.nn.conv.modality import ModalityConv

EDGES = torch.tensor([[5, 0, 1, 2, 2, 4, 1, 3], [3, 3, 0, 1, 0, 2, 2, 1]])  # target 4 has none
NUM_SOURCES, NUM_TARGETS = 6, 5


def draw(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def forms(edges):
    index = EdgeIndex(edges, sparse_size=(NUM_SOURCES, NUM_TARGETS))
    return {"plain": edges, "unsorted": index, "row": index.sort_by("row")[0], "col": index.sort_by("col")[0]}


def slow(x, weight, aggr):
    """Target by target."""
    out = torch.zeros(NUM_TARGETS, len(weight), dtype=torch.float64)
    for target in range(4):
        messages = torch.stack([weight @ x[source] for source, end in EDGES.t().tolist() if end == target])
        out[target] = messages.mean(0) if aggr == "mean" else messages.amax(0)
    return out


@pytest.mark.parametrize("form", ["plain", "unsorted", "row", "col"])
@pytest.mark.parametrize(("aggr", "fused"), [("mean", True), ("mean", False), ("max", True)])
@pytest.mark.parametrize("widths", [(3, 3), (7, 2), (2, 7)], ids=str)  # W1 is cheaper after the mean, before, and on neither side
def test_equals_the_slow_equations(form, aggr, fused, widths):
    conv, x = ModalityConv(*widths, aggr=aggr, fused=fused).double(), draw(NUM_SOURCES, widths[0]).requires_grad_()
    out = conv((x, draw(NUM_TARGETS, widths[0])), forms(EDGES)[form])
    expected = slow(x, conv.lin.weight, aggr)
    torch.testing.assert_close(out, expected)
    upstream = draw(*out.shape, seed=1)
    ours = torch.autograd.grad(out, [x, conv.lin.weight], upstream)
    for gradient, right in zip(ours, torch.autograd.grad(expected, [x, conv.lin.weight], upstream), strict=True):
        torch.testing.assert_close(gradient, right)


def test_with_the_identity_it_is_the_mean_of_the_neighbours_rows():
    conv, x = ModalityConv(3, 3).double(), draw(NUM_SOURCES, 3)
    conv.lin.weight.data = torch.eye(3, dtype=torch.float64)
    out = conv((x, draw(NUM_TARGETS, 3)), EDGES)
    torch.testing.assert_close(out[0], (x[1] + x[2]) / 2)
    torch.testing.assert_close(out[3], (x[5] + x[0]) / 2)
    assert not bool(out[4].any())


@pytest.mark.parametrize("aggr", ["mean", "max"])
def test_a_repeated_edge_changes_nothing_once_edges_are_distinct(aggr):
    conv, x = ModalityConv(3, 3, aggr=aggr).double(), (draw(NUM_SOURCES, 3), draw(NUM_TARGETS, 3))
    twice = torch.cat([EDGES, EDGES[:, :3]], dim=1)
    torch.testing.assert_close(conv(x, twice.unique(dim=1)), conv(x, EDGES))


def test_one_node_type():
    edges = torch.tensor([[0, 2, 1], [1, 1, 2]])
    conv, x = ModalityConv(3, 3).double(), draw(3, 3)
    expected = torch.stack([torch.zeros(3, dtype=torch.float64), (x[0] + x[2]) / 2, x[1]]) @ conv.lin.weight.t()
    torch.testing.assert_close(conv(x, edges), expected)
    torch.testing.assert_close(conv(x, EdgeIndex(edges, sparse_size=(3, 3))), expected)


@pytest.mark.parametrize("widths", [(3, 3), (7, 2)], ids=str)
def test_gradcheck(widths):
    conv = ModalityConv(*widths).double()
    assert gradcheck(lambda x: conv((x, draw(NUM_TARGETS, widths[0])), EDGES), draw(NUM_SOURCES, widths[0]).requires_grad_())


def test_an_unknown_aggregation_is_refused():
    with pytest.raises(ValueError, match="aggr must be 'mean' or 'max', but is 'min'"):
        ModalityConv(2, 2, aggr="min")  # type: ignore[arg-type]
