"""Tables: what every reader hands over, in raw ids, before anything becomes a row number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmmrec.data.tokens import TokenNames


@dataclass(frozen=True)
class RawFeatures:
    """One modality as a file holds it.

    Attributes:
        name: The modality.
        source: File name, for messages.
        values: ``[n, D]`` or ``[n, T, D]``, any float type.
        ids: Raw id of every row, or None where row ``i`` belongs to the integer id ``i``.
        mask: ``values.shape[:-1]``, or None where all rows (that are not all zero) hold a value.
        node_type: Whose features these are.
        tokens: What its tokens are, where that is known.
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
    """Sets of items.

    Attributes:
        items: Columns ``group`` (the outfit's number) and ``item``, a row an item, ascending by outfit.
        part: Part of each ``[N]``, as codes of :class:`~gmmrec.data.parts.SplitPart`.
        user: For whom each was made ``[N]``, missing for nobody in particular; None where that is not known of any.
        history: Columns ``group`` and ``item``: what the user had taken before, oldest first.
        blanks: Columns ``group`` (the question's number) and ``item`` of what is left, and ``group``, ``item`` and ``right`` of the
            candidates.
        sets: Columns ``group``, ``item`` and ``real``: sets to be judged.
        text: What was written about each ``[N]``, missing where nothing was; None where there is no such thing.
    """

    items: pd.DataFrame
    part: NDArray[np.int64]
    user: "pd.Series[Any] | None" = None
    history: pd.DataFrame | None = None
    blanks: tuple[pd.DataFrame, pd.DataFrame] | None = None
    sets: pd.DataFrame | None = None
    text: "pd.Series[Any] | None" = None


@dataclass(frozen=True)
class RawImpressions:
    """What people were shown; items are given as positions in ``items``, one impression behind the other.

    Attributes:
        user: Raw ids ``[N]``.
        items: Raw id of every item that was shown or clicked.
        shown: Items ``[n]``.
        num_shown: How many of them belong to each impression ``[N]``.
        clicked: Whether each was clicked ``[n]``.
        history: What the user had clicked before, oldest first ``[m]``.
        num_history: How many of them belong to each impression ``[N]``.
        part: Part of each ``[N]``, as codes of :class:`~gmmrec.data.parts.SplitPart`.
        time: Seconds since 1970 ``[N]``.
        history_time: The same of the history ``[m]``, or None.
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
        name: Shown in reports.
        log: Columns ``user`` and ``item`` (raw ids), and where known ``time`` (int64, Unix seconds), ``weight`` (float32),
            ``split`` (int8, codes of :class:`~gmmrec.data.parts.SplitPart`) and ``review`` (text, missing where nothing was
            written).
        attributes: By node type: a table whose column ``id`` holds raw ids.
        features: All modalities.
        text_ids: Node types whose ids are declared to be strings, even where they look like integers.
        triples: Facts: columns ``head``, ``relation``, ``tail`` (raw ids) and, where known, ``split``; None where there are none.
        alignment: The entity that an item is: columns ``item`` and ``entity`` (raw ids).
        outfits: Sets of items, where there are any.
        impressions: What people were shown, where that is known.
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
