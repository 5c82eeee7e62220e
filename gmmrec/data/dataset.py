"""A data set: vocabularies and the tables that speak of their rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd
from torch import Tensor

from gmmrec.data.features import FeatureTable
from gmmrec.data.impressions import Impressions
from gmmrec.data.interactions import Interactions
from gmmrec.data.outfits import Outfits
from gmmrec.data.reviews import Reviews
from gmmrec.data.triples import Triples
from gmmrec.data.vocabulary import Vocabulary


@dataclass(frozen=True)
class Dataset:
    """Everything that is known about users and items before a graph is built.

    Attributes:
        name: Shown in reports.
        vocabularies: By node type; at least ``"user"`` and ``"item"``.
        interactions: The whole log.
        features: By modality.
        attributes: By node type: a table with one row a node, in vocabulary order; a column ``title`` is what people are shown.
        given_split: Part of every interaction ``[E]``, a code of :class:`~gmmrec.data.parts.SplitPart`; None where the source
            gives none.
        reviews: What was written, as word ids, where the source has texts; ``interactions.review`` holds its rows.
        impressions: What people were shown, where the source tells.
        outfits: Sets of items, where the source has them.
        triples: Facts about ``vocabularies["entity"]`` and ``vocabularies["relation"]``, where the source has them.
    """

    name: str
    vocabularies: Mapping[str, Vocabulary]
    interactions: Interactions
    features: Mapping[str, FeatureTable] = field(default_factory=dict)
    attributes: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    given_split: Tensor | None = None
    reviews: Reviews | None = None
    impressions: Impressions | None = None
    outfits: Outfits | None = None
    triples: Triples | None = None

    def __post_init__(self) -> None:
        for node_type in ("user", "item"):
            rows: Tensor = getattr(self.interactions, node_type)
            count = len(self.vocabularies[node_type])
            if rows.numel() and int(rows.max()) >= count:
                raise ValueError(f"interactions name {node_type} row {int(rows.max())}, but there are {count} {node_type} ids")
        written = self.interactions.review
        if written is not None and written.numel():
            count = 0 if self.reviews is None else len(self.reviews)
            if not -1 <= int(written.min()) <= int(written.max()) < count:
                raise ValueError(
                    f"interactions name review row {int(written.max())}, but there are {count} reviews (-1 is for none)"
                )
        if self.triples is not None:
            for column, kind in (("head", "entity"), ("tail", "entity"), ("relation", "relation")):
                rows = getattr(self.triples, column)
                if rows.numel() and int(rows.max()) >= len(self.vocabularies[kind]):
                    count = len(self.vocabularies[kind])
                    raise ValueError(f"facts name {kind} row {int(rows.max())}, but there are {count} {kind} ids")
        for table in self.features.values():
            count = len(self.vocabularies[table.node_type])
            if table.num_rows != count:
                raise ValueError(f"features {table.name!r} have {table.num_rows} rows, but there are {count} {table.node_type} ids")
        for node_type, frame in self.attributes.items():
            count = len(self.vocabularies[node_type])
            if len(frame) != count:
                raise ValueError(f"attributes of {node_type} have {len(frame)} rows, but there are {count} {node_type} ids")
        if self.given_split is not None and len(self.given_split) != len(self.interactions):
            raise ValueError(
                f"the given split has {len(self.given_split)} rows, but there are {len(self.interactions)} interactions"
            )

    @property
    def num_users(self) -> int:
        """Number of users, with or without interactions."""
        return len(self.vocabularies["user"])

    @property
    def num_items(self) -> int:
        """Number of items, with or without interactions."""
        return len(self.vocabularies["item"])
