"""Settings of MML."""

from dataclasses import dataclass
from typing import Literal

from gmmrec.config import check_literals, check_non_negative, check_positive, check_probability
from gmmrec.tasks.next_item import HistoryConfig


@dataclass(frozen=True)
class MMLConfig(HistoryConfig):
    """Settings of MML; the defaults are those of the released code where nothing else is said."""

    stride: int = 50
    """Every how many events of a user, counted back from the last one, a task ends; `max_length`, as here, makes one task of every
    user who has no more events than that, as in the paper."""
    dim: int = 64
    """Size of every embedding."""
    num_layers: int = 2
    """Layers of every learner's Transformer."""
    num_heads: int = 2
    """Heads of the attention."""
    ffn_mult: int = 4
    """Width of a feed-forward layer, in widths of an embedding."""
    dropout: float = 0.5
    """Share of the input, of the attention weights and of what every step of a layer adds that is dropped."""
    stage: Literal["all", "learners", "generator", "fusion"] = "all"
    """What is learned: one of the three stages, in this order, each a run that begins with the one before (``init_from``) and
    leaves all else as it is; or everything at once, with one loss."""
    meta: bool = True
    """Learn weights that are good to begin with, and adapt them to every history; False: the same model, without either."""
    first_order: bool = True
    """Whether the outer step takes the inner ones as constants (the code); False differentiates through them, in more time."""
    inner_steps: int = 5
    """Steps on a task's support in training."""
    inner_lr: float = 1e-3
    """Learning rate of these steps, of plain gradient descent."""
    adapt_steps: int = 5
    """Steps on a user's history before scores are given, 0 for none; the code takes 50, of all weights of a learner."""
    adapt_lr: float = 1e-3
    """Learning rate of these steps; the code takes 0.07 to 0.5."""
    num_queries: int = 1
    """Events at the end of a task that are asked for after the inner steps, at most half of them. With a `stride` of as many, every
    event is asked for once, and an epoch costs that many times less than with a `stride` of 1."""
    bias_scale: float = 1e-3
    """Weight of the items' features in the attention logits of the main learner."""
    detach_bias: bool = False
    """Keep the projection behind that bias at its initial values, as the code does by mistake."""
    fusion: Literal["attention", "mean"] = "attention"
    """How the learners' scores are weighed: by attention to their states, or all alike."""
    fusion_hidden: int = 128
    """Width of the hidden layer behind this attention."""
    generator: bool = True
    """Whether items without training interactions get an embedding made of features; else they keep their initial one."""
    replace_prob: float = 0.1
    """Share of the items of a batch whose embedding is exchanged for a made one while the generator learns."""
    knn: int = 5
    """Neighbours of an item in every modality, of those that have training interactions."""
    unit_features: bool = True
    """Whether features are brought to length 1 (the code takes them as they are)."""
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
            raise ValueError(
                "stage 'generator' needs generator: true and a replace_prob above 0; set them, or leave this stage out"
            )
        if self.stage == "fusion" and self.fusion != "attention":
            raise ValueError(f"fusion {self.fusion!r} has nothing to learn in stage 'fusion'; leave this stage out")
