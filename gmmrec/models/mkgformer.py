"""MKGformer: Hybrid Transformer with Multi-level Fusion for Multimodal Knowledge Graph Completion.

X. Chen, N. Zhang, L. Li, S. Deng, C. Tan, C. Xu, F. Huang, L. Si, H. Chen. SIGIR 2022. https://arxiv.org/abs/2205.02357
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.abilities import WarmStarts
from gmmrec.config import check_literals, check_non_negative, check_positive, check_probability
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.dropout import Dropout
from gmmrec.nn.encoder.token import TokenEncoder
from gmmrec.nn.fusion.multi_level import MEncoder, TextLayer, VisionLayer
from gmmrec.nn.init import embedding_table
from gmmrec.nn.masked import hide_missing
from gmmrec.nn.tokens import Tokens
from gmmrec.recommender import AnyRecommender, Encoded, Recommender
from gmmrec.tasks.query import Batch, LinkPredictionQuery
from gmmrec.typing import ENTITY

PICTURES = ("image", "picture", "visual", "vision", "poster", "photo", "region")
"""Substrings of names that mark a modality as images."""


@dataclass(frozen=True)
class MKGformerConfig:
    """Settings of MKGformer."""

    dim: int = 64
    """Width of tokens and entities; 768 in the paper, that of BERT."""
    num_heads: int = 4
    """Number of heads of every attention."""
    text_layers: int = 1
    """Number of layers of the text encoder before the fusion (9 of BERT's in the paper)."""
    vision_layers: int = 1
    """Number of layers of the vision encoder before the fusion (9 of CLIP's in the paper); 0 for none."""
    fusion_layers: int = 3
    """Number of layer pairs of the M-encoder: 3 in the paper, 4 in the released code."""
    use_pgi: bool = True
    """Let text guide the attention of images (coarse fusion)."""
    use_caf: bool = True
    """Let text aggregate the regions that correlate with it (fine fusion); without it no image is read at all."""
    pictures: tuple[str, ...] | None = None
    """Entity modalities that are images; all others are text. None: inferred from names (``image``, ``poster``, …)."""
    max_tokens: int = 64
    """Number of distinct positions of text tokens; later tokens share the last."""
    stage: Literal["joint", "entities", "links"] = "joint"
    """Training task: entity prediction from descriptions (the paper's first stage), link prediction (its second), or both jointly.
    For the paper's order fit ``entities``, then ``links`` with ``init_from``."""
    objective: Literal["bce", "softmax"] = "bce"
    """Loss of link prediction: binary cross-entropy over all entities, with every answer in the training triples as a positive (the
    released code), or cross-entropy with the triple's own answer as the target (the paper)."""
    entity_weight: float = 1.0
    """Weight of entity prediction from descriptions in the ``joint`` stage."""
    label_smoothing: float = 0.1
    """Label smoothing of every cross-entropy over entities."""
    dropout: float = 0.1
    """Dropout probability of the input and of sublayer outputs."""
    init_std: float = 0.02
    """Standard deviation of the initial entity, relation and position vectors; 0 for Xavier uniform initialisation."""

    def __post_init__(self) -> None:
        if self.pictures is not None:
            object.__setattr__(self, "pictures", tuple(self.pictures))
        check_positive(dim=self.dim, num_heads=self.num_heads, text_layers=self.text_layers, fusion_layers=self.fusion_layers)
        check_positive(max_tokens=self.max_tokens)
        check_non_negative(vision_layers=self.vision_layers, entity_weight=self.entity_weight, init_std=self.init_std)
        check_probability(label_smoothing=self.label_smoothing, dropout=self.dropout)
        check_literals(self)
        if self.dim % self.num_heads:
            raise UsageError(f"num_heads must divide dim, but {self.num_heads} does not divide {self.dim}")


@dataclass(frozen=True)
class MKGformerEncoded(Encoded):
    """Entities as vocabulary words, and the tokens that describe them."""

    offset: Tensor
    """Bias per entity ``[N]``."""
    text: Tokens | None = None
    """Projected tokens of all text modalities ``[N, T, d]``."""
    pictures: Tokens | None = None
    """Projected tokens of all image modalities."""


class MKGformer(Recommender[LinkPredictionQuery, MKGformerConfig, MKGformerEncoded], WarmStarts):
    """Hybrid Transformer over the sentence [entity] [its text] [relation] [MASK] and the images of the entity.

    Text and vision pass through separate encoders, then through the M-encoder, in whose layers text guides the attention of
    regions and aggregates those that correlate with it. The state at [MASK] is compared with all entities, each a word of the
    vocabulary: one matrix product. Heads are predicted with separate inverse relations.

    The fusion is that of the released code, which the paper's equations simplify. The encoders are not: the paper fine-tunes BERT
    and CLIP; here entity features are precomputed by any encoder, and small layers are trained on top of them. Missing images and
    padding are masked, which the code does not do. Text is a sequence of tokens, images are a set of regions.

    Raises:
        UsageError: The data set has no triples, or ``pictures`` names a modality that entities do not have; in ``prepare``: the
            stage is ``entities``, but entities have no descriptions.
    """

    def __init__(self, schema: GraphSchema, config: MKGformerConfig = MKGformerConfig()) -> None:
        super().__init__(schema, config)
        c, num_entities = config, schema.num_nodes.get(ENTITY, 0)
        if not num_entities or not schema.num_relations:
            raise UsageError("MKGformer needs triples, but the data set has none; add triples.csv with head, relation and tail")
        self.texts, self.pictures = text_and_image_modalities(schema.modalities(ENTITY), c.pictures)
        if not c.use_caf:
            self.pictures = ()
        self.entities = embedding_table(num_entities, c.dim, c.init_std)
        self.offsets = nn.Parameter(torch.zeros(num_entities))
        self.relations = embedding_table(2 * schema.num_relations, c.dim, c.init_std)
        self.mask = embedding_table(1, c.dim, c.init_std)
        self.kinds = embedding_table(3 + len(self.texts), c.dim, c.init_std)  # entity, relation, [MASK], text modalities
        self.positions = embedding_table(c.max_tokens, c.dim, c.init_std) if self.texts else None
        dims = schema.feature_dims
        self.read_text = nn.ModuleList(TokenEncoder(dims[name], c.dim) for name in self.texts)
        self.read_pictures = nn.ModuleList(TokenEncoder(dims[name], c.dim) for name in self.pictures)
        self.text_norm, self.dropout = nn.LayerNorm(c.dim), Dropout(c.dropout)
        sizes = (c.dim, c.num_heads, 4 * c.dim)
        self.text_layers = nn.ModuleList(TextLayer(*sizes, dropout=c.dropout) for _ in range(c.text_layers))
        self.fuse: MEncoder | None = None
        if self.pictures:
            self.vision_norm = nn.LayerNorm(c.dim)
            self.vision_layers = nn.ModuleList(VisionLayer(*sizes, dropout=c.dropout) for _ in range(c.vision_layers))
            self.fuse = MEncoder(
                c.dim, c.num_heads, num_layers=c.fusion_layers, use_pgi=c.use_pgi, use_caf=c.use_caf, dropout=c.dropout
            )
        else:  # as many text layers
            self.text_layers.extend(TextLayer(*sizes, dropout=c.dropout) for _ in range(c.fusion_layers))
        self.answer = nn.Sequential(nn.Linear(c.dim, c.dim), nn.GELU(), nn.LayerNorm(c.dim))

    def start_from(self, source: AnyRecommender) -> bool:
        """Load all weights of a run on the same data, such as those of the first stage for the second."""
        if not isinstance(source, MKGformer):
            raise UsageError(f"mkgformer continues a run of mkgformer, but init_from is a run of {type(source).__name__}")
        expected, weights = self.state_dict(), source.state_dict()
        if {name: x.shape for name, x in expected.items()} != {name: x.shape for name, x in weights.items()}:
            raise UsageError(
                "the run of init_from has other sizes, layers or modalities; fit both stages with the same data and settings"
            )
        self.load_state_dict(weights)
        return True

    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Return the graph unchanged; raise a ValueError if stage ``entities`` has no descriptions to learn from."""
        described = [bool(graph.features[name].present.any()) for name in (*self.texts, *self.pictures)]
        if self.config.stage == "entities" and not any(described):
            raise UsageError("stage 'entities' learns from descriptions of entities, but there are none; add features of entities")
        return graph

    def encode(self, graph: MultimodalGraph) -> MKGformerEncoded:
        """Return entities as words, ``entity`` ``[N, d]``, and their tokens, projected once (N x T x d)."""
        text = self._tokens(graph, self.texts, self.read_text) if self.texts else None
        pictures = self._tokens(graph, self.pictures, self.read_pictures) if self.pictures else None
        entities, offset = graph.gather(ENTITY, self.entities), graph.gather(ENTITY, self.offsets)
        return MKGformerEncoded({ENTITY: entities}, offset, text, pictures)

    def score(self, encoded: MKGformerEncoded, query: LinkPredictionQuery, candidates: Tensor) -> Tensor:
        """Inner product of the state at [MASK] with the candidates, plus their biases."""
        text = None if encoded.text is None else encoded.text.at(query.head)
        pictures = None if encoded.pictures is None else encoded.pictures.at(query.head)
        entities, offsets = encoded[ENTITY], encoded.offset
        state = self._link(F.embedding(query.head, entities), query.relation, text, pictures)
        if candidates.dim() == 1:
            return state @ entities[candidates].t() + offsets[candidates]
        return (F.embedding(candidates, entities) @ state.unsqueeze(2)).squeeze(2) + offsets[candidates]

    def loss(self, graph: MultimodalGraph, batch: Batch[LinkPredictionQuery]) -> dict[str, Tensor]:
        """Link prediction on the batch's triples, and entity prediction from the text and images of its entities."""
        c, terms = self.config, dict[str, Tensor]()
        entities, offsets = graph.gather(ENTITY, self.entities), graph.gather(ENTITY, self.offsets)
        rows, position = batch.query.head.unique(return_inverse=True)
        text = self._tokens(graph, self.texts, self.read_text, rows) if self.texts else None
        pictures = self._tokens(graph, self.pictures, self.read_pictures, rows) if self.pictures else None
        if c.stage != "entities":
            context = [None if tokens is None else tokens.at(position) for tokens in (text, pictures)]
            logits = self._link(F.embedding(batch.query.head, entities), batch.query.relation, *context) @ entities.t() + offsets
            if c.objective == "softmax":
                terms["links"] = F.cross_entropy(logits, batch.positive, label_smoothing=c.label_smoothing)
            else:
                labels = torch.zeros_like(logits)
                answers = batch.answers if batch.answers is not None else torch.stack([torch.arange(len(batch)), batch.positive], 1)
                labels[answers[:, 0], answers[:, 1]] = 1.0
                terms["links"] = F.binary_cross_entropy_with_logits(logits, labels)
        if c.stage == "entities" or (c.stage == "joint" and c.entity_weight > 0):
            described = torch.zeros_like(rows) > 0
            for tokens in (text, pictures):
                described = described if tokens is None else described | tokens.present.any(1)
            keep = torch.nonzero(described).flatten()
            context = [None if tokens is None else tokens.at(keep) for tokens in (text, pictures)]
            weight = 1.0 if c.stage == "entities" else c.entity_weight
            logits = self._describe(len(keep), *context) @ entities.t() + offsets
            total = F.cross_entropy(logits, rows[keep], reduction="sum", label_smoothing=c.label_smoothing)
            terms["entities"] = weight * total / max(1, len(keep))
        return terms

    def _link(self, entity: Tensor, relation: Tensor, text: Tokens | None, pictures: Tokens | None) -> Tensor:
        """State at [MASK] ``[B, d]`` of [entity] [text] [relation] [MASK]."""
        first = entity + self.kinds[0]
        last = F.embedding(relation, self.relations) + self.kinds[1], (self.mask + self.kinds[2]).expand_as(entity)
        return self._read(first, text, pictures, last)[:, -1]

    def _describe(self, count: int, text: Tokens | None, pictures: Tokens | None) -> Tensor:
        """State at [MASK] ``[B, d]`` of [MASK] [text]: the entity that text and images describe."""
        return self._read((self.mask + self.kinds[0]).expand(count, -1), text, pictures, ())[:, 0]

    def _read(self, first: Tensor, text: Tokens | None, pictures: Tokens | None, last: tuple[Tensor, ...]) -> Tensor:
        """Output of the whole Transformer for every token of the sentence ``[B, n, d]``."""
        values, present = [first.unsqueeze(1)], [first.new_ones(len(first), 1, dtype=torch.bool)]
        if text is not None:
            values.append(text.values + self._token_offsets(text))
            present.append(text.present)
        values += [token.unsqueeze(1) for token in last]
        present += [present[0]] * len(last)
        mask = torch.cat(present, 1)
        present_mask = None if bool(mask.all()) else mask
        tokens: Tensor = self.dropout(self.text_norm(hide_missing(torch.cat(values, 1), present_mask)))
        prefix = None
        for layer in self.text_layers:
            prefix = layer.keys_and_values(hide_missing(tokens, present_mask))  # type: ignore[operator]
            tokens, _ = layer(tokens, present_mask)
        if self.fuse is not None and pictures is not None:
            vision: Tensor = self.dropout(self.vision_norm(hide_missing(pictures.values, pictures.mask)))
            for layer in self.vision_layers:
                vision, _ = layer(vision, pictures.mask)
            tokens, _ = self.fuse(tokens, vision, present_mask, pictures.mask, prefix)
        answer: Tensor = self.answer(tokens)
        return answer

    def _token_offsets(self, text: Tokens) -> Tensor:
        """Modality and position embeddings of the text tokens, summed ``[T, d]``."""
        assert self.positions is not None
        position = torch.cat([torch.arange(size) for size in text.sizes]).clamp(max=self.config.max_tokens - 1)
        kind = torch.arange(len(text.sizes)).repeat_interleave(torch.tensor(text.sizes))
        device = self.kinds.device
        return self.kinds[3:][kind.to(device)] + self.positions[position.to(device)]

    @staticmethod
    def _tokens(graph: MultimodalGraph, names: tuple[str, ...], encoders: nn.ModuleList, rows: Tensor | None = None) -> Tokens:
        """Projected tokens of all entities, or of those in ``rows``; features are scaled to unit length first."""
        tables = [graph.features[name] for name in names]
        parts = []
        for table, encoder in zip(tables, encoders, strict=True):
            parts.append((encoder(table.values, rows, table.lengths), table.mask if rows is None else table.mask[rows]))
        return Tokens.joined(parts)


def text_and_image_modalities(
    modalities: tuple[str, ...], pictures: tuple[str, ...] | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the text modalities and the image modalities.

    Raises:
        UsageError: ``pictures`` names a modality that does not exist.

    >>> text_and_image_modalities(("name", "entity_image"), None)
    (('name',), ('entity_image',))
    """
    for name in pictures or ():
        if name not in modalities:
            known = ", ".join(map(repr, modalities)) or "none"
            raise UsageError(f"pictures names {name!r}, but the modalities of the entities are {known}")
    if pictures is None:
        pictures = tuple(name for name in modalities if any(part in name.lower() for part in PICTURES))
    return tuple(name for name in modalities if name not in pictures), tuple(name for name in modalities if name in pictures)
