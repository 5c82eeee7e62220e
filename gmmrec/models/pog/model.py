"""POG: Personalized Outfit Generation for Fashion Recommendation at Alibaba iFashion.

W. Chen, P. Huang, J. Xu, X. Guo, C. Guo, F. Sun, C. Li, A. Pfadler, H. Zhao, B. Zhao. KDD 2019. https://arxiv.org/abs/1905.01866
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.abilities import ReadsHistories, ScoresCompatibility, StopsOutfits, WarmStarts
from gmmrec.config import check_literals, check_non_negative, check_positive, check_probability
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.models.pog.triplet import draw_triplets, triplet_margin
from gmmrec.nn.fusion.set_attention import SetAttention
from gmmrec.nn.init import embedding_table
from gmmrec.nn.masked import hide_missing, masked_mean
from gmmrec.nn.sequence.context_decoder import ContextDecoder
from gmmrec.nn.sequence.transformer import Recency
from gmmrec.recommender import AnyRecommender, Encoded, Recommender
from gmmrec.tasks.outfit import OutfitConfig
from gmmrec.tasks.query import Batch, OutfitQuery

REFERENCE = 4096
"""Maximum number of items that normalise the probabilities of compatibility scores."""
ANCHORS = 1024
"""Maximum number of triplets per step."""


@dataclass(frozen=True)
class POGConfig(OutfitConfig):
    """Settings of POG; the paper's sizes are not known, the defaults are this implementation's, for thousands of items."""

    dim: int = 64
    """Width of item vectors."""
    hidden_dim: int = 64
    """Width of the networks."""
    num_layers: int = 2
    """Number of layers of every network."""
    num_heads: int = 4
    """Number of heads of every attention."""
    dropout: float = 0.1
    """Dropout probability in all networks."""
    learn: Literal["outfits", "items"] = "outfits"
    """Training stage; ``items`` is the first, in which triplets pull item vectors of the same category together."""
    personal: bool = True
    """Condition outfit generation on the user's history; else the model is the paper's FOM, which predicts a masked item from all
    others and needs no user."""
    ids: bool = True
    """Add an ID embedding to the features of trained items, instead of the collaborative vector that the paper takes from another
    system."""
    score_space: Literal["item", "model"] = "item"
    """Space in which predictions are compared: item vectors, or their images under the network's first layers."""
    attention: Literal["self", "mean"] = "self"
    """Self-attention, or means of the outfit and of the history without any attention."""
    positions: bool = False
    """Add recency positions to the history."""
    repeats: bool = False
    """Add a learned bonus, one scalar, to items in the user's history; an addition, for shops with repeat purchases."""
    shuffle: bool = True
    """Shuffle the items of a training outfit each time; else keep the order of the data."""
    freeze_items: bool = False
    """Freeze the item vectors loaded from an earlier stage."""
    category: str = "category"
    """Modality whose largest value gives an item's category; used in this way by ``items`` alone."""
    margin: float = 0.1
    """Margin of the triplet loss."""
    init_std: float = 0.1
    """Standard deviation of the initial item vectors; 0 for Xavier initialisation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(dim=self.dim, hidden_dim=self.hidden_dim, num_layers=self.num_layers, num_heads=self.num_heads)
        check_probability(dropout=self.dropout)
        check_non_negative(margin=self.margin, init_std=self.init_std)
        check_literals(self)
        if self.attention == "mean" and self.score_space == "model":
            raise UsageError("score_space 'model' compares with layers that attention 'mean' does not have; set score_space: item")


@dataclass(frozen=True)
class POGEncoded(Encoded):
    """Vectors of items."""

    target: Tensor
    """Vectors that predictions are compared with, one row per item."""


class POG(Recommender[OutfitQuery, POGConfig, POGEncoded], ScoresCompatibility, StopsOutfits, WarmStarts, ReadsHistories):
    """Personalised outfit generation, item by item, for compatibility and for the user's taste.

    Trained in three stages, each a run from which the next one starts (``init_from``): item vectors (``learn: items``); FOM, which
    predicts a masked item of an outfit from all others (``personal: false``); and POG, which encodes a user's clicks and generates
    an outfit from the first item to the last. Every stage can also be trained from scratch.

    Reconstructed: the authors released data but no code. The networks and what they attend to, outfits without positions, the three
    stages and the softmax over candidates are the paper's; sizes, layer equations (the standard Transformer's), distance and margin
    of the triplets, and the candidates of the softmax (all items in the batch and the negatives) are not known. Additions: a
    missing modality contributes nothing to an item; ID embeddings are off for untrained items; a training example of POG is an
    outfit in random order; the next item is predicted at a masked position after the items so far, as in FOM, so that POG is
    initialised as its FOM; ``repeats``.
    """

    def __init__(self, schema: GraphSchema, config: POGConfig = POGConfig()) -> None:
        super().__init__(schema, config)
        modalities, dim, width = schema.modalities("item"), config.dim, config.hidden_dim
        if not modalities and not config.ids:
            raise UsageError("POG needs item features or ids, but the data set has no features and ids is false; set ids: true")
        if config.learn == "items" and config.category not in modalities:
            raise UsageError(
                f"learn: items needs the modality {config.category!r} with item categories, but the data set has "
                f"{', '.join(modalities) or 'none'}; set category, or skip this stage"
            )
        maps = {name: nn.Linear(schema.feature_dims[name], dim, bias=False) for name in modalities}
        odd = {name for name in modalities if not name or "." in name or name in dir(nn.ModuleDict())}  # no names of modules
        self.embed = nn.ModuleDict({f"_{n}" if name in odd else name: maps[name] for n, name in enumerate(modalities)})
        self.bias = nn.Parameter(torch.zeros(dim)) if modalities else None  # b_e
        self.items = embedding_table(schema.num_nodes["item"], dim, config.init_std) if config.ids else None
        sizes: dict[str, Any] = {"num_layers": config.num_layers, "num_heads": config.num_heads, "in_dim": dim}
        out = dim if config.score_space == "item" else width
        self.fom = self.per = self.gen = self.guess = self.taste = self.recency = self.again = None
        if config.learn == "items":
            return
        if config.attention == "mean":
            self.guess = nn.Linear(dim, dim)
            self.taste = nn.Linear(dim, dim, bias=False) if config.personal else None
            return
        if not config.personal:
            self.fom = SetAttention(width, out_dim=out, dropout=config.dropout, **sizes)
            return
        self.per = SetAttention(width, out_dim=width, dropout=config.dropout, hides=False, **sizes)
        self.gen = ContextDecoder(width, out_dim=out, dropout=config.dropout, **sizes)
        self.recency = Recency(config.max_length, dim) if config.positions else None
        self.again = nn.Parameter(torch.zeros(())) if config.repeats else None
        self.start = nn.Parameter(nn.init.normal_(torch.empty(dim), std=dim**-0.5))
        self.end = nn.Parameter(nn.init.normal_(torch.empty(out), std=out**-0.5))

    def start_from(self, source: AnyRecommender) -> bool:
        """Load item vectors and networks of an earlier stage; FOM's network initialises outfit generation."""
        if not isinstance(source, POG):
            raise UsageError(f"pog starts from an earlier stage of pog, but init_from is a run of {type(source).__name__}")
        loaded, parameters = dict(source.named_parameters()), dict(self.named_parameters())
        shared = [name for name in parameters if name.partition(".")[0] in ("embed", "bias", "items")]
        if source.fom is None or self.gen is None:
            shared = [name for name in parameters if name in loaded or name in shared]
        if any(name not in loaded or loaded[name].shape != parameters[name].shape for name in shared):
            raise UsageError("init_from is a run with other items, features or widths; give both the same data and the same sizes")
        with torch.no_grad():
            for name in shared:
                parameters[name].copy_(loaded[name])
            if source.fom is not None and self.gen is not None:
                self.gen.take_over(source.fom)
                self.start.copy_(loaded["fom.unknown"])
        return True

    @property
    def history_length(self) -> int:
        """Longest history."""
        return self.config.max_length

    def encode(self, graph: MultimodalGraph) -> POGEncoded:
        """Return item vectors, and the targets that predictions are compared with."""
        items = self._vectors(graph, None)
        return POGEncoded({"item": items}, self._targets(items))

    def score(self, encoded: POGEncoded, query: OutfitQuery, candidates: Tensor) -> Tensor:
        """Inner product of the predicted completion with the candidates, plus the bonus of repeats."""
        prediction, targets = self._completion(encoded["item"], query), F.embedding(candidates, encoded.target)
        scores = prediction @ targets.t() if candidates.dim() == 1 else (targets @ prediction.unsqueeze(-1)).squeeze(-1)
        return scores + self._repeats(query, candidates)

    def stop_score(self, encoded: POGEncoded, query: OutfitQuery) -> Tensor | None:
        """Score the end of the outfit ``[B]``; None for a model that does not predict the end."""
        return None if self.gen is None else self._completion(encoded["item"], query) @ self.end

    def compatibility(self, encoded: POGEncoded, query: OutfitQuery) -> Tensor:
        """Compute the mean log probability of each outfit's items, given all others, ``[B]``.

        Probabilities are normalised over at most ``REFERENCE`` items, evenly spaced in the catalogue.
        """
        row, column = query.outfit_mask.nonzero(as_tuple=True)
        others, held_out, num_items = query.without(row, column), query.outfit[row, column], len(encoded.target)
        reference = torch.linspace(0, num_items - 1, min(num_items, REFERENCE), device=held_out.device).long()
        log_prob = self.score(encoded, others, held_out[:, None])[:, 0] - self.score(encoded, others, reference).logsumexp(-1)
        return log_prob.new_zeros(len(query)).index_add_(0, row, log_prob) / query.outfit_mask.sum(1).clamp(min=1)

    def loss(self, graph: MultimodalGraph, batch: Batch[OutfitQuery]) -> dict[str, Tensor]:
        """Log loss of the masked item (FOM), or of every next one and of the end (POG); triplet loss in the first stage."""
        query = batch.query
        padding = batch.positive[:, None].expand_as(query.outfit)
        padded = torch.where(query.outfit_mask, query.outfit, padding)
        rows, position = torch.unique(torch.cat([batch.positive[:, None], padded, batch.negative], 1), return_inverse=True)
        items = self._vectors(graph, rows)  # candidates of the softmax
        if self.config.learn == "items":
            return {"triplet": self._triplets(graph, rows, items)}
        positive, outfit = position[:, 0], position[:, 1 : 1 + padded.shape[1]]
        history = None
        if query.history is not None and self.config.personal:
            distinct, inverse = torch.unique(query.history, return_inverse=True)
            history = F.embedding(inverse, self._vectors(graph, distinct))
        targets = self._targets(items)
        if self.gen is not None:
            return {"log_loss": self._next_items(items, targets, outfit, positive, query, history, self._repeats(query, rows))}
        prediction = self._predict(F.embedding(outfit, items), query.outfit_mask, history, query.history_mask)
        logits = (prediction @ targets.t()).masked_fill(_members(outfit, query.outfit_mask, len(rows)), -torch.inf)
        return {"log_loss": F.cross_entropy(logits, positive)}

    def _next_items(
        self,
        items: Tensor,
        targets: Tensor,
        outfit: Tensor,
        positive: Tensor,
        query: OutfitQuery,
        history: Tensor | None,
        bonus: Tensor | float,
    ) -> Tensor:
        """Mean log loss over outfits and over their steps, the end included; earlier items of an outfit are not candidates."""
        outfit, mask = left_pad(outfit, query.outfit_mask, shuffle=self.config.shuffle)
        whole = torch.cat([outfit, positive[:, None]], 1)
        present = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        predictions, mask = self._generate(F.embedding(whole, items), present, history, query.history_mask)
        logits = predictions @ torch.cat([targets, self.end[None]]).t()  # [B, 1 + L, candidates + 1]
        if isinstance(bonus, Tensor):
            logits = logits + F.pad(bonus, (0, 1)).unsqueeze(1)
        logits = logits.masked_fill(_earlier(whole, present, logits.shape[-1]), -torch.inf)
        labels = torch.cat([whole, torch.full_like(positive, len(targets))[:, None]], 1)
        losses = F.cross_entropy(logits[mask], labels[mask], reduction="none")
        return losses @ (1 / mask.sum(1, keepdim=True)).expand_as(mask)[mask] / len(mask)

    def _triplets(self, graph: MultimodalGraph, rows: Tensor, items: Tensor) -> Tensor:
        table = graph.features[self.config.category]
        kind = torch.where(table.present, table.pooled.argmax(1), -1)[rows]
        anchor, same, other = draw_triplets(kind, ANCHORS)
        if not anchor.numel():
            return items.sum() * 0
        return triplet_margin(items[anchor], items[same], items[other], self.config.margin)

    def _vectors(self, graph: MultimodalGraph, rows: Tensor | None) -> Tensor:
        """Stage 1: W_e [x_img ; x_txt ; x_cf] + b_e of ``rows``, or of all items; missing modalities contribute nothing."""

        def take(table: Tensor) -> Tensor:
            return table if rows is None else F.embedding(rows, table)

        names = self.schema.modalities("item")
        parts = [embed(take(graph.features[name].unit)) for name, embed in zip(names, self.embed.values(), strict=True)]
        if self.bias is not None:
            parts.append(self.bias)
        if self.items is not None:
            parts.append(hide_missing(take(graph.gather("item", self.items)), take(graph.degree("item")[:, None])[:, 0] > 0))
        items = torch.stack(torch.broadcast_tensors(*parts)).sum(0)
        return items.detach() if self.config.freeze_items else items

    def _targets(self, items: Tensor) -> Tensor:
        network = self.fom or self.gen
        return items if self.config.score_space == "item" or network is None else network.transition(items)

    def _completion(self, items: Tensor, query: OutfitQuery) -> Tensor:
        """Predicted vector of the item that completes each outfit ``[B, d]``."""
        outfit, mask = left_pad(query.outfit, query.outfit_mask)
        history = None if query.history is None or not self.config.personal else F.embedding(query.history, items)
        return self._predict(F.embedding(outfit, items), mask, history, query.history_mask)

    def _predict(self, outfit: Tensor, mask: Tensor, history: Tensor | None, history_mask: Tensor | None) -> Tensor:
        """Prediction ``[B, d]`` from vectors of the outfit ``[B, L, d]`` and of the history."""
        if self.gen is not None:
            return self._generate(outfit, mask, history, history_mask)[0][:, -1]
        if self.fom is not None:
            hidden = mask.new_ones(len(mask), 1)
            tokens = torch.cat([outfit, outfit.new_zeros(len(mask), 1, outfit.shape[-1])], 1)
            present, replace = torch.cat([mask, hidden], 1), torch.cat([torch.zeros_like(mask), hidden], 1)
            return torch.as_tensor(self.fom(tokens, present, replace))[:, -1]
        mean = masked_mean(outfit, mask)
        if self.guess is None:  # the first stage compares items
            return mean
        prediction: Tensor = self.guess(mean)
        if self.taste is not None and history is not None:
            prediction = prediction + self.taste(masked_mean(history, history_mask))
        return prediction

    def _generate(self, outfit: Tensor, mask: Tensor, history: Tensor | None, history_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Predictions after the start and after every item ``[B, 1 + L, d]``, and their mask; outfits are left-padded."""
        assert self.gen is not None
        assert self.per is not None
        if history is None or history_mask is None:
            history, history_mask = outfit[:, :0], mask[:, :0]
        history, history_mask = history[:, -self.config.max_length :], history_mask[:, -self.config.max_length :]
        positioned = history if self.recency is None else history + self.recency(history.shape[1])
        context = torch.as_tensor(self.per(positioned, history_mask))
        length = mask.shape[1]
        steps_mask = torch.arange(length + 1, device=mask.device) >= (~mask).sum(1, keepdim=True)
        tokens = torch.cat([outfit, self.start.expand(len(mask), length + 1, -1)], 1)
        visible = behind(length, device=mask.device)
        outputs = self.gen(tokens, torch.cat([mask, steps_mask], 1), context, history_mask, visible=visible)[0]
        return outputs[:, length:], steps_mask

    def _repeats(self, query: OutfitQuery, candidates: Tensor) -> Tensor | float:
        """Bonus ``[B, C]`` of the candidates ``[C]`` or ``[B, C]`` that are in the history."""
        if self.again is None or query.history is None or query.history_mask is None:
            return 0.0
        history, mask = query.history[:, -self.config.max_length :], query.history_mask[:, -self.config.max_length :]
        if candidates.dim() == 2:
            return self.again * ((candidates.unsqueeze(2) == history.unsqueeze(1)) & mask.unsqueeze(1)).any(2)
        rows, order = candidates.sort()
        position = torch.searchsorted(rows, history.contiguous()).clamp(max=len(rows) - 1)
        return self.again * _members(position, mask & (rows[position] == history), len(rows))[:, order.argsort()]


def behind(length: int, device: torch.device | None = None) -> Tensor:
    """Return the attention mask over the items of an outfit, then the masked positions after its first 0, 1, ..., all items.

    An item attends to itself and to earlier items; a masked position attends to itself and to the items before it.

    >>> behind(2).int()
    tensor([[1, 0, 0, 0, 0],
            [1, 1, 0, 0, 0],
            [0, 0, 1, 0, 0],
            [1, 0, 0, 1, 0],
            [1, 1, 0, 0, 1]], dtype=torch.int32)
    """
    items = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    none = items.new_zeros(1, length)
    positions = torch.eye(length + 1, dtype=torch.bool, device=device)
    return torch.cat([F.pad(items, (0, length + 1)), torch.cat([torch.cat([none, items]), positions], 1)])


def left_pad(items: Tensor, mask: Tensor, *, shuffle: bool = False) -> tuple[Tensor, Tensor]:
    """Move missing items ``[B, L]`` to the left, keeping the order of the others, or shuffling them.

    >>> left_pad(torch.tensor([[5, 0, 7]]), torch.tensor([[True, False, True]]))
    (tensor([[0, 5, 7]]), tensor([[False,  True,  True]]))
    """
    key = torch.rand(mask.shape, device=mask.device) if shuffle else torch.zeros(mask.shape, device=mask.device)
    order = torch.where(mask, key, -1.0).argsort(dim=1, stable=True)
    return items.gather(1, order), mask.gather(1, order)


def _members(outfit: Tensor, mask: Tensor, size: int) -> Tensor:
    """Mask of the ``size`` candidates in each outfit ``[B, size]``; positions ``[B, L]`` outside ``mask`` are ignored."""
    members = mask.new_zeros(len(mask), size + 1)
    return members.scatter_(1, outfit.masked_fill(~mask, size), True)[:, :size]


def _earlier(whole: Tensor, mask: Tensor, size: int) -> Tensor:
    """Mask of the ``size`` candidates used before each step ``[B, 1 + L, size]``."""
    steps = torch.arange(whole.shape[1] + 1, device=whole.device)
    before = mask[:, None, :] & (steps[:-1] < steps[:, None])
    used = mask.new_zeros(len(whole), len(steps), size + 1)
    return used.scatter_(2, whole[:, None, :].masked_fill(~before, size), True)[..., :size]
