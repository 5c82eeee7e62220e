import pytest
import torch

from gmmrec.data.features import FeatureTable


def test_everything_is_present_without_a_mask() -> None:
    table = FeatureTable("image", torch.ones(3, 2))
    assert table.mask.tolist() == [True, True, True]
    assert (table.num_rows, table.dim) == (3, 2)


def test_hidden_values_are_zero_even_if_they_were_nan() -> None:
    values = torch.tensor([[1.0, 2.0], [float("nan"), 3.0], [5.0, 6.0]])
    table = FeatureTable("image", values, torch.tensor([True, False, True]))
    assert table.values.tolist() == [[1, 2], [0, 0], [5, 6]]
    assert values[1, 1] == 3  # the input is not modified


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_present_values_must_be_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="features 'text' hold NaN or infinity in row 1; fix the row or mask it as missing"):
        FeatureTable("text", torch.tensor([[0.0], [bad]]))


def test_a_node_is_present_with_one_of_its_tokens() -> None:
    mask = torch.tensor([[True, False], [False, False], [True, True]])
    table = FeatureTable("words", torch.ones(3, 2, 4), mask)
    assert table.present.tolist() == [True, False, True]
    assert table.values.sum((1, 2)).tolist() == [4, 0, 8]
    assert table.dim == 4


@pytest.mark.parametrize("values", [torch.ones(3), torch.ones(3, 1, 1, 1)], ids=["1-d", "4-d"])
def test_other_shapes_are_refused(values: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"must be \[N, D\] or \[N, T, D\], but have shape"):
        FeatureTable("image", values)


@pytest.mark.parametrize("mask", [torch.ones(2, dtype=torch.bool), torch.ones(3), torch.ones(3, 2, dtype=torch.bool)], ids=str)
def test_a_mask_of_another_shape_or_type_is_refused(mask: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"mask of features 'image' must be boolean with shape \(3,\)"):
        FeatureTable("image", torch.ones(3, 2), mask)


def test_numbers_of_any_type_become_float32() -> None:
    assert FeatureTable("tags", torch.tensor([[1, 0]])).values.dtype == torch.float32
    assert FeatureTable("tags", torch.ones(1, 2, dtype=torch.float64)).values.dtype == torch.float32
