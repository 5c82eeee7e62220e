import torch

from gmmrec.testing import circle, graph_of, without


def test_every_entity_has_a_next_and_an_opposite() -> None:
    triples = circle(6).triples
    assert sorted(zip(triples.head.tolist(), triples.relation.tolist(), triples.tail.tolist(), strict=True)) == sorted(
        [(e, 0, (e + 1) % 6) for e in range(6)] + [(e, 1, (e + 3) % 6) for e in range(6)]
    )
    assert torch.nonzero(triples.part == 1).flatten().tolist() == [2]
    assert torch.nonzero(triples.part == 2).flatten().tolist() == [5]


def test_held_out_triples_are_not_edges() -> None:
    dataset = circle(6)
    _, graph = graph_of(dataset)
    edges = {kind: graph.edges(kind).edge_index.shape[1] for kind in graph.schema.relations if kind[0] == kind[2] == "entity"}
    assert edges
    assert all(0 < count <= 2 * 10 for count in edges.values())  # ten of twelve triples


def test_hidden_modalities_keep_their_columns() -> None:
    dataset = without(circle(6), "name")
    assert not bool(dataset.features["name"].mask.any())
    assert dataset.features["name"].values.shape == (6, 4)
    assert bool(dataset.features["words"].mask.any())
