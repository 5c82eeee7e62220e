import pytest
import torch
from torch import Tensor

from gmmrec.nn.decoder import mlp
from gmmrec.nn.decoder.mlp import MLPDecoder


def slow(decoder: MLPDecoder, query: Tensor, candidate: Tensor) -> float:
    whole = torch.cat([decoder.query.weight, decoder.candidate.weight], 1).detach().double()
    x = whole @ torch.cat([query, candidate]).double() + decoder.query.bias.detach().double()
    for layer in decoder.rest:
        if isinstance(layer, torch.nn.Linear):
            x = layer.weight.detach().double() @ x + (0 if layer.bias is None else layer.bias.detach().double())
        elif isinstance(layer, torch.nn.ReLU):
            x = x.clamp(min=0)
    return float(x)


@pytest.mark.parametrize("cells", [1, 60, 2**21])
@pytest.mark.parametrize("hidden", [(6,), (6, 5, 3)])
def test_scores_equal_the_perceptron_on_every_pair(hidden, cells, monkeypatch) -> None:
    monkeypatch.setattr(mlp, "CELLS", cells)
    torch.manual_seed(0)
    decoder = MLPDecoder(3, 4, hidden=hidden)
    queries = torch.randn(2, 3)
    for candidates in (torch.randn(7, 4), torch.randn(2, 7, 4)):
        expected = [[slow(decoder, queries[b], candidates.expand(2, 7, 4)[b, c]) for c in range(7)] for b in range(2)]
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                found = decoder(queries, candidates).detach().double()
            torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-6)


def test_layers_get_one_chunk_at_a_time(monkeypatch) -> None:
    monkeypatch.setattr(mlp, "CELLS", 60)
    decoder, sizes = MLPDecoder(3, hidden=(6,)), []
    decoder.rest.register_forward_hook(lambda module, inputs, output: sizes.append(inputs[0].numel()))
    with torch.no_grad():
        decoder(torch.randn(2, 3), torch.randn(50, 3))
    assert max(sizes) == 60
    assert len(sizes) == 10


def test_chunks_do_not_change_gradients(monkeypatch) -> None:
    torch.manual_seed(0)
    decoder, queries, candidates = MLPDecoder(3, hidden=(6, 4)), torch.randn(2, 3), torch.randn(7, 3)
    whole = torch.autograd.grad(decoder(queries, candidates).square().sum(), list(decoder.parameters()))
    monkeypatch.setattr(mlp, "CELLS", 1)
    parts = torch.autograd.grad(decoder(queries, candidates).square().sum(), list(decoder.parameters()))
    for actual, expected in zip(parts, whole, strict=True):
        torch.testing.assert_close(actual, expected)


def test_empty_hidden_is_rejected_with_a_remedy() -> None:
    with pytest.raises(ValueError, match="use the bilinear decoder instead"):
        MLPDecoder(3, hidden=())


def test_activation_is_configurable() -> None:
    torch.manual_seed(0)
    decoder = MLPDecoder(2, hidden=(3, 4), activation=torch.nn.Sigmoid)
    query, candidate = torch.randn(1, 2), torch.randn(1, 2)
    x = torch.sigmoid(decoder.query(query) + decoder.candidate(candidate))
    x = torch.sigmoid(decoder.rest[2](x))
    torch.testing.assert_close(decoder(query, candidate), decoder.rest[-1](x))
