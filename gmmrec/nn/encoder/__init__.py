"""Encoders: from features and edges to vectors of users and items.

Two kinds, which any model can take by name:

- a *propagation* turns a ``Pair`` of vectors and the edges into a ``Pair``: ``propagation(kind, ...)`` of :data:`PROPAGATIONS`;
- a *content encoder* of one modality takes ``(preference, features, present, ids, edges)`` and gives a ``Pair``; its users start
  from ``encoder.preference``, a table of its own: ``content_encoder(kind, ...)`` of :data:`CONTENT_ENCODERS`. Only ``linear``
  and ``perceptron``, which know no users, take features and give vectors of items.
"""

from collections.abc import Mapping

from torch import nn

from gmmrec.nn.conv.light import LightPropagation
from gmmrec.nn.conv.self_loop import SelfLoopPropagation
from gmmrec.nn.encoder.co_interaction import CoInteractionPropagation
from gmmrec.nn.encoder.content import ContentEncoder, PropagatedContent
from gmmrec.nn.encoder.hcgcn import HCGCNEncoder
from gmmrec.nn.encoder.mgat import MGATEncoder
from gmmrec.nn.encoder.mmgcn import MMGCNEncoder

PROPAGATIONS = ("mf", "light", "self_loops", "hcgcn", "mcptr")
CONTENT_ENCODERS = ("linear", "perceptron", "light", "self_loops", "hcgcn", "mcptr", "mgat", "mmgcn")


def propagation(kind: str, dim: int, num_layers: int, *, num_clusters: int = 8) -> nn.Module:
    """A propagation by name; ``mf`` lets nothing flow."""
    if kind == "hcgcn":
        return HCGCNEncoder(dim, num_layers=num_layers, num_clusters=num_clusters)
    if kind == "mcptr":
        return CoInteractionPropagation(dim, num_layers)
    if kind == "self_loops":
        return SelfLoopPropagation(num_layers)
    return LightPropagation(num_layers if kind == "light" else 0)


def content_encoder(
    kind: str,
    num_users: int,
    feature_dim: int,
    dim: int,
    num_layers: int,
    *,
    modality_dim: int = 64,
    num_clusters: int = 8,
    init_std: float = 0.1,
) -> nn.Module:
    """A content encoder by name; its output is ``dim`` wide."""
    if kind in ("linear", "perceptron"):
        return ContentEncoder(feature_dim, dim, num_layers=int(kind == "perceptron"))
    if kind == "mgat":
        return MGATEncoder(num_users, feature_dim, dim, modality_dim=modality_dim, num_layers=num_layers, combine="last")
    if kind == "mmgcn":
        return MMGCNEncoder(num_users, feature_dim, dim, modality_dim=modality_dim, num_layers=num_layers, init_std=init_std)
    flow = propagation(kind, dim, num_layers, num_clusters=num_clusters)
    return PropagatedContent(num_users, feature_dim, dim, flow, init_std=init_std)


def contents(modalities: tuple[str, ...], wanted: str | Mapping[str, str]) -> dict[str, str]:
    """The kind of content encoder of every modality that has one.

    Raises:
        ValueError: A modality that is named does not exist.

    >>> contents(("image", "text"), "light"), contents(("image", "text"), {"text": "mgat"})
    ({'image': 'light', 'text': 'light'}, {'text': 'mgat'})
    """
    chosen = dict(wanted) if isinstance(wanted, Mapping) else dict.fromkeys(modalities, wanted)
    for name in chosen:
        if name not in modalities:
            known = ", ".join(map(repr, modalities)) or "none"
            raise ValueError(f"content names {name!r}, but the modalities of the items are {known}")
    return {name: chosen[name] for name in modalities if chosen.get(name, "none") != "none"}
