import torch

from gmmrec.nn.tokens import Tokens


def tokens() -> Tokens:
    """Two words each of three nodes, of which the last lacks one, and a picture that the first lacks."""
    words, picture = torch.arange(12.0).view(3, 2, 2), -torch.ones(3, 1, 2)
    there = torch.tensor([[True, True], [True, True], [True, False]])
    return Tokens.joined([(words, there), (picture, torch.tensor([False, True, True]))])


def test_modalities_stand_one_behind_the_other() -> None:
    values, present, sizes = tokens()
    assert values.tolist()[2] == [[8.0, 9.0], [10.0, 11.0], [-1.0, -1.0]]
    assert present.tolist() == [[True, True, False], [True, True, True], [True, False, True]]
    assert sizes == [2, 1]


def test_one_mask_for_all_tokens_of_a_node() -> None:
    joined = Tokens.joined([(torch.zeros(2, 3, 4), torch.tensor([True, False]))])
    assert joined.present.tolist() == [[True] * 3, [False] * 3]


def test_rows_are_looked_up_with_their_masks() -> None:
    every, rows = tokens(), torch.tensor([[2, 0], [1, 1]])
    chosen = every.at(rows)
    assert torch.equal(chosen.values, every.values[rows])
    assert torch.equal(chosen.present, every.present[rows])
    assert chosen.sizes == every.sizes


def test_gradients_reach_the_rows_looked_up() -> None:
    values = torch.ones(3, 2, 2, requires_grad=True)
    Tokens(values, torch.ones(3, 2, dtype=torch.bool), [2]).at(torch.tensor([2, 2])).values.sum().backward()
    assert values.grad is not None
    assert values.grad.sum((1, 2)).tolist() == [0.0, 0.0, 8.0]


def test_there_is_no_mask_where_nothing_is_missing() -> None:
    assert tokens().at(torch.tensor([1, 1])).mask is None
    assert tokens().at(torch.tensor([1, 0])).mask is not None
