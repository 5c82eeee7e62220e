"""GraphFusion and its part: the encoder of knowledge graphs."""

from gmmrec.models.graph_fusion.config import GraphFusionConfig
from gmmrec.models.graph_fusion.model import GraphFusion, Parts

__all__ = ["GraphFusion", "GraphFusionConfig", "Parts"]
