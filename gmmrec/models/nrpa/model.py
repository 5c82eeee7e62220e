"""NRPA: Neural Recommendation with Personalized Attention (Liu et al., SIGIR 2019), https://arxiv.org/abs/1905.12480."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.abilities import IgnoresFeatures
from gmmrec.config import check_literals, check_non_negative, check_positive, check_probability
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.models.nrpa.review import ReviewEncoder
from gmmrec.nn.biases import rating_biases
from gmmrec.nn.blocks import block_rows
from gmmrec.nn.decoder.factorization_machine import FactorizationMachine
from gmmrec.nn.dropout import Dropout
from gmmrec.nn.fusion.personalised import PersonalisedAttention
from gmmrec.nn.init import embedding_table
from gmmrec.nn.loss import embedding_norm
from gmmrec.nn.masked import masked_mean
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import Batch, RatingQuery
from gmmrec.typing import ITEM_USER, USER_ITEM, EdgeType, NodeType

CELLS = 2**24
"""Maximum number of values of word vectors held at once when all nodes are encoded: 64 MB."""


@dataclass(frozen=True)
class NRPAConfig:
    """Settings of NRPA."""

    word_dim: int = 100
    """Width of word vectors."""
    num_filters: int = 80
    """Width of contextual words, reviews, users and items."""
    window: int = 3
    """Number of words in the convolution window; odd."""
    dim: int = 32
    """Width of the ID embeddings, from which attention queries are computed."""
    attention_dim: int = 80
    """Width of the attention queries."""
    factors: int = 8
    """Rank of the factorisation machine."""
    max_reviews: int = 10
    """Maximum number of reviews per user or item read in training, drawn evenly from all in every epoch; evaluation reads all."""
    dropout: float = 0.05
    """Dropout probability of contextual words."""
    l2: float = 1e-3
    """Weight of the L2 term on the ID embeddings and biases of a batch."""
    init_std: float = 0.1
    """Standard deviation of the initial word vectors and ID embeddings."""
    biases: bool = True
    """Add user and item biases to the prediction; the paper has a global one only."""
    shrinkage: float = 3.0
    """Pseudo-count of mean ratings that shrinks the initial biases towards 0."""
    personalised: Literal["both", "words", "reviews", "none"] = "both"
    """Attention levels with a query per ID; elsewhere all users share one query, and all items another."""
    attention: Literal["learned", "mean"] = "learned"
    """Aggregation of words and reviews: learned attention, or their mean."""

    def __post_init__(self) -> None:
        check_positive(word_dim=self.word_dim, num_filters=self.num_filters, window=self.window, dim=self.dim)
        check_positive(attention_dim=self.attention_dim, factors=self.factors, max_reviews=self.max_reviews)
        check_positive(init_std=self.init_std)
        check_non_negative(l2=self.l2, shrinkage=self.shrinkage)
        check_probability(dropout=self.dropout)
        check_literals(self)
        if self.window % 2 == 0:
            raise UsageError(f"window must be an odd number of words, but is {self.window}")


class Chosen(NamedTuple):
    """Reviews of ``n`` nodes: their words ``[n, L, T]``, and the other node of each review ``[n, L]``, -1 for padding."""

    tokens: Tensor
    other: Tensor


class Reader(nn.Module):
    """One side of NRPA: encoder of the reviews that users wrote, or that items received.

    Args:
        kind: Node type of this side.
        relation: Type of the edges into these nodes.
        num_nodes: Number of rows of the ID table.
        config: Settings of the model.
    """

    def __init__(self, kind: NodeType, relation: EdgeType, num_nodes: int, config: NRPAConfig) -> None:
        super().__init__()
        self.kind, self.relation, self.config = kind, relation, config
        width = config.num_filters
        self.context = ReviewEncoder(config.word_dim, width, config.window)
        self.dropout = Dropout(config.dropout)
        is_learned = config.attention == "learned"
        self.words = PersonalisedAttention(width, config.dim, config.attention_dim) if is_learned else None
        self.reviews = PersonalisedAttention(width, config.dim, config.attention_dim) if is_learned else None
        by_id, by_all = is_learned and config.personalised != "none", is_learned and config.personalised != "both"
        self.ids = embedding_table(num_nodes, config.dim, config.init_std) if by_id else None
        self.everyone = embedding_table(1, config.dim, config.init_std) if by_all else None
        self.bias = nn.Parameter(torch.zeros(num_nodes)) if config.biases else None

    def counts(self, graph: MultimodalGraph) -> Tensor:
        """Count the reviews of every node ``[N]``, including ratings without text."""
        counts: Tensor = graph.edges(self.relation).edge_index.get_csc()[0][0].diff()
        return counts

    def choose(self, graph: MultimodalGraph, nodes: Tensor, start: float | None) -> Chosen:
        """Select reviews of the nodes ``[n]``: all if ``start`` is None.

        Otherwise, nodes with more than ``max_reviews`` get that many, evenly spaced from a relative offset ``start`` in [0, 1).
        """
        (indptr, source), _ = graph.edges(self.relation).edge_index.get_csc()
        text = graph.attribute(self.relation, "text")
        assert text is not None
        count = indptr[nodes + 1] - indptr[nodes]
        longest = int(count.max()) if count.numel() else 0
        limit = longest if start is None else min(longest, self.config.max_reviews)
        position = torch.arange(limit, device=nodes.device)
        spread = ((position + (start or 0.0)) * count[:, None] / limit).long()  # [n, L]
        is_there = position < count[:, None]
        edge = (indptr[nodes][:, None] + torch.where(count[:, None] > limit, spread, position)).masked_fill(~is_there, 0)
        return Chosen(text[edge].masked_fill(~is_there[..., None], 0), source[edge].masked_fill(~is_there, -1))

    def ids_of(self, graph: MultimodalGraph, nodes: Tensor) -> Tensor | None:
        """Return the ID embeddings ``[n, dim]``, or None without them."""
        return None if self.ids is None else F.embedding(nodes, graph.gather(self.kind, self.ids))

    def biases_of(self, graph: MultimodalGraph, nodes: Tensor) -> Tensor:
        """Return the biases ``[n]``; zeros if the model has none."""
        if self.bias is None:
            return torch.zeros(nodes.shape, device=nodes.device)
        return F.embedding(nodes, graph.gather(self.kind, self.bias)[:, None]).squeeze(-1)

    def read(self, tokens: Tensor, table: Tensor, ids: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Encode reviews d ``[n, L, D]`` from words ``[n, L, T]`` with queries of these IDs; also return word weights alpha."""
        present = tokens > 0
        z = self.dropout(self.context(tokens, table))  # [n, L, T, D]
        if self.words is None:
            return masked_mean(z, present), None
        d, alpha = self.words(z, present, self._query_ids("words", ids, len(tokens))[:, None], return_weights=True)
        return d, alpha

    def pool(self, d: Tensor, present: Tensor, ids: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Pool reviews ``[n, L, D]`` with mask ``[n, L]`` into vectors p ``[n, D]``; also return review weights beta."""
        if self.reviews is None:
            return masked_mean(d, present), None
        p, beta = self.reviews(d, present, self._query_ids("reviews", ids, len(d)), return_weights=True)
        return p, beta

    def _query_ids(self, level: str, ids: Tensor | None, count: int) -> Tensor:
        """Input of the queries of one level ``[n, dim]``: IDs, or the shared embedding."""
        if self.config.personalised in ("both", level):
            assert ids is not None
            return ids
        assert self.everyone is not None
        return self.everyone.expand(count, -1)


@dataclass(frozen=True)
class NRPAEncoded(Encoded):
    """Vectors and biases of users and items."""

    biases: Mapping[NodeType, Tensor]
    """Biases of users ``[U]`` and items ``[I]``, zeros if the model has none."""


class NRPA(Recommender[RatingQuery, NRPAConfig, NRPAEncoded], IgnoresFeatures):
    r"""Rating prediction from the reviews of user and item, with personalised attention over words and reviews.

    .. math::
        \mathbf{d}_j &= \textstyle\sum_k \alpha_k \mathbf{z}_k, \quad
        \alpha = \mathrm{softmax}_k(\mathbf{q}_w^\top \mathbf{A}_w \mathbf{z}_k) \\
        \mathbf{p}_u &= \textstyle\sum_j \beta_j \mathbf{d}_j, \quad
        \beta = \mathrm{softmax}_j(\mathbf{q}_r^\top \mathbf{A}_r \mathbf{d}_j)

    with :math:`\mathbf{z}_k` a contextual word (a convolution) and both queries computed from the user's ID; likewise for items,
    with separate parameters. A factorisation machine on :math:`[\mathbf{p}_u; \mathbf{q}_i]` predicts the rating, trained by
    squared error.

    There is no released code: layers and loss are those on which two independent re-implementations agree. Deviations, for better
    predictions or for lack of information: user and item biases (``biases=False`` is the paper's form), the L2 term, word vectors
    trained from scratch, no term for the ratings themselves. Dropout is that of one re-implementation.

    Reviews are the attribute ``text`` of the training edges. The review of the predicted pair is never read, on either side: in
    training it is masked, and held-out reviews are not edges. As word weights do not depend on the item, a user's reviews are
    encoded once per batch and once per evaluation; scoring a catalogue costs one matrix product.

    Raises:
        UsageError: The data set has no reviews.
    """

    def __init__(self, schema: GraphSchema, config: NRPAConfig = NRPAConfig()) -> None:
        super().__init__(schema, config)
        if not schema.num_words:
            raise UsageError("NRPA reads reviews, but the data set has none; name their column with review_column")
        self.table = embedding_table(schema.num_words - 1, config.word_dim, config.init_std)  # padding has no vector
        self.users = Reader("user", ITEM_USER, schema.num_nodes["user"], config)
        self.items = Reader("item", USER_ITEM, schema.num_nodes["item"], config)
        self.machine = FactorizationMachine(config.num_filters, factors=config.factors)
        self.offset = nn.Parameter(torch.zeros(()))  # w_0
        self._start = 0.0

    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Initialise biases in closed form, the global one with the mean rating, unless they have been trained already."""
        rating = graph.attribute(USER_ITEM, "rating")
        if rating is None or bool(self.offset):
            return graph
        ends = zip(("user", "item"), graph.edges(USER_ITEM).edge_index.as_tensor(), strict=True)
        user, item = (graph.rows(kind)[end] for kind, end in ends)
        sizes = self.schema.num_nodes["user"], self.schema.num_nodes["item"]
        initial = rating_biases(user, item, rating, sizes, shrinkage=self.config.shrinkage)
        for bias, value in zip((self.offset, self.users.bias, self.items.bias), initial, strict=True):
            if bias is not None:
                bias.data.copy_(value)
        return graph

    def begin_epoch(self, graph: MultimodalGraph, generator: torch.Generator) -> MultimodalGraph:
        """Draw the review sample of nodes with more than ``max_reviews``; the graph is unchanged."""
        self._start = float(torch.rand((), generator=generator))
        return graph

    def encode(self, graph: MultimodalGraph) -> NRPAEncoded:
        """Return vectors p ``[U, D]`` and q ``[I, D]`` from all reviews, encoded in chunks of nodes, and biases."""
        vectors, biases = dict[NodeType, Tensor](), dict[NodeType, Tensor]()
        for reader in (self.users, self.items):
            counts, order = reader.counts(graph).sort(descending=True)  # chunks of nodes with similar numbers of reviews
            words = graph.data[reader.relation]["text"].shape[1]
            budget = CELLS // (words * self.config.num_filters)
            parts, first = [], 0
            while first < len(order):
                last = first + block_rows(budget, int(counts[first]))
                parts.append(self._read(reader, graph, order[first:last], None))
                first = last
            position = order.argsort()
            vectors[reader.kind] = torch.cat(parts)[position]
            biases[reader.kind] = reader.biases_of(graph, order[position])
        return NRPAEncoded(vectors, biases)

    def score(self, encoded: NRPAEncoded, query: RatingQuery, candidates: Tensor) -> Tensor:
        """Predict the rating of every candidate."""
        users, items = F.embedding(query.user, encoded["user"]), F.embedding(candidates, encoded["item"])
        biases = encoded.biases["user"][query.user][:, None] + encoded.biases["item"][candidates]
        scores: Tensor = self.offset + biases + self.machine(users, items)
        return scores

    def loss(self, graph: MultimodalGraph, batch: Batch[RatingQuery]) -> dict[str, Tensor]:
        """Squared error, and half the squared L2 norm of the batch's ID embeddings and biases.

        Raises:
            UsageError: The batch has no ratings.
        """
        if batch.rating is None:
            raise UsageError("NRPA learns from ratings, but the batch has none; give it Batch(…, rating=…)")
        ends = (self.users, batch.query.user, batch.positive), (self.items, batch.positive, batch.query.user)
        p, q = (self._read(reader, graph, nodes, self._start, without=others) for reader, nodes, others in ends)
        biases = [reader.biases_of(graph, nodes) for reader, nodes, _ in ends]
        predicted = self.offset + sum(biases) + self.machine(p, q[:, None]).squeeze(1)
        ids = [rows for reader, nodes, _ in ends if (rows := reader.ids_of(graph, nodes)) is not None]
        norm = embedding_norm(*(bias[:, None] for bias in biases), *ids)
        return {"mse": F.mse_loss(predicted, batch.rating), "l2": self.config.l2 * norm}

    def _read(
        self, reader: Reader, graph: MultimodalGraph, nodes: Tensor, start: float | None, without: Tensor | None = None
    ) -> Tensor:
        """Vectors ``[B, D]`` of nodes ``[B]``, each from its reviews except the one shared with node ``without`` ``[B]``.

        The encoding of a review does not depend on the predicted pair, so it is computed once for all pairs.
        """
        distinct, position = torch.unique(nodes, return_inverse=True)  # in ascending order
        chosen, ids = reader.choose(graph, distinct, start), reader.ids_of(graph, distinct)
        d, _ = reader.read(chosen.tokens, self.table, ids)
        present = (chosen.tokens > 0).any(-1)[position]
        if without is not None:
            present = present & (chosen.other[position] != without[:, None])
        # not d[position], whose gradient depends on the number of threads
        d = F.embedding(position, d.flatten(1)).view(len(position), *d.shape[1:])
        return reader.pool(d, present, None if ids is None else F.embedding(position, ids))[0]
