"""Message-passing layers, one per file."""

from gmmrec.nn.conv.cluster import ClusterConv
from gmmrec.nn.conv.gated_attention import GatedAttentionConv
from gmmrec.nn.conv.learned_graph import LearnedItemGraph
from gmmrec.nn.conv.light import LightConv, LightPropagation
from gmmrec.nn.conv.modality import ModalityConv
from gmmrec.nn.conv.self_loop import SelfLoopPropagation

__all__ = [
    "ClusterConv",
    "GatedAttentionConv",
    "LearnedItemGraph",
    "LightConv",
    "LightPropagation",
    "ModalityConv",
    "SelfLoopPropagation",
]
