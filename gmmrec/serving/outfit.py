"""Outfit completion, item by item: greedy or by beam search over a pool."""

import logging
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from gmmrec.abilities import GeneratesText, ReadsHistories, StopsOutfits, offered
from gmmrec.data.outfits import Outfits
from gmmrec.data.parts import TRAIN
from gmmrec.errors import UsageError
from gmmrec.evaluation.scoring import tiled_scores
from gmmrec.evaluation.text import plain
from gmmrec.nn.beam import Beams, beam_search
from gmmrec.recommender import AnyRecommender, Encoded
from gmmrec.renamed import refuse_old_names
from gmmrec.serving.ids import known_row, known_rows, listed, switch, whole_number
from gmmrec.serving.service import Service
from gmmrec.tasks.next_item import Timeline
from gmmrec.tasks.query import OutfitQuery

logger = logging.getLogger(__name__)

WIDEST = 10_000
"""Maximum number of outfits, and of beams."""


def complete(
    model: AnyRecommender,
    encoded: Encoded,
    query: OutfitQuery,
    pool: Tensor,
    *,
    width: int,
    min_new: int,
    max_new: int,
    kind: Tensor | None = None,
) -> Beams:
    """Return the most likely completions of outfits, each set of items once; see :func:`gmmrec.nn.beam.beam_search`.

    Args:
        model: Scores the pool given the items so far in every step, and the end of the outfit if it can.
        encoded: What ``model.encode`` returned.
        query: Partial outfits ``[B]``; they may be empty.
        pool: Rows of the items to choose from ``[P]``; given items are never chosen again.
        width: Beam width and number of completions returned; 1 is greedy.
        min_new: Minimum number of items to add.
        max_new: Maximum number of items to add.
        kind: Category of every item of the catalogue ``[I]``, -1 if unknown, to allow at most one item per category.
    """
    given = torch.where(query.outfit_mask, query.outfit, -1)
    banned = (pool[None, :, None] == given[:, None, :]).any(-1)
    kinds = None if kind is None else kind[pool]
    if kind is not None and kinds is not None:
        known = torch.where(query.outfit_mask, kind[query.outfit], -1)
        banned |= ((kinds[None, :, None] == known[:, None, :]) & (known >= 0)[:, None, :]).any(-1)

    ending = offered(model, StopsOutfits)

    def step(chosen: Tensor) -> tuple[Tensor, Tensor | None]:
        searches, width, length = chosen.shape
        part = query.take(torch.arange(searches, device=pool.device).repeat_interleave(width))
        new = chosen.reshape(searches * width, length)
        extended = OutfitQuery(
            part.user,
            torch.cat([part.outfit, pool[new.clamp(min=0)]], 1),
            torch.cat([part.outfit_mask, new >= 0], 1),
            part.history,
            part.history_mask,
        )
        end = None if ending is None else ending.stop_score(encoded, extended)
        scores = tiled_scores(model, encoded, extended, pool).view(searches, width, -1)
        return scores, None if end is None else end.view(searches, width)

    with torch.no_grad():
        return beam_search(step, banned, width=width, min_length=min_new, max_length=max_new, kind=kinds, as_sets=True)


def complete_outfit(
    service: Service,
    outfits: Outfits | None,
    items: Sequence[Hashable],
    user: Hashable | None = None,
    k: int = 5,
    *,
    pool: Sequence[Hashable] | None = None,
    beam: int = 20,
    min_items: int | None = None,
    max_items: int | None = None,
    one_per_category: bool = False,
    words: Sequence[str] = (),
) -> pd.DataFrame:
    """Return the ``k`` most likely outfits that contain given items.

    Args:
        service: Model, ids and histories.
        outfits: Outfits of the data, the source of default sizes and of item categories.
        items: Raw ids of the given items; may be empty.
        user: Raw id of the user the outfits are for; None for no particular user.
        k: Number of outfits; fewer if the pool is too small.
        pool: Raw ids of the items to choose from; all by default. Items without training outfits, training interactions and
            features are left out.
        beam: Beam width, at least ``k``; 1 with ``k`` 1 is greedy.
        min_items: Minimum size of an outfit; by default one more than given.
        max_items: Maximum size of an outfit; by default the most frequent size in training, but at least one more than given.
        one_per_category: Whether to allow at most one item per category.
        words: Word of every id, for models that generate comments.

    Returns:
        One row per item: ``outfit`` (from 1, most likely first), ``item_id``, ``given`` (whether it was given), ``probability``
        (of the item among all possible choices; 1 for given items), ``score`` (log probability of the added items), ``title`` if
        known, and ``comment`` (on each added item, given the rest of the outfit) for models that generate them.

    Raises:
        UnknownIdError: An id is unknown.
        WrongTypeError: An argument is of a wrong type, such as a single id in place of a list.
        UsageError: The model does not complete outfits, an item is given twice, nothing is known of it, or sizes contradict each
            other.
    """
    k, beam = (whole_number(name, value, most=WIDEST) for name, value in (("k", k), ("beam", beam)))
    limits = {"min_items": min_items, "max_items": max_items}
    min_items, max_items = (None if value is None else whole_number(name, value, least=0) for name, value in limits.items())
    one_per_category = switch("one_per_category", one_per_category)
    rows, _ = known_rows(service.items, listed("items", items, "item ids"), skippable=False)  # [n]
    if len(rows.unique()) < len(rows):
        raise UsageError("an item is given twice; give every item of the outfit once")
    known = _known_items(service, outfits)
    if not bool(known[rows].all()):
        raise UsageError(f"{service.unknown_items(rows[~known[rows]])}; leave it out of the outfit")
    query = _query(service, rows, user)
    usual = 0 if outfits is None else int(outfits.items.counts[outfits.part == TRAIN].bincount().argmax())
    least = len(rows) + 1 if min_items is None else min_items
    most = max(usual, least) if max_items is None else max_items
    if not len(rows) < most or least > most:
        raise UsageError(
            f"expected max_items above {len(rows)} and min_items up to max_items, but got max_items {most}, min_items {least}"
        )
    kind = None if outfits is None else outfits.category
    if one_per_category and kind is None:
        raise UsageError("the items have no categories; leave one_per_category out")
    device = service.graph.degree("item").device
    choice = torch.nonzero(known).flatten()
    if pool is not None:
        rows_given = torch.unique(known_rows(service.items, listed("pool", pool, "item ids"), skippable=False)[0])
        if not bool(known[rows_given].all()):
            logger.warning("%s; left out of the pool", service.unknown_items(rows_given[~known[rows_given]]))
        choice = rows_given[known[rows_given]]
        if not len(choice):
            raise UsageError("the pool has no item to add; give a larger one")
    found = complete(
        service.model,
        service.encoded,
        query.to(device),
        choice.to(device),
        width=max(beam, k),
        min_new=max(0, least - len(rows)),
        max_new=min(most - len(rows), len(choice)),
        kind=kind.to(device) if one_per_category and kind is not None else None,
    )
    frames, writer = [], offered(service.model, GeneratesText)
    for position in range(min(k, found.score.shape[1])):
        if bool(found.score[0, position].isinf()) or not int(found.lengths[0, position]):
            break
        new = choice[found.chosen[0, position, : int(found.lengths[0, position])].cpu()]
        whole = torch.cat([rows, new])
        frame = pd.DataFrame({"outfit": position + 1, "item_id": service.items.ids(whole)})
        frame["given"] = torch.arange(len(whole)).numpy() < len(rows)
        frame["probability"] = torch.cat([torch.ones(len(rows)), found.steps[0, position, : len(new)].cpu().exp()]).numpy()
        frame["score"] = float(found.score[0, position])
        if service.titles is not None:
            frame["title"] = service.titles.iloc[whole.numpy()].to_numpy()
        if words and writer is not None and writer.can_comment:
            frame["comment"] = [""] * len(rows) + _comments(writer, service.encoded, whole.to(device), len(new), words)
        frames.append(frame)
    if not frames:
        raise UsageError("the pool has no item to add; give a larger one")
    outfits_found: pd.DataFrame = pd.concat(frames, ignore_index=True)
    return outfits_found


def _known_items(service: Service, outfits: Outfits | None) -> Tensor:
    """Return the mask of items ``[I]`` that the model knows, also by training outfits."""
    known = service.known_items.cpu().clone()
    if outfits is not None:
        known[outfits.items.values[(outfits.part == TRAIN)[outfits.items.groups]]] = True
    return known


def _query(service: Service, rows: Tensor, user: Hashable | None) -> OutfitQuery:
    """Return a query for one partial outfit, with the history of its user."""
    query_type, outfit, mask = service.model.query_type, rows[None], torch.ones(1, len(rows), dtype=torch.bool)
    if user is None:
        return query_type.for_outfits(torch.tensor([-1]), outfit, mask)
    row, log, reader = torch.tensor([known_row(service.users, user)]), service.log, offered(service.model, ReadsHistories)
    if log is None or reader is None:
        return query_type.for_outfits(row, outfit, mask)
    timeline, length = Timeline(log, len(service.users)), reader.history_length
    return query_type.for_outfits(row, outfit, mask, lambda users: timeline.of(users, length))


@torch.no_grad()
def _comments(model: GeneratesText, encoded: Encoded, outfit: Tensor, new: int, words: Sequence[str]) -> list[str]:
    """Return comments on each of the last ``new`` items of an outfit ``[n]``, given all others; empty for a single item."""
    if len(outfit) == 1:
        return [""]
    column = torch.arange(len(outfit) - new, len(outfit), device=outfit.device)
    whole = OutfitQuery(torch.full_like(outfit[:1], -1), outfit[None], torch.ones_like(outfit[None], dtype=torch.bool))
    return plain(model.comment(encoded, whole.without(torch.zeros_like(column), column), outfit[column]), words)


if not TYPE_CHECKING:
    __getattr__ = refuse_old_names(__name__)
