from typing import Literal

import pytest

from gmmrec.nn.choice import Table, check_choice, unknown_name
from gmmrec.nn.conv.gated_attention import GATES
from gmmrec.nn.decoder.by_name import DECODERS
from gmmrec.nn.encoder.by_name import CONTENT_ENCODERS, PROPAGATIONS
from gmmrec.nn.fusion.by_name import FUSIONS

TABLES = {
    "decoder": DECODERS,
    "propagation": PROPAGATIONS,
    "content encoder": CONTENT_ENCODERS,
    "fusion": FUSIONS,
    "gate": GATES,
}


@pytest.mark.parametrize("kind", TABLES)
def test_every_table_rejects_an_unknown_name_and_suggests_the_nearest(kind: str) -> None:
    for name in TABLES[kind]:
        with pytest.raises(ValueError, match=f"^unknown {kind} '{name}x'; the nearest known name is '{name}'$"):
            TABLES[kind][f"{name}x"]


def test_table_is_otherwise_a_dictionary() -> None:
    table = Table("letter", {"b": 1, "a": 2})
    assert (list(table), table["a"], table.get("c"), "c" in table) == (["b", "a"], 2, None, False)


def test_empty_table_suggests_no_name() -> None:
    assert str(unknown_name("letter", "a", [])) == "unknown letter 'a'; the nearest known name is 'none'"


def test_choices_are_those_of_the_literal() -> None:
    pool = Literal["mean", "max", None]
    check_choice(pool, pool="max", other=None)
    with pytest.raises(ValueError, match=r"^other must be 'mean', 'max' or None, but is 'min'$"):
        check_choice(pool, pool="max", other="min")
