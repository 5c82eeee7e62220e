"""Settings of evaluations."""

from dataclasses import dataclass
from typing import Literal

from gmmrec.config import check_choice, check_literals, check_non_negative, check_positive
from gmmrec.errors import UsageError
from gmmrec.evaluation.metrics import METRICS
from gmmrec.tasks.evaluation_tasks import Mask


@dataclass(frozen=True)
class EvalConfig:
    """Settings of evaluation and reports."""

    metrics: tuple[str, ...] = ("recall", "ndcg", "precision", "hit", "mrr", "map")
    """Metrics by name."""
    ks: tuple[int, ...] = (5, 10, 20, 50)
    """List lengths."""
    mask: Mask = "train"
    """Items of a user excluded from test rankings: those of training, as in the MMRec harness, those of validation as well, or
    none, for data with repeat consumption."""
    chunk_size: int = 512
    """Queries scored at once."""
    candidate_chunk: int | None = None
    """Candidates scored at once; by default as many as give 64 MB of scores."""
    bootstrap: int = 1000
    """Resamples per 95 % interval of fewer than 1,000 queries (of more, the interval has a closed form); 0 for no intervals."""
    clip_ratings: bool = True
    """Clip predicted ratings to the range of the training ratings before errors are measured."""
    num_sampled: int = 0
    """Number of sampled candidates to rank the relevant items among; 0 for all. Sampled metrics may order models differently than
    full rankings (Krichene and Rendle, KDD 2020), and reports warn of it; early stopping always ranks all."""
    sampled_by: Literal["uniform", "popularity"] = "uniform"
    """Distribution of sampled candidates: uniform, or in proportion to their number of training interactions."""

    def __post_init__(self) -> None:
        if not self.metrics or not self.ks:
            raise UsageError(f"metrics and ks must hold at least one value each, but are {self.metrics} and {self.ks}")
        for name in self.metrics:
            check_choice(tuple(METRICS), metrics=name)
        for k in self.ks:
            check_positive(ks=k)
        check_literals(self)
        check_non_negative(num_sampled=self.num_sampled)
        check_positive(chunk_size=self.chunk_size, candidate_chunk=1 if self.candidate_chunk is None else self.candidate_chunk)
        check_non_negative(bootstrap=self.bootstrap)


def mask_of(config: EvalConfig, part: str) -> Mask:
    """Return the mask of the rankings of a split part: validation items cannot be excluded from validation itself."""
    return "train" if part == "valid" and config.mask == "train+valid" else config.mask
