import pytest

from gmmrec.nn.conv.light import LightPropagation
from gmmrec.nn.conv.self_loop import SelfLoopPropagation
from gmmrec.nn.encoder.by_name import CONTENT_ENCODERS, PROPAGATIONS, content_encoder, contents, propagation
from gmmrec.nn.encoder.co_interaction import CoInteractionPropagation
from gmmrec.nn.encoder.content import ContentEncoder, PropagatedContent
from gmmrec.nn.encoder.hcgcn import HCGCNEncoder
from gmmrec.nn.encoder.mgat import MGATEncoder
from gmmrec.nn.encoder.mmgcn import MMGCNEncoder

TYPES = {
    "mf": LightPropagation,
    "light": LightPropagation,
    "self_loops": SelfLoopPropagation,
    "hcgcn": HCGCNEncoder,
    "mcptr": CoInteractionPropagation,
}


def test_propagations_have_the_named_types() -> None:
    assert {kind: type(propagation(kind, 4, 3)) for kind in PROPAGATIONS} == TYPES
    assert [propagation(kind, 4, 3).num_layers for kind in ("mf", "light", "self_loops")] == [0, 3, 3]
    assert len(propagation("hcgcn", 4, 3, num_clusters=5).assign.prototypes) == 5


def test_content_encoders_have_the_named_types() -> None:
    encoders = {kind: content_encoder(kind, 6, 5, 4, 2) for kind in CONTENT_ENCODERS}
    propagations = {kind: encoder.propagate for kind, encoder in encoders.items() if isinstance(encoder, PropagatedContent)}
    assert {kind: type(module) for kind, module in propagations.items()} == {kind: TYPES[kind] for kind in TYPES if kind != "mf"}
    other_types = {kind: type(encoder) for kind, encoder in encoders.items() if kind not in propagations}
    assert other_types == {"linear": ContentEncoder, "perceptron": ContentEncoder, "mgat": MGATEncoder, "mmgcn": MMGCNEncoder}
    assert [len(encoders[kind].rest) > 0 for kind in ("linear", "perceptron")] == [False, True]


@pytest.mark.parametrize("kind", ["lihgt", "mgatt", "mf ", ""])
def test_unknown_names_are_rejected(kind: str) -> None:
    with pytest.raises(ValueError, match=f"^unknown propagation '{kind}'; the nearest known name is "):
        propagation(kind, 8, 2)
    with pytest.raises(ValueError, match=f"^unknown content encoder '{kind}'; the nearest known name is "):
        content_encoder(kind, 6, 5, 4, 2)


def test_identity_propagation_is_no_content_encoder() -> None:
    with pytest.raises(ValueError, match=r"^unknown content encoder 'mf'; "):
        content_encoder("mf", 6, 5, 4, 2)


def test_unknown_modalities_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"^content names 'sound', but the modalities of the items are 'image', 'text'$"):
        contents(("image", "text"), {"sound": "light"})
    assert contents(("image", "text"), {"text": "light", "image": "none"}) == {"text": "light"}
