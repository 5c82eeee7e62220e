from dataclasses import replace

import pytest
import torch

from gmmrec.data.features import FeatureTable
from gmmrec.data.ragged import RaggedSets
from gmmrec.graph.build import build_graph
from gmmrec.graph.fold_in import with_new_users
from gmmrec.graph.sampling import sample_subgraph
from gmmrec.models.lightgcn import LightGCN, LightGCNConfig
from gmmrec.typing import ITEM, ITEM_USER, USER, USER_ITEM, USER_USER
from tests.graph.whole import random_graph, random_split

HISTORIES = RaggedSets(torch.tensor([0, 3, 3, 4]), torch.tensor([2, 9, 30, 9]))  # three users, the second without a history


def test_new_users_are_weighted_sums_and_other_vectors_stay():
    graph = random_graph()
    model = LightGCN(graph.schema, LightGCNConfig(dim=8, num_layers=2))
    before, after = model.encode(graph), model.encode(with_new_users(graph, HISTORIES))
    assert torch.equal(after[ITEM], before[ITEM])
    assert torch.equal(after[USER][:60], before[USER])
    # layer 0 is zero, layer l the weighted sum of the items' layer l - 1
    first_items = model.items
    second_items = torch.zeros_like(first_items)
    source, target = graph.edges(USER_ITEM).edge_index.as_tensor()
    weight = 1 / (graph.degree(USER)[source] * graph.degree(ITEM)[target]).sqrt()
    second_items = second_items.index_add(0, target, model.users[source] * weight[:, None])
    for user, history in enumerate([[2, 9, 30], [], [9]]):
        expected = torch.zeros(8)
        for i in history:
            expected = expected + (first_items[i] + second_items[i]) / (len(history) * max(float(graph.degree(ITEM)[i]), 1)) ** 0.5
        torch.testing.assert_close(after[USER][60 + user], expected / 3)


def test_rows_degrees_and_edges():
    graph = random_graph()
    folded = with_new_users(graph, HISTORIES)
    assert folded.rows(USER).tolist() == [*range(60), -1, -1, -1]
    assert folded.degree(USER).tolist() == [*graph.degree(USER).tolist(), 3, 0, 1]
    assert torch.equal(folded.degree(ITEM), graph.degree(ITEM))
    assert torch.equal(folded.edges(USER_ITEM).edge_index.as_tensor(), graph.edges(USER_ITEM).edge_index.as_tensor())
    assert torch.equal(folded.edges(USER_ITEM).weight, graph.edges(USER_ITEM).weight)
    assert folded.edges(USER_ITEM).edge_index.sparse_size() == (63, 40)
    edge_index, weight = folded.edges(ITEM_USER)
    edge_index.validate()
    assert edge_index[:, -4:].tolist() == [[2, 9, 30, 9], [60, 60, 60, 62]]
    degrees = graph.degree(ITEM)[[2, 9, 30, 9]].clamp(min=1)
    torch.testing.assert_close(weight[-4:], 1 / (torch.tensor([3.0, 3.0, 3.0, 1.0]) * degrees).sqrt())
    assert graph.num_nodes(USER) == 60  # the original graph is unchanged
    assert graph.edges(ITEM_USER).edge_index.sparse_size() == (40, 60)


def test_item_without_interactions_counts_like_one_of_degree_one():
    graph = random_graph(size=40)
    cold = int((graph.degree(ITEM) == 0).nonzero()[0])
    folded = with_new_users(graph, RaggedSets(torch.tensor([0, 1]), torch.tensor([cold])))
    assert float(folded.edges(ITEM_USER).weight[-1]) == 1


def test_new_users_have_no_features_and_other_relations_are_resized():
    dataset, split = random_split(60, 40, 150)
    age = FeatureTable("age", torch.ones(60, 2), node_type="user")
    graph = build_graph(replace(dataset, features={**dataset.features, "age": age}), split)
    graph = graph.with_edges(USER_USER, torch.tensor([[0, 1], [1, 2]]))
    folded = with_new_users(graph, HISTORIES)
    assert folded.features["age"].present.tolist() == [True] * 60 + [False] * 3
    assert folded.features["age"].num_rows == 63
    assert folded.features["image"].num_rows == 40
    assert folded.edges(USER_USER).edge_index.sparse_size() == (63, 63)


def test_new_users_are_sampled_into_subgraphs():
    graph = random_graph()
    model = LightGCN(graph.schema, LightGCNConfig(dim=8, num_layers=2))
    folded = with_new_users(graph, HISTORIES)
    part, positions = sample_subgraph(folded, {USER: torch.tensor([60, 4])}, [-1, -1], torch.Generator())
    assert part.rows(USER)[positions[USER]].tolist() == [-1, 4]
    torch.testing.assert_close(model.encode(part)[USER][positions[USER]], model.encode(folded)[USER][[60, 4]], atol=1e-6, rtol=0)


def test_unknown_items_are_rejected():
    with pytest.raises(ValueError, match="items 0 to 39, but hold 40"):
        with_new_users(random_graph(), RaggedSets(torch.tensor([0, 1]), torch.tensor([40])))
