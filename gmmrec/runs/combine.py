"""Combinations of finished runs: blends, and two-stage runs that rerank the top items of one run by another."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from gmmrec.config import check_choice, check_positive
from gmmrec.data.parts import GIVEN_PARTS
from gmmrec.ensemble.blend import Blend, Scale, mix
from gmmrec.ensemble.graphs import merge
from gmmrec.ensemble.two_stage import TwoStage
from gmmrec.ensemble.weights import search_weights
from gmmrec.errors import UsageError
from gmmrec.evaluation.evaluator import evaluating
from gmmrec.evaluation.metrics import parse_metric
from gmmrec.evaluation.splits import described
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.runs.checkpoint import Given
from gmmrec.runs.config import CombinedConfig, RunConfig
from gmmrec.runs.folder import write_run
from gmmrec.runs.run import Run
from gmmrec.runs.summary import evaluate_run
from gmmrec.runs.writer import writing
from gmmrec.tasks.query import UserQuery


def blend(
    runs: Sequence[Run | str | Path],
    *,
    metric: str = "recall@20",
    scale: Scale = "standard",
    weights: Sequence[float] | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    model_class: Given = None,
    parts: Mapping[str, Any] | None = None,
) -> Run:
    """Blend trained runs; see :class:`gmmrec.ensemble.blend.Blend`.

    Args:
        runs: Finished runs or their folders, on the same data set and split.
        metric: Validation metric by which weights are chosen. The test part is evaluated only afterwards. Runs that differ only in
            their seeds share one weight evenly, so that the search does not follow chance.
        scale: Normalization of the runs' scores per user: ``"standard"``, by mean and standard deviation over the whole
            catalogue, or ``"ranks"``.
        weights: One weight per run, divided by their sum; searched for by default.
        out: Folder to save the blend to, independent of the runs; not saved by default.
        overwrite: Replace a run in that folder.
        model_class: Your own model classes that the folders name.
        parts: Your own parts that members were trained with, by role.

    Returns:
        A run whose model is a blend, evaluated like any other; ``report["blend"]`` holds the weights and, as ``"val/METRIC"``, the
        best value of the search.

    Raises:
        UsageError: The runs differ in data or split, the weights do not fit, or a setting is unknown.
    """
    if not runs:
        raise UsageError("no run to blend; give at least one")
    parse_metric(metric)
    check_choice(get_args(Scale), scale=scale)
    names = [f"run {position}" if isinstance(run, Run) else str(run) for position, run in enumerate(runs, 1)]
    loaded = [run if isinstance(run, Run) else Run.load(run, model_class, parts=parts) for run in runs]
    for name, run in zip(names[1:], loaded[1:], strict=True):
        check_same(names[0], loaded[0], name, run)
    if weights is not None and (len(weights) != len(runs) or min(weights) < 0 or not sum(weights) > 0):
        raise UsageError(
            f"weights must be {len(runs)} numbers, one per run, none below 0 and not all 0, but are {', '.join(map(str, weights))}"
        )

    first, models = loaded[0], [run.model for run in loaded]
    graph = merge([run.graph for run in loaded])
    value, started = None, time.perf_counter()
    if weights is None:
        whole = Blend.of(models, graph.schema, [1.0] * len(models), scale)
        weights, value = choose_weights(whole, replace(first, graph=graph), metric, alike(loaded))
    weights = [float(weight) / sum(weights) for weight in weights]
    seconds = time.perf_counter() - started

    model = Blend.of(models, graph.schema, weights, scale)
    details = {
        "runs": names,
        "weights": weights,
        "scale": scale,
        "metric": metric,
        "search_seconds": round(seconds, 3),
    }
    if value is not None:
        details[f"val/{metric}"] = value
    return _combined(model, graph, first, names, out, overwrite, monitor=metric, blend=details)


def rerank(
    fast: Run | str | Path,
    slow: Run | str | Path,
    *,
    top: int = 200,
    out: str | Path | None = None,
    overwrite: bool = False,
    model_class: Given = None,
    parts: Mapping[str, Any] | None = None,
) -> Run:
    """Rerank the top items of one trained run by another; see :class:`gmmrec.ensemble.two_stage.TwoStage`.

    Args:
        fast: A finished run or its folder; scores the whole catalogue.
        slow: Another run on the same data set and split; scores the top ``top`` items that are new to a user.
        top: Candidates per user; should be much larger than the lists to recommend.
        out: Folder to save the run to, independent of the two runs; not saved by default.
        overwrite: Replace a run in that folder.
        model_class: Your own model classes that the folders name.
        parts: Your own parts that members were trained with, by role.

    Returns:
        A run whose model is a :class:`~gmmrec.ensemble.two_stage.TwoStage`, evaluated like any other.

    Raises:
        UsageError: The runs differ in data or split, one is a combination itself, or ``top`` is below 1.
    """
    check_positive(top=top)
    names = [str(run) if not isinstance(run, Run) else name for name, run in (("the fast run", fast), ("the slow run", slow))]
    first, second = (run if isinstance(run, Run) else Run.load(run, model_class, parts=parts) for run in (fast, slow))
    check_same(names[0], first, names[1], second)
    graph = merge([first.graph, second.graph])
    model = TwoStage.of(first.model, second.model, graph.schema, top)
    details = {"runs": names, "models": [member.model for member in model.config.members], "top": top}
    return _combined(model, graph, first, names, out, overwrite, rerank=details)


def _combined(
    model: Blend | TwoStage,
    graph: MultimodalGraph,
    first: Run,
    names: Sequence[str],
    out: str | Path | None,
    overwrite: bool,
    *,
    monitor: str | None = None,
    **details: Any,
) -> Run:
    """Return an ensemble as a run, with the split and the evaluation of its first member."""
    settings = first.config
    config = CombinedConfig(model.config, tuple(names), settings.data, settings.split, settings.eval, monitor)
    made = Run(model, graph, first.split, first.vocabularies, first.attributes, config, tokens=first.tokens)
    if out is None:
        evaluate_run(made, **details)
        return made
    with writing(Path(out), overwrite=overwrite) as writer:  # refused before the evaluation, which takes longest
        evaluate_run(made, **details)
        write_run(made.stored(), writer)
    return made


def alike(runs: Sequence[Run]) -> list[list[int]]:
    """Return groups of positions of runs that differ only in their seeds, in order of their first member.

    A combination of runs forms a group by itself.
    """
    groups: list[list[int]] = []
    settings: list[object] = []
    for position, run in enumerate(runs):
        seedless: object = replace(run.config, seed=0) if isinstance(run.config, RunConfig) else position
        if seedless in settings:
            groups[settings.index(seedless)].append(position)
        else:
            settings.append(seedless)
            groups.append([position])
    return groups


def check_same(first_name: str, first: Run, name: str, run: Run) -> None:
    """Refuse runs that cannot be combined: with other ids, another order of ids, or other interactions in a split part.

    Raises:
        UsageError: The runs differ; the message states the difference.
    """
    remedy = "use runs on the same data set and the same split"
    for node_type in ("user", "item"):
        if first.vocabularies[node_type] != run.vocabularies[node_type]:
            raise UsageError(f"{first_name} and {name} cannot be combined: their {node_type} ids differ; {remedy}")
    for part in GIVEN_PARTS:
        log, other = first.split.part(part), run.split.part(part)
        if not (torch.equal(log.user, other.user) and torch.equal(log.item, other.item)):
            splits = [described(vars(each.config.split)) for each in (first, run)]
            named = f" (split by {splits[0]} and {splits[1]})" if splits[0] != splits[1] else ""
            raise UsageError(f"{first_name} and {name} cannot be combined: their {part} parts differ{named}; {remedy}")


def choose_weights(model: Blend, run: Run, metric: str, groups: Sequence[Sequence[int]]) -> tuple[tuple[float, ...], float]:
    """Choose the weights of a blend by a metric on the validation part; return them, summing to 1, and the best value.

    Args:
        model: Blend of all members, with any positive weights.
        run: Run with the graph and split of the blend.
        metric: Metric such as ``"recall@20"``.
        groups: Positions of members that share one weight evenly.
    """
    sizes = len(run.vocabularies["user"]), len(run.vocabularies["item"])
    task = run.task().ranking("valid")
    with evaluating(model):
        encoded = model.encode(run.graph)

        def scores_of_groups(query: UserQuery) -> Tensor:
            mixed = [[(1 / len(group), model.comparable_scores(encoded, query, member)) for member in group] for group in groups]
            return torch.stack([mix(shares) for shares in mixed])

        of_groups, value = search_weights(scores_of_groups, task, sizes[1], len(groups), metric)
    weights = [0.0] * len(model.members)
    for weight, group in zip(of_groups, groups, strict=True):
        for position in group:
            weights[position] = weight / len(group)
    return tuple(weights), value
