"""Degree-sensitive edge dropout: FREEDOM's user-item graph of an epoch."""

import math

import torch

from gmmrec.graph.edges import drop_edges, normalize
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.typing import ITEM_USER, USER_ITEM


def denoised(graph: MultimodalGraph, edge_dropout: float, generator: torch.Generator) -> MultimodalGraph:
    """Keep ``floor(E (1 - edge_dropout))`` of the interactions, preferring those between nodes of low degree.

    The probability of an edge is proportional to the inverse root of the product of the degrees at both ends; the weights of kept
    edges are normalised by the remaining degrees. Source: FREEDOM (Zhou & Shen, ACM MM 2023, section 3.3).

    Args:
        graph: The whole training graph.
        edge_dropout: Share of the edges to remove, at least 0 and less than 1; 0 returns the graph unchanged.
        generator: Random generator of the draw.
    """
    if edge_dropout == 0:
        return graph
    edge_index = graph.edges(USER_ITEM).edge_index.as_tensor()
    keep = math.floor(round(edge_index.shape[1] * (1 - edge_dropout), 6))  # round: 10 * (1 - 0.8) is 2, not 1.99...
    probability = (graph.degree("user")[edge_index[0]] * graph.degree("item")[edge_index[1]]).rsqrt()
    kept = edge_index[:, drop_edges(edge_index, keep, probability.to(generator.device), generator).to(edge_index.device)]
    weight = normalize(kept, (graph.num_nodes("user"), graph.num_nodes("item")))
    return graph.with_edges(USER_ITEM, kept, weight).with_edges(ITEM_USER, kept.flip(0), weight)
