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
"""Name of the main learner, that of the item IDs; the others have the names of the modalities."""

STAGES = {"generate": "generator", "fuse": "fusion"}
"""The stage that a part of the model learns in; all other parts are learners."""

TASKS = 64
"""Users that adapt at once when scores are asked for: each has weights of its own for as long."""


class Items(NamedTuple):
    """Items as M learners see them, the main one first.

    Attributes:
        vectors: ``[n, M, d]``, less the learner's mean vector; zeros where an item is not in its world.
        present: ``[n, M]``; the main learner knows all.
        side: What the attention bias is made of ``[n, d]``, zeros without features.
    """

    vectors: Tensor
    present: Tensor
    side: Tensor


@dataclass(frozen=True)
class MMLEncoded(Encoded):
    """All items (see :class:`Items`); mean ``[M, d]`` and covariance ``[M, d, d]`` of those with training interactions."""

    present: Tensor
    side: Tensor
    mean: Tensor
    covariance: Tensor


class MML(Recommender[HistoryQuery, MMLConfig, MMLEncoded], Attends, WarmStarts, ReadsHistories, FeatureBased, StandardizesScores):
    """Learners that adapt to a user within a few steps: one on item IDs, one on every modality; attention weighs their rankings.

    A learner is a causal Transformer over a history. Its layers and positions are fast: a few gradient steps on the transitions
    inside a history fit them to the user; the tables and projections behind them are slow, and learn across users (MAML). The main
    learner looks at item IDs, with an attention bias towards items of like features; the others at projected features. An item that
    nobody has taken yet gets an ID embedding made of its features and of its neighbours'.

    The text of the paper was not open to us; equations are those of the released code. Its stages, learners, then generator, then
    fusion, are three runs, or by default terms of one loss: no term's gradient reaches what another one trains. Deviations from
    that code, and what is reconstructed, are listed in the documentation. An item without a modality is not there for its learner,
    whose score for it is an average one; a learner that knows no item of a history has no say in the answer.

    Raises:
        ValueError: The items have no features at all.
    """

    def __init__(self, schema: GraphSchema, config: MMLConfig = MMLConfig()) -> None:
        super().__init__(schema, config)
        self.names = schema.modalities("item")
        if not self.names:
            raise ValueError(
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
        """Learners that stand still answer as when they are asked: without dropout."""
        super().train(mode)
        self.learners.train(mode and self.config.stage in ("all", "learners"))
        return self

    def start_from(self, source: AnyRecommender) -> bool:
        """Takes over all weights of a run of MML on the same data, an earlier stage; of other models their vectors of items."""
        if not isinstance(source, MML):
            return False
        theirs = source.state_dict()
        if {name: x.shape for name, x in self.state_dict().items()} != {name: x.shape for name, x in theirs.items()}:
            raise ValueError("the run of init_from has other items, features, sizes or parts; fit all stages on the same data")
        self.load_state_dict(theirs)
        return True

    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Joins every item to those that are nearest by a modality and have training interactions."""
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
        """Items by learner, side by side: ``item`` ``[I, M d]``, less the mean of those with training interactions."""
        vectors, present, side = self._items(graph)
        seen = trained(graph)
        if self.generate is not None:
            new = (~seen).nonzero().flatten()
            if len(new):
                made, exists = self._generated(graph, new)
                ids = vectors[:, :1].index_copy(0, new[exists], made[exists].unsqueeze(1))
                vectors = torch.cat([ids, vectors[:, 1:]], dim=1)
        mean, covariance = masked_moments(vectors, present & seen[:, None])
        centred = hide_missing(vectors - mean, present)
        return MMLEncoded({"item": centred.flatten(1)}, present, side, mean, covariance)

    def score(self, encoded: MMLEncoded, query: HistoryQuery, candidates: Tensor) -> Tensor:
        """Every learner adapts to the history; their scores, each standardised over all items, are added up by attention.

        Since scores are inner products, mean and covariance of the items say how they are spread, and no learner has to score all
        of them: a weighted sum of standardised scores is one inner product of vectors M times as wide.
        """
        wanted, _ = self._ask(encoded, query)
        return inner_product(wanted, F.embedding(candidates, encoded["item"]))

    def loss(self, graph: MultimodalGraph, batch: Batch[HistoryQuery]) -> dict[str, Tensor]:
        """BPR of every learner at its adapted weights; the fusion's cross-entropy over all items; the generator's BPR."""
        c, stage = self.config, self.config.stage
        with torch.no_grad():
            encoded = self.encode(graph)
        if stage == "fusion":  # the learners adapt as they do when they are asked
            return {"fusion": self._fusion_loss(encoded, self._ask(encoded, batch.query)[0], batch.positive)}
        items, mask = self._newest(batch.query)
        length = items.shape[1]
        rows, position = torch.cat([items, batch.candidates], dim=1).unique(return_inverse=True)
        raw = self._items(graph, rows)
        world = raw._replace(vectors=hide_missing(raw.vectors - encoded.mean, raw.present))
        history, negative = position[:, :length], position[:, length + 1 :]
        following = torch.cat([history[:, 1:], position[:, length : length + 1]], dim=1)
        asked = mask & (torch.arange(length - 1, -1, -1, device=mask.device) < self._num_asked(mask))
        terms, states, known = {}, [], []
        for m, name in enumerate((INTERACTION, *self.names) if stage != "generator" else ()):
            episode = self._episode(m, world, encoded.mean[m], history, following, mask)
            state = self._states(m, encoded, episode, mask & ~asked, c.inner_steps, c.inner_lr)
            against = F.embedding(negative, world.vectors[:, m]), world.present[negative, m]
            terms[f"bpr_{name}"] = self._ranking(state, episode, asked, *against)
            states.append(state.detach())
            known.append(episode.known[:, -1])
        if self.fuse is not None and stage == "all":
            terms["fusion"] = self._fusion_loss(encoded, self._wanted(encoded, states, known)[0], batch.positive)
        if self.generate is not None and self.config.replace_prob > 0 and stage != "learners":
            terms["generator"] = self._generator_loss(graph, encoded.mean[0], world, rows, position, mask, asked)
        return terms

    def attention(self, encoded: MMLEncoded, query: HistoryQuery, items: Tensor) -> dict[str, Tensor]:
        """How much every learner counts ``[B]``, by modality and ``interaction``, whatever the items; all sum to 1."""
        return dict(zip((INTERACTION, *self.names), self._ask(encoded, query)[1].unbind(1), strict=True))

    def _ask(self, encoded: MMLEncoded, query: HistoryQuery) -> tuple[Tensor, Tensor]:
        """What every user would be pleased with, to be compared with ``item``, ``[B, M d]``; and the learners' weights."""
        items, mask = self._newest(query)
        c, learners = self.config, len(self.learners)
        world = Items(encoded["item"].unflatten(1, (learners, c.dim)), encoded.present, encoded.side)

        def some(users: Tensor, width: int) -> Tensor:
            history, there = items[users, -width:], mask[users, -width:]
            following = torch.cat([history[:, 1:], history[:, -1:]], dim=1)  # nothing is known to come after the last
            support = there & (torch.arange(width, device=there.device) < width - 1)
            states, known = [], []
            for m in range(learners):
                episode = self._episode(m, world, encoded.mean[m], history, following, there)
                states.append(self._states(m, encoded, episode, support, c.adapt_steps, c.adapt_lr))
                known.append(episode.known[:, -1])
            return torch.cat(self._wanted(encoded, states, known), dim=1)

        wanted, weights = encode_by_length(some, mask, rows=TASKS).split([learners * c.dim, learners], dim=1)
        return wanted, weights

    def _states(self, m: int, encoded: MMLEncoded, episode: Episode, support: Tensor, steps: int, lr: float) -> Tensor:
        """States ``[B, L, d]`` of learner m when it has adapted to the transitions at positions ``support`` ``[B, L]``."""
        steps, order = steps * self.config.meta, self.config.first_order
        states: Tensor = self.learners[m](episode, support, encoded.covariance[m], steps=steps, lr=lr, first_order=order)
        return states

    def _wanted(self, encoded: MMLEncoded, states: list[Tensor], known: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The learners' last states, each by its weight and less the spread of its scores ``[B, M d]``; the weights ``[B, M]``."""
        together, present = torch.stack(states, dim=1), torch.stack(known, dim=1)  # [B, M, L, d] and [B, M]
        last = together[:, :, -1]
        spread = (torch.einsum("bmd,mde,bme->bm", last, encoded.covariance, last) + LEAST_VARIANCE).sqrt()
        if self.fuse is None:
            weights = masked_softmax(torch.zeros_like(spread), present)
        else:
            missing = self.config.max_length - together.shape[2]
            weights = self.fuse.weights(F.pad(together, (0, 0, missing, 0)).flatten(2), present)
        return ((weights / spread).unsqueeze(-1) * last).flatten(1), weights

    def _fusion_loss(self, encoded: MMLEncoded, wanted: Tensor, positive: Tensor) -> Tensor:
        """Mean cross-entropy of the right items ``[B]`` among all."""
        everything = encoded["item"]
        return classify(wanted, everything, everything.new_zeros(len(everything)), positive).mean()

    def _generator_loss(
        self, graph: MultimodalGraph, mean: Tensor, world: Items, rows: Tensor, position: Tensor, mask: Tensor, asked: Tensor
    ) -> Tensor:
        """The main learner's BPR with some embeddings exchanged for made ones; all but the generator stands still."""
        length = mask.shape[1]
        vectors = F.embedding(position, world.vectors[:, 0].detach())  # [B, L + 1 + K, d]
        exchanged = torch.rand(position.shape, device=position.device) < self.config.replace_prob
        exchanged[0, length] |= ~exchanged.any()
        some, which = position[exchanged].unique(return_inverse=True)
        made, exists = self._generated(graph, rows[some])
        new = torch.where(exists.unsqueeze(-1), made - mean, world.vectors[some, 0].detach())
        vectors = vectors.index_put(exchanged.nonzero(as_tuple=True), new[which])
        tokens, negative = hide_missing(vectors[:, :length] + mean, mask), vectors[:, length + 1 :]
        bias = self._bias(F.embedding(position[:, :length], world.side.detach()))
        episode = Episode(tokens, mask, vectors[:, 1 : length + 1], mask, bias)
        main: nn.Module = self.learners[0].transformer  # type: ignore[assignment]
        frozen = {name: weight.detach() for name, weight in main.named_parameters()}
        states = functional_call(main, frozen, (tokens, mask), {"bias": bias})
        return self._ranking(states, episode, asked, negative, torch.ones_like(negative[..., 0], dtype=torch.bool))

    def _ranking(self, states: Tensor, episode: Episode, asked: Tensor, negative: Tensor, exists: Tensor) -> Tensor:
        """Mean over users of their BPR at positions ``asked`` ``[B, L]``, against vectors ``[B, K, d]`` that exist ``[B, K]``."""
        late = slice(-self.config.num_queries, None)
        states, pairs = states[:, late], (asked & episode.learnable & episode.known)[:, late, None] & exists[:, None]  # [B, Q, K]
        positive = (states * episode.following[:, late]).sum(-1, keepdim=True)
        losses = (F.softplus(states @ negative.mT - positive) * pairs).sum((1, 2))
        number = pairs.sum((1, 2))
        return (losses / number.clamp(min=1)).sum() / (number > 0).sum().clamp(min=1)

    def _episode(self, m: int, world: Items, mean: Tensor, history: Tensor, following: Tensor, mask: Tensor) -> Episode:
        """What learner m sees where users took items ``history`` ``[B, L]`` and after each of them ``following`` ``[B, L]``."""
        mask = mask & world.present[history, m]
        tokens = hide_missing(F.embedding(history, world.vectors[:, m]) + mean, mask)
        bias = self._bias(F.embedding(history, world.side)) if m == 0 else None
        return Episode(tokens, mask, F.embedding(following, world.vectors[:, m]), world.present[following, m], bias)

    def _bias(self, side: Tensor) -> Tensor | None:
        """How alike the items of a history are by their features ``[B, L, L]``."""
        return None if self.side is None else self.config.bias_scale * (side @ side.mT)

    def _items(self, graph: MultimodalGraph, rows: Tensor | None = None) -> Items:
        """All items, or rows of them; vectors as the tables and projections give them."""
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
        there = torch.stack(present, dim=1)
        if self.side is not None:
            side = side + hide_missing(self.side_offset.expand_as(side), there[:, 1:].any(1))
            side = side.detach() if self.config.detach_bias else side
        return Items(hide_missing(torch.stack(vectors, dim=1), there), there, side)

    def _generated(self, graph: MultimodalGraph, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings made for rows, and for which of them there are any."""
        assert self.generate is not None
        features = [self._features(graph, name) for name in self.names]
        present = [graph.features[name].present for name in self.names]
        relations = [Relation(graph.edges(nearest_known(name)).edge_index) for name in self.names]
        made: tuple[Tensor, Tensor] = self.generate(features, present, relations, rows)
        return made

    def _features(self, graph: MultimodalGraph, name: str) -> Tensor:
        return graph.features[name].unit if self.config.unit_features else graph.features[name].pooled

    def _newest(self, query: HistoryQuery) -> tuple[Tensor, Tensor]:
        """Items and mask of a history, not longer than there are positions."""
        return query.items[:, -self.config.max_length :], query.mask[:, -self.config.max_length :]

    def _num_asked(self, mask: Tensor) -> Tensor:
        """How many of a user's transitions are asked for ``[B, 1]``; at most half of them, since the others teach."""
        return ((mask.sum(1, keepdim=True) + 1) // 2).clamp(max=self.config.num_queries)


def nearest_known(name: str) -> EdgeType:
    """The item graph of one modality: from items with training interactions to those that are most like them."""
    return ("item", f"nearest_known_{name}", "item")


def trained(graph: MultimodalGraph) -> Tensor:
    """Which items have training interactions, and a row in the table of IDs ``[I]``."""
    return (graph.degree("item") > 0) & (graph.rows("item") >= 0)
