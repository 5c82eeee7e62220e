"""Layers over sequences of interactions."""

from gmmrec.nn.sequence.attentional_gru import AttentionalGRU
from gmmrec.nn.sequence.cloze import ClozeMasker, TiedHead
from gmmrec.nn.sequence.context_decoder import ContextDecoder
from gmmrec.nn.sequence.multi_order import MultiOrderAttention, ResidualTower, SquashedAttention
from gmmrec.nn.sequence.non_invasive import NonInvasiveLayer, NonInvasiveTransformer
from gmmrec.nn.sequence.transformer import Recency, SequenceTransformer

__all__ = [
    "AttentionalGRU",
    "ClozeMasker",
    "ContextDecoder",
    "MultiOrderAttention",
    "NonInvasiveLayer",
    "NonInvasiveTransformer",
    "Recency",
    "ResidualTower",
    "SequenceTransformer",
    "SquashedAttention",
    "TiedHead",
]
