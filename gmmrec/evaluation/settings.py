"""Settings of evaluations."""

from dataclasses import dataclass
from typing import Literal

from gmmrec.config import check_choice, check_literals, check_non_negative, check_positive
from gmmrec.evaluation.metrics import METRICS
from gmmrec.tasks.evaluation_tasks import Mask


@dataclass(frozen=True)
class EvalConfig:
    """How the test is taken and what is reported."""

    metrics: tuple[str, ...] = ("recall", "ndcg", "precision", "hit", "mrr", "map")
    """Names of the metrics."""
    ks: tuple[int, ...] = (5, 10, 20, 50)
    """Lengths of the lists."""
    mask: Mask = "train"
    """Whose items are not ranked in the test: those of training, as the MMRec harness does, those of validation as well, or none,
    where people come back to what they know."""
    chunk_size: int = 512
    """Questions scored at once."""
    candidate_chunk: int | None = None
    """Candidates scored at once; as many as make 64 MB of scores where not given."""
    bootstrap: int = 1000
    """Resamples behind every 95 % interval; 0 for none."""
    clip_ratings: bool = True
    """Put predicted ratings into the range of the training ratings before errors are measured; for models that predict ratings."""
    num_sampled: int = 0
    """Rank the right answers among so many sampled candidates instead of all; 0 for all. Figures of sampled candidates may order
    models otherwise than those of all (Krichene and Rendle, KDD 2020), and reports say so; early stopping always ranks all."""
    sampled_by: Literal["uniform", "popularity"] = "uniform"
    """How sampled candidates are drawn: all alike, or in proportion to their number of training interactions."""

    def __post_init__(self) -> None:
        if not self.metrics or not self.ks:
            raise ValueError(f"metrics and ks must name at least one each, but are {self.metrics} and {self.ks}")
        for name in self.metrics:
            check_choice(tuple(METRICS), metrics=name)
        for k in self.ks:
            check_positive(ks=k)
        check_literals(self)
        check_non_negative(num_sampled=self.num_sampled)
        check_positive(chunk_size=self.chunk_size, candidate_chunk=1 if self.candidate_chunk is None else self.candidate_chunk)
        check_non_negative(bootstrap=self.bootstrap)


def mask_of(config: EvalConfig, part: str) -> Mask:
    """The mask of the rankings of a split part: validation items cannot be left out of the validation itself."""
    return "train" if part == "valid" and config.mask == "train+valid" else config.mask
