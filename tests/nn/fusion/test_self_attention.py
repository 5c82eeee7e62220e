import math

import torch

from gmmrec.nn.fusion.self_attention import SelfAttentionFusion


def test_equals_the_dense_formula() -> None:
    torch.manual_seed(0)
    fusion = SelfAttentionFusion(4)
    tokens, mask = torch.randn(6, 3, 4), torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 0], [1, 1, 1]]).bool()
    fused, weights = fusion(tokens, mask, return_weights=True)
    wq, wk, wv = (layer.weight.detach().double() for layer in (fusion.query, fusion.key, fusion.value))
    for n in range(6):
        x = tokens[n][mask[n]].double()
        attention = torch.softmax((x @ wq.T) @ (x @ wk.T).T / math.sqrt(4), dim=1)
        z = attention @ (x @ wv.T) + x
        expected = z.mean(0) if len(x) else torch.zeros(4, dtype=torch.float64)
        torch.testing.assert_close(fused[n].double(), expected, rtol=0, atol=1e-6)
        if len(x):
            torch.testing.assert_close(attention.sum(1), torch.ones(len(x), dtype=torch.float64))
            torch.testing.assert_close(weights[n][mask[n]].double(), attention.mean(0), rtol=0, atol=1e-6)
