"""Content encoders: features of items projected, alone or flowing along edges together with preferences of users."""

import torch
from torch import Tensor, nn

from gmmrec.nn.init import embedding_table
from gmmrec.nn.project import project_rows
from gmmrec.nn.relations import Bipartite, UserItem


class ContentEncoder(nn.Module):
    r"""Features alone and no graph: a linear map, or layers :math:`\mathrm{LeakyReLU}(\mathbf{W} \mathbf{x} + \mathbf{b})`.

    Args:
        feature_dim: Width of the features, F.
        dim: Width of every layer and of the output.
        num_layers: Number of layers; 0 for one linear map.

    Shapes:
        - **input:** features ``[N, F]``, rows ``[n]`` of those that are encoded; None: all
        - **output:** ``[n, dim]``
    """

    def __init__(self, feature_dim: int, dim: int, *, num_layers: int = 1) -> None:
        super().__init__()
        self.project = nn.Linear(feature_dim, dim)
        self.rest = nn.Sequential()
        if num_layers:
            self.rest.append(nn.LeakyReLU())
        for _ in range(num_layers - 1):
            self.rest.extend((nn.Linear(dim, dim), nn.LeakyReLU()))

    def forward(self, features: Tensor, rows: Tensor | None = None) -> Tensor:
        """Encodes rows."""
        x: Tensor = self.rest(project_rows(features, rows, self.project.weight, self.project.bias))
        return x


class PropagatedContent(nn.Module):
    r"""Items' projected features :math:`\mathbf{W} \mathbf{f}_i + \mathbf{b}` and users' preferences, propagated along edges.

    Args:
        num_users: Rows of the users' table of preferences.
        feature_dim: Width of the items' features, F.
        dim: Width of preferences and of the output.
        propagate: From a ``UserItem`` of vectors and the edges to a ``UserItem``, such as
            :class:`~gmmrec.nn.conv.light.LightPropagation` or :class:`~gmmrec.nn.encoder.hcgcn.HCGCNEncoder`.
        init_std: Standard deviation of the initial preferences; 0 for Xavier's uniform values.

    Attributes:
        preference: The users' table ``[num_users, dim]``.

    Shapes:
        - **input:** preference ``[U, dim]`` (the rows of the users at hand), features ``[I, F]``, present ``[I]`` (which items have
          features), ids (not used), and the edges
        - **output:** ``[U, dim]`` and ``[I, dim]``
    """

    def __init__(self, num_users: int, feature_dim: int, dim: int, propagate: nn.Module, *, init_std: float = 0.1) -> None:
        super().__init__()
        self.preference = embedding_table(num_users, dim, init_std)
        self.project = nn.Linear(feature_dim, dim)
        self.propagate = propagate

    def forward(self, preference: Tensor, features: Tensor, present: Tensor, ids: UserItem, edges: Bipartite) -> UserItem:
        """One row a node."""
        latent = torch.where(present.bool()[:, None], self.project(features), 0.0)  # an item without features passes nothing on
        x: UserItem = self.propagate(UserItem(preference, latent), edges)
        return x
