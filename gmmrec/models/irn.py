"""Multimodal IRIS, built around IRN: Interest-Related Item Similarity Model Based on Multimodal Data for Top-N Recommendation.

J. Lv, B. Song, J. Guo, X. Du, M. Guizani. IEEE Access 2019. https://arxiv.org/abs/1902.05566
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric import EdgeIndex

from gmmrec.abilities import Attends, FoldsInUsers
from gmmrec.config import check_literals, check_non_negative, check_positive
from gmmrec.data.ragged import RaggedSets
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.encoder.content import ContentEncoder
from gmmrec.nn.fusion.cross_stitch import CrossStitch, CrossStitchFusion
from gmmrec.nn.fusion.interest import InterestAttention
from gmmrec.nn.init import embedding_table
from gmmrec.nn.loss import embedding_norm
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.typing import ITEM, ITEM_USER, USER, EdgeType

DRAWN: EdgeType = (ITEM, "history", USER)
"""Histories of an epoch, subsampled to at most ``max_history`` items."""


@dataclass(frozen=True)
class IRNConfig:
    """Settings of multimodal IRIS; the paper's are unknown, these are the reconstruction's."""

    dim: int = 64
    """Width of embeddings and tower layers."""
    num_layers: int = 2
    """Number of layers per modality tower; the towers exchange information after each."""
    share: Literal["scalar", "gate", "none"] = "scalar"
    """Exchange between towers: weighted by learned scalars or by gates; ``none`` keeps the towers independent."""
    ids: bool = True
    """Add ID embeddings to an item's content, one as a target and one as a history item."""
    attention: Literal["interest", "mean"] = "interest"
    """History weights: attention of the target, or uniform, 1 / H^beta for each of H items (FISM)."""
    pair: Literal["concat", "prod", "both"] = "both"
    """Input of the interest-related network for a pair of items: both vectors, their product, or all three."""
    hidden: int = 16
    """Hidden width of the interest-related network; ranking time grows with it."""
    beta: float = 0.5
    """Exponent of the softmax denominator: 1 for the softmax, less to favour long histories."""
    max_history: int = 50
    """Maximum number of history items in training, resampled every epoch; ranking always uses all of them."""
    unit_features: bool = True
    """Normalise features to unit length; the paper's choice is unknown."""
    l2: float = 1e-4
    """Weight of the L2 term on the items of the batch: all as targets, the positives also as history items."""
    init_std: float = 0.1
    """Standard deviation of the initial embeddings; 0 for Xavier uniform initialisation."""

    def __post_init__(self) -> None:
        check_positive(dim=self.dim, num_layers=self.num_layers, hidden=self.hidden, beta=self.beta, max_history=self.max_history)
        check_non_negative(l2=self.l2, init_std=self.init_std)
        check_literals(self)
        if self.beta > 1:
            raise UsageError(f"beta must be at most 1, but is {self.beta}")


class Items(NamedTuple):
    """Item vectors ``[n, d]`` each: as targets (p) and as history items (q)."""

    target: Tensor
    past: Tensor


@dataclass(frozen=True)
class IRNEncoded(Encoded):
    """Items as targets, with the histories they are scored against."""

    histories: RaggedSets
    """Training items of every user."""
    item_past: Tensor
    """Items as history items ``[I, d]``."""
    item_bias: Tensor
    """``[I]``."""


class IRN(Recommender[UserQuery, IRNConfig, IRNEncoded], Attends, FoldsInUsers):
    r"""An item-similarity model: a user is the set of their training items, weighted by attention of the target item.

    .. math:: y_{ui} = \sigma\Big( b_i + \sum_{j \in R_u \setminus i} a_{ij} \langle \mathbf{p}_i, \mathbf{q}_j \rangle \Big)

    with the weights :math:`a_{ij}` of :class:`~gmmrec.nn.fusion.interest.InterestAttention`. The vectors :math:`\mathbf{p}` and
    :math:`\mathbf{q}` are the sum of an item's content, from modality towers that exchange information after every layer, and one
    ID embedding each. Scores are logits; the sigmoid does not change the ranking. There are no user parameters, so new users need
    no training.

    A RECONSTRUCTION: the three modules and their order are known from the abstract, all equations are built from the models they
    extend, FISM (KDD 2013), NAIS (TKDE 2018) and cross-stitch networks (CVPR 2016). A missing modality neither sends nor receives
    in the towers, and an item without features has its ID embeddings only.

    Raises:
        UsageError: The items have no features.
    """

    def __init__(self, schema: GraphSchema, config: IRNConfig = IRNConfig()) -> None:
        super().__init__(schema, config)
        self.names = schema.modalities("item")
        if not self.names:
            raise UsageError(
                "IRN needs at least one modality of the items, but the data set has none; add a feature file or use ease"
            )
        num_modalities, num_items, dim = len(self.names), schema.num_nodes["item"], config.dim
        self.first = nn.ModuleList(ContentEncoder(schema.feature_dims[name], dim, num_layers=0) for name in self.names)
        self.stitch = CrossStitch(dim, num_modalities, share=config.share)
        self.fuse = CrossStitchFusion(dim, num_modalities, config.num_layers - 1, share=config.share)
        self.targets = embedding_table(num_items, dim, config.init_std) if config.ids else None
        self.past = embedding_table(num_items, dim, config.init_std) if config.ids else None
        self.bias = nn.Parameter(torch.zeros(num_items))
        self.interest = InterestAttention(
            dim, config.hidden, pair="none" if config.attention == "mean" else config.pair, beta=config.beta
        )

    def begin_epoch(self, graph: MultimodalGraph, generator: torch.Generator) -> MultimodalGraph:
        """Subsample longer histories to ``max_history`` items, without replacement."""
        edge_index = graph.edges(ITEM_USER).edge_index
        history = _histories(edge_index)
        if not len(history.values) or int(history.counts.max()) <= self.config.max_history:
            return graph
        noise = torch.rand(len(history.values), dtype=torch.float64, generator=generator, device=generator.device)
        order = (history.groups + noise.to(history.values.device)).argsort()  # shuffled within every history
        position = torch.arange(len(order), device=order.device) - history.indptr[:-1].repeat_interleave(history.counts)
        edges = order[position < self.config.max_history].sort().values
        sizes = graph.num_nodes(ITEM), graph.num_nodes(USER)
        return graph.with_edges(DRAWN, EdgeIndex(edge_index.as_tensor()[:, edges], sparse_size=sizes, sort_order="col"))

    def encode(self, graph: MultimodalGraph) -> IRNEncoded:
        """Return items as targets (``item``) and as history items, biases, and the histories; users have no vectors."""
        target, past = self._items(graph)
        histories = _histories(graph.edges(ITEM_USER).edge_index)
        return IRNEncoded({"item": target}, histories, past, graph.gather("item", self.bias))

    def score(self, encoded: IRNEncoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """Return logits over whole histories; a candidate is excluded from its own history."""
        history = encoded.histories.take(query.user)
        scores: Tensor = self.interest.score(
            F.embedding(candidates, encoded["item"]),
            encoded.item_past,
            history.values,
            history.indptr,
            query_ids=candidates,
            token_ids=torch.arange(len(encoded["item"]), device=candidates.device),
        )
        return scores + encoded.item_bias[candidates]

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """Return the binary cross-entropy; only items of the batch and of its histories pass through the towers.

        Sums over subsampled histories are extrapolated to the whole history: with beta less than 1, the weights of longer histories
        have a larger total, here as in ranking.
        """
        relation = DRAWN if DRAWN in graph.schema.relations else ITEM_USER
        history = _histories(graph.edges(relation).edge_index).take(batch.query.user)
        candidates = batch.candidates
        rows, position = torch.cat([candidates.flatten(), history.values]).unique(return_inverse=True)
        target, past = self._items(graph, rows)
        position, history_position = position.split([candidates.numel(), len(history.values)])
        position = position.view_as(candidates)
        vectors = F.embedding(position, target)
        scores = self.interest.score(vectors, past, history_position, history.indptr, query_ids=candidates, token_ids=rows)
        labels = torch.zeros_like(scores)
        labels[:, 0] = 1.0
        scores = scores * self._extrapolation(graph, history, batch, labels) + graph.gather("item", self.bias)[candidates]
        terms = {"bce": F.binary_cross_entropy_with_logits(scores, labels)}
        if self.config.l2 > 0:
            terms["l2"] = self.config.l2 * embedding_norm(vectors, F.embedding(position[:, 0], past))
        return terms

    def attention(self, encoded: IRNEncoded, query: UserQuery, items: Tensor) -> dict[str, Tensor]:
        """Return the attention of items to the users' histories.

        Args:
            encoded: Result of ``encode``.
            query: B users.
            items: Item rows ``[B]``, one per user.

        Returns:
            ``user:history`` ``[B, H]``: weights of the history items, normalised to sum to 1 for every user with a history (the raw
            weights need not, with ``beta`` less than 1); 0 for an item in its own history.
            ``user:history_items`` ``[B, H]``: rows of these items, padded with -1 and a weight of 0.
        """
        history = encoded.histories.take(query.user)
        mask = torch.arange(int(history.counts.max()), device=items.device) < history.counts[:, None]
        rows = torch.full(mask.shape, -1, device=items.device)
        rows[mask] = history.values
        tokens = F.embedding(rows.clamp(min=0), encoded.item_past)
        target = F.embedding(items, encoded["item"])
        weights: Tensor = self.interest(tokens, mask & (rows != items[:, None]), target, return_weights=True)[1]
        return {"user:history": F.normalize(weights, p=1, dim=1), "user:history_items": rows}

    def _items(self, graph: MultimodalGraph, rows: Tensor | None = None) -> Items:
        """Return both vectors of all items or of ``rows``: content plus ID embeddings, if any."""
        features = [graph.features[name] for name in self.names]
        present = torch.stack([table.present for table in features], 1)
        present = present if rows is None else present[rows]
        tables = [table.unit if self.config.unit_features else table.pooled for table in features]
        hidden = [F.relu(layer(table, rows)) for table, layer in zip(tables, self.first, strict=True)]
        content: Tensor = self.fuse(self.stitch(torch.stack(hidden, 1), present), present)
        if self.targets is None or self.past is None:
            return Items(content, content)
        ids = (graph.gather("item", table) for table in (self.targets, self.past))
        return Items(*(content + (table if rows is None else F.embedding(rows, table)) for table in ids))

    def _extrapolation(self, graph: MultimodalGraph, history: RaggedSets, batch: Batch[UserQuery], labels: Tensor) -> Tensor:
        """Return the factors of scores ``[B, 1 + K]`` over subsampled histories; 1 for whole histories."""
        is_positive = (history.values == batch.positive.repeat_interleave(history.counts)).float()
        num_positives = torch.zeros_like(labels[:, 0]).index_add_(0, history.groups, is_positive)
        drawn = history.counts[:, None] - labels * num_positives[:, None]  # the positive is excluded from its own history
        whole = graph.degree("user")[batch.query.user, None] - labels
        factor: Tensor = torch.where(drawn > 0, whole / drawn.clamp(min=1), 1.0) ** (1 - self.config.beta)
        return factor


def _histories(edge_index: EdgeIndex) -> RaggedSets:
    """Return the items of every user."""
    return RaggedSets(*edge_index.get_csc()[0])
