from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch.nn import functional as F

from gmmrec.data.features import FeatureTable
from gmmrec.data.split import Split
from gmmrec.data.triples import Triples
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.graph.build import build_graph
from gmmrec.graph.knowledge import KNOWS, with_knowledge
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.graph_fusion import GraphFusion, GraphFusionConfig
from tests.contract import I, RecommenderContract, U, score_all, toy_graph, train
from tests.toy import checkerboard


def known_board(seed: int = 0):
    """The checkerboard, of whose items all but 5 are entities; items of one colour share an entity that is no item."""
    dataset, wanted = checkerboard(U, I, seed=seed)
    items = torch.tensor([i for i in range(I) if i != 5])
    entity = torch.full((I,), -1)
    entity[items] = torch.arange(I - 1)
    colour = I - 1 + items % 2
    facts = Triples(entity[items], torch.zeros(I - 1, dtype=torch.long), colour, torch.zeros(I - 1, dtype=torch.long), entity)
    vocabularies = {
        **dataset.vocabularies,
        "entity": Vocabulary([f"e{i}" for i in range(I + 1)], name="entity"),
        "relation": Vocabulary(["has colour"], name="relation"),
    }
    return replace(dataset, vocabularies=vocabularies, triples=facts), wanted


def graph_of(dataset) -> MultimodalGraph:
    nothing = dataset.interactions.take(torch.arange(0))
    return build_graph(dataset, Split(dataset.interactions, nothing, nothing, triples=dataset.triples))


def test_facts_are_edges_both_ways_once_a_pair() -> None:
    dataset, _ = known_board()
    facts = dataset.triples
    twice = Triples(*(torch.cat([getattr(facts, name)] * 2) for name in ("head", "relation", "tail", "part")), facts.entity)
    graph = with_knowledge(graph_of(replace(dataset, triples=twice)))
    edge_index, weight = graph.edges(KNOWS)
    pairs = {tuple(pair) for pair in edge_index.as_tensor().t().tolist()}
    assert pairs == {pair for h, t in zip(facts.head.tolist(), facts.tail.tolist(), strict=True) for pair in ((h, t), (t, h))}
    assert edge_index.shape[1] == len(pairs)
    even = int((facts.tail == I - 1).sum())
    assert float(weight[0]) == pytest.approx(even**-0.5)  # the first edge comes from the colour to e0


def test_items_without_knowledge_are_refused() -> None:
    with pytest.raises(ValueError, match="the data set has no facts"):
        GraphFusion(toy_graph().schema, GraphFusionConfig(knowledge="entity"))


def test_knowledge_reaches_items_through_what_they_share() -> None:
    dataset, _ = known_board()
    graph = graph_of(dataset)
    torch.manual_seed(0)
    model = GraphFusion(graph.schema, GraphFusionConfig(dim=8, knowledge="entity", item_graph="none", ids="mf")).eval()
    graph = model.prepare(graph)
    before = model.encode(graph)["item"]
    with torch.no_grad():
        model.items[0] += 1.0
    changed = (model.encode(graph)["item"] != before).any(1)
    assert changed.tolist() == [i % 2 == 0 for i in range(I)]  # items of its colour, and itself
    with torch.no_grad():
        model.entities[I] += 1.0  # the odd colour
    changed = (model.encode(graph)["item"] != before).any(1)
    assert changed.tolist() == [i != 5 for i in range(I)]  # item 5 is no entity


def test_features_of_entities_take_part_where_there_are_any() -> None:
    dataset, _ = known_board()
    plain = graph_of(dataset)
    looks = FeatureTable("looks", torch.randn(I + 1, 5), torch.arange(I + 1) != 2, "entity")
    graph = graph_of(replace(dataset, features={**dataset.features, "looks": looks}))
    config = GraphFusionConfig(dim=8, knowledge="entity")
    torch.manual_seed(0)
    model, without = GraphFusion(graph.schema, config).eval(), GraphFusion(plain.schema, config).eval()
    missing = without.load_state_dict(model.state_dict(), strict=False)
    assert (missing.missing_keys, missing.unexpected_keys) == ([], ["know.read.0.weight"])
    with torch.no_grad():
        added = F.normalize(looks.values, dim=1) @ model.know.read[0].weight.T
        without.entities += added
    assert not bool(added[2].any())
    found, expected = model.encode(model.prepare(graph))["item"], without.encode(without.prepare(plain))["item"]
    torch.testing.assert_close(found, expected)
    before = model.know.read[0].weight.detach().clone()
    train(model, model.prepare(graph), dataset.interactions, epochs=1)
    assert not torch.equal(model.know.read[0].weight, before)


@pytest.mark.parametrize("model_class", [GraphFusion])
class TestKnowledge(RecommenderContract):
    settings: ClassVar = {GraphFusion: {"knowledge": "entity", "dim": 16, "content": "linear"}}

    def build(self, model_class, graph, *, seed=0):
        return super().build(model_class, graph if "entity" in graph.data.node_types else informed(graph), seed=seed)

    def test_permuting_users_and_items_permutes_scores(self, model_class) -> None:
        pytest.skip("the toy's alignment would have to be permuted too; it is looked at above")


def informed(graph: MultimodalGraph) -> MultimodalGraph:
    """A toy graph with the facts of its board."""
    facts = graph_of(known_board()[0])
    data = graph.data.clone()
    for owner in ("entity", *(kind for kind in facts.data.edge_types if "entity" in kind)):
        for name, value in facts.data[owner].items():
            data[owner][name] = value
    relations = (*graph.schema.relations, *(kind for kind in facts.schema.relations if "entity" in kind))
    schema = replace(graph.schema, relations=relations, num_nodes=facts.schema.num_nodes, num_relations=1)
    return MultimodalGraph(data, schema)


def test_training_reaches_entities() -> None:
    dataset, _ = known_board()
    graph = graph_of(dataset)
    torch.manual_seed(0)
    model = GraphFusion(graph.schema, GraphFusionConfig(dim=8, knowledge="entity"))
    graph = model.prepare(graph)
    first = model.entities.detach().clone()
    train(model, graph, dataset.interactions, epochs=1)
    assert bool((model.entities != first).any(1).all())
    assert bool(torch.isfinite(score_all(model, graph)).all())
