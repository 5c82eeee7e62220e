"""Evaluation of rankings: encode once, rank in chunks, measure all queries and groups."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from gmmrec.data.ragged import RaggedSets
from gmmrec.errors import UsageError
from gmmrec.evaluation.catalogue import coverage, novelty
from gmmrec.evaluation.groups import Group, default_groups
from gmmrec.evaluation.metrics import METRICS, is_ranking_metric, parse_metric
from gmmrec.evaluation.ranking import CELLS, RankedTies, hits, rank_sampled, rank_ties, tie_order
from gmmrec.evaluation.report import ranking_report
from gmmrec.evaluation.results import EvaluationKind, GroupValues, Results, fingerprint
from gmmrec.evaluation.settings import EvalConfig
from gmmrec.evaluation.ties import Hits, expected_hits
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.nn.blocks import block_rows
from gmmrec.recommender import AnyRecommender, encode
from gmmrec.tasks.evaluation_tasks import RankingEvaluation


def evaluate(
    model: AnyRecommender,
    graph: MultimodalGraph,
    task: RankingEvaluation[Any],
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
    """Rank the whole catalogue for every query and measure the lists.

    Metrics are expectations over a random order of tied candidates; coverage and novelty are those of the lists that are
    shown, with ties in :func:`~gmmrec.evaluation.ranking.tie_order`.

    The model is in evaluation mode without gradients (a model may enable them inside ``score``); its mode is restored afterwards.

    Args:
        model: A trained model, on the device of ``graph``.
        graph: Graph returned by ``model.prepare``.
        task: Ranking task, with a relevant item per query.
        metrics: Names in ``METRICS``.
        ks: Lengths of the lists, all taken from one ranking.
        groups: Groups reported besides the whole; see ``default_groups``.
        chunk_size: Queries scored at once.
        candidate_chunk: Candidates scored at once.
        bootstrap: Resamples per interval, drawn on first access.
        num_sampled: Number of sampled candidates to rank instead of all; see :class:`EvalConfig`. The sample is the same for all
            models.
        sampled_by: Distribution of the sample.

    Raises:
        UsageError: There are no queries, a metric is unknown, or the model scores NaN.
    """
    settings = EvalConfig(metrics=metrics, ks=ks, chunk_size=chunk_size, candidate_chunk=candidate_chunk, bootstrap=bootstrap)
    if not len(task):
        raise UsageError("nothing to evaluate: no query has a relevant item; choose a split with a larger share")
    target = task.query.target
    count = graph.degree(target)
    task = task.to(count.device)
    num_items, order = count.numel(), tie_order(count, task.id_order)

    with evaluating(model):
        encoded = encode(model, graph)

        def lists(part: RankingEvaluation[Any], pool: Tensor | None = None) -> RankedTies:
            sizes = {"k": max(ks), "chunk_size": chunk_size}
            if num_sampled:
                return rank_sampled(model, encoded, part, count, num_sampled, **sizes, by=sampled_by, order=order)
            return rank_ties(model, encoded, part, num_items, **sizes, candidate_chunk=candidate_chunk, pool=pool, order=order)

        ranked = lists(task)
        values = measure(ranked, task.relevant, settings)
        by_group = {}
        for name, group in (groups or {}).items():
            if group.only and num_sampled:
                continue  # candidates are sampled among all items
            mask = group.mask.to(count.device)
            if group.over == "queries":
                position = mask.nonzero().flatten()
                found = {metric: value[position] for metric, value in values.items()}
            else:
                relevant, scores = _restrict(task.relevant, ranked.relevant, mask)
                position = relevant.counts.nonzero().flatten()
                if group.only:
                    part = replace(task.take(position), relevant=relevant.take(position))
                    found = measure(lists(part, mask), part.relevant, settings)
                else:
                    kept = RankedTies(ranked.items[position], ranked.scores[position], ranked.tied[position], scores)
                    found = measure(kept, relevant.take(position), settings)
            if position.numel():
                by_group[name] = GroupValues(position.cpu(), {metric: value.cpu() for metric, value in found.items()})

    top = ranked.items
    catalogue = {f"coverage@{k}": coverage(top[:, :k], num_items) for k in ks}
    catalogue |= {f"novelty@{k}": float(novelty(top[:, :k], count).nanmean()) for k in ks}
    return Results(
        kind=RANKING,
        values={metric: value.cpu() for metric, value in values.items()},
        query=task.query.identity.cpu(),
        relevant=fingerprint(task.relevant).cpu(),
        masked=task.masked,
        groups=by_group,
        catalogue=catalogue,
        bootstrap=bootstrap,
        sampled=num_sampled,
        sampled_by=sampled_by,
    )


@contextmanager
def evaluating(model: AnyRecommender) -> Iterator[None]:
    """Set evaluation mode without gradients, and restore the mode of every module afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def measure(ranked: RankedTies, relevant: RaggedSets, settings: EvalConfig) -> dict[str, Tensor]:
    """Return the metrics of ranked lists ``[Q]``, as expectations over a random order of the ties.

    Args:
        ranked: Lists of length ``max(settings.ks)``, and the scores of the candidates in ``relevant``.
        relevant: Relevant candidates of the ``Q`` queries.
        settings: Metrics and list lengths.
    """
    mask, scores, num_relevant = hits(ranked.items, relevant), ranked.scores, relevant.counts
    values = _all_metrics(Hits.of(mask), num_relevant, settings)
    ties = (scores[:, 1:] == scores[:, :-1]) & (scores[:, 1:] > -torch.inf)
    for lines in (ties.any(1) | (ranked.tied > 1)).nonzero().flatten().split(block_rows(CELLS, scores.shape[1])):
        part = relevant.positions(lines)[0]
        group = torch.repeat_interleave(torch.arange(lines.numel(), device=lines.device), num_relevant[lines])
        level = ranked.relevant[part] == scores[lines, -1][group]
        relevant_tied = torch.zeros_like(lines).index_add_(0, group, level.long())
        expected = expected_hits(mask[lines], scores[lines], ranked.tied[lines], relevant_tied)
        for metric, value in _all_metrics(expected, num_relevant[lines], settings).items():
            values[metric][lines] = value
    return values


def _all_metrics(found: Hits, num_relevant: Tensor, settings: EvalConfig) -> dict[str, Tensor]:
    return {f"{name}@{k}": METRICS[name](found.first(k), num_relevant) for name in settings.metrics for k in settings.ks}


def _restrict(relevant: RaggedSets, scores: Tensor, mask: Tensor) -> tuple[RaggedSets, Tensor]:
    """Return the sets, and the scores of their rows, without the rows outside ``mask`` ``[I]``."""
    keep = mask[relevant.values]
    indptr = torch.cat([relevant.indptr.new_zeros(1), keep.cumsum(0)])[relevant.indptr]
    return RaggedSets(indptr, relevant.values[keep]), scores[keep]


def _evaluate_ranking(
    model: AnyRecommender,
    graph: MultimodalGraph,
    task: RankingEvaluation[Any],
    config: EvalConfig,
    groups: Mapping[str, Group],
) -> Results:
    return evaluate(
        model,
        graph,
        task,
        metrics=config.metrics,
        ks=config.ks,
        groups=groups,
        chunk_size=config.chunk_size,
        candidate_chunk=config.candidate_chunk,
        bootstrap=config.bootstrap,
        num_sampled=config.num_sampled,
        sampled_by=config.sampled_by,
    )


def _one_metric(metric: str, config: EvalConfig) -> EvalConfig:
    """Return settings that compute one metric on full rankings, even if ``config`` samples."""
    name, k = parse_metric(metric)
    return EvalConfig(metrics=(name,), ks=(k,), bootstrap=0)


RANKING = EvaluationKind(
    name="ranking",
    task=RankingEvaluation,
    unit="queries",
    paired_by="user",
    headline="queries",
    evaluate=_evaluate_ranking,
    report=ranking_report,
    groups=default_groups,
    monitoring=_one_metric,
    bare=is_ranking_metric,
)
