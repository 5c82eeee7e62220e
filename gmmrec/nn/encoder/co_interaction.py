"""Encoders of a single node type: its co-interaction graph, and sets of texts such as a user's reviews."""

from typing import Literal, overload

import torch
from torch import Tensor, nn

from gmmrec.errors import UsageError
from gmmrec.nn.conv.gated_attention import GatedAttentionConv
from gmmrec.nn.conv.light import LightConv
from gmmrec.nn.fusion.gate import GateFusion
from gmmrec.nn.project import project_rows
from gmmrec.nn.relations import Bipartite, Relation, UserItem


class CoInteractionEncoder(nn.Module):
    r"""Propagation on a homogeneous graph (users who share items, say), averaged over all layers, layer 0 included.

    .. math:: \mathbf{y} = \frac{1}{K + 1} \sum_{k=0}^{K} \mathbf{x}^{(k)}, \qquad
        \mathbf{x}^{(k+1)}_i = \sum_{j \to i} w_{ji}\, \mathbf{x}^{(k)}_j

    Layer 0 keeps a node's own vector, so no self-loops are needed and isolated nodes keep their vectors, scaled.

    Args:
        dim: Vector width.
        num_layers: K; 0 returns the input.
        layer: ``"light"``: :math:`w_{ji}` are the edge weights, and nothing is learned. ``"attention"``: they are inner-product
            attention weights of linearly mapped vectors, layer outputs have unit norm, and edge weights are ignored.

    Shapes:
        - **input:** x ``[N, dim]``, relation with edge_index ``[2, E]`` and weight ``[E]``
        - **output:** ``[N, dim]``
    """

    def __init__(self, dim: int, num_layers: int = 2, *, layer: Literal["light", "attention"] = "light") -> None:
        super().__init__()
        if layer not in ("light", "attention"):
            raise UsageError(f"layer must be 'light' or 'attention', but is {layer!r}")
        self.is_light = layer == "light"
        self.layers = nn.ModuleList(
            LightConv() if self.is_light else GatedAttentionConv(dim, dim, gate="none", bias=False) for _ in range(num_layers)
        )

    def forward(self, x: Tensor, relation: Relation) -> Tensor:
        """Propagate, then average the layers."""
        total = x
        for layer in self.layers:
            x = layer(x, relation.edge_index, relation.weight) if self.is_light else layer(x, relation.edge_index)
            total = total + x
        return total / (len(self.layers) + 1)


class TextSetEncoder(nn.Module):
    r"""Attention pooling over a set of projected texts.

    .. math::
        \mathbf{t}_r = \mathbf{W} \mathbf{e}_r + \mathbf{b}, \qquad
        \beta_r = \operatorname{softmax}_r \big( \mathbf{q}^\top \tanh(\mathbf{W}_q \mathbf{t}_r + \mathbf{b}_q) \big), \qquad
        \mathbf{t} = \sum_r \beta_r \mathbf{t}_r

    A reconstruction of the intra-modal aggregation of MCPTR (Liu et al., ICMR 2022), of which only the name is known to us, no
    equation.

    Args:
        feature_dim: Width of a text's features.
        dim: Output width.

    Shapes:
        - **input:** values ``[N, T, feature_dim]``, mask ``[N, T]``, rows ``[n]``
        - **output:** ``[n, dim]``; zeros for a node without texts. With ``return_weights=True`` also :math:`\beta` ``[n, T]``
    """

    def __init__(self, feature_dim: int, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(feature_dim, dim)
        self.attend = GateFusion(dim, hidden=dim)

    @overload
    def forward(self, values: Tensor, mask: Tensor, rows: Tensor, *, return_weights: Literal[False] = False) -> Tensor: ...

    @overload
    def forward(self, values: Tensor, mask: Tensor, rows: Tensor, *, return_weights: Literal[True]) -> tuple[Tensor, Tensor]: ...

    def forward(
        self, values: Tensor, mask: Tensor, rows: Tensor, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Encode the texts of the nodes in ``rows``."""
        num_texts = values.shape[1]
        positions = rows[:, None] * num_texts + torch.arange(num_texts, device=rows.device)
        tokens = project_rows(values.flatten(0, 1), positions.flatten(), self.project.weight, self.project.bias)
        result: Tensor | tuple[Tensor, Tensor] = self.attend(
            tokens.view(len(rows), num_texts, -1), mask.index_select(0, rows), return_weights=return_weights
        )
        return result


class CoInteractionPropagation(nn.Module):
    """MCPTR's propagation: an encoder of the user graph and one of the item graph.

    Args:
        dim: Vector width.
        num_layers: Number of layers of each encoder.

    Shapes:
        - **input:** x.user ``[U, dim]``, x.item ``[I, dim]``, and edges with ``between_users`` and ``between_items``
        - **output:** the same shapes

    Raises:
        UsageError: The edges lack the user graph or the item graph.
    """

    def __init__(self, dim: int, num_layers: int = 2) -> None:
        super().__init__()
        self.user_graph = CoInteractionEncoder(dim, num_layers)
        self.item_graph = CoInteractionEncoder(dim, num_layers)

    def forward(self, x: UserItem, edges: Bipartite) -> UserItem:
        """Propagate on both graphs, then average the layers."""
        if edges.between_users is None or edges.between_items is None:
            raise UsageError("the encoder needs a user graph and an item graph; give between_users and between_items")
        return UserItem(self.user_graph(x.user, edges.between_users), self.item_graph(x.item, edges.between_items))
