"""MML: Multimodal Meta-Learning for Cold-Start Sequential Recommendation.

X. Pan, Y. Chen, C. Tian, Z. Lin, J. Wang, H. Hu, W. X. Zhao. CIKM 2022. https://doi.org/10.1145/3511808.3557101
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from typing_extensions import Self

from gmmrec.abilities import Attends, FeatureBased, ReadsHistories, StandardizesScores, WarmStarts
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.models.mml.adaptive import AdaptiveTransformer, Episode
from gmmrec.models.mml.config import MMLConfig
from gmmrec.models.mml.neighbour_generator import NeighbourEmbeddingGenerator
from gmmrec.models.mml.prediction import LEAST_VARIANCE, PredictionAttentionFusion
from gmmrec.nn.classify import classify
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.nn.encoder.content import ContentEncoder
from gmmrec.nn.init import embedding_table
from gmmrec.nn.masked import hide_missing, masked_moments, masked_softmax
from gmmrec.nn.nearest import knn_edges_to_pool
from gmmrec.nn.project import project_rows
from gmmrec.nn.relations import Relation
from gmmrec.nn.sequence.transformer import SequenceTransformer, encode_by_length
from gmmrec.recommender import AnyRecommender, Encoded, Recommender
from gmmrec.tasks.query import Batch, HistoryQuery
from gmmrec.typing import EdgeType

INTERACTION = "interaction"
"""Name of the main learner, on item IDs; the others are named after their modalities."""

STAGES = {"generate": "generator", "fuse": "fusion"}
"""Stage in which a submodule is trained; all other submodules are learners."""

TASKS = 64
"""Number of users adapted at once in scoring; each needs its own copy of the weights."""


class Items(NamedTuple):
    """Items by learner, M of them, the main one first.

    Attributes:
        vectors: ``[n, M, d]``, less the learner's mean vector; zeros where the modality is missing.
        present: ``[n, M]``; True for all items in the main learner.
        side: Feature vectors of the attention bias ``[n, d]``, zeros without features.
    """

    vectors: Tensor
    present: Tensor
    side: Tensor


@dataclass(frozen=True)
class MMLEncoded(Encoded):
    """Items by learner, and their mean and covariance."""

    present: Tensor
    """Mask of the items present in each learner ``[I, M]``."""
    side: Tensor
    """Feature vectors of the attention bias ``[I, d]``."""
    mean: Tensor
    """Mean over items with training interactions, by learner ``[M, d]``."""
    covariance: Tensor
    """Covariance over these items ``[M, d, d]``, which yields the variance of a state's scores."""


class MML(Recommender[HistoryQuery, MMLConfig, MMLEncoded], Attends, WarmStarts, ReadsHistories, FeatureBased, StandardizesScores):
    """Meta-learned sequential recommender: one learner on item IDs, one per modality, fused by attention over their scores.

    A learner is a causal Transformer over a history. Its layers and positions are fast weights: a few gradient steps on the
    transitions inside a history adapt them to the user; the tables and projections are slow weights, trained across users (MAML).
    The main learner reads item IDs, with an attention bias towards items of similar features; the others read projected features. A
    cold item gets an ID embedding generated from its features and those of its neighbours.

    The text of the paper was not accessible; equations are those of the released code. Its stages, learners, then generator, then
    fusion, are three runs, or by default terms of one loss: no term's gradient reaches the weights that another one trains.
    Deviations from that code, and reconstructions, are listed in the documentation. A learner skips items that lack its modality,
    and scores them at its mean; a learner without any item of a history has weight 0.

    Raises:
        UsageError: The items have no features at all.
    """

    def __init__(self, schema: GraphSchema, config: MMLConfig = MMLConfig()) -> None:
        super().__init__(schema, config)
        self.names = schema.modalities("item")
        if not self.names:
            raise UsageError(
                "MML needs at least one modality of the items, but the data set has none; add a feature file or use bert4rec"
            )
        dims, c = [schema.feature_dims[name] for name in self.names], config
        self.items = embedding_table(schema.num_nodes["item"], c.dim, c.init_std)
        self.project = nn.ModuleList(ContentEncoder(width, c.dim, num_layers=0) for width in dims)
        self.side = None
        if c.bias_scale > 0:
            self.side = nn.ParameterList(embedding_table(c.dim, width, c.init_std) for width in dims)
            self.side_offset = nn.Parameter(torch.zeros(c.dim))
        sizes: dict[str, Any] = {"num_layers": c.num_layers, "num_heads": c.num_heads, "ffn_mult": c.ffn_mult}
        rates: dict[str, Any] = {"dropout": c.dropout, "attention_dropout": c.dropout, "init_std": c.init_std}
        self.learners = nn.ModuleList(
            AdaptiveTransformer(SequenceTransformer(c.dim, c.max_length, causal=True, **sizes, **rates))
            for _ in (INTERACTION, *self.names)
        )
        self.generate = NeighbourEmbeddingGenerator(dims, c.dim) if c.generator else None
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=c.init_std)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        self.fuse = None
        if c.fusion == "attention":
            self.fuse = PredictionAttentionFusion(c.max_length * c.dim, (c.fusion_hidden,), normalize="none")
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(c.stage in ("all", STAGES.get(name.partition(".")[0], "learners")))

    def train(self, mode: bool = True) -> Self:
        """Set the training mode; frozen learners stay in evaluation mode, without dropout."""
        super().train(mode)
        self.learners.train(mode and self.config.stage in ("all", "learners"))
        return self

    def start_from(self, source: AnyRecommender) -> bool:
        """Load all weights of an earlier stage on the same data; of other models, only item vectors (return False)."""
        if not isinstance(source, MML):
            return False
        weights = source.state_dict()
        if {name: x.shape for name, x in self.state_dict().items()} != {name: x.shape for name, x in weights.items()}:
            raise UsageError("the run of init_from has other items, features, sizes or modules; fit all stages on the same data")
        self.load_state_dict(weights)
        return True

    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Add edges to every item from its nearest neighbours by each modality, among items with training interactions."""
        if self.generate is None:
            return graph
        for name in self.names:
            present = graph.features[name].present
            edges = knn_edges_to_pool(self._features(graph, name), present, present & trained(graph), self.config.knn)
            graph = graph.with_edges(nearest_known(name), edges)
        return graph

    @property
    def history_length(self) -> int:
        """Longest history."""
        return self.config.max_length

    def encode(self, graph: MultimodalGraph) -> MMLEncoded:
        """Return items by learner, concatenated: ``item`` ``[I, M d]``, less the mean of those with training interactions."""
        vectors, present, side = self._items(graph)
        is_trained = trained(graph)
        if self.generate is not None:
            new = (~is_trained).nonzero().flatten()
            if len(new):
                generated, exists = self._generate(graph, new)
                ids = vectors[:, :1].index_copy(0, new[exists], generated[exists].unsqueeze(1))
                vectors = torch.cat([ids, vectors[:, 1:]], dim=1)
        mean, covariance = masked_moments(vectors, present & is_trained[:, None])
        centred = hide_missing(vectors - mean, present)
        return MMLEncoded({"item": centred.flatten(1)}, present, side, mean, covariance)

    def score(self, encoded: MMLEncoded, query: HistoryQuery, candidates: Tensor) -> Tensor:
        """Adapt every learner to the history and sum their scores, standardised over all items, with attention weights.

        As scores are inner products, the mean and covariance of the items give the mean and variance of their scores, so no learner
        has to score all items: a weighted sum of standardised scores is one inner product of vectors M times as wide.
        """
        vectors, _ = self._query_vectors(encoded, query)
        return inner_product(vectors, F.embedding(candidates, encoded["item"]))

    def loss(self, graph: MultimodalGraph, batch: Batch[HistoryQuery]) -> dict[str, Tensor]:
        """BPR of every learner with its adapted weights; the fusion's cross-entropy over all items; the generator's BPR."""
        c, stage = self.config, self.config.stage
        with torch.no_grad():
            encoded = self.encode(graph)
        if stage == "fusion":  # learners adapt as in scoring
            return {"fusion": self._fusion_loss(encoded, self._query_vectors(encoded, batch.query)[0], batch.positive)}
        items, mask = self._newest(batch.query)
        length = items.shape[1]
        rows, position = torch.cat([items, batch.candidates], dim=1).unique(return_inverse=True)
        raw = self._items(graph, rows)
        centred = raw._replace(vectors=hide_missing(raw.vectors - encoded.mean, raw.present))
        history, negative = position[:, :length], position[:, length + 1 :]
        following = torch.cat([history[:, 1:], position[:, length : length + 1]], dim=1)
        is_query = mask & (torch.arange(length - 1, -1, -1, device=mask.device) < self._num_queries(mask))
        terms, states, known = {}, [], []
        for m, name in enumerate((INTERACTION, *self.names) if stage != "generator" else ()):
            episode = self._episode(m, centred, encoded.mean[m], history, following, mask)
            state = self._states(m, encoded, episode, mask & ~is_query, c.inner_steps, c.inner_lr)
            negatives = F.embedding(negative, centred.vectors[:, m]), centred.present[negative, m]
            terms[f"bpr_{name}"] = self._ranking_loss(state, episode, is_query, *negatives)
            states.append(state.detach())
            known.append(episode.known[:, -1])
        if self.fuse is not None and stage == "all":
            terms["fusion"] = self._fusion_loss(encoded, self._fused_states(encoded, states, known)[0], batch.positive)
        if self.generate is not None and self.config.replace_prob > 0 and stage != "learners":
            terms["generator"] = self._generator_loss(graph, encoded.mean[0], centred, rows, position, mask, is_query)
        return terms

    def attention(self, encoded: MMLEncoded, query: HistoryQuery, items: Tensor) -> dict[str, Tensor]:
        """Return every learner's weight ``[B]``, by modality and ``interaction``, the same for all items; they sum to 1."""
        return dict(zip((INTERACTION, *self.names), self._query_vectors(encoded, query)[1].unbind(1), strict=True))

    def _query_vectors(self, encoded: MMLEncoded, query: HistoryQuery) -> tuple[Tensor, Tensor]:
        """Query vectors ``[B, M d]``, to be compared with ``item``, and the learners' weights ``[B, M]``."""
        items, mask = self._newest(query)
        c, learners = self.config, len(self.learners)
        all_items = Items(encoded["item"].unflatten(1, (learners, c.dim)), encoded.present, encoded.side)

        def fused(users: Tensor, width: int) -> Tensor:
            history, present = items[users, -width:], mask[users, -width:]
            following = torch.cat([history[:, 1:], history[:, -1:]], dim=1)  # the last entry is a dummy: its next item is unknown
            support = present & (torch.arange(width, device=present.device) < width - 1)
            states, known = [], []
            for m in range(learners):
                episode = self._episode(m, all_items, encoded.mean[m], history, following, present)
                states.append(self._states(m, encoded, episode, support, c.adapt_steps, c.adapt_lr))
                known.append(episode.known[:, -1])
            return torch.cat(self._fused_states(encoded, states, known), dim=1)

        vectors, weights = encode_by_length(fused, mask, rows=TASKS).split([learners * c.dim, learners], dim=1)
        return vectors, weights

    def _states(self, m: int, encoded: MMLEncoded, episode: Episode, support: Tensor, steps: int, lr: float) -> Tensor:
        """States ``[B, L, d]`` of learner m, adapted to the transitions in the mask ``support`` ``[B, L]``."""
        steps, order = steps * self.config.meta, self.config.first_order
        states: Tensor = self.learners[m](episode, support, encoded.covariance[m], steps=steps, lr=lr, first_order=order)
        return states

    def _fused_states(self, encoded: MMLEncoded, states: list[Tensor], known: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The learners' last states, times weight over standard deviation of scores ``[B, M d]``, and the weights ``[B, M]``."""
        stacked, present = torch.stack(states, dim=1), torch.stack(known, dim=1)  # [B, M, L, d] and [B, M]
        last = stacked[:, :, -1]
        deviation = (torch.einsum("bmd,mde,bme->bm", last, encoded.covariance, last) + LEAST_VARIANCE).sqrt()
        if self.fuse is None:
            weights = masked_softmax(torch.zeros_like(deviation), present)
        else:
            missing = self.config.max_length - stacked.shape[2]
            weights = self.fuse.weights(F.pad(stacked, (0, 0, missing, 0)).flatten(2), present)
        return ((weights / deviation).unsqueeze(-1) * last).flatten(1), weights

    def _fusion_loss(self, encoded: MMLEncoded, query_vectors: Tensor, positive: Tensor) -> Tensor:
        """Mean cross-entropy of the positives ``[B]`` among all items."""
        items = encoded["item"]
        return classify(query_vectors, items, items.new_zeros(len(items)), positive).mean()

    def _generator_loss(
        self, graph: MultimodalGraph, mean: Tensor, items: Items, rows: Tensor, position: Tensor, mask: Tensor, is_query: Tensor
    ) -> Tensor:
        """The main learner's BPR with some embeddings replaced by generated ones; all but the generator is frozen."""
        length = mask.shape[1]
        vectors = F.embedding(position, items.vectors[:, 0].detach())  # [B, L + 1 + K, d]
        replaced = torch.rand(position.shape, device=position.device) < self.config.replace_prob
        replaced[0, length] |= ~replaced.any()
        distinct, inverse = position[replaced].unique(return_inverse=True)
        generated, exists = self._generate(graph, rows[distinct])
        new = torch.where(exists.unsqueeze(-1), generated - mean, items.vectors[distinct, 0].detach())
        vectors = vectors.index_put(replaced.nonzero(as_tuple=True), new[inverse])
        tokens, negative = hide_missing(vectors[:, :length] + mean, mask), vectors[:, length + 1 :]
        bias = self._bias(F.embedding(position[:, :length], items.side.detach()))
        episode = Episode(tokens, mask, vectors[:, 1 : length + 1], mask, bias)
        main: nn.Module = self.learners[0].transformer  # type: ignore[assignment]
        frozen = {name: weight.detach() for name, weight in main.named_parameters()}
        states = functional_call(main, frozen, (tokens, mask), {"bias": bias})
        return self._ranking_loss(states, episode, is_query, negative, torch.ones_like(negative[..., 0], dtype=torch.bool))

    def _ranking_loss(self, states: Tensor, episode: Episode, is_query: Tensor, negative: Tensor, exists: Tensor) -> Tensor:
        """Mean over users of BPR at query positions (mask ``[B, L]``), against negatives ``[B, K, d]`` present in ``[B, K]``."""
        last = slice(-self.config.num_queries, None)
        states, pairs = (
            states[:, last],
            (is_query & episode.learnable & episode.known)[:, last, None] & exists[:, None],
        )  # [B, Q, K]
        positive = (states * episode.following[:, last]).sum(-1, keepdim=True)
        losses = (F.softplus(states @ negative.mT - positive) * pairs).sum((1, 2))
        number = pairs.sum((1, 2))
        return (losses / number.clamp(min=1)).sum() / (number > 0).sum().clamp(min=1)

    def _episode(self, m: int, items: Items, mean: Tensor, history: Tensor, following: Tensor, mask: Tensor) -> Episode:
        """Input of learner m: histories ``[B, L]``, and the next item after every position, ``following`` ``[B, L]``."""
        mask = mask & items.present[history, m]
        tokens = hide_missing(F.embedding(history, items.vectors[:, m]) + mean, mask)
        bias = self._bias(F.embedding(history, items.side)) if m == 0 else None
        return Episode(tokens, mask, F.embedding(following, items.vectors[:, m]), items.present[following, m], bias)

    def _bias(self, side: Tensor) -> Tensor | None:
        """Attention bias ``[B, L, L]``: feature similarity between the items of a history."""
        return None if self.side is None else self.config.bias_scale * (side @ side.mT)

    def _items(self, graph: MultimodalGraph, rows: Tensor | None = None) -> Items:
        """All items, or those in ``rows``; vectors of the tables and projections, not centred."""
        ids = graph.gather("item", self.items)
        vectors = [ids if rows is None else F.embedding(rows, ids)]
        present = [torch.ones_like(vectors[0][:, 0], dtype=torch.bool)]
        side = torch.zeros_like(vectors[0])
        for m, name in enumerate(self.names):
            features, exists = self._features(graph, name), graph.features[name].present
            exists = exists if rows is None else exists[rows]
            vectors.append(self.project[m](features, rows))
            present.append(exists)
            if self.side is not None:
                side = side + hide_missing(project_rows(features, rows, self.side[m]), exists)
        mask = torch.stack(present, dim=1)
        if self.side is not None:
            side = side + hide_missing(self.side_offset.expand_as(side), mask[:, 1:].any(1))
            side = side.detach() if self.config.detach_bias else side
        return Items(hide_missing(torch.stack(vectors, dim=1), mask), mask, side)

    def _generate(self, graph: MultimodalGraph, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Generate embeddings for ``rows``, with the mask of rows that have one."""
        assert self.generate is not None
        features = [self._features(graph, name) for name in self.names]
        present = [graph.features[name].present for name in self.names]
        relations = [Relation(graph.edges(nearest_known(name)).edge_index) for name in self.names]
        generated: tuple[Tensor, Tensor] = self.generate(features, present, relations, rows)
        return generated

    def _features(self, graph: MultimodalGraph, name: str) -> Tensor:
        return graph.features[name].unit if self.config.unit_features else graph.features[name].pooled

    def _newest(self, query: HistoryQuery) -> tuple[Tensor, Tensor]:
        """Items and mask of a history, cut to ``max_length``."""
        return query.items[:, -self.config.max_length :], query.mask[:, -self.config.max_length :]

    def _num_queries(self, mask: Tensor) -> Tensor:
        """Number of a user's query transitions ``[B, 1]``; at most half, the others are the support set."""
        return ((mask.sum(1, keepdim=True) + 1) // 2).clamp(max=self.config.num_queries)


def nearest_known(name: str) -> EdgeType:
    """Return the edge type of a modality's item graph: from items with training interactions to items nearest to them."""
    return ("item", f"nearest_known_{name}", "item")


def trained(graph: MultimodalGraph) -> Tensor:
    """Return the mask of items with training interactions and a row in the ID table ``[I]``."""
    return (graph.degree("item") > 0) & (graph.rows("item") >= 0)
