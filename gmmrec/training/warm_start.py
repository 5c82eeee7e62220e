"""Warm start: id tables initialized with vectors that another model has learned, matched by raw id."""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor

from gmmrec.data.vocabulary import Vocabulary
from gmmrec.errors import UsageError
from gmmrec.recommender import AnyRecommender
from gmmrec.typing import ITEM, USER, NodeType

logger = logging.getLogger(__name__)

TABLES: Mapping[str, NodeType] = {"users": USER, "items": ITEM, "context_items": ITEM}
"""Names of id tables in models. A model of histories may have a table of the items it reads, besides that of candidates."""


def warm_start(
    model: AnyRecommender,
    vocabularies: Mapping[NodeType, Vocabulary],
    vectors: Mapping[NodeType, Tensor],
    known: Mapping[NodeType, Vocabulary],
) -> dict[NodeType, int]:
    """Copy vectors into the id tables of a model, by the names in ``TABLES``, bit for bit for every shared id.

    A model that represents users by their histories has item tables only, and needs item vectors only; two item tables receive
    the same vectors. Ids without a vector keep their initial value; their number is logged.

    Args:
        model: Model whose tables are overwritten in place.
        vocabularies: Ids of the rows of the tables.
        vectors: User and item vectors ``[N, D]``, with D the width of the tables.
        known: Ids of the rows of ``vectors``.

    Returns:
        Number of ids that keep their initial value, by node type.

    Raises:
        UsageError: The model has no item table, vectors are missing, widths differ, or no ids are shared. Nothing is written then.
    """
    name = type(model).__name__
    tables = {table_name: table for table_name, table in model.named_parameters(recurse=False) if table_name in TABLES}
    if ITEM not in {TABLES[table_name] for table_name in tables}:
        raise UsageError(f"init_from fills id tables named {', '.join(TABLES)}, but {name} has no item table; leave init_from out")
    rows_of: dict[NodeType, Tensor] = {}
    for table_name, table in tables.items():
        node_type = TABLES[table_name]
        found = vectors.get(node_type)
        if found is None or found.layout != torch.strided:
            raise UsageError(
                f"init_from needs {node_type} vectors, but the run has none; use a run of a model that encodes users and items, "
                "such as lightgcn"
            )
        if found.shape[1] != table.shape[1]:
            raise UsageError(
                f"the run of init_from has {node_type} vectors of width {found.shape[1]}, but those of {name} have width "
                f"{table.shape[1]}; give both the same dim"
            )
        rows_of[node_type] = matching_rows(vocabularies[node_type], known[node_type])
        if not bool((rows_of[node_type] >= 0).any()):
            raise UsageError(f"the run of init_from knows none of the {len(table)} {node_type} ids; use a run with the same ids")
    for table_name, table in tables.items():
        source = rows_of[TABLES[table_name]]
        rows = (source >= 0).nonzero().flatten()
        with torch.no_grad():
            table[rows] = vectors[TABLES[table_name]][source[rows]].to(table)
    kept = {node_type: int((source < 0).sum()) for node_type, source in rows_of.items()}
    for node_type, source in rows_of.items():
        logger.info("init_from: %d of %d %ss keep their initial vectors", kept[node_type], len(source), node_type)
    return kept


def matching_rows(ids: Vocabulary, known: Vocabulary) -> Tensor:
    """Row ``[n]`` of each id in another vocabulary, -1 if it is unknown there; integer and string ids never match.

    >>> matching_rows(Vocabulary(["a", "b"]), Vocabulary(["b", "c"]))
    tensor([-1,  0])
    """
    if ids.is_integer != known.is_integer:
        return torch.full((len(ids),), -1)
    return known.find(ids.ids())
