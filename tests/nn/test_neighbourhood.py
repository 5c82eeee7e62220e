import pytest
import torch
from torch_geometric import EdgeIndex

from gmmrec.nn.neighbourhood import edges_into
from gmmrec.nn.propagate import weighted_sum
from gmmrec.nn.relations import Relation


@pytest.mark.parametrize("is_sorted", [True, False])
def test_sums_over_incoming_edges_are_rows_of_the_full_sum(is_sorted) -> None:
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.stack([torch.randint(7, (30,), generator=generator), torch.randint(5, (30,), generator=generator)])
    edge_index[1][edge_index[1] == 3] = 4  # node 3 has no edge
    if is_sorted:
        edge_index = edge_index[:, torch.argsort(edge_index[1])]
        edge_index = EdgeIndex(edge_index, sparse_size=(7, 5), sort_order="col")
    weight, x = torch.rand(30, generator=generator), torch.randn(7, 2, generator=generator)
    whole = weighted_sum(edge_index, x, weight, num_targets=5)
    for nodes in (torch.tensor([4, 3, 0]), torch.tensor([3]), torch.tensor([], dtype=torch.long)):
        part = edges_into(Relation(edge_index, weight), nodes, 7, 5)
        torch.testing.assert_close(weighted_sum(part.edge_index, x, part.weight, num_targets=len(nodes)), whole[nodes])


def test_edges_without_weights_stay_without() -> None:
    part = edges_into(Relation(torch.tensor([[4, 3, 1], [0, 2, 2]])), torch.tensor([2]), 5, 3)
    assert part.weight is None
    assert part.edge_index.tolist() == [[3, 1], [0, 0]]
