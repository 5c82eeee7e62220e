"""VBPR: Visual Bayesian Personalized Ranking from Implicit Feedback.

R. He, J. McAuley. AAAI 2016. https://arxiv.org/abs/1510.01784
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.config import check_literals, check_non_negative, check_positive
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.nn.init import embedding_table
from gmmrec.nn.loss import bpr, embedding_norm
from gmmrec.nn.project import project_rows
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import Batch, UserQuery


@dataclass(frozen=True)
class VBPRConfig:
    """Settings of VBPR; the widths are those in use today, the paper has 20 for both."""

    dim: int = 64
    """Width of the latent factors of users and items, K."""
    content_dim: int = 64
    """Width of projected features, A; per modality if each has its own projection."""
    features: Literal["by_modality", "concatenated"] = "by_modality"
    """Separate projections and user factors per modality, or one projection of the concatenated modalities. The same with one
    modality, the paper's case."""
    l2: float = 1e-4
    """Weight of the L2 term on the factors and item biases of the batch."""
    l2_content: float = 1e-4
    """Weight of the L2 term on the projection E and the feature biases b'."""
    init_std: float = 0.0
    """Standard deviation of the initial factors; 0 for Xavier uniform initialisation."""

    def __post_init__(self) -> None:
        check_positive(dim=self.dim, content_dim=self.content_dim)
        check_literals(self)
        check_non_negative(l2=self.l2, l2_content=self.l2_content, init_std=self.init_std)


class VBPR(Recommender[UserQuery, VBPRConfig]):
    r"""Matrix factorisation with additional dimensions from item features.

    .. math::
        s_{ui} = b_i + \langle \boldsymbol\gamma_u, \boldsymbol\gamma_i \rangle
            + \sum_m \big( \langle \boldsymbol\theta_u^m, \mathbf{E}_m \mathbf{f}_i^m \rangle
            + \langle \mathbf{b}'_m, \mathbf{f}_i^m \rangle \big)

    The global and user biases of the paper cancel in the loss and are left out. Reconstructed: the weights of the L2 terms and the
    initial values. Added: more than one modality. A missing modality contributes 0 in both of its terms. An item without training
    interactions is ranked by its content alone: its factors and its bias, trained as a negative only, are left out.

    Raises:
        UsageError: The items have no features at all.
    """

    def __init__(self, schema: GraphSchema, config: VBPRConfig = VBPRConfig()) -> None:
        super().__init__(schema, config)
        self.modalities = schema.modalities("item")
        if not self.modalities:
            raise UsageError(
                "VBPR needs at least one modality of the items, but the data set has none; add a feature file or use lightgcn"
            )
        num_users, num_items = schema.num_nodes["user"], schema.num_nodes["item"]
        dims = [schema.feature_dims[name] for name in self.modalities]
        groups = [[d] for d in dims] if config.features == "by_modality" else [dims]  # widths that share user factors
        self.users = embedding_table(num_users, config.dim, config.init_std)  # gamma_u
        self.items = embedding_table(num_items, config.dim, config.init_std)  # gamma_i
        self.offsets = nn.Parameter(torch.zeros(num_items, 1))  # b_i
        self.tastes = embedding_table(num_users, config.content_dim * len(groups), config.init_std)  # theta_u
        self.embed = nn.ParameterList(embed for widths in groups for embed in _projection(config.content_dim, widths))  # E_m
        self.feature_offsets = nn.ParameterList(torch.zeros(1, d) for d in dims)  # b'_m

    def encode(self, graph: MultimodalGraph) -> Encoded:
        """Return extended vectors whose inner product is the preference predictor.

        Users are ``[gamma_u, theta_u, 1, 1]``, items ``[gamma_i, E f_i, b_i, <b', f_i>]``.
        """
        return Encoded({"user": self._users(graph, None), "item": self._items(graph, None)})

    def score(self, encoded: Encoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """Inner product of user and candidate vectors."""
        return inner_product(F.embedding(query.user, encoded["user"]), F.embedding(candidates, encoded["item"]))

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """BPR, and L2 terms; only the features of the batch's items are read, once each."""
        users = self._users(graph, batch.query.user)
        rows, position = torch.unique(batch.candidates, return_inverse=True)
        items = self._items(graph, rows)
        scores = inner_product(users, F.embedding(position, items))  # [B, 1 + K]
        terms = {"bpr": bpr(scores[:, :1], scores[:, 1:])}
        if self.config.l2 > 0:
            factors = torch.cat([items[:, : self.config.dim], items[:, -2:-1]], dim=1)
            terms["l2"] = self.config.l2 * embedding_norm(users[:, :-2], F.embedding(position, factors))
        if self.config.l2_content > 0:
            weights = [*self.embed, *self.feature_offsets]
            terms["l2_content"] = self.config.l2_content / 2 * torch.stack([w.square().sum() for w in weights]).sum()
        return terms

    def _users(self, graph: MultimodalGraph, rows: Tensor | None) -> Tensor:
        """Extended vectors ``[n, dim + A + 2]`` of the users in ``rows``, or of all."""
        gamma, theta = (_take(graph.gather("user", table), rows) for table in (self.users, self.tastes))
        return torch.cat([gamma, theta, gamma.new_ones(len(gamma), 2)], dim=1)

    def _items(self, graph: MultimodalGraph, rows: Tensor | None) -> Tensor:
        """Extended vectors ``[n, dim + A + 2]`` of the items in ``rows``, or of all."""
        is_trained = _take(graph.degree("item")[:, None], rows) > 0
        gamma, offset = (_take(graph.gather("item", table), rows) * is_trained for table in (self.items, self.offsets))
        content = []
        for name, embed, offsets in zip(self.modalities, self.embed, self.feature_offsets, strict=True):
            features, weight = graph.features[name].pooled, torch.cat([embed, offsets])  # one matrix product for E f and <b', f>
            content.append(project_rows(features, rows, weight))  # zeros where missing
        projected, feature_offset = [c[:, :-1] for c in content], torch.stack([c[:, -1:] for c in content]).sum(0)
        if self.config.features == "concatenated":
            projected = [torch.stack(projected).sum(0)]  # equals one projection of the concatenated features
        return torch.cat([gamma, *projected, offset, feature_offset], dim=1)


def _take(table: Tensor, rows: Tensor | None) -> Tensor:
    return table if rows is None else F.embedding(rows, table)


def _projection(dim: int, widths: Sequence[int]) -> list[Tensor]:
    """One Xavier-uniform matrix ``[dim, sum of widths]``, split by modality."""
    return [part.contiguous() for part in nn.init.xavier_uniform_(torch.empty(dim, sum(widths))).split(list(widths), dim=1)]
