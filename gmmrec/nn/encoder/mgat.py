"""MGAT's encoder: gated attention along the interactions, within one modality."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.nn.choice import check_choice
from gmmrec.nn.conv.gated_attention import GatedAttentionConv
from gmmrec.nn.neighbourhood import edges_into
from gmmrec.nn.normalize import unit_rows
from gmmrec.nn.relations import Bipartite, UserItem

Combine = Literal["concat", "last"]


class MGATLayer(nn.Module):
    r"""Gated attention along the interactions, then the combination with the ID embedding.

    .. math::
        \mathbf{x}'_i = \mathrm{LeakyReLU} \big( \mathbf{W}_2\, \mathrm{LeakyReLU}(\mathbf{h}_i) + \mathbf{b}_2
            + \mathrm{LeakyReLU}(\mathbf{W}_1 \mathbf{x}_i + \mathbf{b}_1) + \mathbf{e}_i \big)

    with :math:`\mathbf{h}_i` from :class:`~gmmrec.nn.conv.gated_attention.GatedAttentionConv`.

    Args:
        in_channels: Width of the input.
        dim: Width of the ID embedding and of the output.
        gate: Gate of the attention.

    Shapes:
        - **input:** x ``[U, in_channels]`` and ``[I, in_channels]``, ids ``[U, dim]`` and ``[I, dim]``, the edges; rows of users
          ``[n]`` or None
        - **output:** ``[U, dim]`` (``[n, dim]`` where rows are given) and ``[I, dim]``
    """

    def __init__(self, in_channels: int, dim: int, gate: Literal["inner_product", "none"]) -> None:
        super().__init__()
        self.conv = GatedAttentionConv(in_channels, in_channels, gate=gate)
        self.own = nn.Linear(in_channels, dim)  # W1
        self.neighbours = nn.Linear(in_channels, dim)  # W2

    def forward(self, x: UserItem, ids: UserItem, edges: Bipartite, users: Tensor | None = None) -> UserItem:
        """``[N, in_channels]`` and ``[N, dim]`` to ``[N, dim]``, for both node types; of users only some, where these are given."""
        y = UserItem(*map(self.conv.transform, x))
        own, own_ids, own_y, to_user = x.user, ids.user, y.user, edges.to_user
        if users is not None:
            own, own_ids = F.embedding(users, x.user), F.embedding(users, ids.user)
            own_y = self.conv.transform(own)  # cheaper than to look up y, whose derivative would be a whole table
            to_user = edges_into(to_user, users, x.item.shape[0], x.user.shape[0])
        messages = UserItem(
            user=self.conv.attend((y.item, own_y), to_user.edge_index, edges.degree.item),
            item=self.conv.attend((y.user, y.item), edges.to_item.edge_index, edges.degree.user),
        )
        return UserItem(self._combine(own, messages.user, own_ids), self._combine(x.item, messages.item, ids.item))

    def _combine(self, x: Tensor, messages: Tensor, ids: Tensor) -> Tensor:
        own = F.leaky_relu_(self.own(x))  # in place where autograd allows: these are the widest tensors of a step
        return F.leaky_relu_(self.neighbours(F.leaky_relu(messages)).add_(own).add_(ids))


class MGATEncoder(nn.Module):
    """Everything that MGAT does within one modality (Tao et al., IP&M 2020), doi:10.1016/j.ipm.2020.102277.

    Args:
        num_users: Rows of the users' table of preferences.
        feature_dim: Width of the items' features, F.
        dim: Width of the ID embeddings and of a layer's output.
        modality_dim: Width of the modality before the first layer, P.
        num_layers: Number of attention layers.
        gate: Gate of the attention.
        combine: Whether the output is all layers side by side, or the last one.

    Attributes:
        preference: The users' table ``[num_users, P]``.

    Shapes:
        - **input:** preference ``[U, P]`` (the rows of the users at hand), features ``[I, F]``, present ``[I]`` (which items have
          features), ids.user ``[U, dim]``, ids.item ``[I, dim]``, and the edges
        - **output:** ``[U, dim * num_layers]`` and ``[I, dim * num_layers]`` when concatenated, else ``dim`` wide
    """

    def __init__(
        self,
        num_users: int,
        feature_dim: int,
        dim: int,
        *,
        modality_dim: int = 64,
        num_layers: int = 1,
        gate: Literal["inner_product", "none"] = "inner_product",
        combine: Combine = "concat",
    ) -> None:
        super().__init__()
        check_choice(Combine, combine=combine)
        self.latent = nn.Linear(feature_dim, modality_dim)  # W0
        self.preference = nn.Parameter(torch.empty(num_users, modality_dim))
        nn.init.xavier_normal_(self.preference)
        widths = [modality_dim] + [dim] * (num_layers - 1)
        self.layers = nn.ModuleList(MGATLayer(width, dim, gate) for width in widths)
        self.combine = combine

    def forward(
        self, preference: Tensor, features: Tensor, present: Tensor, ids: UserItem, edges: Bipartite, users: Tensor | None = None
    ) -> UserItem:
        """One row a node; of users only those asked for, which spares the last layer most of its work."""
        latent = torch.tanh(self.latent(features)) * present[:, None]  # a missing feature is zero in latent space too
        x = UserItem(unit_rows(preference), unit_rows(latent))
        outputs: list[UserItem] = []
        for layer in self.layers[:-1]:
            x = layer(x, ids, edges)
            outputs.append(x)
        last: UserItem = self.layers[-1](x, ids, edges, users)
        if self.combine == "last" or not outputs:
            return last
        if users is not None:
            outputs = [UserItem(F.embedding(users, output.user), output.item) for output in outputs]
        return UserItem(*(torch.cat(layers, dim=1) for layers in zip(*outputs, last, strict=True)))
