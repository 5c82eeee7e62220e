"""Blocks fill their budget and hold at least one row."""

from gmmrec.nn.blocks import block_rows


def test_rows_fill_the_budget_and_are_at_least_one():
    for budget in (1, 7, 1000):
        for width in (1, 3, 7, 999, 1001):
            rows = block_rows(budget, width)
            assert rows == 1 or rows * width <= budget < (rows + 1) * width
    assert block_rows(10, 0) == 10
