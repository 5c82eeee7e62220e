"""GraphFusion: model, settings, custom parts, and the knowledge encoder."""

from gmmrec.models.graph_fusion.config import GraphFusionConfig
from gmmrec.models.graph_fusion.model import GraphFusion

__all__ = ["GraphFusion", "GraphFusionConfig"]
