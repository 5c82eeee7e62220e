from dataclasses import replace

import pytest
import torch

from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models import MODELS
from gmmrec.models.graph_filter import GraphFilterConfig
from gmmrec.serving.known import known_entities, known_items, known_users
from gmmrec.testing import I, U, checkerboard, circle, graph_of, toy_graph, with_mask

COLD_USER, COLD_ITEM, BARE = 5, 6, 8
"""A user and two items without interactions; the second item lacks features, too."""


def cold_board():
    dataset = checkerboard(U, I)[0]
    log = dataset.interactions
    keep = (log.user != COLD_USER) & (log.item != COLD_ITEM) & (log.item != BARE)
    dataset = replace(dataset, interactions=log.take(keep))
    for name in dataset.features:
        dataset = with_mask(dataset, name, torch.tensor([BARE]))
    return dataset


def built(name, graph: MultimodalGraph, **settings):
    torch.manual_seed(0)
    model = MODELS[name](graph.schema, MODELS[name].config_class(**settings)).eval()
    with torch.no_grad():
        return model, model.prepare(graph)


def unknown(mask):
    return torch.nonzero(~mask).flatten().tolist()


@pytest.mark.parametrize(
    ("name", "items", "users"),
    [
        ("lightgcn", [COLD_ITEM, BARE], [COLD_USER]),  # reads no features
        ("bm3", [COLD_ITEM, BARE], [COLD_USER]),  # reads them in its loss alone
        ("ease", [COLD_ITEM, BARE], [COLD_USER]),
        ("bert4rec", [COLD_ITEM, BARE], [COLD_USER]),
        ("nova-bert", [COLD_ITEM, BARE], [COLD_USER]),  # reads those of the history, not of candidates
        ("vlsnr", [BARE], [COLD_USER]),
        ("vbpr", [BARE], [COLD_USER]),
        ("freedom", [BARE], [COLD_USER]),
        ("lattice", [BARE], [COLD_USER]),
        ("popularity", [], []),  # alike for everybody
    ],
)
def test_what_is_known_depends_on_what_a_model_reads(name, items, users):
    model, graph = built(name, toy_graph(cold_board()))
    assert (unknown(known_items(model, graph)), unknown(known_users(model, graph))) == (items, users)


def test_settings_decide_what_is_read():
    graph = toy_graph(cold_board())
    for settings, expected in (({}, [COLD_ITEM, BARE]), ({"item_weight": 0.5}, [BARE])):
        assert unknown(known_items(*built("graph-filter", graph, **settings))) == expected
    assert GraphFilterConfig().item_weight == 0


def test_features_of_users_are_known_to_models_that_read_them():
    dataset = cold_board()
    table = dataset.features["text"]
    age = replace(table, name="age", values=torch.ones(U, 2), mask=torch.arange(U) % 2 == 1, node_type="user")
    graph = toy_graph(replace(dataset, features={**dataset.features, "age": age}))
    assert unknown(known_users(*built("uvcan", graph))) == []
    assert unknown(known_users(*built("vbpr", graph))) == [COLD_USER]


def test_an_entity_is_known_by_triples_or_features():
    dataset = circle(6)
    triples = dataset.triples
    apart = (triples.head != 1) & (triples.tail != 1) & (triples.head != 3) & (triples.tail != 3)
    dataset = replace(dataset, triples=replace(triples.take(apart), entity=None), features={"name": dataset.features["name"]})
    assert unknown(known_entities(graph_of(dataset)[1])) == [1]  # the only one without a name; 3 has one
