from functools import partial

import pytest
import torch
from torch_geometric import EdgeIndex
from torch_geometric.loader import LinkLoader, NodeLoader
from torch_geometric.sampler import NegativeSampling, NodeSamplerInput

from gmmrec.graph.sampling import NeighborSampler, _distinct, as_graph, sample_neighbors, sample_subgraph
from gmmrec.models.lightgcn import LightGCN, LightGCNConfig
from gmmrec.typing import ITEM, ITEM_ITEM, ITEM_USER, USER, USER_ITEM
from tests.graph.whole import random_graph

SEEDS = {USER: torch.tensor([5, 3, 5, 11]), ITEM: torch.tensor([[7, 20], [20, 0]])}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pairs(graph, edge_type):
    """Return edges as pairs of rows of the whole graph."""
    source, target = graph.edges(edge_type).edge_index.as_tensor()
    return list(zip(graph.rows(edge_type[0])[source].tolist(), graph.rows(edge_type[2])[target].tolist(), strict=True))


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_all_neighbours_yield_the_seed_vectors_of_the_whole_graph(num_layers):
    graph = random_graph()
    model = LightGCN(graph.schema, LightGCNConfig(dim=8, num_layers=num_layers))
    small, positions = sample_subgraph(graph, SEEDS, [-1] * num_layers, generator())
    assert small.num_nodes(USER) < graph.num_nodes(USER)
    whole, part = model.encode(graph), model.encode(small)
    for node_type, seeds in SEEDS.items():
        torch.testing.assert_close(part[node_type][positions[node_type]], whole[node_type][seeds], atol=1e-6, rtol=0)


def test_one_hop_fewer_changes_the_vectors():
    graph = random_graph()
    model = LightGCN(graph.schema, LightGCNConfig(dim=8, num_layers=3))
    small, positions = sample_subgraph(graph, SEEDS, [-1, -1], generator())
    difference = model.encode(small)[USER][positions[USER]] - model.encode(graph)[USER][SEEDS[USER]]
    assert float(difference.detach().abs().max()) > 1e-4


def test_edges_are_the_incoming_edges_of_previously_reached_nodes():
    graph = random_graph()
    for num_hops in (1, 2):
        small, _ = sample_subgraph(graph, {USER: torch.tensor([3])}, [-1] * num_hops, generator())
        users, items = {3}, set()  # reached so far
        expected = {USER_ITEM: set(), ITEM_USER: set()}
        for _ in range(num_hops):
            expected[ITEM_USER] = {(i, u) for i, u in pairs(graph, ITEM_USER) if u in users}
            expected[USER_ITEM] = {(u, i) for u, i in pairs(graph, USER_ITEM) if i in items}
            items = items | {i for i, _ in expected[ITEM_USER]}
            users = users | {u for u, _ in expected[USER_ITEM]}
        for edge_type, edges in expected.items():
            assert len(pairs(small, edge_type)) == len(edges)
            assert set(pairs(small, edge_type)) == edges
        assert set(small.rows(USER).tolist()) == users
        assert set(small.rows(ITEM).tolist()) == items


def test_fanout_bounds_the_edges_and_draws_without_replacement():
    graph = random_graph(size=600)
    small, _ = sample_subgraph(graph, SEEDS, [3, 2], generator())
    for edge_type in (USER_ITEM, ITEM_USER):
        sampled = pairs(small, edge_type)
        assert len(set(sampled)) == len(sampled)
        assert set(sampled) <= set(pairs(graph, edge_type))
        kept = torch.bincount(small.edges(edge_type).edge_index[1], minlength=small.num_nodes(edge_type[2]))
        assert int(kept.max()) == 3
        seeds = small.rows(edge_type[2])[: SEEDS[edge_type[2]].unique().numel()]
        assert kept[: seeds.numel()].tolist() == graph.degree(edge_type[2])[seeds].clamp(max=3).tolist()


def test_subgraph_slices_the_whole_graph():
    graph = random_graph()
    small, positions = sample_subgraph(graph, SEEDS, [4, 4], generator())
    assert small.schema == graph.schema
    for node_type, seeds in SEEDS.items():
        rows = small.rows(node_type)
        assert torch.equal(rows[positions[node_type]], seeds)
        assert rows[: seeds.unique().numel()].tolist() == list(dict.fromkeys(seeds.flatten().tolist()))
        assert rows.unique().numel() == rows.numel()
        assert torch.equal(small.degree(node_type), graph.degree(node_type)[rows])
    assert torch.equal(small.features["image"].values, graph.features["image"].values[small.rows(ITEM)])
    assert torch.equal(small.features["image"].mask, graph.features["image"].mask[small.rows(ITEM)])
    weights = dict(zip(pairs(graph, USER_ITEM), graph.edges(USER_ITEM).weight.tolist(), strict=True))
    assert small.edges(USER_ITEM).weight.tolist() == [weights[pair] for pair in pairs(small, USER_ITEM)]
    edge_index = small.edges(USER_ITEM).edge_index
    assert isinstance(edge_index, EdgeIndex)
    assert edge_index.is_sorted_by_col
    assert edge_index.sparse_size() == (small.num_nodes(USER), small.num_nodes(ITEM))
    edge_index.validate()


def test_a_subgraph_of_a_subgraph_keeps_the_rows_of_the_table():
    graph = random_graph()
    first, positions = sample_subgraph(graph, SEEDS, [-1, -1], generator())
    second, _ = sample_subgraph(first, {USER: positions[USER][1:2]}, [-1], generator())
    direct, _ = sample_subgraph(graph, {USER: SEEDS[USER][1:2]}, [-1], generator())
    assert set(pairs(second, ITEM_USER)) == set(pairs(direct, ITEM_USER))
    assert second.rows(USER).tolist() == [3]


def test_every_relation_is_sampled():
    graph = random_graph().with_edges(ITEM_ITEM, torch.tensor([[1, 2, 3], [0, 0, 1]]), torch.tensor([0.1, 0.2, 0.3]))
    small, _ = sample_subgraph(graph, {ITEM: torch.tensor([0])}, [-1], generator())
    assert pairs(small, ITEM_ITEM) == [(1, 0), (2, 0)]
    torch.testing.assert_close(small.edges(ITEM_ITEM).weight, torch.tensor([0.1, 0.2]))


def test_seed_determines_the_subgraph_and_hops_are_counted():
    graph = random_graph(size=600)
    first, second, third = (sample_neighbors(graph, SEEDS, [2, 2], generator(seed))[0] for seed in (0, 0, 1))
    assert all(torch.equal(first.edge[t], second.edge[t]) for t in first.edge)
    assert not all(torch.equal(first.edge[t], third.edge[t]) for t in first.edge)
    for node_type, counts in first.num_sampled_nodes.items():
        assert sum(counts) == first.node[node_type].numel()
        assert counts[0] == SEEDS[node_type].unique().numel()
    for edge_type, counts in first.num_sampled_edges.items():  # edges of the first hop end at seeds and come first
        seeds = first.num_sampled_nodes[edge_type[2]][0]
        assert int((first.col[edge_type] < seeds).sum()) == counts[0]
        assert bool((first.col[edge_type][: counts[0]] < seeds).all())


def test_draws_are_uniform_over_subsets():
    drawn = _distinct(torch.full((60_000,), 5), 3, generator()).sort(1).values
    subsets, counts = (drawn @ torch.tensor([100, 10, 1])).unique(return_counts=True)
    assert subsets.tolist() == [12, 13, 14, 23, 24, 34, 123, 124, 134, 234]
    assert float((counts / 6000 - 1).abs().max()) < 0.06  # ten subsets; the standard error is 1.2 %


def test_link_loader_yields_graphs_with_triplet_positions():
    graph = random_graph()
    negatives = torch.arange(60)[:, None] + torch.tensor([[0, 1]])
    sampler = NeighborSampler(graph, [3, 3], generator=generator(), negatives=lambda users, count: negatives[users] % 40)
    edges = graph.edges(USER_ITEM).edge_index.as_tensor()
    loader = LinkLoader(
        graph.data,
        sampler,
        edge_label_index=(USER_ITEM, edges),
        neg_sampling=NegativeSampling("triplet", amount=2),
        transform=partial(as_graph, schema=graph.schema),
        batch_size=32,
    )
    seen = []
    for batch in loader:
        users = batch.rows(USER)[batch.data[USER].src_index]
        items = batch.rows(ITEM)[batch.data[ITEM].dst_pos_index]
        seen.append(torch.stack([users, items]))
        assert torch.equal(batch.rows(ITEM)[batch.data[ITEM].dst_neg_index], negatives[users] % 40)
        assert batch.edges(USER_ITEM).edge_index.is_sorted_by_col
    assert torch.equal(torch.cat(seen, 1), edges)


def test_loaders_without_negatives():
    graph = random_graph()
    sampler = NeighborSampler(graph, [3], generator=generator())
    edges = graph.edges(USER_ITEM).edge_index.as_tensor()
    batch = next(iter(LinkLoader(graph.data, sampler, edge_label_index=(USER_ITEM, edges), batch_size=8)))
    positions = batch[USER_ITEM].edge_label_index
    assert torch.equal(torch.stack([batch[USER].n_id[positions[0]], batch[ITEM].n_id[positions[1]]]), edges[:, :8])
    batch = next(iter(NodeLoader(graph.data, sampler, input_nodes=(USER, torch.tensor([9, 4])), batch_size=2)))
    assert batch[USER].n_id[: batch[USER].batch_size].tolist() == [9, 4]


def test_edges_within_one_node_type():
    graph = random_graph().with_edges(ITEM_ITEM, torch.tensor([[1, 2, 3], [0, 0, 1]]))
    sampler = NeighborSampler(graph, [1], generator=generator())
    loader = LinkLoader(graph.data, sampler, edge_label_index=(ITEM_ITEM, torch.tensor([[3, 2], [1, 3]])), batch_size=2)
    batch = next(iter(loader))
    assert batch[ITEM].n_id[batch[ITEM_ITEM].edge_label_index].tolist() == [[3, 2], [1, 3]]


def test_no_neighbours_keep_no_edges():
    graph, seeds = random_graph(), {USER: torch.tensor([3, 1])}
    for fanouts in ([0], [0, -1]):
        part, positions = sample_subgraph(graph, seeds, fanouts, generator())
        assert part.edges(ITEM_USER).edge_index.shape[1] == 0
        assert part.rows(USER).tolist() == [3, 1]
        assert positions[USER].tolist() == [0, 1]


def test_invalid_arguments_are_rejected():
    graph = random_graph()
    assert NeighborSampler(graph, [3, -1], generator=generator()).num_neighbors == (3, -1)
    with pytest.raises(ValueError, match="num_neighbors must hold"):
        NeighborSampler(graph, [], generator=generator())
    with pytest.raises(ValueError, match="num_neighbors must hold"):
        NeighborSampler(graph, [3, -2], generator=generator())
    sampler = NeighborSampler(graph, [3], generator=generator())
    loader = LinkLoader(
        graph.data, sampler, edge_label_index=(USER_ITEM, torch.tensor([[0], [0]])), neg_sampling=NegativeSampling("binary")
    )
    with pytest.raises(ValueError, match="mode 'triplet'"):
        next(iter(loader))


def test_worker_processes_draw_different_samples(monkeypatch):
    class Worker:
        def __init__(self, number):
            self.id, self.seed = number, 100 + number

    def draw(worker):
        monkeypatch.setattr(torch.utils.data, "get_worker_info", lambda: worker)
        sampler = NeighborSampler(random_graph(size=600), [2], generator=generator())
        index = NodeSamplerInput(None, torch.arange(20), input_type=USER)
        return [sampler.sample_from_nodes(index).edge[ITEM_USER].tolist() for _ in range(2)]

    first, again, second = draw(Worker(0)), draw(Worker(0)), draw(Worker(1))
    assert first == again
    assert first[0] != first[1]  # seeded once, not at every batch
    assert first != second
