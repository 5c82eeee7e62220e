import torch

from gmmrec.nn.fusion.concat import ConcatFusion


def test_equals_the_dense_formula() -> None:
    torch.manual_seed(0)
    fusion = ConcatFusion(3, 2)
    tokens, mask = torch.randn(4, 2, 3), torch.tensor([[1, 1], [0, 1], [1, 0], [0, 0]], dtype=torch.bool)
    weight, bias = fusion.project.weight.detach().double(), fusion.project.bias.detach().double()
    slow = torch.zeros(4, 3, dtype=torch.float64)
    for n in range(4):
        if mask[n].any():
            slow[n] = bias + sum(weight[:, 3 * m : 3 * m + 3] @ tokens[n, m].double() for m in range(2) if mask[n, m])
    torch.testing.assert_close(fusion(tokens, mask).double(), slow, rtol=0, atol=1e-6)
    weights = fusion(tokens, mask, return_weights=True)[1]
    assert weights.tolist() == [[0.5, 0.5], [0, 1], [1, 0], [0, 0]]
