"""Small data sets of every kind, written as files; independent of the toy data of other tests.

All draws come from ``numpy.random.RandomState``, whose streams are frozen.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.random import RandomState

USERS, ITEMS, ENTITIES, TASTES = 48, 36, 44, 4
START = 1_577_880_000  # 2020-01-01 12:00 UTC
PRAISE = (("poor", "weak", "dull"), ("fine", "great", "lovely"))
SUBJECTS = ("cut", "colour", "fabric", "print")
FILLERS = ("the", "a", "is", "and", "really", "quite", "for", "me")


def write_all(folder: Path) -> None:
    """Write the folders ``shop``, ``pictures``, ``knowledge``, ``triples``, ``outfits`` and ``news``."""
    write_shop(folder / "shop")
    write_pictures(folder / "pictures")
    write_knowledge(folder / "knowledge")
    write_triples(folder / "triples")
    write_outfits(folder / "outfits")
    write_news(folder / "news")


def write_shop(folder: Path) -> None:
    """Write interactions with ratings, reviews and times; images and texts of most items, a profile of most users."""
    folder.mkdir(parents=True)
    _log().to_csv(folder / "interactions.csv", index=False)
    items = pd.DataFrame({"item": _items(), "title": [f"Article {row}" for row in range(ITEMS)], "price": np.arange(ITEMS) % 7 + 1})
    items.to_csv(folder / "items.csv", index=False)
    draws = RandomState(11)
    _save(folder / "image_feat.npz", _items(), _content(draws, ITEMS, 6), missing=(3, 17, 29))
    _save(folder / "text_feat.npz", _items(), _content(draws, ITEMS, 5), missing=(8, 17))
    _save(folder / "user_profile_feat.npz", _users(), _content(draws, USERS, 4), missing=(5,))


def write_pictures(folder: Path) -> None:
    """Write the shop with picture regions and word vectors, fewer or none for some items."""
    write_shop(folder)
    draws = RandomState(12)
    for name, tokens, width, missing in (("regions", 9, 6, (4,)), ("words", 5, 4, (8, 20))):
        values = _content(draws, ITEMS, width)[:, None] + 0.5 * draws.randn(ITEMS, tokens, width)
        mask = np.arange(tokens) < draws.randint(2, tokens + 1, ITEMS)[:, None]
        mask[list(missing)] = False
        np.savez(folder / f"{name}_feat.npz", ids=np.array(_items()), values=values.astype(np.float32), mask=mask)


def write_knowledge(folder: Path) -> None:
    """Write the shop with triples, most items aligned with an entity."""
    write_shop(folder)
    _write_triples(folder)
    aligned = [row for row in range(ITEMS) if row % 9 != 4]
    pd.DataFrame({"item": [f"i{row}" for row in aligned], "entity": [f"e{row}" for row in aligned]}).to_csv(
        folder / "alignment.csv", index=False
    )
    _save(folder / "entity_name_feat.npz", _entities(), _content(RandomState(13), ENTITIES, 5), missing=(2, 30))


def write_triples(folder: Path) -> None:
    """Write triples without interactions; entities have a name, words and an image of two regions."""
    folder.mkdir(parents=True)
    _write_triples(folder)
    draws = RandomState(14)
    _save(folder / "name_feat.npz", _entities(), _content(draws, ENTITIES, 5), missing=(2,))
    for name, tokens, width in (("words", 3, 5), ("image", 2, 6)):
        values = _content(draws, ENTITIES, width)[:, None] + 0.5 * draws.randn(ENTITIES, tokens, width)
        mask = np.arange(tokens) < draws.randint(1, tokens + 1, ENTITIES)[:, None]
        mask[7] = False
        np.savez(folder / f"{name}_feat.npz", ids=np.array(_entities()), values=values.astype(np.float32), mask=mask)


def write_outfits(folder: Path) -> None:
    """Write the shop with outfits, their users, histories and texts; items have categories."""
    write_shop(folder)
    draws, rows = RandomState(15), []
    for user in range(USERS):
        for number in range(4):
            liked = draws.permutation([item for item in range(ITEMS) if item % TASTES == user % TASTES or draws.rand() < 0.2])
            size = draws.randint(2, 5)
            rows.append(
                {
                    "outfit": f"o{user}_{number}",
                    "user": f"u{user}",
                    "items": " ".join(f"i{item}" for item in liked[:size]),
                    "history": " ".join(f"i{item}" for item in liked[size : size + 3]),
                    "text": _sentence(draws, user % TASTES, liked=True),
                    "split": ("train", "train", "valid", "test")[number],
                }
            )
    pd.DataFrame(rows).to_csv(folder / "outfits.csv", index=False)
    kinds = [f"kind {row // TASTES % 5}" for row in range(ITEMS)]
    pd.DataFrame({"item": _items(), "title": [f"Article {row}" for row in range(ITEMS)], "category": kinds}).to_csv(
        folder / "items.csv", index=False
    )


def write_news(folder: Path) -> None:
    """Write impressions with shown and clicked items and earlier clicks; images and texts of most items."""
    folder.mkdir(parents=True)
    draws, lines = RandomState(16), []
    past: dict[int, list[int]] = {}
    for number in range(240):
        user = int(draws.randint(USERS))
        shown = draws.permutation(ITEMS)[: draws.randint(4, 9)]
        clicked = [bool(draws.rand() < (0.7 if item % TASTES == user % TASTES else 0.15)) for item in shown]
        time = pd.Timestamp(START + 3607 * number, unit="s").strftime("%m/%d/%Y %I:%M:%S %p")
        history = past.setdefault(user, [int(item) for item in draws.permutation(np.arange(user % TASTES, ITEMS, TASTES))[:3]])
        earlier = " ".join(f"i{item}" for item in history)
        seen = " ".join(f"i{item}-{int(is_clicked)}" for item, is_clicked in zip(shown, clicked, strict=True))
        lines.append(f"{number}\tu{user}\t{time}\t{earlier}\t{seen}\n")
        history += [int(item) for item, is_clicked in zip(shown, clicked, strict=True) if is_clicked]
    (folder / "behaviors.tsv").write_text("".join(lines), encoding="utf-8")
    draws = RandomState(17)
    _save(folder / "image_feat.npz", _items(), _content(draws, ITEMS, 6), missing=(3, 17))
    values = _content(draws, ITEMS, 5)[:, None] + 0.5 * draws.randn(ITEMS, 4, 5)
    mask = np.arange(4) < draws.randint(1, 5, ITEMS)[:, None]
    mask[8] = False
    np.savez(folder / "text_feat.npz", ids=np.array(_items()), values=values.astype(np.float32), mask=mask)


def _users() -> list[str]:
    return [f"u{row}" for row in range(USERS)]


def _items() -> list[str]:
    return [f"i{row}" for row in range(ITEMS)]


def _entities() -> list[str]:
    return [f"e{row}" for row in range(ENTITIES)]


def _log() -> pd.DataFrame:
    """Return a log of users who mostly choose items of their taste and rate them higher; some interactions share a timestamp."""
    draws, rows = RandomState(10), []
    for user in range(USERS):
        chance = np.where(np.arange(ITEMS) % TASTES == user % TASTES, 0.75, 0.12) * (1.2 - np.arange(ITEMS) / ITEMS)
        items = draws.permutation(np.flatnonzero(draws.rand(ITEMS) < chance + 0.03))
        time = START + 86_400 * user // 2
        for number, item in enumerate(items):
            liked = bool(item % TASTES == user % TASTES)
            time += int(draws.randint(1, 40) * 3600) if number != 4 else 0
            rows.append(
                {
                    "user": f"u{user}",
                    "item": f"i{item}",
                    "rating": int(draws.randint(3, 6) if liked else draws.randint(1, 4)),
                    "timestamp": time,
                    "review": _sentence(draws, item % TASTES, liked=liked) if draws.rand() < 0.85 else "",
                }
            )
    return pd.DataFrame(rows)


def _sentence(draws: RandomState, subject: int, *, liked: bool) -> str:
    words = [SUBJECTS[subject], PRAISE[liked][draws.randint(3)], *(FILLERS[draws.randint(8)] for _ in range(draws.randint(2, 7)))]
    return " ".join(words[position] for position in draws.permutation(len(words)))


def _content(draws: RandomState, rows: int, width: int) -> np.ndarray:
    """Return vectors of the taste of each row, with noise."""
    return draws.randn(TASTES, width)[np.arange(rows) % TASTES] + 0.6 * draws.randn(rows, width)


def _save(path: Path, ids: list[str], values: np.ndarray, missing: tuple[int, ...]) -> None:
    present = [row for row in range(len(ids)) if row not in missing]
    np.savez(path, ids=np.array(ids)[present], values=values[present].astype(np.float32))


def _write_triples(folder: Path) -> None:
    draws, triples = RandomState(18), set()
    for entity in range(ENTITIES):
        triples |= {(entity, "next", (entity + TASTES) % ENTITIES), (entity, "near", int(draws.randint(ENTITIES)))}
        triples |= {(entity, "of_kind", entity % TASTES)} if entity >= TASTES else set()
    rows = sorted(triples)
    part = np.array(["train", "valid", "test"])[(draws.rand(len(rows)) > 0.8).astype(int) * draws.randint(1, 3, len(rows))]
    table = pd.DataFrame(
        [(f"e{head}", relation, f"e{tail}") for head, relation, tail in rows], columns=["head", "relation", "tail"]
    )
    table.assign(split=part).to_csv(folder / "triples.csv", index=False)
    names = pd.DataFrame({"entity": _entities(), "title": [f"Thing {row}" for row in range(ENTITIES)]})
    names.to_csv(folder / "entities.csv", index=False)
