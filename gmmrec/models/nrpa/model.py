"""NRPA: Neural Recommendation with Personalized Attention (Liu et al., SIGIR 2019), https://arxiv.org/abs/1905.12480."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.config import check_literals, check_non_negative, check_positive, check_probability
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.models.nrpa.review import ReviewEncoder
from gmmrec.nn.biases import rating_biases
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
"""Numbers of word vectors held at once where all nodes are encoded: 64 MB."""


@dataclass(frozen=True)
class NRPAConfig:
    """Widths of the parts, and which of them there are."""

    word_dim: int = 100
    """Width of a word vector."""
    num_filters: int = 80
    """Width of a word in its context, of a review, of a user and of an item."""
    window: int = 3
    """Words that a word's context is made of, itself included; odd."""
    dim: int = 32
    """Width of the ID embeddings, which steer the attention."""
    attention_dim: int = 80
    """Width of the queries made of them."""
    factors: int = 8
    """Rank of the factorisation machine."""
    max_reviews: int = 10
    """Reviews of a user or an item that are read in training: drawn evenly from all, anew every epoch; evaluation reads all."""
    dropout: float = 0.05
    """Share of the numbers of words in context that is dropped."""
    l2: float = 1e-3
    """Weight of the L2 term on the ID embeddings and biases of a batch."""
    init_std: float = 0.1
    """Standard deviation of the initial word vectors and ID embeddings."""
    biases: bool = True
    """Add a bias of every user and item to the prediction; the paper knows a global one only."""
    shrinkage: float = 3.0
    """Ratings of exactly the mean that count beside everybody's own where biases begin."""
    personalised: Literal["both", "words", "reviews", "none"] = "both"
    """Where the query is made of an ID; elsewhere one query serves all users, and another all items."""
    attention: Literal["learned", "mean"] = "learned"
    """Whether words and reviews are weighed, or their mean is taken."""

    def __post_init__(self) -> None:
        check_positive(word_dim=self.word_dim, num_filters=self.num_filters, window=self.window, dim=self.dim)
        check_positive(attention_dim=self.attention_dim, factors=self.factors, max_reviews=self.max_reviews)
        check_positive(init_std=self.init_std)
        check_non_negative(l2=self.l2, shrinkage=self.shrinkage)
        check_probability(dropout=self.dropout)
        check_literals(self)
        if self.window % 2 == 0:
            raise ValueError(f"window must be an odd number of words, but is {self.window}")


class Chosen(NamedTuple):
    """Reviews of ``n`` nodes: the words ``[n, L, T]``, and who is at the other end of each ``[n, L]``, -1 where there is none."""

    tokens: Tensor
    other: Tensor


class Reader(nn.Module):
    """One side of NRPA: reads the reviews that users wrote, or those that items received.

    Args:
        kind: Whose reviews they are.
        relation: The edges that lead to them.
        num_nodes: Rows of their table of IDs.
        config: Of the model.
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
        """Number of reviews of every node ``[N]``, ratings without words included."""
        counts: Tensor = graph.edges(self.relation).edge_index.get_csc()[0][0].diff()
        return counts

    def choose(self, graph: MultimodalGraph, nodes: Tensor, start: float | None) -> Chosen:
        """Reviews of each node ``[n]``: all where ``start`` is None.

        Otherwise, of those with more than ``max_reviews``, every so many, beginning at a position ``start`` in [0, 1).
        """
        (indptr, source), _ = graph.edges(self.relation).edge_index.get_csc()
        text = graph.attribute(self.relation, "text")
        assert text is not None
        count = indptr[nodes + 1] - indptr[nodes]
        most = int(count.max()) if count.numel() else 0
        limit = most if start is None else min(most, self.config.max_reviews)
        position = torch.arange(limit, device=nodes.device)
        spread = ((position + (start or 0.0)) * count[:, None] / limit).long()  # [n, L]
        is_there = position < count[:, None]
        edge = (indptr[nodes][:, None] + torch.where(count[:, None] > limit, spread, position)).masked_fill(~is_there, 0)
        return Chosen(text[edge].masked_fill(~is_there[..., None], 0), source[edge].masked_fill(~is_there, -1))

    def ids_of(self, graph: MultimodalGraph, nodes: Tensor) -> Tensor | None:
        """ID embeddings ``[n, dim]``, where there are any."""
        return None if self.ids is None else F.embedding(nodes, graph.gather(self.kind, self.ids))

    def biases_of(self, graph: MultimodalGraph, nodes: Tensor) -> Tensor:
        """Biases ``[n]``; zeros without."""
        if self.bias is None:
            return torch.zeros(nodes.shape, device=nodes.device)
        return F.embedding(nodes, graph.gather(self.kind, self.bias)[:, None]).squeeze(-1)

    def read(self, tokens: Tensor, table: Tensor, ids: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Reviews d ``[n, L, D]`` from their words ``[n, L, T]``, as nodes with these IDs read them; the words' weights alpha."""
        present = tokens > 0
        z = self.dropout(self.context(tokens, table))  # [n, L, T, D]
        if self.words is None:
            return masked_mean(z, present), None
        d, alpha = self.words(z, present, self._asking("words", ids, len(tokens))[:, None], return_weights=True)
        return d, alpha

    def pool(self, d: Tensor, present: Tensor, ids: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Vectors p ``[n, D]`` from reviews ``[n, L, D]`` of which some are there ``[n, L]``; the reviews' weights beta."""
        if self.reviews is None:
            return masked_mean(d, present), None
        p, beta = self.reviews(d, present, self._asking("reviews", ids, len(d)), return_weights=True)
        return p, beta

    def _asking(self, level: str, ids: Tensor | None, count: int) -> Tensor:
        """What the queries of one level are made of ``[n, dim]``."""
        if self.config.personalised in ("both", level):
            assert ids is not None
            return ids
        assert self.everyone is not None
        return self.everyone.expand(count, -1)


@dataclass(frozen=True)
class NRPAEncoded(Encoded):
    """Vectors and biases of users and items."""

    biases: Mapping[NodeType, Tensor]
    """Of users ``[U]`` and items ``[I]``."""


class NRPA(Recommender[RatingQuery, NRPAConfig, NRPAEncoded]):
    r"""Reads a user's reviews and an item's reviews, each word and each review weighed as this user, or this item, would.

    .. math::
        \mathbf{d}_j &= \textstyle\sum_k \alpha_k \mathbf{z}_k, \quad
        \alpha = \mathrm{softmax}_k(\mathbf{q}_w^\top \mathbf{A}_w \mathbf{z}_k) \\
        \mathbf{p}_u &= \textstyle\sum_j \beta_j \mathbf{d}_j, \quad
        \beta = \mathrm{softmax}_j(\mathbf{q}_r^\top \mathbf{A}_r \mathbf{d}_j)

    with :math:`\mathbf{z}_k` a word in its context (a convolution) and both queries made of the user's ID; items likewise, with
    parameters of their own. A factorisation machine on :math:`[\mathbf{p}_u; \mathbf{q}_i]` predicts the rating, learned by squared
    error.

    There is no released code: layers and loss are those on which two independent re-implementations agree. Deviations, for better
    predictions or for want of information: biases of users and items (``biases=False`` is the paper's form), the L2 term,
    word vectors that are learned from scratch, no term for the ratings themselves. Dropout is that of one re-implementation.

    Reviews are the attribute ``text`` of the training edges. The review of the very pair that is predicted is never read, on either
    side: in training its place is masked, and held-out reviews are no edges. So a user's reviews are encoded once a batch, as the
    words' weights do not depend on the item, and once an evaluation; a catalogue costs one matrix product.

    Raises:
        ValueError: The data set has no reviews.
    """

    def __init__(self, schema: GraphSchema, config: NRPAConfig = NRPAConfig()) -> None:
        super().__init__(schema, config)
        if not schema.num_words:
            raise ValueError("NRPA reads reviews, but the data set has none; name their column with review_column")
        self.table = embedding_table(schema.num_words - 1, config.word_dim, config.init_std)  # padding has no vector
        self.users = Reader("user", ITEM_USER, schema.num_nodes["user"], config)
        self.items = Reader("item", USER_ITEM, schema.num_nodes["item"], config)
        self.machine = FactorizationMachine(config.num_filters, factors=config.factors)
        self.offset = nn.Parameter(torch.zeros(()))  # w_0
        self._start = 0.0

    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Lets biases begin with those of the closed form, the global one with the mean rating, unless they have been learned."""
        rating = graph.attribute(USER_ITEM, "rating")
        if rating is None or bool(self.offset):
            return graph
        ends = zip(("user", "item"), graph.edges(USER_ITEM).edge_index.as_tensor(), strict=True)
        user, item = (graph.rows(kind)[end] for kind, end in ends)
        sizes = self.schema.num_nodes["user"], self.schema.num_nodes["item"]
        begin = rating_biases(user, item, rating, sizes, shrinkage=self.config.shrinkage)
        for own, value in zip((self.offset, self.users.bias, self.items.bias), begin, strict=True):
            if own is not None:
                own.data.copy_(value)
        return graph

    def begin_epoch(self, graph: MultimodalGraph, generator: torch.Generator) -> MultimodalGraph:
        """Draws which reviews are read of those who have too many; the graph stays as it is."""
        self._start = float(torch.rand((), generator=generator))
        return graph

    def encode(self, graph: MultimodalGraph) -> NRPAEncoded:
        """Vectors p ``[U, D]`` and q ``[I, D]`` from all that was written, some nodes at a time, and biases."""
        vectors, biases = dict[NodeType, Tensor](), dict[NodeType, Tensor]()
        for reader in (self.users, self.items):
            counts, order = reader.counts(graph).sort(descending=True)  # those with about as many reviews go together
            words = graph.data[reader.relation]["text"].shape[1]
            budget = CELLS // (words * self.config.num_filters)
            parts, first = [], 0
            while first < len(order):
                last = first + max(1, budget // max(1, int(counts[first])))
                parts.append(self._read(reader, graph, order[first:last], None))
                first = last
            position = order.argsort()
            vectors[reader.kind] = torch.cat(parts)[position]
            biases[reader.kind] = reader.biases_of(graph, order[position])
        return NRPAEncoded(vectors, biases)

    def score(self, encoded: NRPAEncoded, query: RatingQuery, candidates: Tensor) -> Tensor:
        """The predicted rating of every candidate."""
        users, items = F.embedding(query.user, encoded["user"]), F.embedding(candidates, encoded["item"])
        biases = encoded.biases["user"][query.user][:, None] + encoded.biases["item"][candidates]
        scores: Tensor = self.offset + biases + self.machine(users, items)
        return scores

    def loss(self, graph: MultimodalGraph, batch: Batch[RatingQuery]) -> dict[str, Tensor]:
        """Squared error, and half the squared length of the batch's ID embeddings and biases.

        Raises:
            ValueError: The batch has no ratings.
        """
        if batch.rating is None:
            raise ValueError("NRPA learns from ratings, but the batch has none; give it Batch(…, rating=…)")
        ends = (self.users, batch.query.user, batch.positive), (self.items, batch.positive, batch.query.user)
        p, q = (self._read(reader, graph, nodes, self._start, without=others) for reader, nodes, others in ends)
        biases = [reader.biases_of(graph, nodes) for reader, nodes, _ in ends]
        predicted = self.offset + sum(biases) + self.machine(p, q[:, None]).squeeze(1)
        ids = [found for reader, nodes, _ in ends if (found := reader.ids_of(graph, nodes)) is not None]
        norm = embedding_norm(*(bias[:, None] for bias in biases), *ids)
        return {"mse": F.mse_loss(predicted, batch.rating), "l2": self.config.l2 * norm}

    def _read(
        self, reader: Reader, graph: MultimodalGraph, nodes: Tensor, start: float | None, without: Tensor | None = None
    ) -> Tensor:
        """Vectors ``[B, D]`` of nodes ``[B]``, each from its reviews but for the one with the other end ``without`` ``[B]``.

        What a node reads in a review does not depend on the pair that is predicted, so it is read once for all pairs.
        """
        distinct, position = torch.unique(nodes, return_inverse=True)  # in ascending order
        chosen, ids = reader.choose(graph, distinct, start), reader.ids_of(graph, distinct)
        d, _ = reader.read(chosen.tokens, self.table, ids)
        present = (chosen.tokens > 0).any(-1)[position]
        if without is not None:
            present = present & (chosen.other[position] != without[:, None])
        d = F.embedding(position, d.flatten(1)).view(
            len(position), *d.shape[1:]
        )  # d[place] has a derivative that varies with threads
        return reader.pool(d, present, None if ids is None else F.embedding(position, ids))[0]
