import pytest
import torch
from torch_geometric import EdgeIndex

from gmmrec.nn.incoming import incoming_edges
from gmmrec.nn.propagate import weighted_sum

EDGES = torch.tensor([[5, 0, 1, 2, 2, 4, 1, 3], [3, 3, 0, 1, 0, 2, 2, 1]])  # target 4 has none


@pytest.mark.parametrize("targets", [[3, 0], [0, 0, 4, 0], [4], [], [0, 1, 2, 3, 4]], ids=str)
@pytest.mark.parametrize("order", ["plain", None, "row", "col"])
def test_sums_over_the_part_are_rows_of_the_sums_over_the_whole(targets, order):
    edges = EDGES
    if order != "plain":
        edges = EdgeIndex(EDGES, sparse_size=(6, 5))
        edges = edges if order is None else edges.sort_by(order)[0]
    x, wanted = torch.rand(6, 3), torch.tensor(targets, dtype=torch.long)
    part = incoming_edges(edges, wanted, (6, 5)).validate()
    torch.testing.assert_close(weighted_sum(part, x), weighted_sum(EDGES, x, num_targets=5)[wanted])
