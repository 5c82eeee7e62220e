"""Encoders by name."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import nn

from gmmrec.errors import UsageError
from gmmrec.nn.choice import Table
from gmmrec.nn.conv.light import LightPropagation
from gmmrec.nn.conv.self_loop import SelfLoopPropagation
from gmmrec.nn.encoder.co_interaction import CoInteractionPropagation
from gmmrec.nn.encoder.content import ContentEncoder, PropagatedContent
from gmmrec.nn.encoder.hcgcn import HCGCNEncoder
from gmmrec.nn.encoder.mgat import MGATEncoder
from gmmrec.nn.encoder.mmgcn import MMGCNEncoder


class Sizes(NamedTuple):
    """Arguments of all content encoders; see :func:`content_encoder`."""

    num_users: int
    feature_dim: int
    dim: int
    num_layers: int
    modality_dim: int = 64
    num_clusters: int = 8
    init_std: float = 0.1


PROPAGATIONS: Mapping[str, Callable[[int, int, int], nn.Module]] = Table(
    "propagation",
    {
        "mf": lambda dim, num_layers, num_clusters: LightPropagation(0),
        "light": lambda dim, num_layers, num_clusters: LightPropagation(num_layers),
        "self_loops": lambda dim, num_layers, num_clusters: SelfLoopPropagation(num_layers),
        "hcgcn": lambda dim, num_layers, num_clusters: HCGCNEncoder(dim, num_layers=num_layers, num_clusters=num_clusters),
        "mcptr": lambda dim, num_layers, num_clusters: CoInteractionPropagation(dim, num_layers),
    },
)
"""Propagations by name: ``PROPAGATIONS[name](dim, num_layers, num_clusters)`` builds one; ``mf`` is the identity."""


def _propagated(kind: str) -> Callable[[Sizes], nn.Module]:
    def build(sizes: Sizes) -> nn.Module:
        propagate = PROPAGATIONS[kind](sizes.dim, sizes.num_layers, sizes.num_clusters)
        return PropagatedContent(sizes.num_users, sizes.feature_dim, sizes.dim, propagate, init_std=sizes.init_std)

    return build


def _mgat(sizes: Sizes) -> nn.Module:
    num_users, feature_dim, dim, num_layers, modality_dim, *_ = sizes
    return MGATEncoder(num_users, feature_dim, dim, modality_dim=modality_dim, num_layers=num_layers, combine="last")


def _mmgcn(sizes: Sizes) -> nn.Module:
    num_users, feature_dim, dim, num_layers, modality_dim, _, init_std = sizes
    return MMGCNEncoder(num_users, feature_dim, dim, modality_dim=modality_dim, num_layers=num_layers, init_std=init_std)


CONTENT_ENCODERS: Mapping[str, Callable[[Sizes], nn.Module]] = Table(
    "content encoder",
    {
        "linear": lambda sizes: ContentEncoder(sizes.feature_dim, sizes.dim, num_layers=0),
        "perceptron": lambda sizes: ContentEncoder(sizes.feature_dim, sizes.dim, num_layers=1),
        **{kind: _propagated(kind) for kind in ("light", "self_loops", "hcgcn", "mcptr")},
        "mgat": _mgat,
        "mmgcn": _mmgcn,
    },
)
"""Content encoders by name; :func:`content_encoder` builds one."""


def propagation(kind: str, dim: int, num_layers: int, *, num_clusters: int = 8) -> nn.Module:
    """Build a propagation by name; ``mf`` is the identity.

    Raises:
        UsageError: The name is unknown.

    >>> propagation("lihgt", 8, 2)
    Traceback (most recent call last):
    ...
    gmmrec.errors.UsageError: unknown propagation 'lihgt'; the nearest known name is 'light'
    """
    return PROPAGATIONS[kind](dim, num_layers, num_clusters)


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
    """Build a content encoder by name, with output of width ``dim``.

    Args:
        kind: A name in :data:`CONTENT_ENCODERS`.
        num_users: Number of users, for encoders with a preference table.
        feature_dim: Feature width.
        dim: Output width.
        num_layers: Number of propagation layers, for encoders that propagate.
        modality_dim: Input width of the first layer of MGAT or MMGCN.
        num_clusters: Number of clusters of ``hcgcn``.
        init_std: Standard deviation of the initial preferences; 0 for Xavier-uniform values.

    Raises:
        UsageError: The name is unknown.
    """
    return CONTENT_ENCODERS[kind](Sizes(num_users, feature_dim, dim, num_layers, modality_dim, num_clusters, init_std))


def contents(modalities: tuple[str, ...], kinds: str | Mapping[str, str]) -> dict[str, str]:
    """Return the kind of content encoder of every modality that has one.

    Raises:
        UsageError: A named modality does not exist.

    >>> contents(("image", "text"), "light"), contents(("image", "text"), {"text": "mgat"})
    ({'image': 'light', 'text': 'light'}, {'text': 'mgat'})
    """
    chosen = dict(kinds) if isinstance(kinds, Mapping) else dict.fromkeys(modalities, kinds)
    for name in chosen:
        if name not in modalities:
            known = ", ".join(map(repr, modalities)) or "none"
            raise UsageError(f"content names {name!r}, but the modalities of the items are {known}")
    return {name: chosen[name] for name in modalities if chosen.get(name, "none") != "none"}
