"""NOR: Explainable Outfit Recommendation with Joint Outfit Matching and Comment Generation.

Y. Lin, P. Ren, Z. Chen, Z. Ren, J. Ma, M. de Rijke. IEEE TKDE 2019. https://arxiv.org/abs/1806.08977
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.abilities import Attends, GeneratesText
from gmmrec.config import check_non_negative, check_positive
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.blocks import block_rows
from gmmrec.nn.chunks import in_chunks
from gmmrec.nn.decoder.comment import CommentDecoder, Scene
from gmmrec.nn.encoder.token import TokenEncoder
from gmmrec.nn.fusion.mutual import MutualAttentionFusion
from gmmrec.nn.init import embedding_table
from gmmrec.nn.masked import masked_mean
from gmmrec.nn.tokens import Tokens
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.outfit import OutfitConfig
from gmmrec.tasks.query import Batch, OutfitQuery

CELLS = 2**21
"""Maximum number of values in a chunk of pairs: 8 MB."""

UNKNOWN = 1
"""Id of the unknown word, shared by all rare words; never generated."""


@dataclass(frozen=True)
class NORConfig(OutfitConfig):
    """Settings of NOR; the paper's are not known, the defaults are this implementation's."""

    dim: int = 64
    """Width of regions, of garments and of the matching decoder."""
    attention_hidden: int = 64
    """Hidden width of every attention."""
    mutual: bool = True
    """Weigh regions by mutual attention with the other garment; else uniformly within a garment."""
    share: bool = False
    """Share attention parameters between the given garment and the candidate."""
    use_ids: bool = False
    """Add an ID embedding to the images of a garment."""
    unit_features: bool = True
    """Scale features to unit length before projection."""
    comment_weight: float = 1.0
    """Weight of the comment loss, relative to matching; 0 removes the comment decoder."""
    word_dim: int = 64
    """Width of word vectors."""
    state_dim: int = 128
    """State width of the comment decoder."""
    init_std: float = 0.1
    """Standard deviation of the initial embeddings of ``use_ids``; 0 for Xavier uniform initialisation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(dim=self.dim, attention_hidden=self.attention_hidden, word_dim=self.word_dim, state_dim=self.state_dim)
        check_non_negative(comment_weight=self.comment_weight, init_std=self.init_std)


class Garments(NamedTuple):
    """Garments of one side, before attention to the other side."""

    tokens: Tensor
    """``[..., T, d]``."""
    present: Tensor
    """``[..., T]``."""
    ids: Tensor | None
    """``[..., d]``."""


@dataclass(frozen=True)
class NOREncoded(Encoded):
    """The projected regions of items, and their embeddings."""

    tokens: Tokens
    """The projected regions ``[n, T, d]``."""
    given: Tensor | None = None
    """Embeddings as the given garment; None without ids."""
    candidate: Tensor | None = None
    """Embeddings as the candidate; None without ids."""


class NOR(Recommender[OutfitQuery, NORConfig, NOREncoded], Attends, GeneratesText):
    r"""Outfit matching by mutual attention between garments, with a jointly trained comment decoder.

    .. math::
        \mathbf{v}_t, \mathbf{v}_b = \mathrm{mutual}(\mathbf{F}_t, \mathbf{F}_b), \qquad
        p(r_{tb}) = \mathrm{softmax} \big( \mathbf{W}_r \mathrm{ReLU}(\mathbf{W}_s \mathbf{v}_t + \mathbf{U}_s \mathbf{v}_b
            + \mathbf{b}_s) + \mathbf{b}_r \big)

    with the regions :math:`\mathbf{F}` of two images, :class:`~gmmrec.nn.fusion.mutual.MutualAttentionFusion` and
    :class:`~gmmrec.nn.decoder.comment.CommentDecoder`, which both attend to the same projected regions. The loss is the
    cross-entropy of matching and sampled pairs, plus that of the words of the comments on matching pairs.

    A RECONSTRUCTION: the modules with their inputs and outputs are known (abstract and figures of the paper); all formulas are the
    usual ones for such modules. Regions are precomputed features instead of the output of a jointly trained network. The paper has
    tops and bottoms; here the sides are the given garment and the candidate, of any kind. Outfits of several garments are an
    addition: a candidate's score is the mean of its log-odds with each of them, and a comment attends to the regions of all.
    Neither the user nor their history is used.

    Raises:
        UsageError: The items have no features at all.
    """

    def __init__(self, schema: GraphSchema, config: NORConfig = NORConfig()) -> None:
        super().__init__(schema, config)
        dim, hidden = config.dim, config.attention_hidden
        self.names = schema.modalities("item")
        if not self.names:
            raise UsageError(
                "NOR needs at least one modality of the items, but the data set has none; add a feature file, such as regions"
            )
        self.encoders = nn.ModuleList(TokenEncoder(schema.feature_dims[name], dim) for name in self.names)
        self.fuse = MutualAttentionFusion(dim, hidden=hidden, share=config.share, attend=config.mutual)
        self.given = self.candidate = None
        if config.use_ids:
            self.given, self.candidate = (embedding_table(schema.num_nodes["item"], dim, config.init_std) for _ in range(2))
        width = 2 * dim if config.use_ids else dim
        self.of_given, self.of_candidate = nn.Linear(width, dim), nn.Linear(width, dim, bias=False)  # W_s with b_s, and U_s
        self.relation = nn.Linear(dim, 2)  # W_r and b_r
        self.write = None
        if schema.num_words and config.comment_weight > 0:
            self.write = CommentDecoder(
                schema.num_words, dim, 2 * width, word_dim=config.word_dim, state_dim=config.state_dim, hidden=hidden
            )

    def encode(self, graph: MultimodalGraph) -> NOREncoded:
        """Return the projected regions of all items, ``I x T x dim`` values; ``item``, their mean, is for comparing items."""
        tokens = self._tokens(graph)
        ids = (None if table is None else graph.gather("item", table) for table in (self.given, self.candidate))
        return NOREncoded({"item": masked_mean(tokens.values, tokens.present)}, tokens, *ids)

    def score(self, encoded: NOREncoded, query: OutfitQuery, candidates: Tensor) -> Tensor:
        """Log-odds of a match, ``ln p(r = 1) - ln p(r = 0)``, averaged over the garments of the outfit; 0 for an empty outfit.

        For one garment, its sigmoid is the probability of a match. Outfits are generated by a softmax over candidates with scores
        as logits: with uniform negatives, the odds are proportional to how often a candidate occurs with a garment.
        """
        line, column = query.outfit_mask.nonzero(as_tuple=True)
        given, position = query.outfit[line, column], None
        if candidates.dim() == 1:  # each distinct garment is scored against all candidates once
            given, position = given.unique(return_inverse=True)
        count = query.outfit_mask.sum(1, keepdim=True).clamp(min=1)
        left = self._side(encoded, given, "given")

        def score(part: slice) -> Tensor:
            rows = candidates[..., part]
            logits = self._all_pairs(left, encoded, rows) if position is not None else self._own_pairs(left, encoded, rows[line])
            odds = logits[..., 1] - logits[..., 0]
            odds = odds if position is None else odds[position]
            return odds.new_zeros(len(query), rows.shape[-1]).index_add(0, line, odds) / count

        num_tokens, width = left.tokens.shape[1:]
        cells = 2 * num_tokens * (1 if candidates.dim() == 1 else self.config.attention_hidden) + 2 * width
        return in_chunks(score, candidates.shape[-1], block_rows(CELLS, max(len(given), len(query)) * cells))

    def loss(self, graph: MultimodalGraph, batch: Batch[OutfitQuery]) -> dict[str, Tensor]:
        """Cross-entropy of pairs and that of the words of comments, both divided by the number of queries.

        Only the batch's items are projected, once each. A missing comment contributes no loss.
        """
        query, positions = batch.query, torch.cat([batch.query.outfit, batch.candidates], 1)
        rows, position = positions.unique(return_inverse=True)
        tables = (None if table is None else graph.gather("item", table) for table in (self.given, self.candidate))
        ids = (None if table is None else F.embedding(rows, table) for table in tables)
        encoded = NOREncoded({}, self._tokens(graph, rows), *ids)
        outfit, candidates = position.split([query.outfit.shape[1], batch.candidates.shape[1]], dim=1)
        line, column = query.outfit_mask.nonzero(as_tuple=True)
        left = self._side(encoded, outfit[line, column], "given")
        logits = self._own_pairs(left, encoded, candidates[line])  # [n, 1 + K, 2]
        matches = torch.zeros(logits.shape[:2], dtype=torch.long, device=logits.device)
        matches[:, 0] = 1
        losses = F.cross_entropy(logits.flatten(0, 1), matches.flatten(), reduction="none").view_as(matches).sum(1)
        shares = 1 / query.outfit_mask.sum(1).clamp(min=1)  # all garments of an outfit together count as one query
        terms = {"matching": (losses * shares[line]).sum() / len(query)}
        if self.write is not None:
            comment = terms["matching"].new_zeros(())
            if batch.text is not None:
                has_comment = (batch.text.any(1) & query.outfit_mask.any(1)).nonzero().flatten()
                scene = self._scene(encoded, outfit[has_comment], query.outfit_mask[has_comment], candidates[has_comment, 0])
                comment = self.write(scene, batch.text[has_comment]).sum() / len(query)
            terms["comment"] = self.config.comment_weight * comment
        return terms

    def attention(self, encoded: NOREncoded, query: OutfitQuery, items: Tensor) -> dict[str, Tensor]:
        """Return the weight of each region in the match of an outfit and an item, by modality.

        Args:
            encoded: What ``encode`` returned.
            query: B outfits.
            items: One item per outfit ``[B]``.

        Returns:
            Weights in the item, averaged over the garments of the outfit, ``[B, T]``, or ``[B]`` for a modality of one token; all
            modalities sum to 1. Under ``user:NAME``, weights in the outfit ``[B, L T]``, garment by garment; they sum to 1 too.
        """
        tokens, mask = encoded.tokens, query.outfit_mask
        line, column = mask.nonzero(as_tuple=True)
        left, right = tokens.at(query.outfit[line, column]), tokens.at(items[line])
        _, (left_weights, right_weights) = self.fuse(left.values, right.values, left.present, right.present, return_weights=True)
        shares = (1 / mask.sum(1).clamp(min=1))[line].unsqueeze(1)
        item = right_weights.new_zeros(len(query), right_weights.shape[1]).index_add(0, line, shares * right_weights)
        outfit = left_weights.new_zeros(*mask.shape, left_weights.shape[1])
        outfit[line, column] = shares * left_weights
        attention = {}
        for name, part in zip(self.names, item.split(tokens.sizes, dim=1), strict=True):
            attention[name] = part.squeeze(1) if part.shape[1] == 1 else part
        for name, part in zip(self.names, outfit.split(tokens.sizes, dim=2), strict=True):
            attention[f"user:{name}"] = part.flatten(1)
        return attention

    def comment(self, encoded: NOREncoded, query: OutfitQuery, items: Tensor, max_words: int = 30, width: int = 3) -> Tensor:
        """Generate comments on outfits and items by beam search; the unknown word is never generated.

        Args:
            encoded: What ``encode`` returned.
            query: B outfits, none of them empty.
            items: One item per outfit ``[B]``.
            max_words: Maximum number of words.
            width: Beam width; 1 for greedy decoding.

        Returns:
            Word ids ``[B, max_words]``, as in ``run.words``; 0 after the last word.

        Raises:
            UsageError: The model was not trained on comments.
        """
        scene = self._scene(encoded, query.outfit, query.outfit_mask, items)
        return self._writer.search(scene, max_words, width=width, forbidden=[UNKNOWN]).chosen[:, 0].clamp(min=0)

    def image_attention(self, encoded: NOREncoded, query: OutfitQuery, items: Tensor, text: Tensor) -> Tensor:
        """Return the decoder's attention before every word of comments ``[B, W]``.

        Returns:
            ``[B, W, (L + 1) T]``: over the regions of the outfit's L garments and of the item; each map sums to 1.

        Raises:
            UsageError: The model was not trained on comments.
        """
        return self._writer.image_attention(self._scene(encoded, query.outfit, query.outfit_mask, items), text)

    @property
    def can_comment(self) -> bool:
        """True if the model can generate comments."""
        return self.write is not None

    @property
    def _writer(self) -> CommentDecoder:
        if self.write is None:
            raise UsageError("NOR has no comment decoder; train it on outfits with text and a comment_weight greater than 0")
        return self.write

    def _tokens(self, graph: MultimodalGraph, rows: Tensor | None = None) -> Tokens:
        """Projected regions of all items, or of ``rows``."""
        parts = []
        for name, encoder in zip(self.names, self.encoders, strict=True):
            table = graph.features[name]
            values = encoder(table.values, rows, table.lengths if self.config.unit_features else None)
            parts.append((values, table.mask if rows is None else table.mask[rows]))
        return Tokens.joined(parts)

    def _side(self, encoded: NOREncoded, rows: Tensor, side: Literal["given", "candidate"]) -> Garments:
        """Items in rows ``[...]`` as the ``given`` garment or as the ``candidate``."""
        tokens = encoded.tokens.at(rows)
        ids = encoded.given if side == "given" else encoded.candidate
        return Garments(tokens.values, tokens.present, None if ids is None else F.embedding(rows, ids))

    def _own_pairs(self, left: Garments, encoded: NOREncoded, candidates: Tensor) -> Tensor:
        """Logits ``[n, C, 2]`` of n garments with their own candidates ``[n, C]``."""
        right = self._side(encoded, candidates, "candidate")
        one, other = self.fuse(left.tokens.unsqueeze(1), right.tokens, left.present.unsqueeze(1), right.present)
        ids = None if left.ids is None else left.ids.unsqueeze(1)
        return self._logits(_joined(one, ids), _joined(other, right.ids))

    def _all_pairs(self, left: Garments, encoded: NOREncoded, candidates: Tensor) -> Tensor:
        """Logits ``[n, C, 2]`` of n garments with shared candidates ``[C]``."""
        right = self._side(encoded, candidates, "candidate")
        one, other = self.fuse.pairs(left.tokens, right.tokens, left.present, right.present)
        ids = None if left.ids is None else left.ids.unsqueeze(1)
        return self._logits(_joined(one, ids), _joined(other, right.ids))

    def _logits(self, given: Tensor, candidates: Tensor) -> Tensor:
        """Matching decoder: logits of two classes, the second of which is a match."""
        logits: Tensor = self.relation(F.relu(self.of_given(given) + self.of_candidate(candidates)))
        return logits

    def _scene(self, encoded: NOREncoded, outfit: Tensor, mask: Tensor, items: Tensor) -> Scene:
        """Input of the comment decoder: regions of outfits ``[B, L]`` and items ``[B]``, and the mutually attended vectors."""
        line, column = mask.nonzero(as_tuple=True)
        left, right = self._side(encoded, outfit[line, column], "given"), self._side(encoded, items[line], "candidate")
        pair = self.fuse(left.tokens, right.tokens, left.present, right.present)
        views = torch.cat([_joined(pair[0], left.ids), _joined(pair[1], right.ids)], 1) / mask.sum(1)[line].unsqueeze(1)
        summary = views.new_zeros(len(outfit), views.shape[1]).index_add(0, line, views)
        garments, item = self._side(encoded, outfit, "given"), self._side(encoded, items, "candidate")
        present = (garments.present & mask.unsqueeze(2)).flatten(1)
        return Scene(summary, [garments.tokens.flatten(1, 2), item.tokens], [present, item.present])


def _joined(vectors: Tensor, ids: Tensor | None) -> Tensor:
    """Image vectors, concatenated with ID embeddings if there are any."""
    return vectors if ids is None else torch.cat([vectors, ids.expand(*vectors.shape[:-1], -1)], dim=-1)
