import pytest
import torch

from gmmrec.nn.encoder.co_interaction import CoInteractionEncoder, TextSetEncoder
from gmmrec.nn.relations import Relation

N, D = 6, 4
EDGES = torch.tensor([[1, 0, 2, 1, 4, 3, 4], [0, 1, 1, 2, 3, 4, 0]])  # node 5 has none
WEIGHT = torch.tensor([0.5, 0.2, 0.3, 1.0, 0.7, 0.1, 0.4])


def dense(weight: torch.Tensor) -> torch.Tensor:
    matrix = torch.zeros(N, N, dtype=torch.float64)
    matrix[EDGES[1], EDGES[0]] = weight.double()
    return matrix


@pytest.mark.parametrize("num_layers", [0, 1, 3])
def test_light_layers_equal_powers_of_the_matrix(num_layers):
    x = torch.randn(N, D, generator=torch.Generator().manual_seed(0))
    found = CoInteractionEncoder(D, num_layers)(x, Relation(EDGES, WEIGHT))
    layers = [torch.linalg.matrix_power(dense(WEIGHT), k) @ x.double() for k in range(num_layers + 1)]
    torch.testing.assert_close(found.double(), sum(layers) / (num_layers + 1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[5], x[5] / (num_layers + 1))


def test_attention_layers_equal_the_slow_formula():
    torch.manual_seed(0)
    encoder, x = CoInteractionEncoder(D, 2, layer="attention"), torch.randn(N, D)
    layers = [x.double()]
    for layer in encoder.layers:
        y = layers[-1] @ layer.weight.detach().double()
        out = torch.zeros(N, D, dtype=torch.float64)
        for i in range(N):
            near = EDGES[0][EDGES[1] == i].tolist()
            if near:
                logits = torch.stack([torch.nn.functional.leaky_relu(y[j]) @ y[i] for j in near])
                mixed = sum(a * y[j] for a, j in zip(logits.softmax(0), near, strict=True))
                out[i] = mixed / mixed.norm()
        layers.append(out)
    found = encoder(x, Relation(EDGES, WEIGHT))
    torch.testing.assert_close(found.detach().double(), sum(layers) / 3, rtol=1e-4, atol=1e-5)


def test_texts_equal_the_slow_formula():
    torch.manual_seed(0)
    encoder, values = TextSetEncoder(5, D).double(), torch.randn(3, 4, 5, dtype=torch.float64)
    mask = torch.tensor([[True, True, False, True], [False, False, True, False], [False] * 4])
    rows = torch.tensor([2, 0, 1, 0])
    found, beta = encoder(values, mask, rows, return_weights=True)
    hidden, query = encoder.attend.logits[0][0], encoder.attend.logits[0][2].weight[0]
    for position, row in enumerate(rows.tolist()):
        there = mask[row].nonzero().flatten().tolist()
        texts = {r: encoder.project.weight @ values[row, r] + encoder.project.bias for r in there}
        logit = {r: (query @ torch.tanh(hidden.weight @ t + hidden_bias(hidden))).exp().item() for r, t in texts.items()}
        expected = sum((logit[r] / sum(logit.values()) * texts[r] for r in there), torch.zeros(D, dtype=torch.float64))
        torch.testing.assert_close(found[position], expected)
        assert bool((beta[position][~mask[row]] == 0).all())


def hidden_bias(layer: torch.nn.Linear) -> torch.Tensor:
    return torch.zeros(D, dtype=torch.float64) if layer.bias is None else layer.bias


def test_an_unknown_layer_is_refused():
    with pytest.raises(ValueError, match="layer must be 'light' or 'attention', but is 'gcn'"):
        CoInteractionEncoder(D, layer="gcn")
