import torch

from gmmrec.nn.encoder.knowledge import KnowledgeEncoder
from gmmrec.nn.relations import Relation


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

    def edges(matrix):  # [target, source]
        target, source = matrix.nonzero(as_tuple=True)
        return Relation(torch.stack([source, target]), matrix[target, source])

    found = KnowledgeEncoder(2)(items, entities, edges(link), edges(between), edges(link.T.contiguous()))
    torch.testing.assert_close(found, expected)
    assert not bool(found[1].any())
