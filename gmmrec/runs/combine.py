"""Late fusion of finished runs: weights from the validation part, and a run that is used like any other."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from gmmrec.config import check_choice
from gmmrec.ensemble.blend import Blend, Scale, merge, mix
from gmmrec.ensemble.weights import search_weights
from gmmrec.evaluation.evaluator import evaluating
from gmmrec.evaluation.metrics import parse_metric
from gmmrec.runs.run import Run, check_same, judge
from gmmrec.tasks.query import UserQuery


def blend(
    runs: Sequence[Run | str | Path],
    *,
    metric: str = "recall@20",
    scale: Scale = "standard",
    weights: Sequence[float] | None = None,
    out: str | Path | None = None,
) -> Run:
    """Lets trained runs rank together; see :class:`gmmrec.ensemble.blend.Blend` for how.

    Args:
        runs: Finished runs, or their folders: of the same data set and split.
        metric: The metric on the validation part by which weights are chosen. The test part is looked at only afterwards. Runs that
            differ in their seeds alone share one weight evenly, so that the search is not led by their chance.
        scale: How the runs' scores are made comparable, user by user: ``"standard"``, by mean and standard deviation over the whole
            catalogue, or ``"ranks"``.
        weights: Used instead of the search where given: one a run, divided by their sum.
        out: Folder for the blend, if it is to be kept; it does not need the runs any more.

    Returns:
        A run whose model is a blend, evaluated like any other; ``report["blend"]`` holds weights and validation values.

    Raises:
        ValueError: The runs are not of the same data and split, the weights do not fit, or a setting is unknown.
    """
    if not runs:
        raise ValueError("there is no run to blend; name at least one")
    parse_metric(metric)
    check_choice(get_args(Scale), scale=scale)
    names = [f"run {place}" if isinstance(run, Run) else str(run) for place, run in enumerate(runs, 1)]
    loaded = [run if isinstance(run, Run) else Run.load(run) for run in runs]
    for name, run in zip(names[1:], loaded[1:], strict=True):
        check_same(names[0], loaded[0], name, run)
    if weights is not None and (len(weights) != len(runs) or min(weights) < 0 or not sum(weights) > 0):
        raise ValueError(
            f"weights must be {len(runs)} numbers, one a run, none below 0 and not all 0, but are {', '.join(map(str, weights))}"
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
    config = {
        "model_name": "blend",
        "runs": names,
        "models": [part.model for part in model.config.parts],
        "weights": weights,
        "scale": scale,
        "monitor": metric,
        **{section: first.config[section] for section in ("data", "split", "eval")},
    }
    blended = Run(model, graph, first.split, first.vocabularies, first.attributes, config, tokens=first.tokens)
    facts = {
        "runs": names,
        "weights": weights,
        "scale": scale,
        "metric": metric,
        "valid": value,
        "search_seconds": round(seconds, 3),
    }
    judge(blended, blend=facts)
    if out is not None:
        blended.save(out)
    return blended


def alike(runs: Sequence[Run]) -> list[list[int]]:
    """Places of runs with the same settings but for the seed, group by group, in the order of their first."""
    groups: list[list[int]] = []
    settings: list[dict[str, object]] = []
    for place, run in enumerate(runs):
        own = {name: value for name, value in run.config.items() if name != "seed"}
        if own in settings:
            groups[settings.index(own)].append(place)
        else:
            settings.append(own)
            groups.append([place])
    return groups


def choose_weights(model: Blend, run: Run, metric: str, groups: Sequence[Sequence[int]]) -> tuple[tuple[float, ...], float]:
    """Weights of a blend's parts, summing to 1, by a metric on the validation part; and its value.

    Args:
        model: A blend in which every part has a share, whatever it is.
        run: Its graph and its split.
        metric: Such as ``"recall@20"``.
        groups: Places of parts that share one weight evenly.
    """
    sizes = len(run.vocabularies["user"]), len(run.vocabularies["item"])
    questions = run.task().ranking("valid")
    with evaluating(model):
        encoded = model.encode(run.graph)

        def part_scores(query: UserQuery) -> Tensor:
            shares = [[(1 / len(group), model.part_scores(encoded, query, place)) for place in group] for group in groups]
            return torch.stack([mix(share) for share in shares])

        of_groups, value = search_weights(part_scores, questions, sizes[1], len(groups), metric)
    weights = [0.0] * len(model.parts)
    for weight, group in zip(of_groups, groups, strict=True):
        for place in group:
            weights[place] = weight / len(group)
    return tuple(weights), value
