import pytest
import torch
from torch import Tensor

from gmmrec.nn.decoder.factorization_machine import FactorizationMachine


def slow(machine: FactorizationMachine, query: Tensor, candidate: Tensor) -> float:
    x = torch.cat([query, candidate]).tolist()
    w, v = torch.cat(list(machine.weights)).tolist(), torch.cat(list(machine.factors)).detach()
    total = sum(a * b for a, b in zip(w, x, strict=True))
    for a in range(len(x)):
        for b in range(a):
            total += float(v[a] @ v[b]) * x[a] * x[b]
    return total


@pytest.mark.parametrize("candidate_dim", [None, 4])
def test_score_is_the_sum_over_all_products(candidate_dim) -> None:
    torch.manual_seed(0)
    machine = FactorizationMachine(3, candidate_dim, factors=2).double()
    with torch.no_grad():
        for parameter in machine.parameters():
            parameter.normal_()
    queries, width = torch.randn(2, 3).double(), candidate_dim or 3
    for candidates in (torch.randn(5, width).double(), torch.randn(2, 5, width).double()):
        expected = [[slow(machine, queries[b], candidates.expand(2, 5, width)[b, c]) for c in range(5)] for b in range(2)]
        torch.testing.assert_close(machine(queries, candidates), torch.tensor(expected).double())


def test_two_features_by_hand() -> None:
    machine = FactorizationMachine(1, factors=2)
    with torch.no_grad():
        for parameter, value in zip(machine.parameters(), ([2.0], [3.0], [[1.0, 2.0]], [[5.0, 7.0]]), strict=True):
            parameter.copy_(torch.tensor(value))
    assert machine(torch.tensor([[10.0]]), torch.tensor([[0.1]])).item() == pytest.approx(20 + 0.3 + (5 + 14) * 1)
