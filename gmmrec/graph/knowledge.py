"""Knowledge-graph edges for propagation between items through entities."""

import torch

from gmmrec.errors import UsageError
from gmmrec.graph.edges import normalize
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.typing import ALIGNED, ENTITY, RELATED, EdgeType

KNOWS: EdgeType = (ENTITY, "knows", ENTITY)
"""Entities connected by a triple, in both directions, whatever the relation."""


def with_knowledge(graph: MultimodalGraph) -> MultimodalGraph:
    r"""Add the triples of a graph as edges in both directions, one per pair, with weights :math:`1 / \sqrt{\deg(i) \deg(j)}`.

    Triples from an entity to itself are ignored.

    Raises:
        UsageError: The graph has no triples, or no items aligned with entities.
    """
    check_aligned(graph.schema.relations)
    head, tail = graph.edges(RELATED).edge_index.as_tensor()
    count = graph.num_nodes(ENTITY)
    keys = torch.cat([head * count + tail, tail * count + head])[torch.cat([head != tail] * 2)].unique()
    ends = torch.stack([keys // count, keys % count])
    return graph.with_edges(KNOWS, ends, normalize(ends, (count, count)))


def check_aligned(relations: tuple[EdgeType, ...]) -> None:
    """Check that items are part of a knowledge graph.

    Raises:
        UsageError: There are no triples, or no items aligned with entities.
    """
    if ALIGNED not in relations or RELATED not in relations:
        missing = "no triples" if RELATED not in relations else "triples, but no alignment"
        raise UsageError(
            f"knowledge 'entity' needs items aligned with the entities of triples, but the data set has {missing}; "
            "add triples.csv and alignment.csv, or set knowledge to 'none'"
        )
