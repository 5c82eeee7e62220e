"""Fusions by name."""

import math
from collections.abc import Callable, Mapping

from torch import nn

from gmmrec.nn.choice import Table
from gmmrec.nn.fusion.co_attention import CoAttentionFusion
from gmmrec.nn.fusion.concat import ConcatFusion
from gmmrec.nn.fusion.context import ContextFusion
from gmmrec.nn.fusion.cross_stitch import CrossStitchFusion
from gmmrec.nn.fusion.gate import GateFusion
from gmmrec.nn.fusion.mean import MeanFusion, SumFusion
from gmmrec.nn.fusion.modality_aware import ModalityAwareFusion
from gmmrec.nn.fusion.multi_order import MultiOrderFusion
from gmmrec.nn.fusion.self_attention import SelfAttentionFusion
from gmmrec.nn.fusion.vision_language import VisionLanguageFusion

FUSIONS: Mapping[str, Callable[[int, int], nn.Module]] = Table(
    "fusion",
    {
        "mean": lambda dim, num_tokens: MeanFusion(),
        "sum": lambda dim, num_tokens: SumFusion(),
        "concat": lambda dim, num_tokens: ConcatFusion(dim, num_tokens),
        "gate": lambda dim, num_tokens: GateFusion(dim, gate="sigmoid"),
        "attention": lambda dim, num_tokens: GateFusion(dim, hidden=dim),
        "self_attention": lambda dim, num_tokens: SelfAttentionFusion(dim),
        "co_attention": lambda dim, num_tokens: CoAttentionFusion(dim),
        "cross_stitch": lambda dim, num_tokens: CrossStitchFusion(dim, num_tokens),
        "context": lambda dim, num_tokens: ContextFusion(dim, num_tokens),
        "multi_order": lambda dim, num_tokens: MultiOrderFusion(dim),
        "vision_language": lambda dim, num_tokens: VisionLanguageFusion(dim, num_heads=math.gcd(dim, 8)),
        "modality_aware": lambda dim, num_tokens: ModalityAwareFusion(dim),
    },
)
"""Fusions by name: ``FUSIONS[name](dim, num_tokens)`` builds one; only ``modality_aware`` needs a query."""
