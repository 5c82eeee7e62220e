import torch

from gmmrec.nn.decoder.bilinear import BilinearDecoder
from gmmrec.nn.decoder.inner_product import inner_product


def test_scores_equal_the_dense_formula_for_both_forms() -> None:
    torch.manual_seed(0)
    decoder = BilinearDecoder(3, 4)
    queries, shared, separate = torch.randn(2, 3), torch.randn(5, 4), torch.randn(2, 5, 4)
    w = decoder.weight.detach().double()
    for candidates in (shared, separate):
        slow = [[float(queries[b].double() @ w @ candidates.expand(2, 5, 4)[b, c].double()) for c in range(5)] for b in range(2)]
        found = decoder(queries, candidates).detach().double()
        torch.testing.assert_close(found, torch.tensor(slow, dtype=torch.float64), rtol=0, atol=1e-6)


def test_starts_as_the_inner_product() -> None:
    queries, candidates = torch.randn(2, 3), torch.randn(5, 3)
    torch.testing.assert_close(BilinearDecoder(3)(queries, candidates).detach(), inner_product(queries, candidates))
