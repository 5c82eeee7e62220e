"""GraphFusion and its part: the encoder of knowledge graphs."""

from gmmrec.models.graph_fusion.model import GraphFusion, GraphFusionConfig, Parts

__all__ = ["GraphFusion", "GraphFusionConfig", "Parts"]
