"""GraphFusion: its model, its settings, parts of your own, and the encoder of knowledge graphs."""

from gmmrec.models.graph_fusion.config import GraphFusionConfig
from gmmrec.models.graph_fusion.model import GraphFusion

__all__ = ["GraphFusion", "GraphFusionConfig"]
