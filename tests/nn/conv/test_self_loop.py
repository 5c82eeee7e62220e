import pytest
import torch
from torch_geometric import EdgeIndex

from gmmrec.nn.conv.self_loop import SelfLoopPropagation
from gmmrec.nn.relations import Bipartite, Relation, UserItem

U, I, D = 6, 4, 3  # noqa: E741
USER, ITEM = torch.tensor([0, 0, 1, 2, 3, 4, 4, 4]), torch.tensor([0, 1, 1, 2, 0, 0, 1, 2])  # user 5 and item 3 have nobody


def edges(cached=False):
    pairs = {"user": torch.stack([ITEM, USER]), "item": torch.stack([USER, ITEM])}
    if cached:
        sizes = {"user": (I, U), "item": (U, I)}
        pairs = {name: EdgeIndex(pair, sparse_size=sizes[name]).sort_by("col")[0] for name, pair in pairs.items()}
    degree = UserItem(torch.bincount(USER, minlength=U).float(), torch.bincount(ITEM, minlength=I).float())
    return Bipartite(Relation(pairs["user"]), Relation(pairs["item"]), degree)


def operator():
    """``D^-1 (A + I)`` as a matrix."""
    matrix = torch.eye(U + I, dtype=torch.float64)
    matrix[USER, U + ITEM] = matrix[U + ITEM, USER] = 1
    return matrix / matrix.sum(1, keepdim=True)


def apply(num_layers, x, cached=False):
    return torch.cat(SelfLoopPropagation(num_layers)(UserItem(x[:U], x[U:]), edges(cached)))


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("num_layers", [0, 1, 2, 3])
def test_equals_the_mean_of_dense_powers(num_layers, cached):
    x = torch.randn(U + I, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    powers = [torch.linalg.matrix_power(operator(), k) for k in range(num_layers + 1)]
    expected = torch.stack(powers).mean(0) @ x
    out = apply(num_layers, x, cached)
    torch.testing.assert_close(out, expected)
    upstream = torch.randn(U + I, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours, theirs = (torch.autograd.grad(y, x, upstream)[0] for y in (out, expected))
    torch.testing.assert_close(ours, theirs)


def test_rows_of_the_operator_sum_to_one_and_hold_the_node_itself():
    found = 2 * apply(1, torch.eye(U + I, dtype=torch.float64)) - torch.eye(U + I, dtype=torch.float64)  # layer 1 alone
    torch.testing.assert_close(found.sum(1), torch.ones(U + I, dtype=torch.float64))
    degree = torch.cat(edges().degree).double()
    torch.testing.assert_close(found.diagonal(), 1 / (degree + 1))
