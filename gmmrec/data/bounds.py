"""Validation of a split that was read from a file: every row exists, every type and shape is what models expect."""

from collections.abc import Mapping

import torch

from gmmrec.data.impressions import Impressions
from gmmrec.data.interactions import Interactions
from gmmrec.data.outfits import Outfits
from gmmrec.data.parts import SplitPart
from gmmrec.data.ragged import Ragged
from gmmrec.data.split import Split
from gmmrec.data.triples import Triples
from gmmrec.errors import DataError
from gmmrec.safety.tensors import check_finite, check_tensor

ROWS = (torch.int64,)
CODES = (torch.int8, torch.int32, torch.int64)
FLAGS = (torch.bool,)


def check_split(split: Split, sizes: Mapping[str, int], num_words: int = 0) -> None:
    """Check that a split fits its vocabularies.

    Args:
        split: Split read from a file.
        sizes: Number of ids by node type.
        num_words: Number of word ids of texts; 0 without texts.

    Raises:
        DataError: A tensor has another type or shape, or holds a row outside of its vocabulary; the message names it.
    """
    for name in ("train", "valid", "test", "support"):
        log: Interactions | None = getattr(split, name)
        if log is not None:
            _check_log(log, name, sizes)
    if split.impressions is not None:
        _check_impressions(split.impressions, sizes)
    if split.outfits is not None:
        _check_outfits(split.outfits, sizes, num_words)
    if split.triples is not None:
        _check_triples(split.triples, sizes)


def _check_log(log: Interactions, name: str, sizes: Mapping[str, int]) -> None:
    check_tensor(log.user, f"{name}.user", (None,), ROWS, 0, sizes["user"])
    count = len(log)
    check_tensor(log.item, f"{name}.item", (count,), ROWS, 0, sizes["item"])
    if log.time is not None:
        check_tensor(log.time, f"{name}.time", (count,), ROWS)
    if log.weight is not None:
        check_tensor(log.weight, f"{name}.weight", (count,), (torch.float32,))
        check_finite(log.weight, f"{name}.weight")
    if log.review is not None:
        check_tensor(log.review, f"{name}.review", (count,), ROWS, -1)


def _check_lists(lists: Ragged, name: str, high: int, count: int | None = None) -> None:
    check_tensor(lists.values, f"{name}.values", (None,), ROWS, 0, high)
    check_tensor(lists.indptr, f"{name}.indptr", (None if count is None else count + 1,), ROWS, 0, lists.values.numel() + 1)
    indptr = lists.indptr
    if not len(indptr) or int(indptr[0]) != 0 or int(indptr[-1]) != lists.values.numel() or bool((indptr.diff() < 0).any()):
        raise DataError(f"'{name}.indptr' does not divide its values")


def _check_impressions(shown: Impressions, sizes: Mapping[str, int]) -> None:
    count = len(shown)
    check_tensor(shown.user, "impressions.user", (None,), ROWS, 0, sizes["user"])
    _check_lists(shown.shown, "impressions.shown", sizes["item"], count)
    _check_lists(shown.history, "impressions.history", sizes["item"], count)
    check_tensor(shown.clicked, "impressions.clicked", (shown.shown.values.numel(),), FLAGS)
    check_tensor(shown.part, "impressions.part", (count,), CODES, 0, len(SplitPart))
    if shown.time is not None:
        check_tensor(shown.time, "impressions.time", (count,), ROWS)
    if shown.history_time is not None:
        check_tensor(shown.history_time, "impressions.history_time", (shown.history.values.numel(),), ROWS)


def _check_outfits(outfits: Outfits, sizes: Mapping[str, int], num_words: int) -> None:
    items = sizes["item"]
    _check_lists(outfits.items, "outfits.items", items)
    count = len(outfits)
    check_tensor(outfits.part, "outfits.part", (count,), CODES, 0, len(SplitPart))
    if outfits.user is not None:
        check_tensor(outfits.user, "outfits.user", (count,), ROWS, -1, sizes["user"])
    if outfits.history is not None:
        _check_lists(outfits.history, "outfits.history", items, count)
    if outfits.category is not None:
        check_tensor(outfits.category, "outfits.category", (items,), ROWS, -1, items)
    if outfits.text is not None:
        check_tensor(outfits.text, "outfits.text", (count, None), (torch.int32, torch.int64), 0, num_words or None)
    tasks, sets = outfits.fill_in_the_blank, outfits.compatibilities
    if tasks is not None:
        _check_lists(tasks.items, "outfits.fill_in_the_blank.items", items)
        _check_lists(tasks.candidates, "outfits.fill_in_the_blank.candidates", items, len(tasks.items))
        check_tensor(tasks.relevant, "outfits.fill_in_the_blank.relevant", (tasks.candidates.values.numel(),), FLAGS)
    if sets is not None:
        _check_lists(sets.items, "outfits.compatibilities.items", items)
        check_tensor(sets.label, "outfits.compatibilities.label", (len(sets),), FLAGS)


def _check_triples(triples: Triples, sizes: Mapping[str, int]) -> None:
    check_tensor(triples.head, "triples.head", (None,), ROWS, 0, sizes.get("entity", 0))
    count = len(triples)
    check_tensor(triples.relation, "triples.relation", (count,), ROWS, 0, sizes.get("relation", 0))
    check_tensor(triples.tail, "triples.tail", (count,), ROWS, 0, sizes.get("entity", 0))
    check_tensor(triples.part, "triples.part", (count,), CODES, 0, len(SplitPart))
    if triples.entity is not None:
        check_tensor(triples.entity, "triples.entity", (sizes["item"],), ROWS, -1, sizes.get("entity", 0))
