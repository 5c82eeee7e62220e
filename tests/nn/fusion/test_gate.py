import math

import pytest
import torch

from gmmrec.nn.fusion.gate import GateFusion


@pytest.mark.parametrize("num_tokens", [None, 3])
@pytest.mark.parametrize("gate", ["softmax", "sigmoid"])
@pytest.mark.parametrize("hidden", [None, 5])
def test_equals_the_dense_formula(hidden, gate, num_tokens) -> None:
    torch.manual_seed(0)
    fusion = GateFusion(4, hidden=hidden, gate=gate, num_tokens=num_tokens)
    tokens, mask = torch.randn(6, 3, 4), torch.rand(6, 3) < 0.7
    fused, weights = fusion(tokens, mask, return_weights=True)
    fusion.double().requires_grad_(False)
    layers = [fusion.logits[m if num_tokens else 0] for m in range(3)]
    for n in range(6):
        gates = []
        for m in range(3):
            x = tokens[n, m].double()
            if hidden is None:
                logit = layers[m].weight[0] @ x + (0 if layers[m].bias is None else layers[m].bias[0])
            else:
                logit = layers[m][2].weight[0] @ torch.tanh(layers[m][0].weight @ x + layers[m][0].bias)
            gates.append(bool(mask[n, m]) * (math.exp(logit) if gate == "softmax" else 1 / (1 + math.exp(-logit))))
        total = (sum(gates) or 1.0) if gate == "softmax" else 1.0
        assert weights[n].tolist() == pytest.approx([g / total for g in gates], abs=1e-6)
        slow = sum(g / total * tokens[n, m].double() for m, g in enumerate(gates))
        torch.testing.assert_close(fused[n].double(), slow, rtol=0, atol=1e-6)


def test_wrong_number_of_tokens_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"(shorter|longer) than"):
        GateFusion(4, num_tokens=2)(torch.zeros(1, 3, 4))


def test_unknown_gate_is_rejected() -> None:
    with pytest.raises(ValueError, match="gate must be 'softmax' or 'sigmoid', but is 'relu'"):
        GateFusion(4, gate="relu")
