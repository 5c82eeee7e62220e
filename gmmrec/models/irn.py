"""Multimodal IRIS, with IRN at its heart: Interest-Related Item Similarity Model Based on Multimodal Data for Top-N Recommendation.

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
"""The part of the histories that is looked at in an epoch, where some are longer than ``max_history``."""


@dataclass(frozen=True)
class IRNConfig:
    """Settings of multimodal IRIS; the paper's are not known, these are those of its reconstruction."""

    dim: int = 64
    """Size of every embedding and of every layer of a tower."""
    num_layers: int = 2
    """Layers of the tower of a modality; after each of them the towers share what they know."""
    share: Literal["scalar", "gate", "none"] = "scalar"
    """What is shared is weighed by trained numbers, or by gates; ``none``: the towers keep to themselves."""
    ids: bool = True
    """Whether an item has embeddings of its own, one as a target and one as a part of a history, besides its content."""
    attention: Literal["interest", "mean"] = "interest"
    """Whether a target weighs the items of a history, or all count alike: H items by 1 / H^beta each (FISM)."""
    pair: Literal["concat", "prod", "both"] = "both"
    """What the interest-related network sees of two items: their vectors, the product of these, or all of it."""
    hidden: int = 16
    """Width of its hidden layer; the time of ranking grows with it."""
    beta: float = 0.5
    """Exponent of the sum by which weights are divided: 1 for the softmax, less to favour long histories."""
    max_history: int = 50
    """Items of a history looked at in training, drawn anew every epoch; ranking always looks at all of them."""
    unit_features: bool = True
    """Whether features are brought to length 1 first; not known of the paper."""
    l2: float = 1e-4
    """Weight of the L2 term on the items of the batch: as targets, and the positives as parts of a history."""
    init_std: float = 0.1
    """Standard deviation of the initial embeddings; 0 for Xavier's uniform values."""

    def __post_init__(self) -> None:
        check_positive(dim=self.dim, num_layers=self.num_layers, hidden=self.hidden, beta=self.beta, max_history=self.max_history)
        check_non_negative(l2=self.l2, init_std=self.init_std)
        check_literals(self)
        if self.beta > 1:
            raise ValueError(f"beta must be at most 1, but is {self.beta}")


class Items(NamedTuple):
    """Vectors of items ``[n, d]`` each: as what may come next (p), and as what was there before (q)."""

    target: Tensor
    past: Tensor


@dataclass(frozen=True)
class IRNEncoded(Encoded):
    """Items as targets, and what they are scored against."""

    histories: RaggedSets
    """Training items of every user."""
    item_past: Tensor
    """Items as they stand in histories ``[I, d]``."""
    item_bias: Tensor
    """``[I]``."""


class IRN(Recommender[UserQuery, IRNConfig, IRNEncoded], Attends, FoldsInUsers):
    r"""A user is the set of their training items, which the item in question weighs by how much each says about it.

    .. math:: y_{ui} = \sigma\Big( b_i + \sum_{j \in R_u \setminus i} a_{ij} \langle \mathbf{p}_i, \mathbf{q}_j \rangle \Big)

    with the weights :math:`a_{ij}` of :class:`~gmmrec.nn.fusion.interest.InterestAttention`. The vectors :math:`\mathbf{p}` and
    :math:`\mathbf{q}` are an item's content, from towers of its modalities that share what they know layer by layer, and an
    embedding each. Scores are logits, before the sigmoid, which ranks alike. No user has parameters: whoever comes later needs no
    training.

    A RECONSTRUCTION: the three modules and their order are known from the abstract, every equation is built from the models they
    extend, FISM (KDD 2013), NAIS (TKDE 2018) and cross-stitch networks (CVPR 2016). A modality that an item lacks neither gives nor
    receives in the towers, and an item without any has its embeddings only.

    Raises:
        ValueError: The items have no features at all.
    """

    def __init__(self, schema: GraphSchema, config: IRNConfig = IRNConfig()) -> None:
        super().__init__(schema, config)
        self.names = schema.modalities("item")
        if not self.names:
            raise ValueError(
                "IRN needs at least one modality of the items, but the data set has none; add a feature file or use ease"
            )
        count, num_items, dim = len(self.names), schema.num_nodes["item"], config.dim
        self.first = nn.ModuleList(ContentEncoder(schema.feature_dims[name], dim, num_layers=0) for name in self.names)
        self.stitch = CrossStitch(dim, count, share=config.share)
        self.fuse = CrossStitchFusion(dim, count, config.num_layers - 1, share=config.share)
        self.targets = embedding_table(num_items, dim, config.init_std) if config.ids else None
        self.past = embedding_table(num_items, dim, config.init_std) if config.ids else None
        self.bias = nn.Parameter(torch.zeros(num_items))
        self.interest = InterestAttention(
            dim, config.hidden, pair="none" if config.attention == "mean" else config.pair, beta=config.beta
        )

    def begin_epoch(self, graph: MultimodalGraph, generator: torch.Generator) -> MultimodalGraph:
        """Draws ``max_history`` items from every history that is longer, without replacement."""
        edge_index = graph.edges(ITEM_USER).edge_index
        history = _histories(edge_index)
        if not len(history.values) or int(history.counts.max()) <= self.config.max_history:
            return graph
        chance = torch.rand(len(history.values), dtype=torch.float64, generator=generator, device=generator.device)
        order = (history.groups + chance.to(history.values.device)).argsort()  # shuffled inside of every history
        position = torch.arange(len(order), device=order.device) - history.indptr[:-1].repeat_interleave(history.counts)
        kept = order[position < self.config.max_history].sort().values
        sizes = graph.num_nodes(ITEM), graph.num_nodes(USER)
        return graph.with_edges(DRAWN, EdgeIndex(edge_index.as_tensor()[:, kept], sparse_size=sizes, sort_order="col"))

    def encode(self, graph: MultimodalGraph) -> IRNEncoded:
        """Items as targets ``item``, items in histories, biases, and the histories: users have no vectors."""
        target, past = self._items(graph)
        histories = _histories(graph.edges(ITEM_USER).edge_index)
        return IRNEncoded({"item": target}, histories, past, graph.gather("item", self.bias))

    def score(self, encoded: IRNEncoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """The logit, over whole histories; a candidate in the history says nothing about itself."""
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
        """Binary cross-entropy of positives and negatives; only the items of the batch and of its histories pass the towers.

        Where items were drawn from a history, its sums are extrapolated to all of it: with beta less than 1 the weights of long
        histories add up to more, here as in ranking.
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
        liked = torch.zeros_like(scores)
        liked[:, 0] = 1.0
        scores = scores * self._extrapolation(graph, history, batch, liked) + graph.gather("item", self.bias)[candidates]
        terms = {"bce": F.binary_cross_entropy_with_logits(scores, liked)}
        if self.config.l2 > 0:
            terms["l2"] = self.config.l2 * embedding_norm(vectors, F.embedding(position[:, 0], past))
        return terms

    def attention(self, encoded: IRNEncoded, query: UserQuery, items: Tensor) -> dict[str, Tensor]:
        """Which items of the users' histories speak for or against the items.

        Args:
            encoded: What ``encode`` returned.
            query: B users.
            items: Rows ``[B]``, one for each.

        Returns:
            ``user:history`` ``[B, H]``: the shares of the history's items in all weights, which sum to 1 for every user who has a
            history (the weights themselves need not, with ``beta`` less than 1); an item in its own history has none.
            ``user:history_items`` ``[B, H]``: which items these are; -1, with a share of 0, behind shorter histories.
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
        """Both vectors of all items or of ``rows``: content, and the embeddings where there are any."""
        features = [graph.features[name] for name in self.names]
        present = torch.stack([table.present for table in features], 1)
        present = present if rows is None else present[rows]
        tables = [table.unit if self.config.unit_features else table.pooled for table in features]
        hidden = [F.relu(layer(table, rows)) for table, layer in zip(tables, self.first, strict=True)]
        content: Tensor = self.fuse(self.stitch(torch.stack(hidden, 1), present), present)
        if self.targets is None or self.past is None:
            return Items(content, content)
        own = (graph.gather("item", table) for table in (self.targets, self.past))
        return Items(*(content + (table if rows is None else F.embedding(rows, table)) for table in own))

    def _extrapolation(self, graph: MultimodalGraph, history: RaggedSets, batch: Batch[UserQuery], liked: Tensor) -> Tensor:
        """What scores ``[B, 1 + K]`` over a part of the history are multiplied by; 1 where all of it was looked at."""
        is_positive = (history.values == batch.positive.repeat_interleave(history.counts)).float()
        among = torch.zeros_like(liked[:, 0]).index_add_(0, history.groups, is_positive)
        drawn = history.counts[:, None] - liked * among[:, None]  # the positive is left out of its own history
        whole = graph.degree("user")[batch.query.user, None] - liked
        factor: Tensor = torch.where(drawn > 0, whole / drawn.clamp(min=1), 1.0) ** (1 - self.config.beta)
        return factor


def _histories(edge_index: EdgeIndex) -> RaggedSets:
    """The items of every user."""
    return RaggedSets(*edge_index.get_csc()[0])
