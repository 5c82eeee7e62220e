"""Validation of the contents of a run folder, which a stranger may have written."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gmmrec.data.bounds import check_split
from gmmrec.data.files import MOST_COLUMNS, describe_read_errors, first_line
from gmmrec.data.split import Split
from gmmrec.data.tokens import TokenNames
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.errors import DataError, UsageError
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.safety.types import check_fields, conforms
from gmmrec.typing import NodeType

REMEDY = "train the run again"
NODE_TYPES = ("user", "item", "entity", "relation")
"""Node types of vocabularies."""


def stored_vocabularies(values: Any, path: Path) -> dict[NodeType, Vocabulary]:
    """Return the vocabularies of a run from the JSON of its file, lists of ids by node type.

    Raises:
        DataError: The file holds something else.
    """
    if not isinstance(values, dict) or not {"user", "item"} <= set(values) <= set(NODE_TYPES):
        raise DataError(
            f"{path} is damaged (it must hold ids of users and items, and of no other nodes than {NODE_TYPES}); {REMEDY}"
        )
    found = {}
    for node_type, ids in values.items():
        if not isinstance(ids, list) or not {type(each) for each in ids} <= {int, str}:
            raise DataError(f"{path} is damaged (the {node_type} ids are not a list of integers or texts); {REMEDY}")
        try:
            found[node_type] = Vocabulary(ids, name=node_type)
        except (UsageError, OverflowError) as error:
            raise DataError(f"{path} is damaged ({error}); {REMEDY}") from None
    return found


def stored_tokens(values: Any, path: Path) -> dict[str, TokenNames]:
    """Return the names of tokens of a run from the JSON of its file.

    Raises:
        DataError: The file holds something else.
    """
    if not isinstance(values, dict):
        raise DataError(f"{path} is damaged (it must hold the tokens of every modality); {REMEDY}")
    try:
        for fields in values.values():
            check_fields(TokenNames, fields, "it")
        return {name: TokenNames(**fields) for name, fields in values.items()}
    except (UsageError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}); {REMEDY}") from None


def stored_words(values: Any, path: Path) -> Sequence[str]:
    """Return the words of a run from the JSON of its file.

    Raises:
        DataError: The file holds something else.
    """
    if not conforms(list[str], values):
        raise DataError(f"{path} is damaged (it must hold a list of words); {REMEDY}")
    words: list[str] = values
    return words


def stored_table(path: Path) -> pd.DataFrame:
    """Return the attributes of a run from their file.

    Raises:
        DataError: The file is no table, or has too many columns.
    """
    if first_line(path).count(",") >= MOST_COLUMNS:
        raise DataError(f"{path} is damaged (it has more than {MOST_COLUMNS:,} columns); {REMEDY}")
    with describe_read_errors(path):
        table: pd.DataFrame = pd.read_csv(path)
    return table


def check_consistent(
    folder: Path,
    schema: GraphSchema,
    graph: MultimodalGraph,
    split: Split,
    vocabularies: Mapping[NodeType, Vocabulary],
    attributes: Mapping[NodeType, pd.DataFrame],
) -> None:
    """Check that model, graph, split, ids and attributes belong together.

    Args:
        folder: The run folder, for messages.
        schema: Schema of the model.
        graph: Graph of the run.
        split: Split of the run.
        vocabularies: Ids by node type.
        attributes: Tables by node type.

    Raises:
        DataError: They differ in size, or the split holds a row that no id has.
    """
    sizes = {node_type: len(vocabulary) for node_type, vocabulary in vocabularies.items()}
    for node_type in graph.data.node_types:
        if graph.num_nodes(node_type) != sizes.get(node_type):
            raise DataError(
                f"{folder} is damaged: its graph has {graph.num_nodes(node_type)} nodes of type {node_type!r}, but there are "
                f"{sizes.get(node_type, 0)} ids; {REMEDY}"
            )
    for name in ("num_nodes", "feature_dims", "feature_nodes", "num_words", "num_relations"):
        of_model, of_graph = getattr(schema, name), getattr(graph.schema, name)
        if of_model != of_graph:
            raise DataError(f"{folder} is damaged: its model has {name} {of_model}, but its graph {of_graph}; {REMEDY}")
    for node_type, frame in attributes.items():
        if len(frame) != sizes[node_type]:
            raise DataError(
                f"{folder} is damaged: {node_type}s.csv has {len(frame)} rows, but there are {sizes[node_type]} ids; {REMEDY}"
            )
    try:
        check_split(split, sizes, graph.schema.num_words)
    except UsageError as error:
        raise DataError(f"{folder} is damaged: in its split, {error}; {REMEDY}") from None
