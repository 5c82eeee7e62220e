"""Encoders: from features and edges to vectors of users and items.

Two kinds, which any model can take by name:

- a *propagation* turns a ``UserItem`` of vectors and the edges into a ``UserItem``: ``propagation(kind, ...)`` of :data:`PROPAGATIONS`;
- a *content encoder* of one modality takes ``(preference, features, present, ids, edges)`` and gives a ``UserItem``; its users start
  from ``encoder.preference``, a table of its own: ``content_encoder(kind, ...)`` of :data:`CONTENT_ENCODERS`. Only ``linear``
  and ``perceptron``, which know no users, take features and give vectors of items.
"""

from gmmrec.nn.encoder.by_name import CONTENT_ENCODERS, PROPAGATIONS, content_encoder, propagation
from gmmrec.nn.encoder.co_interaction import CoInteractionEncoder, CoInteractionPropagation, TextSetEncoder
from gmmrec.nn.encoder.content import ContentEncoder, PropagatedContent
from gmmrec.nn.encoder.hcgcn import HCGCNEncoder
from gmmrec.nn.encoder.mgat import MGATEncoder, MGATLayer
from gmmrec.nn.encoder.mmgcn import MMGCNEncoder, MMGCNLayer
from gmmrec.nn.encoder.token import TokenEncoder

__all__ = [
    "CONTENT_ENCODERS",
    "PROPAGATIONS",
    "CoInteractionEncoder",
    "CoInteractionPropagation",
    "ContentEncoder",
    "HCGCNEncoder",
    "MGATEncoder",
    "MGATLayer",
    "MMGCNEncoder",
    "MMGCNLayer",
    "PropagatedContent",
    "TextSetEncoder",
    "TokenEncoder",
    "content_encoder",
    "propagation",
]
