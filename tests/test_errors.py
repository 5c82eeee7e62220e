"""Errors for people are the built-in exceptions that programs expect, and print as their sentence."""

import pytest

from gmmrec import errors

BUILT_IN = {
    errors.UsageError: ValueError,
    errors.DataError: ValueError,
    errors.UnknownIdError: KeyError,
    errors.WrongTypeError: TypeError,
    errors.MissingFileError: FileNotFoundError,
}


@pytest.mark.parametrize("kind", BUILT_IN)
def test_an_error_is_caught_as_a_usage_error_and_as_the_built_in_exception(kind):
    for expected in (errors.UsageError, BUILT_IN[kind]):
        with pytest.raises(expected, match=r"^unknown user 'ann'; use 'bob'$"):
            raise kind("unknown user 'ann'; use 'bob'")


def test_every_error_of_the_module_is_tested():
    assert {kind for kind in vars(errors).values() if isinstance(kind, type) and kind.__module__ == errors.__name__} == set(
        BUILT_IN
    )


def test_control_characters_of_the_input_are_escaped():
    error = errors.DataError("outfit a\x00b\nhas \x1b[31m items\u2028", "é 🎬 \ud800")
    assert str(error) == "outfit a\\x00b\\nhas \\x1b[31m items\\u2028 é 🎬 \\ud800"
