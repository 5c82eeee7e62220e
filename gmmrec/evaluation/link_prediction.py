"""Evaluation of link prediction: filtered ranks of the missing end of triples among all entities."""

from collections.abc import Mapping

import torch
from torch import Tensor

from gmmrec.data.ragged import RaggedSets
from gmmrec.errors import UsageError
from gmmrec.evaluation.evaluator import evaluating
from gmmrec.evaluation.groups import Group
from gmmrec.evaluation.report import table_report
from gmmrec.evaluation.results import EvaluationKind, GroupValues, Results, fingerprint
from gmmrec.evaluation.scoring import tiled_scores
from gmmrec.evaluation.settings import EvalConfig
from gmmrec.evaluation.ties import mean_over_ranks
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.nn.blocks import block_rows
from gmmrec.recommender import AnyRecommender, encode
from gmmrec.tasks.evaluation_tasks import LinkPredictionEvaluation
from gmmrec.typing import ENTITY

CELLS = 2**23
"""Scores held at once: 32 MB."""
DEPTHS = (1, 3, 10)
"""List lengths of ``hits@k``."""


def evaluate_link_prediction(
    model: AnyRecommender,
    graph: MultimodalGraph,
    task: LinkPredictionEvaluation,
    *,
    chunk_size: int = EvalConfig.chunk_size,
    groups: Mapping[str, Group] | None = None,
    bootstrap: int = EvalConfig.bootstrap,
) -> Results:
    """Score all entities for every query and rank the missing end, leaving out other true answers.

    Args:
        model: A model that answers :class:`~gmmrec.tasks.query.LinkPredictionQuery`, on the device of ``graph``.
        graph: Graph returned by ``model.prepare``.
        task: Triples with one end to predict.
        chunk_size: Maximum number of queries scored at once.
        groups: Groups of queries reported besides the whole; see :func:`link_groups`.
        bootstrap: Resamples behind the intervals.

    Returns:
        One value per query: the reciprocal rank under ``mrr``, ``hits@1``, ``hits@3``, ``hits@10``, and the rank itself under
        ``mean_rank``; all are expectations over a random order of tied entities.

    Raises:
        UsageError: The model scores NaN.
    """
    task = task.to(graph.degree(ENTITY).device)
    num_entities = graph.num_nodes(ENTITY)
    entities = torch.arange(num_entities, device=task.answer.device)
    with evaluating(model):
        encoded, ties = encode(model, graph), []
        for index in torch.arange(len(task), device=entities.device).split(min(chunk_size, block_rows(CELLS, num_entities))):
            part = task.take(index)
            scores = tiled_scores(model, encoded, part.query, entities).float()
            if bool(scores.isnan().any()):
                raise UsageError(f"{type(model).__name__} returned NaN scores; its training has diverged")
            ties.append(filtered_ties(scores, part.answer, part.known))
    above, tied = (torch.cat(each).cpu() for each in zip(*ties, strict=True))
    rank = torch.arange(1, num_entities + 1)
    values = {"mrr": mean_over_ranks(1 / rank, above, tied).float()}
    values |= {f"hits@{k}": mean_over_ranks(torch.ones(k), above, tied).float() for k in DEPTHS}
    values["mean_rank"] = above + (1 + tied) / 2
    query = ((task.query.relation * num_entities + task.query.head) * num_entities + task.answer).cpu()
    by_group = {}
    for name, group in (groups or {}).items():
        position = group.mask.cpu().nonzero().flatten()
        by_group[name] = GroupValues(position, {metric: value[position] for metric, value in values.items()})
    return Results(LINK_PREDICTION, values, query, fingerprint(task.known).cpu(), "known answers", by_group, bootstrap=bootstrap)


def filtered_ties(scores: Tensor, answer: Tensor, known: RaggedSets) -> tuple[Tensor, Tensor]:
    """Return where each answer stands among all candidates but other true answers: how many score higher, and how many as much.

    Args:
        scores: ``[B, N]``.
        answer: Columns ``[B]``.
        known: All true answers per query; the answer itself may be among them.

    Returns:
        Number of candidates that score higher ``[B]``, and that score as much, the answer included ``[B]``.

    >>> known = RaggedSets(torch.tensor([0, 2]), torch.tensor([1, 3]))
    >>> filtered_ties(torch.tensor([[3.0, 2.0, 2.0, 9.0]]), torch.tensor([1]), known)
    (tensor([1]), tensor([2]))
    """
    score = scores.gather(1, answer[:, None])  # [B, 1]
    above, tied = (scores > score).sum(1), (scores == score).sum(1)
    query, other = known.groups, known.values
    other_score, is_other = scores[query, other], other != answer[query]
    above = above.index_add(0, query, ((other_score > score[query, 0]) & is_other).long(), alpha=-1)
    tied = tied.index_add(0, query, ((other_score == score[query, 0]) & is_other).long(), alpha=-1)
    return above, tied


def link_groups(graph: MultimodalGraph, task: LinkPredictionEvaluation) -> dict[str, Group]:
    """Return the groups that every report shows: by the predicted end, and by whether an end of the triple has a modality."""
    backwards = task.backwards.to(graph.degree(ENTITY).device)
    groups = {"tails": Group(~backwards, "queries"), "heads": Group(backwards, "queries")}
    for modality in graph.schema.modalities(ENTITY):
        present = graph.features[modality].present
        has_modality = present[task.query.head.to(present.device)] | present[task.answer.to(present.device)]
        groups[f"triples with {modality}"] = Group(has_modality, "queries")
        groups[f"triples without {modality}"] = Group(~has_modality, "queries")
    return {name: group for name, group in groups.items() if bool(group.mask.any()) and not bool(group.mask.all())}


def _evaluate(
    model: AnyRecommender,
    graph: MultimodalGraph,
    task: LinkPredictionEvaluation,
    config: EvalConfig,
    groups: Mapping[str, Group],
) -> Results:
    return evaluate_link_prediction(model, graph, task, chunk_size=config.chunk_size, groups=groups, bootstrap=config.bootstrap)


LINK_PREDICTION = EvaluationKind(
    name="link_prediction",
    task=LinkPredictionEvaluation,
    unit="queries",
    paired_by="query",
    headline="triples with one end to predict among all entities; other true answers are not ranked",
    evaluate=_evaluate,
    report=table_report,
    groups=link_groups,
    lower_is_better=frozenset({"mean_rank"}),
)
