import torch
from torch.nn import functional as F

from gmmrec.models.graph_fusion.knowledge import KnowledgeEncoder
from gmmrec.nn.relations import Relation


def edges(matrix):  # [target, source]
    target, source = matrix.nonzero(as_tuple=True)
    return Relation(torch.stack([source, target]), matrix[target, source])


def test_items_learn_from_entities_and_from_items_two_steps_away() -> None:
    generator = torch.Generator().manual_seed(0)
    items, entities = torch.randn(4, 3, generator=generator).double(), torch.randn(5, 3, generator=generator).double()
    link = torch.zeros(5, 4).double()
    link[0, 0] = link[1, 2] = link[1, 3] = 1.0  # item 1 is no entity, items 2 and 3 are the same
    between = torch.zeros(5, 5).double()
    between[0, 4] = between[4, 0] = 0.5
    between[1, 4] = between[4, 1] = 0.7
    start = entities + link @ items
    expected = link.T @ (between @ start + between @ between @ start) / 2
    found = KnowledgeEncoder(2)(items, entities, edges(link), edges(between), edges(link.T.contiguous()))
    torch.testing.assert_close(found, expected)
    assert not bool(found[1].any())


def test_features_of_entities_are_added_to_their_vectors() -> None:
    torch.manual_seed(0)
    items, entities = torch.randn(2, 3).double(), torch.randn(4, 3).double()
    tables = [F.normalize(torch.randn(4, width).double(), dim=1) for width in (5, 2)]
    tables[0][3] = 0.0  # it has no features of the first kind
    link, between = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]).double(), torch.rand(4, 4).double()
    encoder = KnowledgeEncoder(1, [5, 2], 3).double()
    start = entities.clone()
    for entity in range(4):
        for read, table in zip(encoder.read, tables, strict=True):
            for d in range(3):
                start[entity, d] += sum(read.weight[d, f] * table[entity, f] for f in range(table.shape[1]))
        for item in range(2):
            start[entity] += link[entity, item] * items[item]
    found = encoder(items, entities, edges(link), edges(between), edges(link.T.contiguous()), tables)
    torch.testing.assert_close(found, link.T @ between @ start)
    found.sum().backward()
    assert all(bool(read.weight.grad.any()) for read in encoder.read)
