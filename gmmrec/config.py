"""Checks that every configuration dataclass calls in ``__post_init__``; each names the field and the value it refuses."""

from collections.abc import Collection


def check_positive(**fields: float) -> None:
    """Every field must be greater than zero.

    >>> check_positive(dim=64)
    >>> check_positive(dim=0)
    Traceback (most recent call last):
    ...
    ValueError: dim must be greater than 0, but is 0
    """
    for name, value in fields.items():
        if not value > 0:
            raise ValueError(f"{name} must be greater than 0, but is {value}")


def check_non_negative(**fields: float) -> None:
    """Every field must be zero or more.

    >>> check_non_negative(l2=-1)
    Traceback (most recent call last):
    ...
    ValueError: l2 must be 0 or more, but is -1
    """
    for name, value in fields.items():
        if not value >= 0:
            raise ValueError(f"{name} must be 0 or more, but is {value}")


def check_probability(**fields: float) -> None:
    """Every field must lie in [0, 1].

    >>> check_probability(dropout=1.5)
    Traceback (most recent call last):
    ...
    ValueError: dropout must lie between 0 and 1, but is 1.5
    """
    for name, value in fields.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must lie between 0 and 1, but is {value}")


def check_choice(choices: Collection[str], **fields: str) -> None:
    """Every field must be one of the choices.

    >>> check_choice(("mean", "sum"), pooling="max")
    Traceback (most recent call last):
    ...
    ValueError: pooling must be one of 'mean', 'sum', but is 'max'
    """
    for name, value in fields.items():
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, but is {value!r}")
