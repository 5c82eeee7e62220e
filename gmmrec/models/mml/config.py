"""Settings of MML."""

from dataclasses import dataclass
from typing import Literal

from gmmrec.config import check_literals, check_non_negative, check_positive, check_probability
from gmmrec.errors import UsageError
from gmmrec.tasks.next_item import HistoryConfig


@dataclass(frozen=True)
class MMLConfig(HistoryConfig):
    """Settings of MML; defaults are those of the released code unless a field says otherwise."""

    stride: int = 50
    """Number of events of a user between the ends of two tasks, counted back from the last event; ``max_length``, the default,
    makes a single task of a user with at most that many events, as in the paper."""
    dim: int = 64
    """Embedding width."""
    num_layers: int = 2
    """Number of Transformer layers of every learner."""
    num_heads: int = 2
    """Number of attention heads."""
    ffn_mult: int = 4
    """Width of a feed-forward layer, as a multiple of ``dim``."""
    dropout: float = 0.5
    """Dropout probability of the input, of attention weights and of sublayer outputs."""
    stage: Literal["all", "learners", "generator", "fusion"] = "all"
    """Training stage: one of three, in this order, each a run that starts from the one before (``init_from``) and freezes all other
    modules; or all at once, with one loss."""
    meta: bool = True
    """Meta-learn initial weights and adapt them to every history; False: the same model, without either."""
    first_order: bool = True
    """Treat the inner steps as constants in the outer step (the code); False differentiates through them, at a higher cost."""
    inner_steps: int = 5
    """Number of steps on a task's support set in training."""
    inner_lr: float = 1e-3
    """Learning rate of these steps, of plain gradient descent."""
    adapt_steps: int = 5
    """Number of steps on a user's history before scoring, 0 for none; the code takes 50, on all weights of a learner."""
    adapt_lr: float = 1e-3
    """Learning rate of these steps; 0.07 to 0.5 in the code."""
    num_queries: int = 1
    """Number of events at the end of a task that are predicted after the inner steps, at most half of them. With a ``stride`` of
    the same number, every event is predicted once, and an epoch is that many times cheaper than with a ``stride`` of 1."""
    bias_scale: float = 1e-3
    """Weight of the item features in the attention logits of the main learner."""
    detach_bias: bool = False
    """Keep the projection of that bias at its initial values, as the code does by mistake."""
    fusion: Literal["attention", "mean"] = "attention"
    """Weights of the learners' scores: attention over their states, or uniform."""
    fusion_hidden: int = 128
    """Hidden width of this attention."""
    generator: bool = True
    """Generate embeddings from features for items without training interactions; else they keep their initial ones."""
    replace_prob: float = 0.1
    """Fraction of the items in a batch whose embedding is replaced by a generated one in generator training."""
    knn: int = 5
    """Number of neighbours of an item per modality, among items with training interactions."""
    unit_features: bool = True
    """Scale features to unit length (the code does not)."""
    init_std: float = 0.02
    """Standard deviation of all initial matrices."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(dim=self.dim, num_layers=self.num_layers, num_heads=self.num_heads, ffn_mult=self.ffn_mult)
        check_positive(num_queries=self.num_queries, fusion_hidden=self.fusion_hidden, knn=self.knn, init_std=self.init_std)
        check_non_negative(inner_steps=self.inner_steps, inner_lr=self.inner_lr, bias_scale=self.bias_scale)
        check_non_negative(adapt_steps=self.adapt_steps, adapt_lr=self.adapt_lr)
        check_probability(dropout=self.dropout, replace_prob=self.replace_prob)
        check_literals(self)
        if self.stage == "generator" and not (self.generator and self.replace_prob):
            raise UsageError("stage 'generator' needs generator: true and a replace_prob above 0; set them, or skip this stage")
        if self.stage == "fusion" and self.fusion != "attention":
            raise UsageError(f"fusion {self.fusion!r} has nothing to learn in stage 'fusion'; skip this stage")
