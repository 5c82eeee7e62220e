import torch

from gmmrec.nn.tokens import Tokens


def tokens() -> Tokens:
    """Return two words and an image for each of three nodes; the last lacks a word, the first the image."""
    words, image = torch.arange(12.0).view(3, 2, 2), -torch.ones(3, 1, 2)
    present = torch.tensor([[True, True], [True, True], [True, False]])
    return Tokens.joined([(words, present), (image, torch.tensor([False, True, True]))])


def test_modalities_are_concatenated() -> None:
    values, present, sizes = tokens()
    assert values.tolist()[2] == [[8.0, 9.0], [10.0, 11.0], [-1.0, -1.0]]
    assert present.tolist() == [[True, True, False], [True, True, True], [True, False, True]]
    assert sizes == [2, 1]


def test_one_mask_for_all_tokens_of_a_node() -> None:
    joined = Tokens.joined([(torch.zeros(2, 3, 4), torch.tensor([True, False]))])
    assert joined.present.tolist() == [[True] * 3, [False] * 3]


def test_rows_are_selected_with_their_masks() -> None:
    whole, rows = tokens(), torch.tensor([[2, 0], [1, 1]])
    chosen = whole.at(rows)
    assert torch.equal(chosen.values, whole.values[rows])
    assert torch.equal(chosen.present, whole.present[rows])
    assert chosen.sizes == whole.sizes


def test_gradients_reach_the_selected_rows() -> None:
    values = torch.ones(3, 2, 2, requires_grad=True)
    Tokens(values, torch.ones(3, 2, dtype=torch.bool), [2]).at(torch.tensor([2, 2])).values.sum().backward()
    assert values.grad is not None
    assert values.grad.sum((1, 2)).tolist() == [0.0, 0.0, 8.0]


def test_mask_is_none_if_nothing_is_missing() -> None:
    assert tokens().at(torch.tensor([1, 1])).mask is None
    assert tokens().at(torch.tensor([1, 0])).mask is not None
