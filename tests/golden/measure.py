"""Rows of the golden file: train cases and record every number. Imports PyTorch, so the environment is pinned before."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from torch import Tensor

from tests.golden import access
from tests.golden.cases import BLENDS, RESUMED, SETTINGS, TWO_STAGE, WARM
from tests.golden.data import write_all

Row = dict[str, Any]
USERS = (0, 7, -1)
ITEMS = (0, 3, 17)
HISTORIES = ((0, 4, 8), (3,), (1, 2, 13, 17, 5))
"""Positions among the ids of a run."""


def measure(names: Sequence[str], folder: Path) -> dict[str, Row]:
    """Return the rows of cases by name; data and runs are written to ``folder``."""
    torch.set_num_threads(1)
    write_all(folder / "data")
    cases = Cases(folder)
    return {name: cases.named_row(name) for name in names}


class Cases:
    """Trained cases by name; each is trained once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = cache(self._run)

    def named_row(self, name: str) -> Row:
        """Return the row of a case; errors name the case."""
        try:
            return self.row(name)
        except Exception as error:
            raise RuntimeError(f"case {name} failed: {error}") from error

    def row(self, name: str) -> Row:
        """Return all numbers of a case."""
        run, row = self.run(name), {}
        if name in BLENDS:
            row["blend weights"] = access.blend_weights(run)
        if name in RESUMED:
            uninterrupted = access.train(self.settings(name))
            row["resumed is straight on"] = digest(access.weights(uninterrupted)) == digest(access.weights(run))
        row |= numbers(run)
        folder = access.save(run, self.folder / "saved" / name)
        row |= reloaded(run, access.load(folder))
        return row

    def settings(self, name: str) -> dict[str, Any]:
        """Return the settings of a case, with paths in the working folder."""
        first = self.saved(WARM[name]) if name in WARM else None
        return access.at(read_settings(name), self.folder / "data", first)

    def saved(self, name: str) -> Path:
        """Return the folder of a finished case."""
        folder = self.folder / "first" / name
        return folder if folder.exists() else access.save(self.run(name), folder)

    def _run(self, name: str) -> Any:
        if name in BLENDS:
            members, settings = BLENDS[name]
            return access.blend([self.run(member) for member in members], **settings)
        if name in TWO_STAGE:
            fast, slow, top = TWO_STAGE[name]
            return access.rerank(self.run(fast), self.run(slow), top)
        settings = self.settings(name)
        if name in RESUMED:
            folder = self.folder / "resumed" / name
            access.train(settings, folder, epochs=access.num_epochs(settings) // 2)
            return access.train(settings, folder, resume=True)
        return access.train(settings)


def read_settings(name: str) -> dict[str, Any]:
    """Read a settings file."""
    return yaml.safe_load((SETTINGS / f"{name}.yaml").read_text(encoding="utf-8"))


def numbers(run: Any) -> Row:
    """Return all numbers and answers of a finished run."""
    row: Row = {}
    for part in access.PARTS:
        for task, results in access.evaluations(run, part).items():
            row |= {f"{part}: {task}: {metric}": value for metric, value in sorted(access.means(results).items())}
            row[f"{part}: {task}: queries"] = digest(access.values_per_query(results))
            row[f"{part}: {task}: report"] = digest_text(sorted(map(repr, leaves(access.full_report(results)))))
    for number, (terms, value) in enumerate(access.history(run), 1):
        row[f"epoch {number}: losses"] = sorted(terms)
        row[f"epoch {number}: value"] = value
    row["best epoch"] = access.best_epoch(run)
    row["weights"] = digest(access.weights(run))
    ends = {" ".join(kind): digest_edges(*found) for kind, found in access.edges(run).items()}
    row |= {f"edges: {kind}": value for kind, value in sorted(ends.items())}
    row["edges"] = digest_text(sorted(ends.values()))
    return row | answers(run)


def answers(run: Any) -> Row:
    """Return the answers of a run in raw ids: lists, explanations, completions."""
    row: Row = {}
    kind = access.ability(run)
    if kind == "triples":
        for relation in access.ids(run, "relation"):
            row[f"link: e5 {relation}"] = listing(access.link(run, "e5", relation, 10), "entity_id")
        return row
    if kind == "outfits":
        for items, user in ((("i0", "i4"), "u0"), (("i3",), None)):
            frame = access.complete(run, items, user, 3, len(items) + 1, len(items) + 3)
            row[f"complete: {' '.join(items)} for {user}"] = pairs(frame["item_id"], frame["probability"])
            row[f"complete: {' '.join(items)} for {user}: scores"] = frame["score"].tolist()
            if "comment" in frame:
                row[f"complete: {' '.join(items)} for {user}: comments"] = frame["comment"].tolist()
        return row | alike(run)
    users, items = access.ids(run, "user"), access.ids(run, "item")
    new_users = [[items[position] for position in history] for history in HISTORIES]
    for user in (users[position] for position in USERS):
        row[f"top 10: {user}"] = listing(access.recommend(run, [user], 10), "item_id")
    row["top 10: everybody"] = digest_frame(access.recommend(run, None, 10), "user_id", "item_id")
    row["all scores"] = digest_frame(access.recommend(run, None, 1000, exclude_seen=False), "user_id", "item_id")
    row["top 10: strangers"] = digest_frame(access.recommend_to_new_users(run, new_users, 10), "user_id", "item_id")
    row["top 10: a stranger"] = listing(access.recommend_to_new_users(run, new_users[-1:], 10), "item_id")
    for user, item in ((users[0], items[0]), (users[7], items[17]), (users[-1], items[3])):
        key = f"explain: {user} {item}"
        try:
            row[key] = explained(access.explain(run, user, item))
        except ValueError:
            row[key] = "refused"
    return row | alike(run)


def alike(run: Any) -> Row:
    """Return lists of similar items."""
    items = [access.ids(run, "item")[position] for position in ITEMS]
    return {f"similar: {item}": listing(access.similar(run, [item], 5), "similar_id") for item in items}


def reloaded(run: Any, again: Any) -> Row:
    """Return whether a run reloaded from its folder gives the same numbers."""
    same = [digest(access.weights(run)) == digest(access.weights(again))]
    for part in access.PARTS:
        before, after = access.evaluations(run, part), access.evaluate_again(again, part)
        same.append({n: access.means(r) for n, r in before.items()} == {n: access.means(r) for n, r in after.items()})
    same.append(answers(run) == answers(again))
    return {f"reloaded: same {what}": is_same for what, is_same in zip(("weights", *access.PARTS, "answers"), same, strict=True)}


def explained(frame: pd.DataFrame) -> str:
    """Render weights in order, and a digest of the names of modalities and tokens, so that renames are distinguishable."""
    shown = [repr(float(weight)) for weight in frame["weight"]]
    text = " ".join(shown) if len(shown) <= 12 else f"{len(shown)} weights {digest_text(shown)}"
    return f"{text} | {digest_text([f'{m}/{t}' for m, t in zip(frame['modality'], frame['token'], strict=True)])[:12]}"


def listing(frame: pd.DataFrame, answer: str) -> str:
    """Render ids with scores, best first."""
    return pairs(frame[answer], frame["score"])


def pairs(names: Any, values: Any) -> str:
    """Render ``name value`` pairs, separated by commas."""
    return ", ".join(f"{name} {float(value)!r}" for name, value in zip(names, values, strict=True))


def leaves(value: Any) -> Iterator[float]:
    """Yield all numbers in nested dictionaries and lists."""
    if isinstance(value, dict):
        for each in value.values():
            yield from leaves(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from leaves(each)
    elif isinstance(value, int | float):
        yield float(value)


def digest(tensors: Sequence[Tensor]) -> str:
    """Return the digest of tensors, regardless of order and names."""
    return digest_text(sorted(digest_tensor(tensor) for tensor in tensors))


def digest_edges(ends: Tensor, attributes: Sequence[Tensor]) -> str:
    """Return the digest of edges and their attributes, regardless of names."""
    return digest_text([digest_tensor(ends), *sorted(digest_tensor(each) for each in attributes)])


def digest_tensor(tensor: Tensor) -> str:
    """Return the digest of shape, dtype and bytes."""
    plain = tensor.detach().cpu().contiguous()
    if plain.layout is not torch.strided:
        plain = plain.to_dense()
    content = hashlib.sha256(f"{tuple(plain.shape)} {plain.dtype}".encode())
    content.update(plain.numpy().tobytes())
    return content.hexdigest()


def digest_frame(frame: pd.DataFrame, *columns: str) -> str:
    """Return the digest of some columns and the scores."""
    texts = [frame[column].astype(str).tolist() for column in columns]
    scores = [repr(float(value)) for value in frame["score"]]
    return digest_text([" ".join(cells) for cells in zip(*texts, scores, strict=True)])


def digest_text(lines: Sequence[str]) -> str:
    """Return the digest of lines of text."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


def plain(value: Any) -> Any:
    """Return a value for JSON; non-finite numbers become text."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return [plain(each) for each in value] if isinstance(value, list) else value
