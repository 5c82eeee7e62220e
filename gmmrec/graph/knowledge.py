"""What items have in common by facts: edges for propagation through a knowledge graph."""

import torch

from gmmrec.graph.edges import normalize
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.typing import ALIGNED, ENTITY, RELATED, EdgeType

KNOWS: EdgeType = (ENTITY, "knows", ENTITY)
"""Two entities that stand together in a fact, both ways, whatever the relation."""


def with_knowledge(graph: MultimodalGraph) -> MultimodalGraph:
    r"""The graph with its facts as edges both ways, once a pair, weighing :math:`1 / \sqrt{\deg(i) \deg(j)}`.

    An entity that stands in a fact with itself gains nothing by it.

    Raises:
        ValueError: The graph has no facts, or no items aligned with entities.
    """
    check_aligned(graph.schema.relations)
    head, tail = graph.edges(RELATED).edge_index.as_tensor()
    count = graph.num_nodes(ENTITY)
    keys = torch.cat([head * count + tail, tail * count + head])[torch.cat([head != tail] * 2)].unique()
    ends = torch.stack([keys // count, keys % count])
    return graph.with_edges(KNOWS, ends, normalize(ends, (count, count)))


def check_aligned(relations: tuple[EdgeType, ...]) -> None:
    """Refuses relations in which items are not part of a knowledge graph.

    Raises:
        ValueError: There are no facts, or no items aligned with entities.
    """
    if ALIGNED not in relations or RELATED not in relations:
        missing = "no facts" if RELATED not in relations else "facts, but no alignment"
        raise ValueError(
            f"knowledge 'entity' needs items aligned with the entities of facts, but the data set has {missing}; "
            "add triples.csv and alignment.csv, or set knowledge to 'none'"
        )
