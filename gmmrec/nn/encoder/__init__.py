"""Encoders that turn features and edges into user and item vectors.

There are two kinds, which any model can select by name:

- a *propagation* maps a ``UserItem`` of vectors and the edges to a ``UserItem``. ``propagation(kind, ...)`` builds one of
  :data:`PROPAGATIONS`.
- a *content encoder* of one modality maps ``(preference, features, present, ids, edges)`` to a ``UserItem``; users start from its
  table ``encoder.preference``. ``content_encoder(kind, ...)`` builds one of :data:`CONTENT_ENCODERS`. The exceptions are ``linear``
  and ``perceptron``, which have no users and map features to item vectors.
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
