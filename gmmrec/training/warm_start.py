"""A warm start: the id tables of a model begin with vectors that another model has learned, matched by raw id."""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor

from gmmrec.data.vocabulary import Vocabulary
from gmmrec.recommender import AnyRecommender
from gmmrec.typing import ITEM, USER, NodeType

logger = logging.getLogger(__name__)

TABLES: Mapping[str, NodeType] = {"users": USER, "items": ITEM, "context_items": ITEM}
"""What models call their id tables; a model that reads histories may have one of items that it reads, beside that of candidates."""


def warm_start(
    model: AnyRecommender,
    vocabularies: Mapping[NodeType, Vocabulary],
    vectors: Mapping[NodeType, Tensor],
    known: Mapping[NodeType, Vocabulary],
) -> dict[NodeType, int]:
    """Fills the id tables of a model, by name in ``TABLES``, with vectors of the same ids, bit for bit.

    A model that knows users by their histories alone has tables of items only, and then only vectors of items are asked for; two
    tables of items get the same vectors. Ids without a vector keep their initial value; how many is logged.

    Args:
        model: Its tables are written to, in place.
        vocabularies: Ids of the rows of the tables.
        vectors: For users and items ``[N, D]``, with D the width of the tables.
        known: Ids of the rows of ``vectors``.

    Returns:
        Number of ids that keep their initial value, by node type.

    Raises:
        ValueError: The model has no table of items, there are no such vectors, widths differ, or no id is in common. Nothing has
            been written then.
    """
    name = type(model).__name__
    tables = {table_name: table for table_name, table in model.named_parameters(recurse=False) if table_name in TABLES}
    if ITEM not in {TABLES[table_name] for table_name in tables}:
        raise ValueError(f"init_from fills tables named {', '.join(TABLES)}, but {name} has none of items; leave it out")
    found_at: dict[NodeType, Tensor] = {}
    for table_name, table in tables.items():
        node_type = TABLES[table_name]
        found = vectors.get(node_type)
        if found is None or found.layout != torch.strided:
            raise ValueError(
                f"init_from needs a vector for every {node_type}, but the run has none; take a run of a model that encodes users "
                f"and items, such as lightgcn"
            )
        if found.shape[1] != table.shape[1]:
            raise ValueError(
                f"the run of init_from has {node_type} vectors of {found.shape[1]} numbers, but those of {name} have "
                f"{table.shape[1]}; give both the same dim"
            )
        found_at[node_type] = places(vocabularies[node_type], known[node_type])
        if not bool((found_at[node_type] >= 0).any()):
            raise ValueError(f"the run of init_from knows none of the {len(table)} {node_type} ids; take a run with the same ids")
    for table_name, table in tables.items():
        place = found_at[TABLES[table_name]]
        rows = (place >= 0).nonzero().flatten()
        with torch.no_grad():
            table[rows] = vectors[TABLES[table_name]][place[rows]].to(table)
    kept = {node_type: int((place < 0).sum()) for node_type, place in found_at.items()}
    for node_type, place in found_at.items():
        logger.info("init_from: %d of %d %ss keep their initial vectors", kept[node_type], len(place), node_type)
    return kept


def places(ids: Vocabulary, known: Vocabulary) -> Tensor:
    """Row ``[n]`` of every id in another vocabulary, -1 where it is not known there; a number is never the same as a text.

    >>> places(Vocabulary(["a", "b"]), Vocabulary(["b", "c"]))
    tensor([-1,  0])
    """
    if ids.is_integer != known.is_integer:
        return torch.full((len(ids),), -1)
    return known.find(ids.ids())
