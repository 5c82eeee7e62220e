import torch

from gmmrec.nn.decoder.inner_product import inner_product


def test_shared_candidates_are_scored_for_every_query() -> None:
    queries, candidates = torch.tensor([[1.0, 2.0], [0.0, -1.0]]), torch.tensor([[3.0, 4.0], [1.0, 0.0], [5.0, 6.0]])
    assert inner_product(queries, candidates).tolist() == [[11, 1, 17], [-4, 0, -6]]


def test_separate_candidates_are_scored_for_their_query_only() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, candidates = torch.randn(3, 5, generator=generator), torch.randn(3, 4, 5, generator=generator)
    slow = torch.tensor([[sum((queries[b] * candidates[b, c]).tolist()) for c in range(4)] for b in range(3)])
    torch.testing.assert_close(inner_product(queries, candidates), slow)


def test_both_forms_agree() -> None:
    generator = torch.Generator().manual_seed(1)
    queries, candidates = torch.randn(3, 5, generator=generator), torch.randn(4, 5, generator=generator)
    torch.testing.assert_close(inner_product(queries, candidates), inner_product(queries, candidates.expand(3, 4, 5)))
