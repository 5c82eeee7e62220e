"""Nodes that a trained model knows anything of; about the rest it can only answer at random."""

import torch
from torch import Tensor

from gmmrec.abilities import FeatureBased, NonPersonalized, ignores_features, offered, reads_user_features
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.recommender import AnyRecommender
from gmmrec.typing import ENTITY, ITEM, USER, NodeType


def known_items(model: AnyRecommender, graph: MultimodalGraph) -> Tensor:
    """Return the mask of items ``[I]`` that a model knows.

    An item is known by a training interaction, by an edge of another relation, such as a k-NN graph or its entity, or by a feature,
    unless the model reads none (:class:`~gmmrec.abilities.IgnoresFeatures`; of the models of histories, only those that are
    :class:`~gmmrec.abilities.FeatureBased` read those of candidates). A model that ranks alike for all users knows every item.
    """
    degree = graph.degree(ITEM)
    if offered(model, NonPersonalized) is not None:
        return torch.ones_like(degree, dtype=torch.bool)
    by_id_alone = model.query_type.holds_history and offered(model, FeatureBased) is None
    if by_id_alone or ignores_features(model):
        return degree > 0
    return (degree > 0) | _described(graph, ITEM) | _related(graph, ITEM)


def known_users(model: AnyRecommender, graph: MultimodalGraph) -> Tensor:
    """Return the mask of users ``[U]`` that a model knows: by training interactions, or by features if it reads those of users.

    A model that ranks alike for all users knows everybody.
    """
    degree = graph.degree(USER)
    if offered(model, NonPersonalized) is not None:
        return torch.ones_like(degree, dtype=torch.bool)
    return (degree > 0) | _described(graph, USER) if reads_user_features(model) else degree > 0


def known_entities(graph: MultimodalGraph) -> Tensor:
    """Return the mask of entities with a training triple, an aligned item or a feature."""
    return (graph.degree(ENTITY) > 0) | _described(graph, ENTITY) | _related(graph, ENTITY)


def _described(graph: MultimodalGraph, node_type: NodeType) -> Tensor:
    """Return the mask of nodes with a feature."""
    found = torch.zeros_like(graph.degree(node_type), dtype=torch.bool)
    for table in graph.features.values():
        if table.node_type == node_type:
            found |= table.present
    return found


def _related(graph: MultimodalGraph, node_type: NodeType) -> Tensor:
    """Return the mask of nodes with an edge from another node."""
    found = torch.zeros_like(graph.degree(node_type), dtype=torch.bool)
    for kind in graph.data.edge_types:
        if kind[2] == node_type:
            source, target = graph.edges(kind).edge_index.as_tensor()
            found[target if kind[0] != node_type else target[source != target]] = True
    return found
