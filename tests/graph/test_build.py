from dataclasses import replace

import pytest
import torch
from torch_geometric import EdgeIndex

from gmmrec.data.features import FeatureTable
from gmmrec.data.interactions import Interactions
from gmmrec.data.split import Split, split_dataset
from gmmrec.data.triples import Triples
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.errors import UsageError
from gmmrec.graph.build import GraphConfig, build_graph
from gmmrec.graph.edges import cooccurrence_edges
from gmmrec.testing import checkerboard, circle
from gmmrec.typing import ALIGNED, ENTITY_ITEM, ITEM, ITEM_ITEM, ITEM_USER, RELATED, USER, USER_ITEM, USER_USER, similar
from tests.graph.whole import random_split

EVERYTHING = GraphConfig(knn=4, co_occurrence=3, user_co_occurrence=2)


def dense(graph, edge_type):
    """Return the weighted adjacency matrix, one row per target."""
    edge_index, weight = graph.edges(edge_type)
    matrix = torch.zeros(graph.num_nodes(edge_type[2]), graph.num_nodes(edge_type[0]))
    matrix[edge_index[1], edge_index[0]] = weight
    return matrix


def test_edges_and_weights_are_those_of_the_training_matrix():
    dataset, split = random_split(60, 40, 150)
    graph = build_graph(dataset, split)
    touched = torch.zeros(60, 40)
    touched[split.train.user, split.train.item] = 1
    expected = touched / (touched.sum(1, keepdim=True) * touched.sum(0)).sqrt().clamp(min=1)
    torch.testing.assert_close(dense(graph, ITEM_USER), expected)
    torch.testing.assert_close(dense(graph, USER_ITEM), expected.T)
    assert graph.degree(USER).tolist() == touched.sum(1).tolist()
    assert graph.degree(ITEM).tolist() == touched.sum(0).tolist()
    assert len(split.train) > int(touched.sum()) == graph.edges(USER_ITEM).edge_index.shape[1]  # repeated pairs are one edge
    assert graph.schema.relations == (USER_ITEM, ITEM_USER)
    for edge_type in graph.schema.relations:
        edge_index = graph.edges(edge_type).edge_index
        assert isinstance(edge_index, EdgeIndex)
        assert edge_index.is_sorted_by_col
        edge_index.validate()


def test_nodes_without_interactions_keep_their_features():
    dataset, split = random_split(60, 40, 60)
    graph = build_graph(dataset, split, EVERYTHING)
    assert graph.num_nodes(USER) == 60
    assert graph.num_nodes(ITEM) == 40
    isolated = int((graph.degree(ITEM) == 0).nonzero()[0])
    assert torch.equal(graph.features["text"].values[isolated], dataset.features["text"].values[isolated])
    assert int((graph.edges(similar("text")).edge_index[1] == isolated).sum()) == 4
    assert not bool(graph.features["image"].present[3])
    assert graph.schema.feature_dims == {"image": 6, "text": 4}


def test_validation_and_test_interactions_do_not_affect_the_graph():
    dataset, split = random_split(60, 40, 150)
    others = Interactions(torch.arange(40), torch.arange(40))
    first = build_graph(dataset, split, EVERYTHING).data.to_dict()
    log = replace(dataset, interactions=others)
    second = build_graph(log, replace(split, valid=others, test=others.take(torch.arange(9))), EVERYTHING).data.to_dict()
    assert first.keys() == second.keys()
    assert {USER_ITEM, ITEM_USER, ITEM_ITEM, USER_USER, similar("image"), similar("text"), USER, ITEM} <= first.keys()
    for store, values in first.items():
        assert values.keys() == second[store].keys()
        for name, value in values.items():
            other = second[store][name]
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(other)), (store, name)


def test_training_interactions_affect_the_graph():
    dataset, split = random_split(60, 40, 150)
    fewer = replace(split, train=split.train.take(torch.arange(20)))
    for edge_type in (USER_ITEM, ITEM_ITEM, USER_USER):
        full, part = (build_graph(dataset, s, EVERYTHING).edges(edge_type).edge_index.shape[1] for s in (split, fewer))
        assert full > part


def test_optional_relations_are_normalised_by_row_sums():
    dataset, split = random_split(60, 40, 300)
    graph = build_graph(dataset, split, replace(EVERYTHING, knn_weighting="cosine"))
    raw = torch.zeros(40, 40)
    edge_index, weight = cooccurrence_edges(split.train, 40, 3)
    raw[edge_index[1], edge_index[0]] = weight
    sums = raw.sum(1).clamp(min=1)
    torch.testing.assert_close(dense(graph, ITEM_ITEM), raw / torch.outer(sums, sums).sqrt())

    unit = torch.nn.functional.normalize(dataset.features["text"].values, dim=-1)
    similarity = unit @ unit.T
    kept = dense(graph, similar("text")) > 0
    raw = torch.where(kept, similarity, 0.0)
    assert kept.sum(1).tolist() == [4] * 40
    torch.testing.assert_close(dense(graph, similar("text")), raw / torch.outer(raw.sum(1), raw.sum(1)).sqrt())
    binary = build_graph(dataset, split, EVERYTHING)
    assert binary.edges(similar("text")).weight.tolist() == pytest.approx([0.25] * 160)
    assert not bool(torch.isin(torch.tensor(3), binary.edges(similar("image")).edge_index.as_tensor()))  # it has no image


def test_negative_similarities_have_weight_zero():
    dataset, split = random_split(60, 40, 150)
    side = FeatureTable("side", torch.where(torch.arange(40) < 10, 1.0, -1.0)[:, None])  # ten items against thirty
    graph = build_graph(replace(dataset, features={"side": side}), split, GraphConfig(knn=20, knn_weighting="cosine"))
    edge_index, weight = graph.edges(similar("side"))
    like = (edge_index[0] < 10) == (edge_index[1] < 10)
    assert int((~like).sum()) == 100  # each of the ten has only ten neighbours on its side
    assert bool((weight[~like] == 0).all())
    torch.testing.assert_close(weight[like], torch.where(edge_index[1, like] < 10, 0.1, 0.05))


def test_user_features_and_tokens_are_included():
    dataset, split = random_split(60, 40, 150)
    age = FeatureTable("age", torch.rand(60, 1), node_type="user")
    words = FeatureTable("words", torch.rand(40, 5, 3), torch.rand(40, 5) < 0.5)
    graph = build_graph(replace(dataset, features={"age": age, "words": words}), split, GraphConfig(knn=2))
    assert graph.schema.modalities("user") == ("age",)
    assert graph.schema.modalities() == ("words",)
    assert graph.schema.feature_dims == {"age": 1, "words": 3}
    assert torch.equal(graph.features["words"].mask, words.mask)
    assert graph.schema.relations == (USER_ITEM, ITEM_USER, similar("words"))


def test_cache_is_off_by_default(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    dataset, split = random_split(60, 40, 150)
    plain = build_graph(dataset, split, GraphConfig(knn=3))
    assert not list(tmp_path.rglob("*"))
    for _ in range(2):
        cached = build_graph(dataset, split, GraphConfig(knn=3, cache=True))
        assert torch.equal(dense(plain, similar("text")), dense(cached, similar("text")))
        assert len(list((tmp_path / "gmmrec").glob("knn-*.safetensors"))) == 2  # one per modality


def test_invalid_settings_are_rejected():
    with pytest.raises(ValueError, match="knn must be 0 or more"):
        GraphConfig(knn=-1)
    with pytest.raises(ValueError, match="knn_weighting must be one of"):
        GraphConfig(knn_weighting="euclid")


@pytest.mark.parametrize("name", ["num_nodes", "degree", "n_id", "image_mask"])
def test_modalities_named_like_attributes_of_nodes_are_refused(name):
    dataset, _ = checkerboard()
    named = replace(dataset, features={**dataset.features, name: replace(dataset.features["text"], name=name)})
    with pytest.raises(UsageError, match=f"modality '{name}' of item collides with another node attribute"):
        build_graph(named, split_dataset(named, generator=torch.Generator().manual_seed(0)))


def test_triples_are_sorted_by_tail_head_and_relation():
    dataset = circle(5)
    triples = Triples(*torch.tensor([[4, 0, 4, 1, 4, 2], [1, 0, 0, 1, 1, 0], [0, 3, 0, 0, 2, 1], [0, 0, 0, 0, 0, 1]]))
    graph = build_graph(dataset, Split(dataset.interactions, dataset.interactions, dataset.interactions, triples=triples))
    assert graph.edges(RELATED).edge_index.tolist() == [[1, 4, 4, 4, 0], [0, 0, 0, 2, 3]]  # (2, 1) is held out
    assert graph.attribute(RELATED, "relation").tolist() == [1, 0, 1, 1, 0]
    assert graph.degree("entity").tolist() == [4, 1, 1, 1, 3]
    assert graph.schema.relations == (USER_ITEM, ITEM_USER, RELATED)
    assert graph.schema.num_relations == 2


def test_aligned_items_are_joined_with_their_entities():
    dataset, _ = checkerboard(4, 5)
    row = torch.arange(2)
    triples = Triples(row, row * 0, 1 - row, row * 0, entity=torch.tensor([1, -1, 0, -1, -1]))
    vocabularies = {**dataset.vocabularies, "entity": Vocabulary(["a", "b"]), "relation": Vocabulary(["r"])}
    log = dataset.interactions
    graph = build_graph(replace(dataset, vocabularies=vocabularies, triples=triples), Split(log, log, log, triples=triples))
    assert graph.schema.relations == (USER_ITEM, ITEM_USER, RELATED, ALIGNED, ENTITY_ITEM)
    assert graph.edges(ALIGNED).edge_index.tolist() == [[2, 0], [0, 1]]
    assert graph.edges(ENTITY_ITEM).edge_index.tolist() == [[1, 0], [0, 2]]
