"""Gathering rows, adding and sorting edges."""

from dataclasses import FrozenInstanceError, replace

import pytest
import torch
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData

from gmmrec.data.split import Split
from gmmrec.graph.build import build_graph
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph, sort_edges
from gmmrec.testing import I, U, rated_checkerboard, toy_graph
from gmmrec.typing import ITEM, ITEM_ITEM, ITEM_USER, USER, USER_ITEM


def of_rows(*rows: int) -> MultimodalGraph:
    """Return a graph whose users have these rows in a table, and whose items are the whole table."""
    data = HeteroData()
    data[USER].num_nodes, data[USER].degree, data[USER].n_id = len(rows), torch.ones(len(rows)), torch.tensor(rows)
    data[ITEM].num_nodes, data[ITEM].degree = 2, torch.ones(2)
    return MultimodalGraph(data, GraphSchema({USER: 9, ITEM: 2}, {}, {}, ()))


@pytest.mark.parametrize("shape", [(9,), (9, 2), (9, 2, 3)])
def test_nodes_without_a_row_gather_zeros(shape):
    table = torch.arange(1.0, 1 + torch.Size(shape).numel()).view(shape)
    assert torch.equal(of_rows(3, 0).gather(USER, table), table[[3, 0]])
    found = of_rows(3, -1, 8).gather(USER, table)
    assert torch.equal(found[[0, 2]], table[[3, 8]])
    assert not bool(found[1].any())
    assert of_rows(3).gather(ITEM, table) is table
    assert of_rows(3, -1).rows(USER).tolist() == [3, -1]
    assert of_rows(3, -1).rows(ITEM).tolist() == [0, 1]


def test_edges_are_sorted_by_target_then_source():
    ends = torch.tensor([[4, 0, 3, 1, 4], [1, 1, 0, 1, 0]])  # five sources, two targets
    edges = sort_edges(ends, torch.arange(5.0), (5, 2))
    assert edges.edge_index.tolist() == [[3, 4, 0, 1, 4], [0, 0, 1, 1, 1]]
    assert edges.weight.tolist() == [2.0, 4.0, 1.0, 3.0, 0.0]
    assert edges.edge_index.sparse_size() == (5, 2)
    assert sort_edges(ends, None, (5, 2)).weight is None
    assert sort_edges(edges.edge_index, None, (5, 2)).edge_index is edges.edge_index
    assert sort_edges(edges.edge_index, None, (6, 2)).edge_index.sparse_size() == (6, 2)


def rated_graph() -> MultimodalGraph:
    dataset, _ = rated_checkerboard(U, I)
    nothing = dataset.interactions.take(torch.arange(0))
    return build_graph(dataset, Split(dataset.interactions, nothing, nothing))


def test_replaced_edges_lose_their_attributes_and_reweighted_ones_keep_them():
    graph = rated_graph()
    edge_index, weight = graph.edges(USER_ITEM)
    heavier = graph.with_edges(USER_ITEM, edge_index, 2 * weight)
    assert torch.equal(heavier.edges(USER_ITEM).weight, 2 * weight)
    assert torch.equal(heavier.attribute(USER_ITEM, "rating"), graph.attribute(USER_ITEM, "rating"))
    assert heavier.with_edges(USER_ITEM, edge_index).edges(USER_ITEM).weight is None
    fewer = graph.with_edges(USER_ITEM, edge_index.as_tensor()[:, :5], weight[:5])
    assert fewer.attribute(USER_ITEM, "rating") is None
    assert fewer.attribute(USER_ITEM, "text") is None
    assert fewer.edges(USER_ITEM).edge_index.shape[1] == 5
    assert torch.equal(graph.edges(USER_ITEM).weight, weight)  # the first graph stays
    assert fewer.attribute(ITEM_USER, "rating") is not None


def test_added_edges_are_a_relation_and_tables_are_checked_once():
    graph = toy_graph()
    untouched = graph.with_edges(ITEM_ITEM, torch.tensor([[0], [1]]))
    assert "features" not in untouched.__dict__
    tables = graph.features
    again = graph.with_edges(ITEM_ITEM, torch.tensor([[0], [1]])).with_edges(ITEM_ITEM, torch.tensor([[1], [0]]))
    assert again.features is tables
    assert again.schema.relations == (*graph.schema.relations, ITEM_ITEM)
    assert isinstance(again.edges(ITEM_ITEM).edge_index, EdgeIndex)
    with pytest.raises(KeyError, match="the graph has no edges item-co_occurs-item; it has user-interacts-item"):
        graph.edges(ITEM_ITEM)


def test_graphs_and_schemas_never_change():
    graph = toy_graph()
    for owner, name in ((graph, "data"), (graph.schema, "num_words")):
        with pytest.raises(FrozenInstanceError):
            setattr(owner, name, None)
    assert graph.schema.num_words == graph.schema.num_relations == 0
    assert GraphSchema({}, {}, {}, ()).num_words == GraphSchema({}, {}, {}, ()).num_relations == 0
    assert replace(graph.schema, num_words=3) != graph.schema


def test_plain_pyg_data_and_back():
    graph = rated_graph()
    back = MultimodalGraph.from_pyg(graph.to_pyg())
    assert back.schema == graph.schema
    assert torch.equal(back.attribute(USER_ITEM, "text"), graph.attribute(USER_ITEM, "text"))
