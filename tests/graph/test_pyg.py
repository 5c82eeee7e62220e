from dataclasses import replace

import pytest
import torch
import torch_geometric.transforms as T
import torch_geometric.typing
from torch import nn
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData
from torch_geometric.explain import DummyExplainer, Explainer, GNNExplainer
from torch_geometric.loader import HGTLoader, NeighborLoader, NodeLoader
from torch_geometric.nn import SAGEConv, to_hetero

from gmmrec.data.features import FeatureTable
from gmmrec.data.split import split_dataset
from gmmrec.graph.build import GraphConfig, build_graph
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.graph.pyg import RESERVED, own_type, plain_type
from gmmrec.graph.sampling import NeighborSampler, sample_subgraph
from gmmrec.models.lightgcn import LightGCN, LightGCNConfig
from gmmrec.testing import checkerboard, circle, rated_checkerboard
from gmmrec.typing import ENTITY, ITEM, ITEM_USER, RELATED, USER, USER_ITEM, similar
from tests.graph.test_store import assert_same, rich_graph
from tests.graph.whole import random_split

HAS_PYG_LIB, HAS_SPARSE = torch_geometric.typing.WITH_PYG_LIB, torch_geometric.typing.WITH_TORCH_SPARSE


def seeded():
    return torch.Generator().manual_seed(0)


def whole(dataset, config=None):
    return build_graph(dataset, split_dataset(dataset, generator=seeded()), config or GraphConfig())


def board_with(**tables):
    """Return a checkerboard with further modalities ``[N, 3]``, those named ``user_*`` of users."""
    board, _ = checkerboard()
    sizes = {"user": board.num_users, "item": board.num_items}
    tables_by_name = {}
    for name, values in tables.items():
        node_type = "user" if name.startswith("user_") else "item"
        values = torch.rand(sizes[node_type], 3, generator=seeded()) if values is None else values
        tables_by_name[name] = FeatureTable(name, values, node_type=node_type)
    return replace(board, features={**board.features, **tables_by_name})


def linked_board():
    """Return a checkerboard in which twelve items are entities on a circle."""
    board, _ = checkerboard()
    knowledge = circle()
    item = torch.arange(board.num_items)
    return replace(
        board,
        vocabularies={**knowledge.vocabularies, **board.vocabularies},
        features={**board.features, "name": knowledge.features["name"], "words": knowledge.features["words"]},
        triples=replace(knowledge.triples, entity=torch.where(item < 12, 11 - item, -1)),
    )


def graphs():
    rated, _ = rated_checkerboard()
    return {
        "several modalities, tokens, neighbours": rich_graph(),
        "ratings and reviews": whole(rated),
        "users with features": whole(board_with(user_text=None, user_face=torch.rand(24, 2, 3, generator=seeded()))),
        "no features": whole(replace(checkerboard()[0], features={})),
        "triples and alignment": whole(linked_board()),
        "subgraph": sample_subgraph(rich_graph(), {USER: torch.tensor([5, 2])}, [2, 2], seeded())[0],
        "reserved names": whole(board_with(**dict.fromkeys(RESERVED - {"num_nodes", "degree", "n_id"}))),
        "odd names": whole(board_with(**dict.fromkeys(("feature_x", "keys", "a.b", "ß c", "Z2fZ", "1"))), GraphConfig(knn=2)),
    }


GRAPHS = graphs()


@pytest.fixture(params=GRAPHS)
def graph(request):
    return GRAPHS[request.param]


class SAGE(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = SAGEConv((-1, -1), 8), SAGEConv((-1, -1), 4)

    def forward(self, x, edge_index):
        return self.second(self.first(x, edge_index).relu(), edge_index)


def test_export_holds_only_tensors_and_numbers(graph):
    data = graph.to_pyg()
    assert data.validate(raise_on_error=True)
    for store in data.stores:
        for name, value in store.items():
            assert type(value) in (torch.Tensor, int), name
    for edge_type in data.edge_types:
        edge_index = data[edge_type].edge_index
        assert edge_index.dtype == torch.int64
        assert edge_index.is_contiguous()
        assert data[edge_type].is_sorted(sort_by_row=False)
    assert not any(isinstance(value, EdgeIndex) for value in data.edge_index_dict.values())


def test_round_trip(graph):
    before = {name: value.clone() for name, value in graph.data[USER_ITEM].items()}
    back = MultimodalGraph.from_pyg(graph.to_pyg())
    assert_same(graph, back)
    for name, table in graph.features.items():
        assert torch.equal(back.features[name].values, table.values)
        assert torch.equal(back.features[name].mask, table.mask)
    assert all(torch.equal(graph.data[USER_ITEM][name], value) for name, value in before.items())


def test_counts_are_exported_where_there_are_any():
    dataset, _ = rated_checkerboard()
    data = whole(dataset).to_pyg()
    assert data.num_words == whole(dataset).schema.num_words > 2
    assert "num_relations" not in data
    assert "num_words" not in whole(checkerboard()[0]).to_pyg()


def test_inputs_are_concatenated_modalities():
    image, words = torch.rand(16, 6), torch.rand(16, 2, 3)
    board, _ = checkerboard()
    mask = torch.ones(16, 2, dtype=torch.bool)
    mask[3], mask[4, 1] = False, False
    tables = {"image": FeatureTable("image", image, torch.arange(16) != 5), "words": FeatureTable("words", words, mask)}
    data = whole(replace(board, features=tables)).to_pyg()
    assert data[ITEM].x.shape == (16, 9)
    assert torch.equal(data[ITEM].x[5, :6], torch.zeros(6))
    assert torch.equal(data[ITEM].x[3, 6:], torch.zeros(3))
    assert torch.equal(data[ITEM].x[4, 6:], words[4, 0])
    assert torch.allclose(data[ITEM].x[7], torch.cat([image[7], words[7].mean(0)]))
    assert data[USER].x.tolist() == [[1.0]] * 24
    assert data[ITEM].image_mask.tolist() == [item != 5 for item in range(16)]
    assert torch.equal(data[ITEM].words[7], words[7])


def test_only_training_interactions_are_exported():
    board, _ = checkerboard()
    split = split_dataset(board, generator=seeded())
    data = build_graph(board, split).to_pyg()
    known = set(zip(split.train.user.tolist(), split.train.item.tolist(), strict=True))
    assert set(map(tuple, data[USER_ITEM].edge_index.t().tolist())) == known
    assert torch.equal(data[USER].degree, torch.bincount(split.train.user, minlength=24).float())


@pytest.mark.parametrize("relation", ["similar_words/tags", "aZ2fZb", "Z2f/", "Z2fZ2fZ", "ß c", "a__b___", "ZZ", "similar_image"])
def test_relation_names_are_encoded_for_to_hetero(relation):
    plain = plain_type((ITEM, relation, ITEM))
    assert plain[1].replace("_", "a").isalnum()
    assert plain[1].isascii()
    assert "__" not in plain[1]
    assert own_type(plain) == (ITEM, relation, ITEM)


def test_to_hetero(graph):
    data = graph.to_pyg()
    torch.manual_seed(0)
    model = to_hetero(SAGE(), data.metadata())
    found = model(data.x_dict, data.edge_index_dict)
    assert {node_type: vectors.shape for node_type, vectors in found.items()} == {
        node_type: (graph.num_nodes(node_type), 4) for node_type in data.node_types
    }
    sum(vectors.square().sum() for vectors in found.values()).backward()
    assert all(parameter.grad is not None for parameter in model.first.parameters())


def test_model_runs_on_the_round_trip():
    graph = rich_graph()
    model = LightGCN(graph.schema, LightGCNConfig(dim=8))
    assert torch.equal(model.encode(graph)[USER], model.encode(MultimodalGraph.from_pyg(graph.to_pyg()))[USER])


def test_random_link_split():
    """The edges of the splits are those of the graph, in both directions, with their attributes."""
    rated, _ = rated_checkerboard()
    graph = whole(rated)
    transform = T.RandomLinkSplit(0.2, 0.2, neg_sampling_ratio=0.0, edge_types=[USER_ITEM], rev_edge_types=[ITEM_USER])
    torch.manual_seed(0)
    train, valid, test = transform(graph.to_pyg())
    rating = dict(
        zip(map(tuple, graph.edges(USER_ITEM).edge_index.t().tolist()), graph.data[USER_ITEM].rating.tolist(), strict=True)
    )
    held_out = {tuple(pair) for data in (valid, test) for pair in data[USER_ITEM].edge_label_index.t().tolist()}
    kept = list(map(tuple, train[USER_ITEM].edge_index.t().tolist()))
    assert 0 < len(kept) < len(rating)
    assert set(kept) <= set(rating) - {pair for pair in held_out if pair in rating}
    assert train[USER_ITEM].rating.tolist() == [rating[pair] for pair in kept]
    assert torch.equal(train[ITEM_USER].edge_index, train[USER_ITEM].edge_index.flip(0))
    back = MultimodalGraph.from_pyg(train)
    pairs = list(map(tuple, back.edges(USER_ITEM).edge_index.t().tolist()))
    assert sorted(pairs) == sorted(kept)
    assert back.attribute(USER_ITEM, "rating").tolist() == [rating[pair] for pair in pairs]
    assert back.attribute(ITEM_USER, "rating").tolist() == [rating[u, i] for i, u in back.edges(ITEM_USER).edge_index.t().tolist()]
    assert set(back.data[USER_ITEM].keys()) == {"edge_index", "edge_weight", "rating", "text"}


def test_deleted_degrees_and_weights_are_recomputed():
    """A PyG split keeps the degrees of the whole graph; deleted degrees are recomputed from the remaining edges."""
    dataset, split = random_split(60, 40, 150)
    data = build_graph(dataset, replace(split, train=split.train.take(slice(0, 100)))).to_pyg()
    expected = MultimodalGraph.from_pyg(data)
    for name in (USER, ITEM):
        del data[name].degree
    for edge_type in (USER_ITEM, ITEM_USER):
        del data[edge_type].edge_weight
    assert_same(expected, MultimodalGraph.from_pyg(data))
    graph = whole(linked_board())
    data = graph.to_pyg()
    del data[ENTITY].degree
    assert torch.equal(MultimodalGraph.from_pyg(data).degree(ENTITY), graph.degree(ENTITY))


def test_to_undirected_restores_the_reversed_edges():
    rated, _ = rated_checkerboard()
    graph = whole(rated)
    data = graph.to_pyg()
    del data[ITEM_USER]
    assert_same(graph, MultimodalGraph.from_pyg(T.ToUndirected()(data)))
    assert_same(graph, MultimodalGraph.from_pyg(data))  # from_pyg restores them too


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_other_transforms():
    graph = rich_graph()
    data = T.AddMetaPaths([[USER_ITEM, ITEM_USER]])(T.RemoveDuplicatedEdges()(graph.to_pyg()))
    assert data["metapath_0"].edge_index.shape[0] == 2
    back = MultimodalGraph.from_pyg(data)
    assert torch.equal(back.edges(USER_ITEM).edge_index, graph.edges(USER_ITEM).edge_index)
    assert graph.to_pyg().to_homogeneous().num_nodes == graph.num_nodes(USER) + graph.num_nodes(ITEM)


class Items(nn.Module):
    def __init__(self, data):
        super().__init__()
        self.model = to_hetero(SAGE(), data.metadata())

    def forward(self, x_dict, edge_index_dict):
        return self.model(x_dict, edge_index_dict)[ITEM]


@pytest.mark.parametrize("algorithm", [GNNExplainer(epochs=2), DummyExplainer()], ids=["gnn", "dummy"])
def test_explainer(algorithm):
    data = rich_graph().to_pyg()
    explainer = Explainer(
        Items(data),
        algorithm,
        explanation_type="model",
        node_mask_type="attributes",
        edge_mask_type="object",
        model_config={"mode": "regression", "task_level": "node", "return_type": "raw"},
    )
    found = explainer(data.x_dict, data.edge_index_dict, index=torch.tensor([2]))
    assert found[ITEM].node_mask.shape == data[ITEM].x.shape
    assert found[USER_ITEM].edge_mask.shape == data[USER_ITEM].edge_weight.shape


def check_batch(graph, batch, users):
    """Check that a mini-batch is a subgraph: its rows, features and edges are those of the whole graph."""
    part = MultimodalGraph.from_pyg(batch)
    assert part.schema == graph.schema
    assert part.rows(USER)[: len(users)].tolist() == users
    assert torch.equal(part.degree(ITEM), graph.degree(ITEM)[part.rows(ITEM)])
    for name, table in graph.features.items():
        assert torch.equal(part.features[name].values, table.values[part.rows(table.node_type)])
    weight = dict(
        zip(map(tuple, graph.edges(ITEM_USER).edge_index.t().tolist()), graph.edges(ITEM_USER).weight.tolist(), strict=True)
    )
    item, user = part.edges(ITEM_USER).edge_index.as_tensor()
    ends = zip(part.rows(ITEM)[item].tolist(), part.rows(USER)[user].tolist(), strict=True)
    found = part.edges(ITEM_USER).weight
    assert len(item)
    assert found is None or found.tolist() == [weight[pair] for pair in ends]


def test_node_loader():
    """The package's own sampler, which needs no compiled extension, works on plain data."""
    graph = whole(board_with(y=None), GraphConfig(knn=3))
    sampler = NeighborSampler(graph, [4, 4], generator=seeded())
    loader = NodeLoader(graph.to_pyg(), sampler, input_nodes=(USER, torch.tensor([3, 7, 1])), batch_size=3)
    (batch,) = loader
    check_batch(graph, batch, [3, 7, 1])


@pytest.mark.skipif(not HAS_SPARSE, reason="HGTLoader needs torch-sparse, which is not installed")
def test_hgt_loader():
    graph = rich_graph()
    loader = HGTLoader(graph.to_pyg(), [4, 4], input_nodes=(USER, torch.tensor([3, 7, 1])), batch_size=3, is_sorted=True)
    (batch,) = loader
    check_batch(graph, batch, [3, 7, 1])


@pytest.mark.skipif(not HAS_PYG_LIB and not HAS_SPARSE, reason="NeighborLoader needs pyg-lib or torch-sparse; neither is installed")
@pytest.mark.filterwarnings("ignore:Using 'NeighborSampler' without a 'pyg-lib'")
def test_neighbor_loader():
    graph = rich_graph()
    loader = NeighborLoader(graph.to_pyg(), [4, 4], input_nodes=(USER, torch.tensor([3, 7, 1])), batch_size=3, is_sorted=True)
    (batch,) = loader
    check_batch(graph, batch, [3, 7, 1])


def test_unsorted_edges_are_sorted():
    graph = whole(linked_board())
    data = graph.to_pyg()
    for edge_type in (USER_ITEM, RELATED):
        order = torch.randperm(data[edge_type].edge_index.shape[1], generator=seeded())
        for name, value in data[edge_type].items():
            data[edge_type][name] = value[:, order] if name == "edge_index" else value[order]
    back = MultimodalGraph.from_pyg(data)
    assert torch.equal(back.edges(USER_ITEM).edge_index, graph.edges(USER_ITEM).edge_index)
    assert torch.equal(back.edges(USER_ITEM).weight, graph.edges(USER_ITEM).weight)
    triples = [
        set(zip(*g.edges(RELATED).edge_index.tolist(), g.attribute(RELATED, "relation").tolist(), strict=True))
        for g in (graph, back)
    ]
    assert triples[0] == triples[1]


def test_added_attribute_is_a_modality():
    data = rich_graph().to_pyg()
    data[ITEM].clip = torch.ones(40, 5).half()
    back = MultimodalGraph.from_pyg(data)
    assert back.schema.feature_dims["clip"] == 5
    assert back.features["clip"].present.all()


def test_foreign_data():
    data = HeteroData()
    data[USER].x, data[ITEM].x = torch.rand(2, 3), torch.rand(3, 4)
    data[USER_ITEM].edge_index = torch.tensor([[0, 1, 1], [2, 0, 2]])
    graph = MultimodalGraph.from_pyg(data)
    assert graph.schema.feature_nodes == {"user_x": USER, "x": ITEM}
    assert graph.edges(ITEM_USER).edge_index.tolist() == [[2, 0, 2], [0, 1, 1]]
    assert graph.degree(USER).tolist() == [1.0, 2.0]
    assert graph.edges(USER_ITEM).weight.tolist() == pytest.approx([0.5**0.5, 0.5**0.5, 0.5])
    assert USER_ITEM in graph.schema.relations
    assert ITEM_USER in graph.schema.relations


def test_error_messages():
    data = HeteroData()
    data["movie"].num_nodes = 2
    with pytest.raises(ValueError, match=r"the data has no node type 'user' \(it has 'movie'\).*Dataset.from_pyg"):
        MultimodalGraph.from_pyg(data)
    data[USER].num_nodes = data[ITEM].num_nodes = 2
    with pytest.raises(ValueError, match=r"the data has no edges \('user', 'interacts', 'item'\) \(it has none\)"):
        MultimodalGraph.from_pyg(data)
    data[USER_ITEM].edge_index = torch.tensor([[0], [2]])
    with pytest.raises(ValueError, match="the edges user-interacts-item contain node 2, but there are 2 nodes"):
        MultimodalGraph.from_pyg(data)
    data[USER_ITEM].edge_index = torch.tensor([[7], [1]])
    with pytest.raises(ValueError, match="the edges user-interacts-item contain node 7, but there are 2 nodes"):
        MultimodalGraph.from_pyg(data)
    data[USER_ITEM].edge_index = torch.tensor([[0], [1]])
    data[ITEM].n_id = torch.tensor([4, 7])
    with pytest.raises(ValueError, match=r"set data\['item'\].num_embeddings to the number of item nodes in the whole graph"):
        MultimodalGraph.from_pyg(data)
    data[ITEM].num_embeddings = 9
    assert MultimodalGraph.from_pyg(data).schema.num_nodes[ITEM] == 9


@pytest.mark.parametrize("name", ["num_nodes", "degree", "n_id", "image_mask"])
def test_reserved_node_attributes_are_rejected(name):
    with pytest.raises(ValueError, match=f"modality '{name}' of item collides with another node attribute"):
        whole(board_with(**{name: None}))


def test_similar_items_are_exported():
    graph = whole(board_with(), GraphConfig(knn=3))
    edge_index = graph.to_pyg()[similar("image")].edge_index
    assert torch.equal(edge_index, graph.edges(similar("image")).edge_index.as_tensor())
