"""Layers: tensors in, tensors out, without imports from the rest of gmmrec.

Every public layer is exported here, as in ``from gmmrec.nn import LightConv, GateFusion``, along with the functions and types
needed to write new layers.
"""

from gmmrec.nn import conv, decoder, encoder, fusion, sequence
from gmmrec.nn.attention import MultiHeadAttention, attend
from gmmrec.nn.beam import Beams, beam_search
from gmmrec.nn.clustering import PrototypeAssignment
from gmmrec.nn.conv import *  # noqa: F403
from gmmrec.nn.decoder import *  # noqa: F403
from gmmrec.nn.dropout import Dropout
from gmmrec.nn.encoder import *  # noqa: F403
from gmmrec.nn.fusion import *  # noqa: F403
from gmmrec.nn.loss import bpr, contrast_with_first, cosine_distance, embedding_norm, expected_bpr, info_nce
from gmmrec.nn.masked import hide_missing, masked_mean, masked_softmax
from gmmrec.nn.nearest import knn_among, knn_excluding_self
from gmmrec.nn.propagate import sampled_dot, weighted_sum
from gmmrec.nn.relations import Bipartite, Relation, UserItem
from gmmrec.nn.segment import segment_max, segment_softmax, segment_sum
from gmmrec.nn.sequence import *  # noqa: F403
from gmmrec.nn.transformer import TransformerEncoder, TransformerLayer

__all__ = [
    "Beams",
    "Bipartite",
    "Dropout",
    "MultiHeadAttention",
    "PrototypeAssignment",
    "Relation",
    "TransformerEncoder",
    "TransformerLayer",
    "UserItem",
    "attend",
    "beam_search",
    "bpr",
    "contrast_with_first",
    "cosine_distance",
    "embedding_norm",
    "expected_bpr",
    "hide_missing",
    "info_nce",
    "knn_among",
    "knn_excluding_self",
    "masked_mean",
    "masked_softmax",
    "sampled_dot",
    "segment_max",
    "segment_softmax",
    "segment_sum",
    "weighted_sum",
]
__all__ += conv.__all__
__all__ += decoder.__all__
__all__ += encoder.__all__
__all__ += fusion.__all__
__all__ += sequence.__all__
