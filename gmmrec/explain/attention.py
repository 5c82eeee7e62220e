"""Attention of a model for a user-item pair, token by token."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor

from gmmrec.abilities import Attends, SplitsScores, WeighsModalities, offered
from gmmrec.data.tokens import Maps, TokenKind, TokenNames, read_maps
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.recommender import AnyRecommender, Encoded
from gmmrec.safety.names import check_name
from gmmrec.typing import NodeType

USER = "user:"
"""Prefix of the names of parts on the user's side."""
ITEMS = "_items"
"""Suffix of the item rows of a token axis: ``user:history_items`` holds the items of the tokens of ``user:history``."""

Meaning = Literal["weight", "score"]


@dataclass(frozen=True)
class Part:
    """The tokens of one modality.

    Attributes:
        name: The modality, with the prefix ``user:`` on the user's side.
        kind: Kind of the tokens (see :class:`~gmmrec.data.tokens.TokenNames`); ``items`` for items of a history, ``whole`` for a
            modality without a token axis.
        labels: Name of every present token.
        positions: Positions of the present tokens among all tokens.
        weights: Weights of the present tokens.
        size: Side length of a grid.
        maps: Regions of the picture that the tokens refer to, if known.
    """

    name: str
    kind: Literal["whole", "items"] | TokenKind
    labels: list[str]
    positions: list[int]
    weights: list[float]
    size: int = 0
    maps: Maps | None = None

    @property
    def total(self) -> float:
        """Weight of the modality as a whole."""
        return sum(self.weights)

    @property
    def even(self) -> float:
        """Weight of every token under uniform weights."""
        return self.total / max(1, len(self.weights))


@dataclass(frozen=True)
class Explanation:
    """Explanation of the score of one item for one user.

    Attributes:
        user: Raw id.
        item: Raw id.
        title: Title of the item, or its id.
        score: Score of the pair.
        meaning: Meaning of the numbers: attention weights, or contributions of modalities to the score.
        parts: Weights by modality, the item's side first.
    """

    user: Hashable
    item: Hashable
    title: str
    score: float
    meaning: Meaning
    parts: list[Part]

    def to_frame(self) -> pd.DataFrame:
        """Return columns ``modality``, ``token`` (empty for a modality without a token axis) and ``weight``, in token order."""
        rows = [(p.name, label, weight) for p in self.parts for label, weight in zip(p.labels, p.weights, strict=True)]
        frame: pd.DataFrame = pd.DataFrame(rows, columns=["modality", "token", "weight"])
        return frame


@torch.no_grad()
def weights_of(
    model: AnyRecommender, graph: MultimodalGraph, encoded: Encoded, query: Any, item: int
) -> tuple[Meaning, dict[str, Tensor]]:
    """Return the weights of a model for one pair, by modality: ``[T]`` or a scalar.

    Args:
        model: A trained model.
        graph: The prepared graph of the model.
        encoded: Encoding returned by ``model.encode``.
        query: A single query of the model's type.
        item: Row of the item.

    Raises:
        UsageError: The model has no attention or modality weights.
    """
    users, items = query.user, torch.tensor([item], device=graph.degree("item").device)
    if attending := offered(model, Attends):
        return "weight", {name: value[0] for name, value in attending.attention(encoded, query, items).items()}
    if weighing := offered(model, WeighsModalities):
        found = weighing.modality_weights(graph, users, items[:, None])
        return "weight", {name: value[0, 0].mean() for name, value in found.items()}
    if splitting := offered(model, SplitsScores):
        return "score", {name: value[0, 0] for name, value in splitting.modality_scores(graph, users, items[:, None]).items()}
    raise UsageError(
        f"{type(model).__name__} has no attention to show; explain a model that weighs modalities (mario, mgat) or tokens "
        "(such as vecf or saers)"
    )


def parts_of(
    weights: Mapping[str, Tensor],
    graph: MultimodalGraph,
    rows: Mapping[NodeType, int],
    ids: Mapping[NodeType, Hashable],
    *,
    tokens: Mapping[str, TokenNames] | None = None,
    item_labels: Callable[[int], str] = str,
    folder: Path | None = None,
) -> list[Part]:
    """Return the weights of one pair with names; missing tokens are left out.

    Args:
        weights: Weights returned by :func:`weights_of`.
        graph: Graph with the masks of the tokens.
        rows: Rows of the user and the item, by node type.
        ids: Raw ids of the user and the item.
        tokens: Names of the tokens of modalities, if known.
        item_labels: Function from an item's row to its label.
        folder: Folder of the data, where ``NAME_maps.npz`` may hold the regions of named tokens.
    """
    parts = []
    for name, value in sorted(weights.items(), key=lambda entry: entry[0].startswith(USER)):
        if name.endswith(ITEMS) and name[: -len(ITEMS)] in weights:
            continue
        if value.dim() == 0:
            parts.append(Part(name, "whole", [""], [0], [float(value)]))
            continue
        items = weights.get(name + ITEMS)
        if items is not None:
            positions = (items >= 0).nonzero().flatten().tolist()
            labels = [item_labels(int(items[position])) for position in positions]
            parts.append(Part(name, "items", labels, positions, value[positions].tolist()))
            continue
        modality, node_type = (name[len(USER) :], "user") if name.startswith(USER) else (name, "item")
        table = graph.features.get(modality)
        present = torch.ones(len(value), dtype=torch.bool)
        if table is not None and table.node_type == node_type and table.mask.shape[1:] == value.shape:
            present = table.mask[rows[node_type]].cpu()
            positions = present.nonzero().flatten().tolist()
        known = (tokens or {}).get(modality) or guess_tokens(modality, len(value))
        names = known.labels(ids[node_type], len(value))
        maps = None
        if folder is not None and known.kind == "names" and node_type == "item":
            maps = read_maps(folder / f"{check_name(modality, 'modality')}_maps.npz", ids["item"], len(value))
        tokens_of_part = [names[position] for position in positions], positions, value[positions].tolist()
        parts.append(Part(name, known.kind, *tokens_of_part, known.size, None if maps is None else maps.take(positions)))
    return parts


def guess_tokens(name: str, count: int) -> TokenNames:
    """Return default token names from the name of the modality: a grid for ``regions``, else numbers.

    >>> guess_tokens("regions", 49).size, guess_tokens("words", 49).labels("a", 3)
    (7, ['1', '2', '3'])
    """
    size = round(count**0.5)
    return TokenNames("grid", size=size) if name == "regions" and size**2 == count else TokenNames("numbered")
