import torch

from gmmrec.nn.conv.light import LightConv
from gmmrec.nn.relations import Bipartite, Relation, UserItem

EDGES = torch.tensor([[0, 1, 1], [1, 0, 1]])
"""Edges from two users to two items."""


def test_relation_unpacks_into_a_convolution() -> None:
    x = torch.tensor([[1.0], [10.0]])
    assert LightConv()((x, x), *Relation(EDGES)).tolist() == [[10.0], [11.0]]
    assert LightConv()((x, x), *Relation(EDGES, torch.tensor([1.0, 2.0, 3.0]))).tolist() == [[20.0], [31.0]]


def test_users_come_before_items() -> None:
    user, item = UserItem(torch.zeros(2, 1), torch.ones(3, 1))
    assert (len(user), len(item)) == (2, 3)
    to_user, to_item, degree, *between = Bipartite(Relation(EDGES.flip(0)), Relation(EDGES), UserItem(user, item))
    assert torch.equal(to_user.edge_index, to_item.edge_index.flip(0))
    assert degree.user is user
    assert between == [None, None]
