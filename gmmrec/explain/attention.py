"""What models say about a pair of a user and an item, token by token."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor

from gmmrec.abilities import Attends, SplitsScores, WeighsModalities, offered
from gmmrec.data.tokens import Maps, TokenKind, TokenNames, read_maps
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.recommender import AnyRecommender, Encoded
from gmmrec.typing import NodeType

USER = "user:"
"""What the names of parts on the user's side begin with."""
ITEMS = "_items"
"""``user:history_items`` says which items the tokens of ``user:history`` are."""

Meaning = Literal["weight", "score"]


@dataclass(frozen=True)
class Part:
    """The tokens of one modality.

    Attributes:
        name: The modality; begins with ``user:`` where it is of the user's side.
        kind: What the tokens are (see :class:`~gmmrec.data.tokens.TokenNames`); ``items`` for items of a history, ``whole`` for a
            modality that is one token.
        labels: A name for every token that is there.
        places: Where these stand among all tokens.
        weights: Of these tokens.
        size: Side of a grid.
        maps: Where in the picture these tokens come from, as far as known.
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
        """What every token would have if the modality's weight were shared out evenly."""
        return self.total / max(1, len(self.weights))


@dataclass(frozen=True)
class Explanation:
    """What counted when one item was scored for one user.

    Attributes:
        user: Raw id.
        item: Raw id.
        title: Of the item; its id where it has none.
        score: What the model gives the pair.
        meaning: Whether numbers are attention weights, or what a modality adds to the score.
        parts: By modality, the item's side first.
    """

    user: Hashable
    item: Hashable
    title: str
    score: float
    meaning: Meaning
    parts: list[Part]

    def to_frame(self) -> pd.DataFrame:
        """Columns ``modality``, ``token`` (empty where a modality is one) and ``weight``; tokens in their order."""
        rows = [(p.name, label, weight) for p in self.parts for label, weight in zip(p.labels, p.weights, strict=True)]
        frame: pd.DataFrame = pd.DataFrame(rows, columns=["modality", "token", "weight"])
        return frame


@torch.no_grad()
def weights_of(
    model: AnyRecommender, graph: MultimodalGraph, encoded: Encoded, query: Any, item: int
) -> tuple[Meaning, dict[str, Tensor]]:
    """What a model says about one pair, by modality: ``[T]``, or a number.

    Args:
        model: A trained model.
        graph: Its prepared graph.
        encoded: What ``model.encode`` returned.
        query: One question, of the kind that the model answers.
        item: Row of the item.

    Raises:
        ValueError: The model says nothing.
    """
    users, items = query.user, torch.tensor([item], device=graph.degree("item").device)
    if attending := offered(model, Attends):
        return "weight", {name: value[0] for name, value in attending.attention(encoded, query, items).items()}
    if weighing := offered(model, WeighsModalities):
        found = weighing.modality_weights(graph, users, items[:, None])
        return "weight", {name: value[0, 0].mean() for name, value in found.items()}
    if splitting := offered(model, SplitsScores):
        return "score", {name: value[0, 0] for name, value in splitting.modality_scores(graph, users, items[:, None]).items()}
    raise ValueError(
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
    """Names for the weights of one pair; tokens that are not there are left out.

    Args:
        weights: What :func:`weights_of` found.
        graph: Knows which tokens are there.
        rows: Of the user and the item, by node type.
        ids: Their raw ids.
        tokens: What the tokens of modalities are, as far as known.
        item_labels: What to call an item, from its row.
        folder: Of the data, where ``NAME_maps.npz`` may say in which regions named tokens show.
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
        there = torch.ones(len(value), dtype=torch.bool)
        if table is not None and table.node_type == node_type and table.mask.shape[1:] == value.shape:
            there = table.mask[rows[node_type]].cpu()
        positions = there.nonzero().flatten().tolist()
        known = (tokens or {}).get(modality) or guess_tokens(modality, len(value))
        names = known.labels(ids[node_type], len(value))
        maps = None
        if folder is not None and known.kind == "names" and node_type == "item":
            maps = read_maps(folder / f"{modality}_maps.npz", ids["item"], len(value))
        weighed = [names[position] for position in positions], positions, value[positions].tolist()
        parts.append(Part(name, known.kind, *weighed, known.size, None if maps is None else maps.take(positions)))
    return parts


def guess_tokens(name: str, count: int) -> TokenNames:
    """What tokens are by the name of their modality, where nothing else is known: a grid for ``regions``, else just numbers.

    >>> guess_tokens("regions", 49).size, guess_tokens("words", 49).labels("a", 3)
    (7, ['1', '2', '3'])
    """
    size = round(count**0.5)
    return TokenNames("grid", size=size) if name == "regions" and size**2 == count else TokenNames("numbered")
