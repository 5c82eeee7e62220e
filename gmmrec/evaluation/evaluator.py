"""From a model and questions to results: encode once, rank in chunks, measure, also by groups."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from gmmrec.config import check_choice, check_literals, check_non_negative, check_positive
from gmmrec.data.ragged import Ragged
from gmmrec.evaluation.catalogue import coverage, novelty
from gmmrec.evaluation.metrics import METRICS
from gmmrec.evaluation.ranking import hits, rank, rank_sampled
from gmmrec.evaluation.results import GroupValues, Results, fingerprint
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.recommender import AnyRecommender, encode
from gmmrec.tasks.questions import Mask, Questions
from gmmrec.typing import ITEM


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


@dataclass(frozen=True)
class Group:
    """A part of the test that is reported by itself.

    Attributes:
        mask: Who belongs to it: ``[Q]`` or ``[I]``.
        over: Whether the mask selects questions, or items. In a group of items only these count as relevant, and questions without
            any are left out.
        only: For a group of items: rank these alone, not among the whole catalogue.
    """

    mask: Tensor
    over: Literal["questions", "items"]
    only: bool = False


def evaluate(
    model: AnyRecommender,
    graph: MultimodalGraph,
    questions: Questions[Any],
    *,
    metrics: tuple[str, ...] = EvalConfig.metrics,
    ks: tuple[int, ...] = EvalConfig.ks,
    groups: Mapping[str, Group] | None = None,
    chunk_size: int = EvalConfig.chunk_size,
    candidate_chunk: int | None = None,
    bootstrap: int = EvalConfig.bootstrap,
    num_sampled: int = EvalConfig.num_sampled,
    sampled_by: Literal["uniform", "popularity"] = EvalConfig.sampled_by,
) -> Results:
    """Ranks the whole catalogue for every question and measures the lists.

    The model is put into evaluation mode and back, without gradients (but a model may switch them on inside ``score``).

    Args:
        model: A trained model, on the device of ``graph``.
        graph: What ``model.prepare`` returned.
        questions: Every one with a relevant item.
        metrics: Names in ``METRICS``.
        ks: Lengths of the lists; they are cut from one ranking.
        groups: Reported beside the whole; see ``default_groups``.
        chunk_size: Questions scored at once.
        candidate_chunk: Candidates scored at once.
        bootstrap: Resamples behind the intervals, which are drawn when they are asked for.
        num_sampled: Rank among so many sampled candidates instead; see :class:`EvalConfig`. The sample is the same for all models.
        sampled_by: How they are sampled.

    Raises:
        ValueError: There are no questions, a metric is not known, or the model scores NaN.
    """
    settings = EvalConfig(metrics=metrics, ks=ks, chunk_size=chunk_size, candidate_chunk=candidate_chunk, bootstrap=bootstrap)
    if not len(questions):
        raise ValueError("there is nothing to evaluate: no question has a relevant item; choose a split with a larger share")
    target = questions.query.target
    count = graph.degree(target)
    questions = _to(questions, count.device)
    num_items = count.numel()

    with evaluating(model):
        encoded = encode(model, graph)

        def lists(asked: Questions[Any], pool: Tensor | None = None) -> Tensor:
            if num_sampled:
                return rank_sampled(model, encoded, asked, count, num_sampled, k=max(ks), by=sampled_by, chunk_size=chunk_size)
            return rank(
                model, encoded, asked, num_items, k=max(ks), chunk_size=chunk_size, candidate_chunk=candidate_chunk, pool=pool
            )

        top = lists(questions)
        values = _measure(hits(top, questions.relevant), questions.relevant.counts, settings)
        by_group = {}
        for name, group in (groups or {}).items():
            if group.only and num_sampled:
                continue  # candidates are sampled among all items
            mask = group.mask.to(count.device)
            if group.over == "questions":
                position = mask.nonzero().flatten()
                found = {metric: value[position] for metric, value in values.items()}
            else:
                relevant = _restrict(questions.relevant, mask)
                position = relevant.counts.nonzero().flatten()
                relevant = relevant.take(position)
                part = lists(questions.take(position), mask) if group.only else top[position]
                found = _measure(hits(part, relevant), relevant.counts, settings)
            if position.numel():
                by_group[name] = GroupValues(position.cpu(), {metric: value.cpu() for metric, value in found.items()})

    catalogue = {f"coverage@{k}": coverage(top[:, :k], num_items) for k in ks}
    catalogue |= {f"novelty@{k}": float(novelty(top[:, :k], count).nanmean()) for k in ks}
    return Results(
        values={metric: value.cpu() for metric, value in values.items()},
        query=_names(questions).cpu(),
        relevant=fingerprint(questions.relevant).cpu(),
        masked=questions.masked,
        groups=by_group,
        catalogue=catalogue,
        bootstrap=bootstrap,
        sampled=num_sampled,
        sampled_by=sampled_by,
    )


def default_groups(graph: MultimodalGraph, questions: Questions[Any]) -> dict[str, Group]:
    """The groups every report shows, as far as they exist.

    Items with and without training interactions (warm and cold; the cold ones also ranked among themselves), items that lack a
    modality, and users by quartiles of their number of training interactions.
    """
    target = questions.query.target
    groups = {}
    cold = graph.degree(target) == 0
    if bool(cold.any()):
        groups["warm items"] = Group(~cold, "items")
        groups["cold items"] = Group(cold, "items")
        groups["cold items among themselves"] = Group(cold, "items", only=True)
    for modality in graph.schema.modalities(target):
        missing = ~graph.features[modality].present
        if bool(missing.any()):
            groups[f"items without {modality}"] = Group(missing, "items")
    user: Tensor | None = getattr(questions.query, "user", None)
    if target == ITEM and user is not None and bool((user >= 0).all()):  # -1 is nobody in particular
        groups |= activity_groups(graph.degree("user")[user.to(cold.device)])
    return groups


def activity_groups(degree: Tensor) -> dict[str, Group]:
    """Questions in at most four bins of nearly equal size by the user's degree ``[Q]``, and apart those of new users."""
    seen = degree > 0
    groups = {} if bool(seen.all()) else {"users without training interactions": Group(~seen, "questions")}
    if not bool(seen.any()):
        return groups
    ordered = degree[seen].sort().values
    share = torch.tensor([0.25, 0.5, 0.75, 1.0], device=degree.device)
    ends = torch.unique(ordered[(share * ordered.numel()).ceil().long() - 1])  # the greatest degree of every bin
    start = int(ordered[0])
    for end in ends.long().tolist():
        span = f"{start}" if start == end else f"{start} to {end}"
        groups[f"users with {span} training interactions"] = Group((degree >= start) & (degree <= end), "questions")
        start = end + 1
    return groups


@contextmanager
def evaluating(model: AnyRecommender) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every module is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def _measure(hit: Tensor, num_relevant: Tensor, settings: EvalConfig) -> dict[str, Tensor]:
    return {f"{name}@{k}": METRICS[name](hit[:, :k], num_relevant) for name in settings.metrics for k in settings.ks}


def _restrict(relevant: Ragged, mask: Tensor) -> Ragged:
    """The same sets, without the rows outside ``mask`` ``[I]``."""
    keep = mask[relevant.values]
    indptr = torch.cat([relevant.indptr.new_zeros(1), keep.cumsum(0)])[relevant.indptr]
    return Ragged(indptr, relevant.values[keep])


def _names(questions: Questions[Any]) -> Tensor:
    """What identifies each question: the user's row, or its position where there is no user."""
    user: Tensor | None = getattr(questions.query, "user", None)
    return torch.arange(len(questions)) if user is None else user


def _to(questions: Questions[Any], device: torch.device) -> Questions[Any]:
    return replace(
        questions,
        query=questions.query.to(device),
        relevant=questions.relevant.to(device),
        excluded=questions.excluded.to(device),
    )
