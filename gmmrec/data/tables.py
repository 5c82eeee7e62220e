"""Tables in raw ids: the common output of all readers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmmrec.data.tokens import TokenNames


def with_source(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """Return a table that knows the name of its file, for messages."""
    frame.attrs = {"source": source}
    return frame


def source_name(frame: pd.DataFrame, default: str) -> str:
    """Return the name of the file of a table, if it knows one."""
    return str(frame.attrs.get("source", default))


@dataclass(frozen=True)
class RawFeatures:
    """One modality as read from a file.

    Attributes:
        name: Name of the modality.
        source: File name, for messages.
        values: Vectors ``[n, D]`` or ``[n, T, D]``, any float type.
        ids: Raw id of every row, or None if row ``i`` belongs to the integer id ``i``.
        mask: Mask of shape ``values.shape[:-1]``, or None if all rows (that are not all zero) are present.
        node_type: Node type of the rows.
        tokens: Names of its tokens, if known.
    """

    name: str
    source: str
    values: NDArray[Any]
    ids: "pd.Series[Any] | None" = None
    mask: NDArray[np.bool_] | None = None
    node_type: str = "item"
    tokens: TokenNames | None = None


@dataclass(frozen=True)
class RawOutfits:
    """``N`` outfits in raw ids.

    Attributes:
        items: Columns ``group`` (number of the outfit) and ``item``, one row per item, ascending by outfit.
        part: Part of each outfit ``[N]``, as codes of :class:`~gmmrec.data.parts.SplitPart`.
        user: User each was made for ``[N]``, missing for none; None if unknown.
        history: Columns ``group`` and ``item``: items the user had interacted with before, oldest first.
        fill_in_the_blank: Fill-in-the-blank tasks: columns ``group`` (number of the task) and ``item`` of the remaining items, and
            ``group``, ``item`` and ``relevant`` of the candidates.
        sets: Compatibility tasks: columns ``group``, ``item`` and ``label``.
        text: Text about each ``[N]``, or missing; None without texts.
    """

    items: pd.DataFrame
    part: NDArray[np.int64]
    user: "pd.Series[Any] | None" = None
    history: pd.DataFrame | None = None
    fill_in_the_blank: tuple[pd.DataFrame, pd.DataFrame] | None = None
    sets: pd.DataFrame | None = None
    text: "pd.Series[Any] | None" = None


@dataclass(frozen=True)
class RawImpressions:
    """``N`` impressions; items are positions in ``items``, concatenated over impressions.

    Attributes:
        user: Raw ids of the users ``[N]``.
        items: Raw ids of all items shown or clicked.
        shown: Items shown ``[n]``.
        num_shown: Number of items shown per impression ``[N]``.
        clicked: Mask of the clicked ones ``[n]``.
        history: Items the user had clicked before, oldest first ``[m]``.
        num_history: Length of each history ``[N]``.
        part: Part of each impression ``[N]``, as codes of :class:`~gmmrec.data.parts.SplitPart`.
        time: Seconds since 1970 ``[N]``.
        history_time: Seconds since 1970 of every click of the histories ``[m]``, or None.
    """

    user: "pd.Series[Any]"
    items: "pd.Series[Any]"
    shown: NDArray[np.int64]
    num_shown: NDArray[np.int64]
    clicked: NDArray[np.bool_]
    history: NDArray[np.int64]
    num_history: NDArray[np.int64]
    part: NDArray[np.int64]
    time: NDArray[np.int64]
    history_time: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Tables:
    """A data set in raw ids.

    Attributes:
        name: Name shown in reports.
        log: Columns ``user`` and ``item`` (raw ids) and, if known, ``time`` and ``nanosecond``, or ``order`` (int64, as in
            :class:`~gmmrec.data.interactions.Interactions`), ``weight`` (float32), ``split`` (int8, codes of
            :class:`~gmmrec.data.parts.SplitPart`), ``review`` (text, or missing) and ``liked`` (bool, False for rows that say that
            the user did not like the item; they count no interaction).
        attributes: Tables with a column ``id`` of raw ids, by node type.
        features: All modalities.
        text_ids: Node types whose ids are strings even if they look like integers.
        triples: Columns ``head``, ``relation``, ``tail`` (raw ids) and, if known, ``split``; None without triples.
        alignment: Entity of each aligned item: columns ``item`` and ``entity`` (raw ids).
        outfits: Outfits, if any.
        impressions: Impressions, if any.
    """

    name: str
    log: pd.DataFrame
    attributes: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    features: Sequence[RawFeatures] = ()
    text_ids: frozenset[str] = frozenset()
    triples: pd.DataFrame | None = None
    alignment: pd.DataFrame | None = None
    outfits: RawOutfits | None = None
    impressions: RawImpressions | None = None
