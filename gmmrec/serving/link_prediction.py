"""Link prediction in raw ids."""

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from gmmrec.data.ragged import RaggedSets
from gmmrec.data.triples import Triples
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.errors import UsageError
from gmmrec.evaluation.ranking import tie_order
from gmmrec.evaluation.scoring import tiled_scores
from gmmrec.evaluation.top import top_columns
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.recommender import AnyRecommender, encode
from gmmrec.serving.ids import known_row, switch, whole_number
from gmmrec.serving.known import known_entities
from gmmrec.typing import ENTITY


def complete(
    model: AnyRecommender,
    graph: MultimodalGraph,
    vocabularies: Mapping[str, Vocabulary],
    triples: Triples,
    entity: Hashable,
    relation: Hashable,
    k: int = 10,
    *,
    backwards: bool = False,
    exclude_known: bool = True,
    titles: "pd.Series[Any] | None" = None,
) -> pd.DataFrame:
    """Return the ``k`` entities most likely to complete a triple.

    Among equal scores, entities in more training triples come first, then those with the lower raw id.

    Args:
        model: A trained model whose queries are :class:`~gmmrec.tasks.query.LinkPredictionQuery`.
        graph: The prepared graph.
        vocabularies: Raw ids; those of ``"entity"`` and ``"relation"`` are needed.
        triples: All known triples.
        entity: Raw id of the given end: the head, or with ``backwards`` the tail.
        relation: Raw id.
        k: Length of the list; shorter where fewer candidates remain. An entity without a training triple and without features is
            no candidate.
        backwards: Whether to predict heads rather than tails.
        exclude_known: Leave out entities of known triples.
        titles: Title of every entity, or None.

    Returns:
        Columns ``entity_id``, ``score``, ``rank`` (from 1), and ``title`` if titles are given.

    Raises:
        UnknownIdError: An id is unknown; the message gives the nearest.
        WrongTypeError: An argument is of a wrong type, such as text in place of ``k``.
        UsageError: ``k`` is not positive, the model does not predict links, or nothing is known of the entity.
    """
    k = whole_number("k", k)
    backwards, exclude_known = switch("backwards", backwards), switch("exclude_known", exclude_known)
    rows = {name: known_row(vocabularies[name], value) for name, value in (("entity", entity), ("relation", relation))}
    is_known = known_entities(graph)
    if not bool(is_known[rows["entity"]]):
        raise UsageError(f"the model knows nothing of entity {entity!r}: no training triple, no feature; take another")
    known = torch.tensor([rows["entity"]]), torch.tensor([rows["relation"] + triples.num_relations * backwards])
    query = model.query_type.for_links(*known)
    with torch.no_grad():
        scores = tiled_scores(model.eval(), encode(model, graph), query, torch.arange(graph.num_nodes(ENTITY))).clone()
    scores = scores.masked_fill(~is_known, -torch.inf)
    if exclude_known:
        scores[0, _known(triples, rows, backwards).values] = -torch.inf
    count = min(k, int((scores > -torch.inf).sum()))
    values, found = (each[0] for each in top_columns(scores, count, tie_order(graph.degree(ENTITY), vocabularies[ENTITY])))
    frame: pd.DataFrame = pd.DataFrame({"entity_id": vocabularies[ENTITY].ids(found), "score": values.numpy()})
    frame["rank"] = range(1, len(frame) + 1)
    if titles is not None:
        frame["title"] = titles.iloc[found.numpy()].to_numpy()
    return frame


def _known(triples: Triples, rows: Mapping[str, int], backwards: bool) -> RaggedSets:
    given, other = (triples.tail, triples.head) if backwards else (triples.head, triples.tail)
    found: Tensor = other[(given == rows["entity"]) & (triples.relation == rows["relation"])]
    return RaggedSets.from_pairs(torch.zeros_like(found), found, 1)
