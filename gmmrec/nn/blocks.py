"""Block sizes: the number of rows that fit a budget of cells."""


def block_rows(budget: int, width: int) -> int:
    """Return the number of rows of ``width`` cells that fit a budget, at least 1. Budgets are measured and kept next to their code.

    >>> block_rows(1000, 300), block_rows(1000, 5000), block_rows(1000, 0)
    (3, 1, 1000)
    """
    return max(1, budget // max(1, width))
