"""Data set: vocabularies and tables of their rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd
from torch import Tensor

from gmmrec.data.features import FeatureTable
from gmmrec.data.impressions import Impressions
from gmmrec.data.interactions import Interactions
from gmmrec.data.outfits import Outfits
from gmmrec.data.overlap import Overlap
from gmmrec.data.pyg import Source, read_pyg
from gmmrec.data.repeats import Repeats
from gmmrec.data.reviews import Reviews
from gmmrec.data.triples import Triples
from gmmrec.data.unread import Unread
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.errors import UsageError

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData


@dataclass(frozen=True)
class Dataset:
    """Users, items and all data about them, before a graph is built.

    Attributes:
        name: Name shown in reports.
        vocabularies: Vocabularies by node type; at least ``"user"`` and ``"item"``.
        interactions: The whole log.
        features: Feature tables by modality.
        attributes: Tables by node type, one row per node in vocabulary order; the column ``title`` is used for display.
        given_split: Part of every interaction ``[E]``, a code of :class:`~gmmrec.data.parts.SplitPart`; None without a given split.
        reviews: Texts as word ids, if the source has any; ``interactions.review`` holds their rows.
        impressions: Impressions, if the source has any.
        outfits: Outfits, if the source has any.
        triples: Triples over ``vocabularies["entity"]`` and ``vocabularies["relation"]``, if the source has any.
        overlaps: Ids that the tables of the source have in common, as they were read.
        unread: Columns and files of the source that no reader took.
        repeats: Events of the pairs whose weights were summed, from which splits sum anew; None if none were.
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
    overlaps: Sequence[Overlap] = ()
    unread: Unread = field(default_factory=Unread)
    repeats: Repeats | None = None

    def __post_init__(self) -> None:
        for node_type in ("user", "item"):
            rows: Tensor = getattr(self.interactions, node_type)
            count = len(self.vocabularies[node_type])
            if rows.numel() and int(rows.max()) >= count:
                raise UsageError(f"interactions name {node_type} row {int(rows.max())}, but there are {count} {node_type} ids")
        review = self.interactions.review
        if review is not None and review.numel():
            count = 0 if self.reviews is None else len(self.reviews)
            if not -1 <= int(review.min()) <= int(review.max()) < count:
                raise UsageError(f"interactions name review row {int(review.max())}, but there are {count} reviews (-1 for none)")
        if self.triples is not None:
            for column, kind in (("head", "entity"), ("tail", "entity"), ("relation", "relation")):
                rows = getattr(self.triples, column)
                if rows.numel() and int(rows.max()) >= len(self.vocabularies[kind]):
                    count = len(self.vocabularies[kind])
                    raise UsageError(f"triples name {kind} row {int(rows.max())}, but there are {count} {kind} ids")
        for table in self.features.values():
            count = len(self.vocabularies[table.node_type])
            if table.num_rows != count:
                raise UsageError(f"features {table.name!r} have {table.num_rows} rows, but there are {count} {table.node_type} ids")
        for node_type, frame in self.attributes.items():
            count = len(self.vocabularies[node_type])
            if len(frame) != count:
                raise UsageError(f"attributes of {node_type} have {len(frame)} rows, but there are {count} {node_type} ids")
        if self.given_split is not None and len(self.given_split) != len(self.interactions):
            raise UsageError(
                f"the given split has {len(self.given_split)} rows, but there are {len(self.interactions)} interactions"
            )

    @classmethod
    def from_pyg(
        cls,
        data: "HeteroData",
        user: str = "user",
        item: str = "item",
        *,
        edge: tuple[str, str, str] | str | None = None,
        rating: str | None = None,
        time: str | None = None,
        time_format: str = "auto",
        name: str = "pyg",
    ) -> "Dataset":
        """Read users, items, interactions and features from a ``HeteroData``; other nodes and edges are ignored.

        Raw ids are those of ``id``, ``node_id`` or ``n_id``, else row numbers. A float attribute ``[N, D]`` or ``[N, T, D]``, and
        ``x`` of any type, is a modality under its own name (``user_x`` for that of users); it is missing for nodes with False in
        ``NAME_mask`` or, without a mask, with only NaN or zeros. One-dimensional attributes and lists are columns of a table, of
        which ``title`` or ``name`` is used for display. Masks of edges (``train_mask``, ``val_mask``, ``test_mask``) are the given
        split. Repeated pairs are kept.

        Args:
            data: Graph with users, items and interactions.
            user: Node type of the users.
            item: Node type of the items.
            edge: Edge type between them, in either direction, or the name of its relation; required if there are several.
            rating: Edge attribute of ratings; None looks for a usual name such as ``rating`` or ``edge_label``, ``"none"`` ignores
                ratings.
            time: Edge attribute of times; likewise.
            time_format: Form of the times, as in :class:`~gmmrec.data.load.DataConfig`.
            name: Name shown in reports.

        Raises:
            DataError: A type is missing or ambiguous, or an attribute cannot be used.
        """
        found = read_pyg(data, Source(user, item, edge, rating, time, time_format))
        return cls(name, found.vocabularies, found.interactions, found.features, found.attributes, found.given_split)

    @property
    def num_users(self) -> int:
        """Number of users, with or without interactions."""
        return len(self.vocabularies["user"])

    @property
    def num_items(self) -> int:
        """Number of items, with or without interactions."""
        return len(self.vocabularies["item"])
