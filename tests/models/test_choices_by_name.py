"""A choice of a configuration that is a table's name is declared alike in both."""

from typing import Any, get_args, get_type_hints

import pytest

from gmmrec.models.graph_fusion import GraphFusionConfig
from gmmrec.models.mcptr import MCPTRConfig
from gmmrec.models.mgat import MGATConfig
from gmmrec.nn.conv.gated_attention import GATES
from gmmrec.nn.decoder.by_name import DECODERS
from gmmrec.nn.encoder.by_name import CONTENT_ENCODERS, PROPAGATIONS
from gmmrec.nn.fusion.by_name import FUSIONS


def choices(config: type, field: str) -> tuple[Any, ...]:
    return get_args(get_type_hints(config)[field])


@pytest.mark.parametrize(
    ("config", "field", "names"),
    [
        (GraphFusionConfig, "ids", ("none", *PROPAGATIONS)),
        (GraphFusionConfig, "fusion", tuple(FUSIONS)),
        (GraphFusionConfig, "decoder", tuple(DECODERS)),
        (MGATConfig, "gate", tuple(GATES)),
    ],
)
def test_literals_hold_the_names_of_the_table(config: type, field: str, names: tuple[str, ...]) -> None:
    assert choices(config, field) == names


def test_mcptr_offers_some_of_the_fusions() -> None:
    assert set(choices(MCPTRConfig, "fusion")) <= set(FUSIONS)


@pytest.mark.parametrize("kind", CONTENT_ENCODERS)
def test_every_content_encoder_is_a_setting(kind: str) -> None:
    assert GraphFusionConfig(content=kind).content == kind
    assert GraphFusionConfig(content={"image": kind}).content == {"image": kind}
