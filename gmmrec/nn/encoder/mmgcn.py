"""MMGCN's encoder: modality convolutions over the interactions, within one modality."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.errors import UsageError
from gmmrec.nn.conv.modality import ModalityConv
from gmmrec.nn.init import embedding_table
from gmmrec.nn.neighbourhood import edges_into
from gmmrec.nn.normalize import unit_rows
from gmmrec.nn.relations import Bipartite, UserItem


class MMGCNLayer(nn.Module):
    r"""Messages, combined with a node's state and ID embedding (Wei et al., ACM MM 2019, equations 2 to 7).

    .. math::
        \mathbf{h}_v &= \mathrm{LeakyReLU} \big( \mathrm{Agg}_{j \in \mathcal{N}(v)}\, \mathbf{W}_1 \mathbf{x}_j \big), \qquad
        \hat{\mathbf{x}}_v = \mathrm{LeakyReLU}(\mathbf{W}_2 \mathbf{x}_v) + \mathbf{e}_v

        \mathbf{x}'_v &= \mathrm{LeakyReLU}(\mathbf{W}_3 \mathbf{h}_v + \hat{\mathbf{x}}_v) \quad \text{(element-wise)} \qquad
        \mathbf{x}'_v = \mathrm{LeakyReLU}(\mathbf{W}_3 [\mathbf{h}_v \,\Vert\, \hat{\mathbf{x}}_v]) \quad \text{(concatenation)}

    The negative slope is 0.01. :math:`\mathbf{W}_1` is square; there are no biases.

    Args:
        in_channels: Input width.
        dim: Width of the ID embedding and of the output.
        aggr: Aggregation over neighbours.
        combine: ``"add"`` (element-wise) or ``"concat"``.

    Shapes:
        - **input:** x ``[U, in_channels]`` and ``[I, in_channels]``, ids ``[U, dim]`` and ``[I, dim]``, the edges, and rows of
          users ``[n]`` or None
        - **output:** ``[U, dim]`` (``[n, dim]`` if rows are given) and ``[I, dim]``
    """

    def __init__(
        self, in_channels: int, dim: int, aggr: Literal["mean", "max"] = "mean", combine: Literal["add", "concat"] = "add"
    ) -> None:
        if combine not in ("add", "concat"):
            raise UsageError(f"combine must be 'add' or 'concat', but is {combine!r}")
        super().__init__()
        self.in_channels, self.combine = in_channels, combine
        self.conv = ModalityConv(in_channels, in_channels, aggr=aggr)  # W1
        self.own = nn.Linear(in_channels, dim, bias=False)  # W2
        self.mix = nn.Linear(in_channels + (dim if combine == "concat" else 0), dim, bias=False)  # W3
        nn.init.xavier_normal_(self.own.weight)
        nn.init.xavier_normal_(self.mix.weight)

    def forward(self, x: UserItem, ids: UserItem, edges: Bipartite, users: Tensor | None = None) -> UserItem:
        """Map ``[N, in_channels]`` and ``[N, dim]`` to ``[N, dim]`` for both node types, only for ``users`` if given."""
        own, own_ids, to_user = x.user, ids.user, edges.to_user
        if users is not None:
            own, own_ids = F.embedding(users, x.user), F.embedding(users, ids.user)
            to_user = edges_into(to_user, users, x.item.shape[0], x.user.shape[0])
        return UserItem(
            user=self._combine(own, self.conv((x.item, own), to_user.edge_index), own_ids),
            item=self._combine(x.item, self.conv((x.user, x.item), edges.to_item.edge_index), ids.item),
        )

    def _combine(self, x: Tensor, messages: Tensor, ids: Tensor) -> Tensor:
        # in place where autograd allows: the widest tensors of a step
        messages = F.leaky_relu(messages, inplace=self.conv.fused)
        own = F.leaky_relu_(self.own(x))
        if self.combine == "add":
            return F.leaky_relu_(self.mix(messages).add_(own).add_(ids))
        message_weight, own_weight = self.mix.weight.split([self.in_channels, ids.shape[1]], dim=1)  # avoids a concatenation
        return F.leaky_relu_(F.linear(messages, message_weight).add_(F.linear(own + ids, own_weight)))


class MMGCNEncoder(nn.Module):
    r"""MMGCN's encoder of one modality (Wei et al., ACM MM 2019), doi:10.1145/3343031.3351034.

    The inputs of the first layer are user preferences and item features, all rows normalised. Features wider than ``modality_dim``
    are projected to it first, as images are in the paper; others are used as they are. The output is that of the last layer.

    Args:
        num_users: Number of users.
        feature_dim: Item feature width F.
        dim: Width of the ID embeddings and of every layer's output.
        modality_dim: Maximum input width of the first layer; the width P is the smaller of it and F.
        num_layers: Number of layers.
        aggr: Aggregation over neighbours, ``"mean"`` or ``"max"``.
        combine: ``"add"`` (element-wise) or ``"concat"``.
        init_std: Standard deviation of the initial preferences; 0 for Xavier-uniform values.

    Attributes:
        preference: User preference table ``[num_users, P]``.

    Shapes:
        - **input:** preference ``[U, P]`` (rows of the users at hand), features ``[I, F]``, present ``[I]`` (True for items with
          features), ids.user ``[U, dim]``, ids.item ``[I, dim]``, the edges (weights are ignored), and users ``[B]`` or None
        - **output:** ``[U, dim]``, or ``[B, dim]`` if users are given, and ``[I, dim]``
    """

    def __init__(
        self,
        num_users: int,
        feature_dim: int,
        dim: int,
        *,
        modality_dim: int = 64,
        num_layers: int = 2,
        aggr: Literal["mean", "max"] = "mean",
        combine: Literal["add", "concat"] = "add",
        init_std: float = 0.1,
    ) -> None:
        super().__init__()
        width = min(feature_dim, modality_dim)
        self.latent = nn.Linear(feature_dim, width) if feature_dim > modality_dim else nn.Identity()
        self.preference = embedding_table(num_users, width, init_std)
        widths = [width] + [dim] * (num_layers - 1)
        self.layers = nn.ModuleList(MMGCNLayer(in_channels, dim, aggr, combine) for in_channels in widths)

    def forward(
        self, preference: Tensor, features: Tensor, present: Tensor, ids: UserItem, edges: Bipartite, users: Tensor | None = None
    ) -> UserItem:
        """Encode users and items, one row per node; ``users`` limits the last layer to them, which saves most of its work."""
        latent = torch.where(present.bool()[:, None], self.latent(features), 0.0)  # missing features are zero here, too
        x = UserItem(unit_rows(preference), unit_rows(latent))
        for layer in self.layers[:-1]:
            x = layer(x, ids, edges)
        last: UserItem = self.layers[-1](x, ids, edges, users)
        return last
