"""SAERS: Explainable Fashion Recommendation, A Semantic Attribute Region Guided Approach.

M. Hou, L. Wu, E. Chen, Z. Li, V. W. Zheng, Q. Liu. IJCAI 2019. https://arxiv.org/abs/1905.12862
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.abilities import Attends
from gmmrec.config import check_literals, check_non_negative, check_positive
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.nn.fusion.attribute import AttributeFusion, SlotPooling, strongest
from gmmrec.nn.init import embedding_table
from gmmrec.nn.loss import bpr, embedding_norm
from gmmrec.nn.masked import masked_mean
from gmmrec.nn.project import project_rows
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import Batch, UserQuery


@dataclass(frozen=True)
class SAERSConfig:
    """Settings of SAERS; the paper's are not known, the defaults are those of this reconstruction."""

    dim: int = 64
    """Width of embeddings and of both spaces."""
    image: str | None = None
    """Modality of the global visual space, one vector per item (the mean of its tokens); None for ``image``, or else the first."""
    regions: str | None = None
    """Modality of the semantic space. With given ``slots`` its tokens are the attributes of an item; with learned ones, attributes
    are gathered from its tokens, and None uses the tokens of all item modalities."""
    slots: Literal["learned", "given"] = "learned"
    """Attributes as learned queries that gather tokens, or as the given tokens, one per attribute."""
    num_slots: int = 12
    """Number of attributes; with given slots, that of the tokens."""
    attribute_vectors: bool = True
    """Add a learned vector per attribute to its features."""
    attention: Literal["preference", "mean"] = "preference"
    """Weights of attributes: the user's attention, or uniform."""
    score: Literal["mlp", "bilinear"] = "mlp"
    """Form of the attention logits."""
    semantic_space: bool = True
    """Use the semantic space, that of attributes."""
    global_space: bool = True
    """Use the global visual space, that of whole images."""
    ids: bool = True
    """Use the matrix factorisation term."""
    unit_features: bool = True
    """Scale features to unit length, token by token."""
    l2: float = 1e-4
    """Weight of the L2 term on the embeddings of the batch."""
    init_std: float = 0.1
    """Standard deviation of the initial embeddings; 0 for Xavier uniform initialisation."""

    def __post_init__(self) -> None:
        check_positive(dim=self.dim, num_slots=self.num_slots)
        check_non_negative(l2=self.l2, init_std=self.init_std)
        check_literals(self)
        if not (self.semantic_space or self.global_space or self.ids):
            raise UsageError("semantic_space, global_space and ids are all off, so nothing is left to score with; switch one on")
        if self.slots == "given" and self.semantic_space and self.regions is None:
            raise UsageError("slots 'given' needs the modality whose tokens are attributes; name it in regions")


class Slots(NamedTuple):
    """Attributes of n items."""

    values: Tensor
    """``[n, A, d]``."""
    present: Tensor
    """Mask of attributes that apply ``[n, A]``."""
    shares: dict[str, Tensor]
    """Weights of tokens in learned slots, by modality ``[n, A, T]``, or ``[n, A]`` for a modality of one token."""


@dataclass(frozen=True)
class SAERSEncoded(Encoded):
    """Users, items, and the attributes of the items."""

    slots: Slots | None = None
    """None without a semantic space."""


class SAERS(Recommender[UserQuery, SAERSConfig, SAERSEncoded], Attends):
    r"""User attention over the attributes of an item (neckline, heel height), each localised in a region of the image.

    .. math::
        x_{ui} = b_i + \langle \mathbf{p}_u, \mathbf{q}_i \rangle + \langle \mathbf{g}_u, \mathbf{E} \mathbf{f}_i \rangle
            + \langle \mathbf{t}_u, \mathbf{s}_{ui} \rangle, \qquad \mathbf{s}_{ui} = \sum_a \alpha_{ui}^a \mathbf{z}_i^a

    A RECONSTRUCTION: two spaces, one of whole images and one of attributes, attention of the user over the attributes, and BPR are
    known from the abstract and summaries; the equations are this implementation's, as is the ID term, and no code is known. The
    paper crops the regions with a network trained on labelled attributes; :mod:`.semantic_extraction` does so on grids of regions,
    and its result is given as a modality. Without one, learned slots gather regions, which is not in the paper.

    An item without an image, or without any attribute that applies, scores 0 in that space; one without training interactions is
    ranked by its content alone.

    Raises:
        UsageError: The items have no features at all, or not the modality named in ``image`` or ``regions``.
    """

    def __init__(self, schema: GraphSchema, config: SAERSConfig = SAERSConfig()) -> None:
        super().__init__(schema, config)
        names, dim, std = schema.modalities("item"), config.dim, config.init_std
        self.image = _named(config.image or ("image" if "image" in names else None), names)
        self.tables = (_named(config.regions, names),) if config.regions or len(names) == 1 else names
        num_users, num_items = schema.num_nodes["user"], schema.num_nodes["item"]
        self.offsets = nn.Parameter(torch.zeros(num_items, 1))  # b_i
        if config.ids:
            self.users, self.items = (embedding_table(count, dim, std) for count in (num_users, num_items))  # p_u, q_i
        if config.global_space:
            self.visual = embedding_table(num_users, dim, std)  # g_u
            self.embed = nn.Parameter(nn.init.xavier_uniform_(torch.empty(dim, schema.feature_dims[self.image])))  # E
        if not config.semantic_space:
            return
        self.tastes = embedding_table(num_users, dim, std)  # t_u
        width = schema.feature_dims[self.tables[0]]
        self.project = None
        if len(self.tables) > 1:
            self.project, width = nn.ModuleList(nn.Linear(schema.feature_dims[name], dim) for name in self.tables), dim
        self.gather = None
        if config.slots == "learned":
            self.gather, width = SlotPooling(dim, config.num_slots, width), dim
        self.attend = AttributeFusion(
            dim,
            token_dim=width,
            num_tokens=config.num_slots if config.attribute_vectors else None,
            score="mean" if config.attention == "mean" else config.score,
        )

    def encode(self, graph: MultimodalGraph) -> SAERSEncoded:
        """Return users, items and item attributes, all computed once.

        ``user`` is ``[p_u, g_u, 1, t_u]`` and ``item`` ``[q_i, E f_i, b_i, mean of z_i]``, whose last block is for comparing items,
        and for scores without attention.
        """
        users, items = self._users(graph), self._items(graph)
        if not self.config.semantic_space:
            return SAERSEncoded({"user": users, "item": items})
        slots = self._slots(graph)
        users = torch.cat([users, graph.gather("user", self.tastes)], 1)
        items = torch.cat([items, masked_mean(slots.values, slots.present)], 1)
        return SAERSEncoded({"user": users, "item": items}, slots)

    def score(self, encoded: SAERSEncoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """Sum one inner product of pair-independent vectors and the user-weighted attributes."""
        users, items = F.embedding(query.user, encoded["user"]), encoded["item"]
        if encoded.slots is None or self.config.attention == "mean":
            return inner_product(users, F.embedding(candidates, items))
        fixed = users.shape[1] - self.config.dim
        preference = users[:, fixed:]
        semantic: Tensor = self.attend.score_rows(preference, encoded.slots.values, encoded.slots.present, candidates)
        return inner_product(users[:, :fixed], F.embedding(candidates, items[:, :fixed])) + semantic

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """BPR, and the L2 term; only the batch's items are encoded, once each."""
        rows, position = batch.candidates.unique(return_inverse=True)
        users, items = F.embedding(batch.query.user, self._users(graph)), self._items(graph, rows)
        scores = inner_product(users, F.embedding(position, items))  # [B, 1 + K]
        learned = [users[:, :-1], F.embedding(position, items[:, -1:])]
        if self.config.semantic_space:
            preference = F.embedding(batch.query.user, graph.gather("user", self.tastes))
            slots, present, _ = self._slots(graph, rows)
            scores = scores + self.attend.score_rows(preference, slots, present, position)
            learned.append(preference)
        if self.config.ids:
            learned.append(F.embedding(position, items[:, : self.config.dim]))
        terms = {"bpr": bpr(scores[:, :1], scores[:, 1:])}
        if self.config.l2 > 0:
            terms["l2"] = self.config.l2 * embedding_norm(*learned)
        return terms

    def attribute_weights(self, encoded: SAERSEncoded, query: UserQuery, items: Tensor) -> Tensor:
        """Return a user's weight of every attribute of an item ``[B, A]``; 0 for attributes that do not apply.

        Args:
            encoded: What ``encode`` returned.
            query: B users.
            items: One item per user ``[B]``.

        Raises:
            UsageError: The model has no semantic space.
        """
        if encoded.slots is None:
            raise UsageError("without a semantic space there are no attributes to weigh; set semantic_space to true")
        preference = F.embedding(query.user, encoded["user"][:, -self.config.dim :])
        weights: Tensor = self.attend.weights(preference, encoded.slots.values[items], encoded.slots.present[items])
        return weights

    def top_attributes(self, encoded: SAERSEncoded, query: UserQuery, items: Tensor, k: int = 3) -> tuple[Tensor, Tensor]:
        """Return the attributes of highest weight to a user, in descending order.

        Returns:
            Attribute indices ``[B, k]``, -1 if fewer apply, and their weights ``[B, k]``.
        """
        weights = self.attribute_weights(encoded, query, items)
        assert encoded.slots is not None
        return strongest(weights, encoded.slots.present[items], min(k, weights.shape[1]))

    def attention(self, encoded: SAERSEncoded, query: UserQuery, items: Tensor) -> dict[str, Tensor]:
        """Return a user's weight of every token of an item, by modality: ``[B, T]``, or ``[B]`` for a modality of one token.

        All weights of a pair sum to 1. With learned slots, the weight of a token is the weight of a slot times that of the token in
        the slot, summed over slots.
        """
        weights = self.attribute_weights(encoded, query, items)
        if self.gather is None or encoded.slots is None:
            return {self.tables[0]: weights}
        shares = {name: encoded.slots.shares[name][items] for name in self.tables}
        return {name: torch.einsum("ba,ba...->b...", weights, share) for name, share in shares.items()}

    def _users(self, graph: MultimodalGraph) -> Tensor:
        """User vectors without attribute preferences: ``[p_u, g_u, 1]``."""
        parts = [graph.gather("user", self.users)] if self.config.ids else []
        parts += [graph.gather("user", self.visual)] if self.config.global_space else []
        return torch.cat([*parts, self.offsets.new_ones(graph.num_nodes("user"), 1)], 1)

    def _items(self, graph: MultimodalGraph, rows: Tensor | None = None) -> Tensor:
        """User-independent item vectors ``[q_i, E f_i, b_i]``, of all items or of ``rows``."""
        is_trained = _take(graph.degree("item")[:, None], rows) > 0
        parts = []
        if self.config.ids:
            parts.append(_take(graph.gather("item", self.items), rows) * is_trained)
        if self.config.global_space:
            table = graph.features[self.image]
            parts.append(project_rows(table.unit if self.config.unit_features else table.pooled, rows, self.embed))
        return torch.cat([*parts, _take(graph.gather("item", self.offsets), rows) * is_trained], 1)

    def _slots(self, graph: MultimodalGraph, rows: Tensor | None = None) -> Slots:
        """Attributes of all items, or of ``rows``."""
        tokens, masks = [], []
        for position, name in enumerate(self.tables):
            table = graph.features[name]
            values = table.values if table.values.dim() == 3 else table.values.unsqueeze(1)
            values = _take(values.flatten(1), rows).unflatten(1, values.shape[1:])
            values = F.normalize(values, dim=-1) if self.config.unit_features else values
            tokens.append(values if self.project is None else self.project[position](values))
            masks.append(_take(table.mask.view(table.num_rows, -1), rows))
        mask = torch.cat(masks, 1)
        if self.gather is None:
            self._check_slots(mask)
            return Slots(self.attend.values(tokens[0]), mask, {})
        slots, shares = self.gather(torch.cat(tokens, 1), mask, return_weights=True)
        parts = dict(zip(self.tables, shares.split([m.shape[1] for m in masks], dim=2), strict=True))
        single = {name for name in self.tables if graph.features[name].values.dim() == 2}
        present = mask.any(1, keepdim=True).expand(-1, self.config.num_slots)
        return Slots(self.attend.values(slots), present, {k: v.squeeze(2) if k in single else v for k, v in parts.items()})

    def _check_slots(self, mask: Tensor) -> None:
        if self.config.attribute_vectors and mask.shape[1] != self.config.num_slots:
            raise UsageError(
                f"{self.tables[0]!r} has {mask.shape[1]} attributes, but num_slots is {self.config.num_slots}; "
                f"set num_slots to {mask.shape[1]}"
            )


def _named(name: str | None, names: tuple[str, ...]) -> str:
    """The modality called ``name``, or the first for None."""
    if not names:
        raise UsageError(
            "SAERS needs at least one modality of the items, but the data set has none; add a feature file or use lightgcn"
        )
    if name is not None and name not in names:
        raise UsageError(f"the items have no modality {name!r}; choose one of {', '.join(names)}")
    return name or names[0]


def _take(table: Tensor, rows: Tensor | None) -> Tensor:
    if rows is None:
        return table
    return table[rows] if table.dtype == torch.bool else F.embedding(rows, table)
