"""Node and edge types of the package's heterogeneous graphs, as in PyG: strings and triples of strings."""

from typing import TypeAlias

NodeType: TypeAlias = str
EdgeType: TypeAlias = tuple[str, str, str]

USER: NodeType = "user"
ITEM: NodeType = "item"
ENTITY: NodeType = "entity"

USER_ITEM: EdgeType = (USER, "interacts", ITEM)
ITEM_USER: EdgeType = (ITEM, "rev_interacts", USER)
ITEM_ITEM: EdgeType = (ITEM, "co_occurs", ITEM)
USER_USER: EdgeType = (USER, "co_occurs", USER)

RELATED: EdgeType = (ENTITY, "related", ENTITY)
"""Training triples, from head to tail; the edge attribute ``relation`` holds the row of the relation."""
ALIGNED: EdgeType = (ITEM, "aligned", ENTITY)
"""Alignment of items to entities of a knowledge graph."""
ENTITY_ITEM: EdgeType = (ENTITY, "rev_aligned", ITEM)


def similar(modality: str, node_type: NodeType = ITEM) -> EdgeType:
    """Return the edge type between nodes with similar features of one modality.

    >>> similar("image")
    ('item', 'similar_image', 'item')
    """
    return (node_type, f"similar_{modality}", node_type)
