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
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
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
"""Numbers a chunk of pairs may hold at once: 8 MB."""

UNKNOWN = 1
"""The word that stands for all rare ones; it is never said."""


@dataclass(frozen=True)
class NORConfig(OutfitConfig):
    """Settings of NOR; the paper's are not known, these are ours."""

    dim: int = 64
    """Width of regions, of garments and of the matching decoder."""
    attention_hidden: int = 64
    """Width of the hidden layer of every attention."""
    mutual: bool = True
    """Whether regions are weighed in the light of the other garment; else all of a garment count alike when it is matched."""
    share: bool = False
    """Whether the given garment and the candidate are attended to with the same parameters."""
    use_ids: bool = False
    """Whether garments have embeddings of their own beside their pictures."""
    unit_features: bool = True
    """Whether features are brought to length 1 before they are projected."""
    comment_weight: float = 1.0
    """Weight of the comments beside the matching; 0 leaves the decoder of comments out."""
    word_dim: int = 64
    """Width of a word."""
    state_dim: int = 128
    """Width of the state of the decoder of comments."""
    init_std: float = 0.1
    """Standard deviation of the initial embeddings of ``use_ids``; 0 for Xavier's uniform values."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(dim=self.dim, attention_hidden=self.attention_hidden, word_dim=self.word_dim, state_dim=self.state_dim)
        check_non_negative(comment_weight=self.comment_weight, init_std=self.init_std)


class Garments(NamedTuple):
    """Some garments of one side, as far as they do not depend on the other."""

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
    """The same as the candidate."""


class NOR(Recommender[OutfitQuery, NORConfig, NOREncoded], Attends, GeneratesText):
    r"""Garments look at each other, and a decoder of comments has to say what it sees in the two of them.

    .. math::
        \mathbf{v}_t, \mathbf{v}_b = \mathrm{mutual}(\mathbf{F}_t, \mathbf{F}_b), \qquad
        p(r_{tb}) = \mathrm{softmax} \big( \mathbf{W}_r \mathrm{ReLU}(\mathbf{W}_s \mathbf{v}_t + \mathbf{U}_s \mathbf{v}_b
            + \mathbf{b}_s) + \mathbf{b}_r \big)

    with the regions :math:`\mathbf{F}` of two pictures, :class:`~gmmrec.nn.fusion.mutual.MutualAttentionFusion` and
    :class:`~gmmrec.nn.decoder.comment.CommentDecoder`, which both look at the same projected regions. The loss is the cross-entropy
    of matching pairs and drawn ones, and that of the words of the comments on matching pairs.

    A RECONSTRUCTION: known are the parts, what goes into each and what comes out (abstract and figures of the paper); all formulas
    are the usual ones for such parts. Regions come from given features in place of a network that is trained along. The paper has
    tops and bottoms; here the sides are the given garment and the candidate, whatever they are. An outfit of several garments is
    ours: a candidate's score is the mean of its log-odds beside each of them, and a comment sees the regions of them all. Neither
    the user nor their history is asked.

    Raises:
        ValueError: The items have no features at all.
    """

    def __init__(self, schema: GraphSchema, config: NORConfig = NORConfig()) -> None:
        super().__init__(schema, config)
        dim, hidden = config.dim, config.attention_hidden
        self.names = schema.modalities("item")
        if not self.names:
            raise ValueError(
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
        """The projected regions of all items, ``I x T x dim`` numbers; ``item``, their mean, is for comparing items."""
        tokens = self._tokens(graph)
        ids = (None if table is None else graph.gather("item", table) for table in (self.given, self.candidate))
        return NOREncoded({"item": masked_mean(tokens.values, tokens.present)}, tokens, *ids)

    def score(self, encoded: NOREncoded, query: OutfitQuery, candidates: Tensor) -> Tensor:
        """Log-odds of a match, ``ln p(r = 1) - ln p(r = 0)``, on average over the garments of the outfit; 0 beside no garment.

        Its sigmoid is the chance beside one garment. Outfits are put together by a softmax over candidates, which takes scores for
        logits: where negatives are drawn evenly, odds are in proportion to how often a candidate is found beside a garment.
        """
        line, column = query.outfit_mask.nonzero(as_tuple=True)
        given, position = query.outfit[line, column], None
        if candidates.dim() == 1:  # every garment meets all candidates once, in however many outfits it is
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
        held = 2 * num_tokens * (1 if candidates.dim() == 1 else self.config.attention_hidden) + 2 * width
        return in_chunks(score, candidates.shape[-1], CELLS // max(1, max(len(given), len(query)) * held))

    def loss(self, graph: MultimodalGraph, batch: Batch[OutfitQuery]) -> dict[str, Tensor]:
        """Cross-entropy of pairs and that of the words of comments, both divided by the number of questions.

        Only the batch's items are projected, once each. A comment that is missing costs nothing.
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
        surprise = F.cross_entropy(logits.flatten(0, 1), matches.flatten(), reduction="none").view_as(matches).sum(1)
        shares = 1 / query.outfit_mask.sum(1).clamp(min=1)  # several garments of an outfit are one question
        terms = {"matching": (surprise * shares[line]).sum() / len(query)}
        if self.write is not None:
            comment = terms["matching"].new_zeros(())
            if batch.text is not None:
                written = (batch.text.any(1) & query.outfit_mask.any(1)).nonzero().flatten()
                scene = self._scene(encoded, outfit[written], query.outfit_mask[written], candidates[written, 0])
                comment = self.write(scene, batch.text[written]).sum() / len(query)
            terms["comment"] = self.config.comment_weight * comment
        return terms

    def attention(self, encoded: NOREncoded, query: OutfitQuery, items: Tensor) -> dict[str, Tensor]:
        """How much each region counts when an outfit and an item are matched, by modality.

        Args:
            encoded: What ``encode`` returned.
            query: B outfits.
            items: The item beside each ``[B]``.

        Returns:
            Of the item, on average over the garments of the outfit, ``[B, T]``, or ``[B]`` where a modality is one token; all
            modalities sum to 1. Under ``user:NAME`` the same of the outfit ``[B, L T]``, garment by garment; they sum to 1 too.
        """
        tokens, mask = encoded.tokens, query.outfit_mask
        line, column = mask.nonzero(as_tuple=True)
        left, right = tokens.at(query.outfit[line, column]), tokens.at(items[line])
        _, (of_left, of_right) = self.fuse(left.values, right.values, left.present, right.present, return_weights=True)
        shares = (1 / mask.sum(1).clamp(min=1))[line].unsqueeze(1)
        seen = of_right.new_zeros(len(query), of_right.shape[1]).index_add(0, line, shares * of_right)
        outfit = of_left.new_zeros(*mask.shape, of_left.shape[1])
        outfit[line, column] = shares * of_left
        found = {}
        for name, part in zip(self.names, seen.split(tokens.sizes, dim=1), strict=True):
            found[name] = part.squeeze(1) if part.shape[1] == 1 else part
        for name, part in zip(self.names, outfit.split(tokens.sizes, dim=2), strict=True):
            found[f"user:{name}"] = part.flatten(1)
        return found

    def comment(self, encoded: NOREncoded, query: OutfitQuery, items: Tensor, max_words: int = 30, width: int = 3) -> Tensor:
        """What is said about these outfits and items: the likeliest text that is found; the unknown word is never said.

        Args:
            encoded: What ``encode`` returned.
            query: B outfits, none of them empty.
            items: The item beside each ``[B]``.
            max_words: Where to stop at the latest.
            width: Texts that are followed at once; 1 takes the likeliest word at every place.

        Returns:
            Word ids ``[B, max_words]``, as in ``dataset.reviews.words``; 0 behind the last.

        Raises:
            ValueError: The model has learned from no comments.
        """
        scene = self._scene(encoded, query.outfit, query.outfit_mask, items)
        return self._writer.search(scene, max_words, width=width, forbidden=[UNKNOWN]).chosen[:, 0].clamp(min=0)

    def image_attention(self, encoded: NOREncoded, query: OutfitQuery, items: Tensor, text: Tensor) -> Tensor:
        """Where the decoder looks before every word of comments ``[B, W]``.

        Returns:
            ``[B, W, (L + 1) T]``: over the regions of the outfit's L garments and of the item; each map sums to 1.

        Raises:
            ValueError: The model has learned from no comments.
        """
        return self._writer.image_attention(self._scene(encoded, query.outfit, query.outfit_mask, items), text)

    @property
    def can_comment(self) -> bool:
        """Whether it has learned to write comments."""
        return self.write is not None

    @property
    def _writer(self) -> CommentDecoder:
        if self.write is None:
            raise ValueError("NOR has no decoder of comments; train it on outfits with text and a comment_weight greater than 0")
        return self.write

    def _tokens(self, graph: MultimodalGraph, rows: Tensor | None = None) -> Tokens:
        """All items' projected regions, or those of ``rows``."""
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
        """Logits ``[n, C, 2]`` of n garments beside candidates ``[n, C]`` each."""
        right = self._side(encoded, candidates, "candidate")
        one, other = self.fuse(left.tokens.unsqueeze(1), right.tokens, left.present.unsqueeze(1), right.present)
        ids = None if left.ids is None else left.ids.unsqueeze(1)
        return self._logits(_joined(one, ids), _joined(other, right.ids))

    def _all_pairs(self, left: Garments, encoded: NOREncoded, candidates: Tensor) -> Tensor:
        """Logits ``[n, C, 2]`` of n garments beside the same candidates ``[C]``."""
        right = self._side(encoded, candidates, "candidate")
        one, other = self.fuse.pairs(left.tokens, right.tokens, left.present, right.present)
        ids = None if left.ids is None else left.ids.unsqueeze(1)
        return self._logits(_joined(one, ids), _joined(other, right.ids))

    def _logits(self, given: Tensor, candidates: Tensor) -> Tensor:
        """Matching decoder: two classes, the second of which is a match."""
        logits: Tensor = self.relation(F.relu(self.of_given(given) + self.of_candidate(candidates)))
        return logits

    def _scene(self, encoded: NOREncoded, outfit: Tensor, mask: Tensor, items: Tensor) -> Scene:
        """What a comment is about: the regions of outfits ``[B, L]`` and of items ``[B]``, and both as they look to each other."""
        line, column = mask.nonzero(as_tuple=True)
        left, right = self._side(encoded, outfit[line, column], "given"), self._side(encoded, items[line], "candidate")
        pair = self.fuse(left.tokens, right.tokens, left.present, right.present)
        views = torch.cat([_joined(pair[0], left.ids), _joined(pair[1], right.ids)], 1) / mask.sum(1)[line].unsqueeze(1)
        summary = views.new_zeros(len(outfit), views.shape[1]).index_add(0, line, views)
        garments, item = self._side(encoded, outfit, "given"), self._side(encoded, items, "candidate")
        present = (garments.present & mask.unsqueeze(2)).flatten(1)
        return Scene(summary, [garments.tokens.flatten(1, 2), item.tokens], [present, item.present])


def _joined(vectors: Tensor, ids: Tensor | None) -> Tensor:
    """Vectors of pictures with those of ids behind them, where there are such."""
    return vectors if ids is None else torch.cat([vectors, ids.expand(*vectors.shape[:-1], -1)], dim=-1)
