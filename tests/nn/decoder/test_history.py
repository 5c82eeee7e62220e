import torch

from gmmrec.nn.decoder.history import history_matrix, history_scores

X = torch.tensor([[1.0, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 1]])
B = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))


def histories() -> torch.Tensor:
    users, items = X.nonzero().T
    return history_matrix(torch.stack([items, users]), 4, 3)


def test_matrix_equals_the_dense_one() -> None:
    assert torch.equal(histories().to_dense(), X)


def test_scores_are_rows_of_the_product() -> None:
    users = torch.tensor([2, 0, 1, 0])
    torch.testing.assert_close(history_scores(histories(), B, users, torch.tensor([3, 1])), (X @ B)[users][:, [3, 1]])
    candidates = torch.tensor([[0, 1], [2, 2], [3, 0], [1, 3]])
    torch.testing.assert_close(history_scores(histories(), B, users, candidates), (X @ B)[users].gather(1, candidates))


def test_equal_histories_get_bitwise_equal_scores() -> None:
    alone = history_scores(histories(), B, torch.tensor([0]), torch.arange(4))
    batched = history_scores(histories(), B, torch.tensor([2, 1, 0]), torch.arange(4))
    assert torch.equal(alone[0], batched[2])


def test_empty_history_scores_zero() -> None:
    assert not bool(history_scores(histories(), B, torch.tensor([1]), torch.arange(4)).any())
