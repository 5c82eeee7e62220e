import torch

from gmmrec.nn.fusion.mean import MeanFusion, SumFusion

TOKENS = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [torch.nan, 9.0]], [[1.0, 1.0], [2.0, 2.0], [6.0, 3.0]]])
MASK = torch.tensor([[True, True, False], [True, True, True]])


def test_mean_over_present_tokens() -> None:
    assert torch.allclose(MeanFusion()(TOKENS, MASK), torch.tensor([[2.0, 4.0], [3.0, 2.0]]))


def test_sum_over_present_tokens() -> None:
    fused, weights = SumFusion()(TOKENS, MASK, return_weights=True)
    assert fused.tolist() == [[4, 8], [9, 6]]
    assert weights.tolist() == [[1, 1, 0], [1, 1, 1]]
