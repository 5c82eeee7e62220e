import pytest
import torch
from torch import Tensor

from gmmrec.nn import pairs
from gmmrec.nn.pairs import PairNetwork, pair_logits

B, C, N, D, H, F = 4, 3, 6, 5, 2, 9


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double().requires_grad_()


def slow(query: Tensor, tokens: Tensor, row: Tensor, index: Tensor, network: PairNetwork) -> tuple[Tensor, Tensor]:
    logits, products = torch.zeros(len(row), C).double(), torch.zeros(len(row), C).double()
    for f, (b, n) in enumerate(zip(row.tolist(), index.tolist(), strict=True)):
        for c in range(C):
            hidden = network.query[b, c]
            if network.token is not None:
                hidden = hidden + network.token[n]
            if network.product is not None:
                hidden = hidden + network.product @ (query[b, c] * tokens[n])
            logits[f, c] = network.logit @ torch.relu(hidden)
            products[f, c] = query[b, c] @ tokens[n]
    return logits, products


@pytest.mark.parametrize("cells", [1, C * D * 4, 10**6])
@pytest.mark.parametrize("with_token", [False, True])
@pytest.mark.parametrize("with_product", [False, True])
def test_logits_and_gradients_equal_the_formula_in_loops(with_product, with_token, cells, monkeypatch) -> None:
    monkeypatch.setitem(pairs.BLOCK_CELLS, "cpu", cells)
    generator = torch.Generator().manual_seed(0)
    row = torch.randint(B, (F,), generator=generator).sort().values
    index = torch.randint(N, (F,), generator=generator)
    query, tokens = random(B, C, D), random(N, D, seed=1)
    product, token = random(H, D, seed=2) if with_product else None, random(N, H, seed=3) if with_token else None
    network = PairNetwork(product, random(B, C, H, seed=4), token, random(H, seed=5))
    inputs = [t for t in (query, tokens, *network) if t is not None]
    weights = random(2, F, C, seed=6).detach()
    results = []
    for function in (pair_logits, slow):
        found = function(query, tokens, row, index, network)
        slopes = torch.autograd.grad(sum((w * x).sum() for w, x in zip(weights, found, strict=True)), inputs)
        results.append((*found, *slopes))
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


def test_empty_hidden_layer_and_no_pairs() -> None:
    query, tokens = random(B, C, D), random(N, D, seed=1)
    network = PairNetwork(None, query[..., :0], None, torch.zeros(0).double())
    row = torch.tensor([0, 2])
    logits, products = pair_logits(query, tokens, row, torch.tensor([1, 5]), network)
    assert torch.equal(logits, torch.zeros(2, C).double())
    torch.testing.assert_close(products[1], query[2] @ tokens[5])
    assert pair_logits(query, tokens, row[:0], row[:0], network)[0].shape == (0, C)
