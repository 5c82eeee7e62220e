"""Outfits completed item by item: greedily, or by beam search over a pool."""

from collections.abc import Hashable, Sequence

import pandas as pd
import torch
from torch import Tensor

from gmmrec.abilities import EndsOutfits, GeneratesText, ReadsHistories, offered
from gmmrec.data.outfits import Outfits
from gmmrec.data.parts import TRAIN
from gmmrec.evaluation.text import plain
from gmmrec.nn.beam import Beams, beam_search
from gmmrec.recommender import AnyRecommender, Encoded
from gmmrec.serving.service import Service
from gmmrec.tasks.next_item import Timeline
from gmmrec.tasks.query import OutfitQuery


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
    """The likeliest ways to complete outfits, each set of items once; see :func:`gmmrec.nn.beam.beam_search`.

    Args:
        model: Asked with what is there so far in every step; it scores the pool, and says when to end where it can.
        encoded: What ``model.encode`` returned.
        query: Outfits ``[B]`` as they begin; a beginning may be empty.
        pool: Rows of the items to choose from ``[P]``; those that are there already are never chosen.
        width: Completions to follow, and to return; 1 is the greedy choice.
        min_new: Items to add, at least.
        max_new: Items to add, at most.
        kind: Of every item of the catalogue ``[I]``, -1 where it is not known; an outfit then gets no second item of a kind.
    """
    there = torch.where(query.outfit_mask, query.outfit, -1)
    banned = (pool[None, :, None] == there[:, None, :]).any(-1)
    kinds = None if kind is None else kind[pool]
    if kind is not None and kinds is not None:
        known = torch.where(query.outfit_mask, kind[query.outfit], -1)
        banned |= ((kinds[None, :, None] == known[:, None, :]) & (known >= 0)[:, None, :]).any(-1)

    ending = offered(model, EndsOutfits)

    def step(chosen: Tensor) -> tuple[Tensor, Tensor | None]:
        searches, width, length = chosen.shape
        part = query.take(torch.arange(searches, device=pool.device).repeat_interleave(width))
        new = chosen.reshape(searches * width, length)
        asked = OutfitQuery(
            part.user,
            torch.cat([part.outfit, pool[new.clamp(min=0)]], 1),
            torch.cat([part.outfit_mask, new >= 0], 1),
            part.history,
            part.history_mask,
        )
        end = None if ending is None else ending.end_score(encoded, asked)
        scores = model.score(encoded, asked, pool).view(searches, width, -1)
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
    """The ``k`` likeliest outfits that hold some items.

    Args:
        service: Knows the model, its ids and what users did.
        outfits: Those of the data: they say how large outfits are, and of what kind items are.
        items: Raw ids of the items that are there; may be none.
        user: Raw id of the one for whom it is; None for nobody in particular.
        k: Number of outfits; fewer where the pool has no more.
        pool: Raw ids of the items to choose from; all where not given.
        beam: Outfits that are followed at once, at least ``k``; 1, with ``k`` 1, is the greedy choice.
        min_items: Items of an outfit, at least; one more than are there where not given.
        max_items: Items of an outfit, at most; where not given, the most usual number in training, but one more than are there at
            least.
        one_per_category: Whether no two items may be of one category.
        words: The word of every id, for models that write comments.

    Returns:
        A row an item: ``outfit`` (from 1, the likeliest first), ``item_id``, ``given`` (whether it was there before),
        ``probability`` (of the item, of all that could be chosen; 1 for what was there), ``score`` (log probability of what was
        added), ``title`` where known, and ``comment`` (on what was added, beside all the rest) of a model that writes them.

    Raises:
        KeyError: An id is unknown.
        ValueError: The model completes no outfits, an item is given twice, or sizes contradict each other.
    """
    if len(set(items)) < len(items):
        raise ValueError("an item is given twice; give every item of the outfit once")
    rows = service.items.rows(list(items))  # [n]
    query = _query(service, rows, user)
    usual = 0 if outfits is None else int(outfits.items.counts[outfits.part == TRAIN].bincount().argmax())
    least = len(rows) + 1 if min_items is None else min_items
    most = max(usual, least) if max_items is None else max_items
    if k < 1 or beam < 1 or not len(rows) < most or least > most:
        raise ValueError(
            f"k and beam must be 1 or more, and {len(rows)} < max_items >= min_items; but they are {k}, {beam}, {most} and {least}"
        )
    kind = None if outfits is None else outfits.category
    if one_per_category and kind is None:
        raise ValueError("the items have no categories to tell apart; leave one_per_category out")
    device = service.graph.degree("item").device
    choice = torch.arange(len(service.items)) if pool is None else torch.unique(service.items.rows(list(pool)))
    found = complete(
        service.model,
        service.encoded,
        query.to(device),
        choice.to(device),
        width=max(beam, k),
        min_new=max(0, least - len(rows)),
        max_new=most - len(rows),
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
        raise ValueError("the pool holds nothing that could be added; give a larger one")
    outfits_found: pd.DataFrame = pd.concat(frames, ignore_index=True)
    return outfits_found


def _query(service: Service, rows: Tensor, user: Hashable | None) -> OutfitQuery:
    """One outfit as it begins, with all that is known of its user."""
    query_type, outfit, mask = service.model.query_type, rows[None], torch.ones(1, len(rows), dtype=torch.bool)
    if user is None:
        return query_type.for_outfits(torch.tensor([-1]), outfit, mask)
    row, log, reader = service.users.rows([user]), service.log, offered(service.model, ReadsHistories)
    if log is None or reader is None:
        return query_type.for_outfits(row, outfit, mask)
    timeline, length = Timeline(log, len(service.users)), reader.history_length
    return query_type.for_outfits(row, outfit, mask, lambda users: timeline.of(users, length))


@torch.no_grad()
def _comments(model: GeneratesText, encoded: Encoded, outfit: Tensor, new: int, words: Sequence[str]) -> list[str]:
    """What is said about each of the last ``new`` items of an outfit ``[n]`` beside all others; nothing about one that is alone."""
    if len(outfit) == 1:
        return [""]
    column = torch.arange(len(outfit) - new, len(outfit), device=outfit.device)
    whole = OutfitQuery(torch.full_like(outfit[:1], -1), outfit[None], torch.ones_like(outfit[None], dtype=torch.bool))
    return plain(model.comment(encoded, whole.without(torch.zeros_like(column), column), outfit[column]), words)
