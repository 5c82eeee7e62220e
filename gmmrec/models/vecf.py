"""VECF: Personalized Fashion Recommendation with Visual Explanations based on Multimodal Attention Network.

X. Chen, H. Chen, H. Xu, Y. Zhang, Y. Cao, Z. Qin, H. Zha. SIGIR 2019. https://doi.org/10.1145/3331184.3331254
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.abilities import Attends, GeneratesText, IgnoresFeatures
from gmmrec.config import check_literals, check_non_negative, check_positive
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.blocks import block_rows
from gmmrec.nn.chunks import in_chunks
from gmmrec.nn.decoder.factorization_machine import FactorizationMachine
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.nn.decoder.mlp import MLPDecoder
from gmmrec.nn.decoder.text import TextDecoder
from gmmrec.nn.encoder.token import TokenEncoder
from gmmrec.nn.fusion.mean import uniform_weights
from gmmrec.nn.fusion.region import RegionFusion, VisualMerge
from gmmrec.nn.init import embedding_table
from gmmrec.nn.masked import masked_mean
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import Batch, UserQuery

UNKNOWN = 1
"""Id of the unknown word."""

CELLS = 2**22
"""Maximum number of values in a chunk of pairs: 16 MB."""


@dataclass(frozen=True)
class VECFConfig:
    """Settings of VECF; forms are those of the released code, sizes are this implementation's where the code has several."""

    dim: int = 64
    """Width of embeddings and regions."""
    regions: str | None = None
    """Modality whose tokens are the regions; None for ``regions``, or else all tokens of all modalities together."""
    attention: Literal["product", "additive", "mean"] = "product"
    """User attention over the regions, with two layers or one, or uniform weights."""
    attention_hidden: int = 10
    """Hidden width of the attention."""
    merge: Literal["mul", "add", "concat"] = "mul"
    """Merge of an item's embedding with its image; with ``concat`` each has half of ``dim``."""
    scale: float | None = None
    """Factor of the image in the merge; None for 1 with ``mul`` and 0.5 otherwise."""
    image: bool = True
    """Use the image in the score; without it, the attention is trained by reviews alone."""
    predictor: Literal["mlp", "dot", "fm"] = "mlp"
    """MLP with sigmoids, inner product, or factorisation machine."""
    hidden: int = 64
    """Hidden width of the MLP; ranking time grows with its square."""
    num_layers: int = 5
    """Number of layers of the MLP."""
    review_weight: float = 0.01
    """Weight of the review loss, beta; 0 for none."""
    cell: Literal["gru", "lstm"] = "gru"
    """Recurrent cell of the review decoder: that of the paper's figure, or of the released code."""
    vocabulary: int = 5000
    """Rows of the word table, for the most frequent words; other words are unknown. Training time on reviews grows with them."""
    word_dim: int = 64
    """Width of word vectors."""
    state_dim: int = 100
    """Width of the recurrent state."""
    context_dim: int = 50
    """Width of the context that the gate mixes for every word."""
    l2: float = 1e-4
    """Weight of the L2 term on all embeddings, in the batch or not, at every step."""
    init_std: float = 0.1
    """Standard deviation of the initial embeddings; 0 for Xavier uniform initialisation."""

    def __post_init__(self) -> None:
        check_positive(dim=self.dim, attention_hidden=self.attention_hidden, hidden=self.hidden, num_layers=self.num_layers)
        check_positive(vocabulary=self.vocabulary, word_dim=self.word_dim, state_dim=self.state_dim, context_dim=self.context_dim)
        check_non_negative(review_weight=self.review_weight, l2=self.l2, init_std=self.init_std)
        check_literals(self)
        if self.vocabulary <= UNKNOWN:
            raise UsageError(f"vocabulary must be at least 2, for padding and the unknown word, but is {self.vocabulary}")
        if self.merge == "concat" and self.dim < 2:
            raise UsageError("merge 'concat' halves dim, so dim must be at least 2, but is 1")


class Items(NamedTuple):
    """User-independent tensors of n items; None for those that the model does not have."""

    ids: Tensor
    """Embeddings ``[n, d]``; zeros without training interactions."""
    merged: Tensor
    """The embedding merged with each region ``[n, R, d]``, or with their mean ``[n, 1, d]`` under uniform weights."""
    regions: Tensor | None = None
    """``[n, R, d]``."""
    present: Tensor | None = None
    """Mask of regions present ``[n, R]``; missing ones have weight 0."""
    keys: Tensor | None = None
    """Attention keys of the regions ``[n, R, K]``."""


@dataclass(frozen=True)
class VECFEncoded(Encoded):
    """Users, and user-independent tensors of all items."""

    known: Items
    sizes: tuple[int, ...]
    """Number of regions of every modality."""


class VECF(Recommender[UserQuery, VECFConfig, VECFEncoded], Attends, GeneratesText, IgnoresFeatures):
    r"""User attention over image regions, trained on interactions and on the text of reviews.

    .. math::
        \mathbf{I}_{ij} = \sum_k \alpha_{ijk} \mathbf{f}_j^k, \qquad
        y_{ij} = P\big( \mathbf{p}_i, M(\mathbf{q}_j, \mathbf{I}_{ij}) \big)

    with the weights :math:`\alpha` of :class:`~gmmrec.nn.fusion.region.RegionFusion`, the merge M of
    :class:`~gmmrec.nn.fusion.region.VisualMerge` and a predictor P that ends in a logit. The same :math:`\mathbf{I}_{ij}` is the
    context of a :class:`~gmmrec.nn.decoder.text.TextDecoder` that predicts the review of the pair, if there is one: reviews train
    the attention. No review is read at test time.

    The formulas are those of the released code; the paper's equation numbers are not known. Two differences: regions pass through a
    linear map and a normalisation instead of being constants, and word vectors are trained jointly. The rules for missing data,
    which the paper's data set does not have, are additions: an item without an image is its embedding, and the embedding of one
    without training interactions is zero (with ``mul`` nothing is left then; see ``add``).

    As the merge is linear and weights sum to 1, each region is merged with the embedding, and passed through the first layer of the
    MLP, only once per item: mixing the results for a pair gives the same.

    Raises:
        UsageError: The items have no features at all, or not the modality named in ``regions``.
    """

    def __init__(self, schema: GraphSchema, config: VECFConfig = VECFConfig()) -> None:
        super().__init__(schema, config)
        dim, names = config.dim, schema.modalities("item")
        self.users = embedding_table(schema.num_nodes["user"], dim, config.init_std)  # p_i
        item_dim = dim // 2 if config.image and config.merge == "concat" else dim
        self.items = embedding_table(schema.num_nodes["item"], item_dim, config.init_std)  # q_j
        self.write = None
        if schema.num_words and config.review_weight > 0:
            self.write = TextDecoder(
                min(schema.num_words, config.vocabulary),
                dim + item_dim,
                dim,
                word_dim=config.word_dim,
                state_dim=config.state_dim,
                context_dim=config.context_dim,
                cell=config.cell,
            )
        self.names = _regions(config.regions, names) if config.image or self.write is not None else ()
        self.encoders = nn.ModuleList(TokenEncoder(schema.feature_dims[name], dim) for name in self.names)
        self.attend = None
        if self.names and config.attention != "mean":
            form: Literal["product", "sum"] = "product" if config.attention == "product" else "sum"
            self.attend = RegionFusion(dim, hidden=config.attention_hidden, score=form)
        self.merge = None
        if config.image:
            scale = 1.0 if config.scale is None and config.merge == "mul" else config.scale
            self.merge = VisualMerge(item_dim, dim, config.merge, scale=scale, concat_dim=dim - item_dim)
        self.predict: nn.Module | None = None
        if config.predictor == "mlp":
            self.predict = MLPDecoder(dim, hidden=(config.hidden,) * config.num_layers, activation=nn.Sigmoid)
            for weight in self.predict.parameters():
                if weight.dim() == 2:
                    nn.init.uniform_(weight, -1.0, 1.0)  # as released; smaller weights make gradients vanish layer by layer
        elif config.predictor == "fm":
            self.predict = FactorizationMachine(dim)

    @property
    def ignores_features(self) -> bool:
        """True without images: reviews are read in training alone."""
        return self.merge is None

    def encode(self, graph: MultimodalGraph) -> VECFEncoded:
        """Return users, and the user-independent tensors of every item, region by region: ``I x R`` times ``dim`` and more values.

        ``item`` is the mean of the merged regions, for comparing items, not for scores.
        """
        items = self._items(graph)
        mask = _never_empty(items.present) if items.present is not None and items.merged.shape[1] > 1 else None
        nodes = {"user": graph.gather("user", self.users), "item": masked_mean(items.merged, mask)}
        sizes = tuple(graph.features[name].mask[0].numel() for name in self.names)
        return VECFEncoded(nodes, items if self.write is not None else items._replace(regions=None), sizes)

    def score(self, encoded: VECFEncoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """Compute logits in chunks of candidates."""
        return self._score(F.embedding(query.user, encoded["user"]), encoded.known, candidates)

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """Cross-entropy of pairs, that of review words, and the L2 term; only the batch's items are encoded, once each.

        Both cross-entropies are divided by the number of pairs, negatives included.
        """
        rows, position = batch.candidates.unique(return_inverse=True)
        users, items = F.embedding(batch.query.user, graph.gather("user", self.users)), self._items(graph, rows)
        scores = self._score(users, items, position)
        labels = torch.zeros_like(scores)
        labels[:, 0] = 1.0
        terms = {"bce": F.binary_cross_entropy_with_logits(scores, labels)}
        if self.write is not None and batch.text is not None:
            text = batch.text.masked_fill(batch.text >= len(self.write.words), UNKNOWN)
            has_review = text.any(1).nonzero().flatten()
            review_loss = self.write(*self._view(users[has_review], items, position[has_review, 0]), text[has_review]).sum()
            terms["review"] = self.config.review_weight * review_loss / scores.numel()
        if self.config.l2 > 0:
            terms["l2"] = self.config.l2 * (self.users.square().sum() + self.items.square().sum()) / 2
        return terms

    def attention(self, encoded: VECFEncoded, query: UserQuery, items: Tensor) -> dict[str, Tensor]:
        """Return a user's weight of each region of an item, by modality: ``[B, R]``, or ``[B]`` for a modality of one region.

        All weights of a pair sum to 1; they are 0 for an item without any region.

        Args:
            encoded: What ``encode`` returned.
            query: B users.
            items: One item per user ``[B]``.

        Raises:
            UsageError: The model reads no regions.
        """
        if not self.names:
            raise UsageError("with image off and no reviews there is no attention over regions; set image to true")
        known = encoded.known
        assert known.present is not None
        weights = self._weights(F.embedding(query.user, encoded["user"]), known, items)
        weights = weights.masked_fill(~known.present[items], 0.0)
        parts = weights.split(list(encoded.sizes), dim=1)
        return {name: part.squeeze(1) if part.shape[1] == 1 else part for name, part in zip(self.names, parts, strict=True)}

    def comment(self, encoded: VECFEncoded, query: UserQuery, items: Tensor, max_words: int = 20) -> Tensor:
        """Generate reviews of items by these users, greedily; the unknown word is never generated.

        Args:
            encoded: What ``encode`` returned.
            query: B users.
            items: One item per user ``[B]``.
            max_words: Maximum number of words.

        Returns:
            Word ids ``[B, max_words]``, as in ``run.words``; 0 after the last word.

        Raises:
            UsageError: The model was not trained on reviews.
        """
        if self.write is None:
            raise UsageError("VECF has no review decoder; train it on data with reviews and a review_weight greater than 0")
        view = self._view(F.embedding(query.user, encoded["user"]), encoded.known, items)
        return self.write.generate(*view, max_words, forbidden=[UNKNOWN])

    @property
    def can_comment(self) -> bool:
        """True if the model can generate reviews."""
        return self.write is not None

    def _items(self, graph: MultimodalGraph, rows: Tensor | None = None) -> Items:
        """Tensors of all items, or of those in ``rows``."""
        is_trained = _rows(graph.degree("item"), rows) > 0
        ids = _rows(graph.gather("item", self.items), rows) * is_trained.unsqueeze(1)
        if not self.names:
            return Items(ids, self._first_layer(ids.unsqueeze(1)))
        features = [graph.features[name] for name in self.names]
        present = torch.cat([_rows(table.mask.reshape(len(table.mask), -1), rows) for table in features], dim=1)
        tokens = [encoder(table.values, rows, table.lengths) for table, encoder in zip(features, self.encoders, strict=True)]
        regions = F.layer_norm(torch.cat(tokens, dim=1), (self.config.dim,))
        keys = None if self.attend is None else self.attend.keys(regions)
        return Items(ids, self._first_layer(self._merged(ids, regions, present)), regions, present, keys)

    def _merged(self, ids: Tensor, regions: Tensor, present: Tensor) -> Tensor:
        """``M(q_j, f_j^k)`` for every region, or for their mean under uniform weights."""
        if self.merge is None:
            return ids.unsqueeze(1)
        if self.attend is None:
            regions, present = masked_mean(regions, present).unsqueeze(1), present.any(1, keepdim=True)
        merged: Tensor = self.merge(ids.unsqueeze(1), regions, present)
        return merged

    def _first_layer(self, merged: Tensor) -> Tensor:
        """Item half of the MLP's first layer, before its nonlinearity; linear, so regions may be mixed after it."""
        if isinstance(self.predict, MLPDecoder):
            merged = self.predict.candidate(merged)
        return merged

    def _score(self, users: Tensor, items: Items, rows: Tensor) -> Tensor:
        """Logits ``[B, C]`` of users ``[B, d]`` for items in ``rows`` ``[C]`` or ``[B, C]``."""

        def score(part: slice) -> Tensor:
            merged = _take(items.merged, rows[..., part])
            if merged.shape[-2] == 1:
                return self._logits(users, merged.squeeze(-2))
            weights = self._weights(users.unsqueeze(1), items, rows[..., part])
            return self._logits(users, torch.einsum("...r,...rd->...d", weights, merged))

        num_regions, width = items.merged.shape[1:]
        cells = num_regions * width if rows.dim() == 2 else max(num_regions, width)
        return in_chunks(score, rows.shape[-1], block_rows(CELLS, len(users) * cells))

    def _logits(self, users: Tensor, items: Tensor) -> Tensor:
        """``P`` of users ``[B, d]`` and user-specific items ``[C, d]`` or ``[B, C, d]``."""
        if self.predict is None:
            return inner_product(users, items)
        if isinstance(self.predict, MLPDecoder):  # items have passed its first layer
            items = self.predict.query(users).unsqueeze(1) + items
            return torch.squeeze(self.predict.rest(items), -1)
        logits: Tensor = self.predict(users, items)
        return logits

    def _weights(self, users: Tensor, items: Items, rows: Tensor) -> Tensor:
        """Users' weights of the regions of items; an item without regions has one, of weight 1."""
        assert items.present is not None
        present = _never_empty(items.present)[rows]
        if self.attend is None or items.keys is None:
            return uniform_weights(users, present)
        return self.attend.weights(users, _take(items.keys, rows), present)

    def _view(self, users: Tensor, items: Items, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Input of the review decoder: user and item embeddings, concatenated, and the user-specific image ``[B, d]``."""
        assert items.regions is not None
        image = torch.einsum("br,brd->bd", self._weights(users, items, rows), _take(items.regions, rows))
        return torch.cat([users, F.embedding(rows, items.ids)], dim=1), image


def _regions(name: str | None, modalities: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the modalities whose tokens are the regions."""
    if not modalities:
        raise UsageError(
            "VECF needs at least one modality of the items, but the data set has none; add a feature file or set image to false"
        )
    if name is not None and name not in modalities:
        raise UsageError(f"the items have no modality {name!r}; choose one of {', '.join(modalities)}")
    return modalities if name is None and "regions" not in modalities else (name or "regions",)


def _never_empty(present: Tensor) -> Tensor:
    """The mask ``[n, R]``, with the first region present if none is: merged there is the embedding alone."""
    first = torch.arange(present.shape[1], device=present.device) == 0
    return present | (first & ~present.any(1, keepdim=True))


def _rows(table: Tensor, rows: Tensor | None) -> Tensor:
    if rows is None:
        return table
    return F.embedding(rows, table) if table.requires_grad else table[rows]


def _take(tokens: Tensor, rows: Tensor) -> Tensor:
    """``tokens[rows]`` with a fast backward pass."""
    return F.embedding(rows, tokens.flatten(1)).view(*rows.shape, *tokens.shape[1:])
