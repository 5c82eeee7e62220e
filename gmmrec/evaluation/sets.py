"""From a model and sets of items to results: how well real sets are told from random ones."""

import torch
from torch import Tensor

from gmmrec.abilities import ScoresCompatibility, offered
from gmmrec.evaluation.evaluator import EvalConfig, evaluating
from gmmrec.evaluation.results import Results
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.recommender import AnyRecommender, Encoded, encode
from gmmrec.tasks.query import OutfitQuery
from gmmrec.tasks.questions import Sets


def evaluate_sets(
    model: AnyRecommender,
    graph: MultimodalGraph,
    sets: Sets,
    *,
    chunk_size: int = EvalConfig.chunk_size,
    bootstrap: int = EvalConfig.bootstrap,
) -> Results:
    """Puts sets in order by how well their items go together, and measures how far the real ones stand in front.

    Args:
        model: A trained model, on the device of ``graph``.
        graph: What ``model.prepare`` returned.
        sets: What is asked.
        chunk_size: Sets judged at once.
        bootstrap: Resamples behind the interval.

    Returns:
        ``auc`` of every set, see :func:`shares`; the mean over all sets is the AUC.

    Raises:
        ValueError: The model scores NaN.
    """
    sets = sets.to(graph.degree(sets.query.target).device)
    with evaluating(model):
        encoded = encode(model, graph)
        parts = torch.arange(len(sets), device=sets.real.device).split(chunk_size)
        found = torch.cat([set_scores(model, encoded, sets.query.take(part)) for part in parts]).float()
    if bool(found.isnan().any()):
        raise ValueError(f"{type(model).__name__} gives NaN scores; its training has diverged")
    query = sets.query
    rows = (query.outfit + 1).masked_fill(~query.outfit_mask, 0)
    number = (rows * -7046029254386353131 ^ rows).sum(1) * 2 + sets.real  # the same for the same items in any order
    return Results({"auc": shares(found, sets.real).cpu()}, torch.arange(len(sets)), number.cpu(), "sets", bootstrap=bootstrap)


def set_scores(model: AnyRecommender, encoded: Encoded, query: OutfitQuery) -> Tensor:
    """How well the items of each set go together ``[B]``: what the model says itself, else the mean score of its items.

    Every item is scored as what completes the rest of its set.
    """
    if own := offered(model, ScoresCompatibility):
        return own.compatibility(encoded, query)
    row, column = query.outfit_mask.nonzero(as_tuple=True)
    scores = model.score(encoded, query.without(row, column), query.outfit[row, column][:, None])
    total = scores.new_zeros(len(query)).index_add_(0, row, scores.flatten())
    return total / query.outfit_mask.sum(1)


def shares(scores: Tensor, real: Tensor) -> Tensor:
    """For every real set the share of the others that score less, for every other the share of the real ones that score more.

    Ties count half. The mean over all is the area under the ROC curve, as is the mean over either kind.

    Args:
        scores: ``[n]``.
        real: ``[n]`` (bool).

    >>> shares(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([True, True, False]))
    tensor([1.0000, 0.0000, 0.5000])
    """
    found = torch.empty_like(scores, dtype=torch.float32)
    for kind, sign in ((real, 1.0), (~real, -1.0)):
        mine, others = sign * scores[kind], (sign * scores[~kind]).sort().values
        below, not_above = (torch.searchsorted(others, mine, right=right) for right in (False, True))
        found[kind] = (below + not_above) / (2 * len(others))
    return found
