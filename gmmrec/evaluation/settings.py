"""Settings of evaluations."""

from dataclasses import dataclass, field
from typing import Literal

from gmmrec.config import MAY_CHANGE, ON_RESUME, check_choice, check_literals, check_non_negative, check_positive
from gmmrec.errors import UsageError, literal
from gmmrec.evaluation.metrics import ERRORS, METRICS
from gmmrec.tasks.evaluation_tasks import Mask


@dataclass(frozen=True)
class EvalConfig:
    """Settings of evaluation and reports."""

    metrics: tuple[str, ...] = field(default=("recall", "ndcg", "precision", "hit", "mrr", "map"), metadata=MAY_CHANGE)
    """Metrics by name."""
    ks: tuple[int, ...] = field(default=(5, 10, 20, 50), metadata=MAY_CHANGE)
    """List lengths."""
    mask: Mask = field(default="train", metadata={ON_RESUME: lambda run: mask_of(run.eval, "valid")})
    """Items of a user excluded from test rankings: those of training, as in the MMRec harness, those of validation as well, or
    none, for data with repeat consumption."""
    chunk_size: int = 512
    """Queries scored at once."""
    candidate_chunk: int | None = None
    """Candidates scored at once; by default as many as give 64 MB of scores."""
    bootstrap: int = field(default=1000, metadata=MAY_CHANGE)
    """Resamples per 95 % interval of fewer than 1,000 queries (of more, the interval has a closed form); 0 for no intervals."""
    clip_ratings: bool = field(
        default=True, metadata={ON_RESUME: lambda run: run.eval.clip_ratings if _metric(run.monitor) in ERRORS else None}
    )
    """Clip predicted ratings to the range of the training ratings before errors are measured."""
    num_sampled: int = field(default=0, metadata=MAY_CHANGE)
    """Number of sampled candidates to rank the relevant items among; 0 for all. Sampled metrics may order models differently than
    full rankings (Krichene and Rendle, KDD 2020), and reports warn of it; early stopping always ranks all."""
    sampled_by: Literal["uniform", "popularity"] = field(default="uniform", metadata=MAY_CHANGE)
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
    """Return the mask of the rankings of a split part: validation items cannot be excluded from validation itself.

    Raises:
        UsageError: The part is neither validation nor test.
    """
    if not isinstance(part, str) or part not in ("valid", "test"):
        raise UsageError(f"part must be 'valid' or 'test', but is {literal(part)}")
    return "train" if part == "valid" and config.mask == "train+valid" else config.mask


def _metric(monitor: str | None) -> str:
    """Return the metric of a monitor such as ``rating/rmse``."""
    return (monitor or "").rpartition("/")[2]
