from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData
from torch_geometric.loader import NodeLoader

from gmmrec.data.features import FeatureTable
from gmmrec.graph.build import GraphConfig, build_graph
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.graph.sampling import NeighborSampler, sample_subgraph
from gmmrec.graph.store import load_graph, save_graph
from gmmrec.models.lightgcn import LightGCN, LightGCNConfig
from gmmrec.typing import USER, USER_ITEM
from tests.graph.whole import random_graph, random_split


def rich_graph():
    dataset, split = random_split(60, 40, 150)
    words = FeatureTable("words/tags", torch.rand(40, 5, 3), torch.rand(40, 5) < 0.5)
    dataset = replace(dataset, features={**dataset.features, "words/tags": words})
    return build_graph(dataset, split, GraphConfig(knn=3, co_occurrence=2, user_co_occurrence=2))


def assert_same(first, second):
    assert first.schema == second.schema
    assert first.data.metadata() == second.data.metadata()
    for store, values in first.data.to_dict().items():
        assert list(values) == list(second.data[store].keys()) or set(values) == set(second.data[store].keys())
        for name, value in values.items():
            other = second.data[store][name]
            assert type(value) is type(other)
            if isinstance(value, torch.Tensor):
                assert value.dtype == other.dtype
                assert torch.equal(value, other), (store, name)
            else:
                assert value == other
            if isinstance(value, EdgeIndex):
                assert value.sort_order == other.sort_order
                assert value.sparse_size() == other.sparse_size()


def test_loaded_graph_equals_the_saved_graph(tmp_path):
    graph = rich_graph()
    save_graph(graph, tmp_path / "graph.safetensors")
    loaded = load_graph(tmp_path / "graph.safetensors")
    assert_same(graph, loaded)
    model = LightGCN(graph.schema, LightGCNConfig(dim=8))
    assert torch.equal(model.encode(graph)[USER], model.encode(loaded)[USER])


def test_subgraph_keeps_its_rows(tmp_path):
    part, _ = sample_subgraph(rich_graph(), {USER: torch.tensor([5, 2])}, [2, 2], torch.Generator().manual_seed(0))
    save_graph(part, tmp_path / "part")
    assert_same(part, load_graph(tmp_path / "part"))


def test_loaded_graph_works_with_pyg(tmp_path):
    save_graph(random_graph(), tmp_path / "graph")
    graph = load_graph(tmp_path / "graph")
    data = graph.data
    assert isinstance(data, HeteroData)
    assert data.validate()
    assert data.to_homogeneous(node_attrs=["degree"]).num_nodes == 100
    sampler = NeighborSampler(graph, [2], generator=torch.Generator())
    assert next(iter(NodeLoader(data, sampler, input_nodes=USER, batch_size=4)))[USER].batch_size == 4


def test_only_graphs_are_read_and_written(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_graph(tmp_path / "none")
    (tmp_path / "text").write_text("user,item\n1,2\n")
    with pytest.raises(ValueError, match="is damaged or not a saved graph"):
        load_graph(tmp_path / "text")
    save_file({"weight": torch.zeros(1)}, tmp_path / "weights")
    with pytest.raises(ValueError, match="found 'no format'"):
        load_graph(tmp_path / "weights")
    graph = random_graph()
    graph.data[USER_ITEM].names = ["a"]
    with pytest.raises(ValueError, match="cannot save 'names'"):
        save_graph(graph, tmp_path / "graph")


@pytest.mark.parametrize(
    "name", ["num_edges", "edge_index", "node_type", "keys", "items", "batch", "ptr", "x", "to", "a.b/c", "", "user"]
)
def test_a_modality_may_be_called_like_a_field_of_a_graph(name, tmp_path):
    dataset, split = random_split(12, 10, 40)
    table = FeatureTable(name, torch.rand(10, 3), torch.rand(10) < 0.7)
    graph = build_graph(replace(dataset, features={name: table}), split, GraphConfig(knn=2))
    save_graph(graph, tmp_path / "graph.safetensors")
    loaded = load_graph(tmp_path / "graph.safetensors")
    assert_same(graph, loaded)
    for same in (loaded, graph.to("cpu"), MultimodalGraph.from_pyg(graph.to_pyg())):
        assert list(same.features) == [name]
        assert torch.equal(same.features[name].values, table.values)
        assert torch.equal(same.features[name].mask, table.mask)
        assert same.num_nodes(USER) == 12
