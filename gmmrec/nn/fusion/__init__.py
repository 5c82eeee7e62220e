"""Fusion modules, which combine the vectors of a node (modalities, regions, words) into one.

All modules share one signature::

    fused = fusion(tokens, mask, query)                              # [N, D]
    fused, weights = fusion(tokens, mask, query, return_weights=True)

- ``tokens`` ``[N, M, D]``: M vectors for each of N nodes or pairs;
- ``mask`` ``[N, M]``, boolean, True where a token is present; None: everywhere. A missing token has weight 0 and its values are
  never read; a row without tokens is fused to zeros, never to NaN;
- ``query`` ``[N, D]``: the vector that tokens are weighed for (a user, say); modules that need none ignore it;
- ``weights`` ``[N, M]``, or ``[N, M, D]`` for weights per dimension, which sum to 1 over the present tokens (except those of sums
  and of sigmoid gates).

``FUSIONS`` lists them by name.
"""

from gmmrec.nn.fusion.attribute import AttributeFusion, SlotPooling
from gmmrec.nn.fusion.behaviour_aware import BehaviourAwareFusion
from gmmrec.nn.fusion.by_name import FUSIONS
from gmmrec.nn.fusion.candidate_aware import CandidateAwareAttention
from gmmrec.nn.fusion.co_attention import CoAttention, CoAttentionFusion, GuidedAttention
from gmmrec.nn.fusion.co_transformer import CoTransformerLayer
from gmmrec.nn.fusion.concat import ConcatFusion
from gmmrec.nn.fusion.context import ContextFusion, ContextModulation, ResidualAdapter
from gmmrec.nn.fusion.correlation import CorrelationAwareFusion
from gmmrec.nn.fusion.cross_modal import CrossModalFusion, ScalarTokens
from gmmrec.nn.fusion.cross_stitch import CrossStitch, CrossStitchFusion
from gmmrec.nn.fusion.gate import GateFusion
from gmmrec.nn.fusion.interest import InterestAttention
from gmmrec.nn.fusion.mean import MeanFusion, SumFusion
from gmmrec.nn.fusion.modality_aware import ModalityAwareFusion
from gmmrec.nn.fusion.multi_level import MEncoder, TextLayer, VisionLayer
from gmmrec.nn.fusion.multi_order import MultiOrderFusion
from gmmrec.nn.fusion.multi_source import MultiSourceAttention
from gmmrec.nn.fusion.mutual import GuidedSum, MutualAttentionFusion
from gmmrec.nn.fusion.personalised import PersonalisedAttention
from gmmrec.nn.fusion.prefix import PrefixGuidedAttention
from gmmrec.nn.fusion.region import ContextGate, RegionFusion, VisualMerge
from gmmrec.nn.fusion.self_attention import SelfAttentionFusion
from gmmrec.nn.fusion.set_attention import SetAttention
from gmmrec.nn.fusion.side import SideFusion
from gmmrec.nn.fusion.vision_language import VisionLanguageFusion

__all__ = [
    "FUSIONS",
    "AttributeFusion",
    "BehaviourAwareFusion",
    "CandidateAwareAttention",
    "CoAttention",
    "CoAttentionFusion",
    "CoTransformerLayer",
    "ConcatFusion",
    "ContextFusion",
    "ContextGate",
    "ContextModulation",
    "CorrelationAwareFusion",
    "CrossModalFusion",
    "CrossStitch",
    "CrossStitchFusion",
    "GateFusion",
    "GuidedAttention",
    "GuidedSum",
    "InterestAttention",
    "MEncoder",
    "MeanFusion",
    "ModalityAwareFusion",
    "MultiOrderFusion",
    "MultiSourceAttention",
    "MutualAttentionFusion",
    "PersonalisedAttention",
    "PrefixGuidedAttention",
    "RegionFusion",
    "ResidualAdapter",
    "ScalarTokens",
    "SelfAttentionFusion",
    "SetAttention",
    "SideFusion",
    "SlotPooling",
    "SumFusion",
    "TextLayer",
    "VisionLanguageFusion",
    "VisionLayer",
    "VisualMerge",
]
