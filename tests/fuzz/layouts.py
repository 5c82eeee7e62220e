"""Data folders in all layouts that are read: valid ones, of which the interactions are known, and damaged ones."""

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.fuzz.arrays import archives, arrays, npy, npz
from tests.fuzz.case import Case
from tests.fuzz.damage import Content, damaged, written
from tests.fuzz.tables import Form, Table, forms

STYLES: tuple[Callable[[int], str], ...] = (
    lambda n: str(n),
    lambda n: str(n + 1),
    lambda n: str(n * 10**15 + 3),
    lambda n: f"u{n}",
    lambda n: f"{n:03}",
    lambda n: f"B00{n}X",
    lambda n: f"né{n}",
    lambda n: f"a b{n}",
    lambda n: f"{n}.jpg",
)
"""Spellings of ids; all but the first three are strings."""
WORDS = tuple(style for style in STYLES if " " not in style(1))
"""Spellings for layouts that separate ids by spaces."""
FOLDERS = ("data", "my data", "dätä", "a'b", "100%", "{x}", "a,b", "-x", "d.csv")
TIMES = (0, 1, 978300760, 1500000000, 1500000000, 1600000001)


@dataclass(frozen=True)
class Layout:
    """A valid folder: its files, and the interactions that must be read."""

    files: Mapping[str, Content]
    pairs: tuple[tuple[str, str], ...] | None = None
    weights: tuple[float, ...] | None = None
    times: tuple[int, ...] | None = None


@st.composite
def logs(draw: st.DrawFn, styles: tuple[Callable[[int], str], ...] = STYLES, least: int = 1) -> list[tuple[str, str, int, int]]:
    """Distinct pairs of users and items, each with a rating and a time."""
    user, item = draw(st.sampled_from(styles)), draw(st.sampled_from(styles))
    numbers = draw(st.lists(st.integers(0, 6 * 7 * 5 * 6 - 1), min_size=least, max_size=12, unique_by=lambda n: n % 42))
    return [(user(n % 6), item(n // 6 % 7), n // 42 % 5 + 1, TIMES[n // 210]) for n in numbers]


@st.composite
def interaction_tables(draw: st.DrawFn, separator: str = ",") -> tuple[Table, Layout]:
    log = draw(logs())
    user, item = draw(st.sampled_from((("user", "item"), ("userId", "movieId"), ("user_id", "asin"), ("uid", "iid"))))
    with_rating, with_time = draw(st.booleans()), draw(st.booleans())
    header = [user, item, *["rating"] * with_rating, *["timestamp"] * with_time]
    rows = tuple((u, i, *[str(r)] * with_rating, *[str(t)] * with_time) for u, i, r, t in log)
    right = Layout(
        {},
        tuple((u, i) for u, i, _, _ in log),
        tuple(float(r) for _, _, r, _ in log) if with_rating else None,
        tuple(t for *_, t in log) if with_time else None,
    )
    return Table(tuple(header), rows, draw(forms(separator))), right


@st.composite
def single_tables(draw: st.DrawFn) -> Layout:
    """One table of interactions, in a file."""
    suffix = draw(st.sampled_from((".csv", ".tsv", ".csv.gz", ".tsv.gz")))
    table, right = draw(interaction_tables("\t" if "tsv" in suffix else ","))
    table = replace(table, form=replace(table.form, gzipped=suffix.endswith(".gz")))
    return replace(right, files={f"log{suffix}": table})


@st.composite
def folders(draw: st.DrawFn) -> Layout:
    """The package's own layout, with tables of items and users, a split and features."""
    name = draw(st.sampled_from(("interactions", "ratings", "reviews", "checkins")))
    table, right = draw(interaction_tables())
    files: dict[str, Content] = {f"{name}.csv": table}
    assert right.pairs is not None
    items = sorted({item for _, item in right.pairs})
    users = sorted({user for user, _ in right.pairs})
    if draw(st.booleans()):
        rows = tuple((item, f"title, {n}", str(n)) for n, item in enumerate(items))
        files["items.csv"] = Table(("item", "title", "year"), rows, draw(forms()))
    if draw(st.booleans()):
        files["users.csv"] = Table(("user", "age"), tuple((user, str(n)) for n, user in enumerate(users)), draw(forms()))
    if draw(st.booleans()):
        labels = ("train", "valid", "test")
        rows = tuple((*pair, labels[n % 3]) for n, pair in enumerate(right.pairs))
        files["split.csv"] = Table(("user", "item", "split"), rows, draw(forms()))
    if draw(st.booleans()):
        ids = np.array([int(item) for item in items]) if all(map(_is_plain, items)) else np.array(items)
        files["image_feat.npz"] = npz({"ids": ids, "values": np.ones((len(items), 2), np.float32)})
    return replace(right, files=files)


def _is_plain(text: str) -> bool:
    return text.isdecimal() and str(int(text)) == text


@st.composite
def atomic(draw: st.DrawFn) -> Layout:
    """RecBole's atomic files, with vectors in the table of items, and triples."""
    log = draw(logs())
    form = draw(forms("\t", quoted=False))
    rows = tuple((u, i, str(r), str(t)) for u, i, r, t in log)
    header = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
    files: dict[str, Content] = {}
    if draw(st.booleans()):
        files["d.inter"] = Table(header, rows, form)
    else:
        for n, part in enumerate(("train", "valid", "test")):
            if rows[n::3]:
                files[f"d.{part}.inter"] = Table(header, rows[n::3], form)
        log = [entry for n in range(3) for entry in log[n::3]]
    items = sorted({entry[1] for entry in log})
    if draw(st.booleans()):
        rows = tuple((item, f"title {n}", f"{n} 0.5") for n, item in enumerate(items))
        files["d.item"] = Table(("item_id:token", "title:token_seq", "image:float_seq"), rows, form)
    if draw(st.booleans()):
        files["d.kg"] = Table(("head_id:token", "relation_id:token", "tail_id:token"), (("e1", "r", "e2"), ("e2", "r", "e3")), form)
        files["d.link"] = Table(("item_id:token", "entity_id:token"), ((items[0], "e1"),), form)
    return Layout(files, tuple(e[:2] for e in log), tuple(float(e[2]) for e in log), tuple(e[3] for e in log))


@st.composite
def mmrec(draw: st.DrawFn) -> Layout:
    """MMRec's layout, with features by row and mappings to raw ids."""
    log = draw(logs(STYLES[:1]))
    form = draw(forms("\t"))
    rows = tuple((u, i, str(r), str(t), str(n % 3)) for n, (u, i, r, t) in enumerate(log))
    count = 1 + max(int(i) for _, i, _, _ in log)
    files: dict[str, Content] = {"d.inter": Table(("userID", "itemID", "rating", "timestamp", "x_label"), rows, form)}
    if draw(st.booleans()):
        files["image_feat.npy"] = npy(np.ones((count, 2), np.float32))
    raw = dict(enumerate(map(str, range(10))))
    if draw(st.booleans()):
        raw = {n: f"i{n}" for n in range(count)}
        files["i_id_mapping.csv"] = Table(("asin", "itemID"), tuple((raw[n], str(n)) for n in range(count)), form)
    pairs = tuple((u, raw[int(i)]) for u, i, _, _ in log)
    return Layout(files, pairs, tuple(float(e[2]) for e in log), tuple(e[3] for e in log))


@st.composite
def lists(draw: st.DrawFn) -> Layout:
    """One line per user: ``sequences.txt``, or ``train.txt`` and ``test.txt``."""
    log = draw(logs(WORDS))
    lines: dict[str, list[str]] = {}
    for user, item, _, _ in log:
        lines.setdefault(user, []).append(item)
    form = draw(forms(" ", quoted=False))
    rows = [(user, *items) for user, items in lines.items()]
    if draw(st.booleans()):
        files: dict[str, Content] = {"sequences.txt": Table((), tuple(rows), form)}
    else:
        rows, later = rows[: (len(rows) + 1) // 2], rows[(len(rows) + 1) // 2 :]
        files = {"train.txt": Table((), tuple(rows), form)}
        if later:
            files["test.txt"] = Table((), tuple(later), form)
        rows += later
    return Layout(files, tuple((user, item) for user, *items in rows for item in items))


@st.composite
def impressions(draw: st.DrawFn) -> Layout:
    """MIND's behaviours, with articles, entities and vectors."""
    users, news = draw(st.integers(1, 3)), draw(st.integers(2, 5))
    rows = []
    for n in range(draw(st.integers(3, 6))):
        clicked = draw(st.integers(0, news - 1))
        shown = " ".join(f"N{k}-{int(k == clicked)}" for k in range(news))
        history = " ".join(f"N{k}" for k in draw(st.lists(st.integers(0, news + 1), max_size=3)))
        rows.append((str(n), f"U{n % users}", f"11/{15 + n}/2019 8:55:22 AM", history, shown))
    entity = json.dumps([{"Label": "a b", "WikidataId": "Q1"}])
    articles = tuple((f"N{k}", "news", "x", f"Title {k}", "", "u", entity if k else "[]", "[]") for k in range(news + 2))
    form = Form("\t", csv.QUOTE_NONE)
    files: dict[str, Content] = {"behaviors.tsv": Table((), tuple(rows), form)}
    if draw(st.booleans()):
        files["news.tsv"] = Table((), articles, form)
        if draw(st.booleans()):
            files["entity_embedding.vec"] = Table((), (("Q1", "0.5", "1"), ("Q2", "1", "1")), form)
        if draw(st.booleans()):
            files["word_embedding.vec"] = Table((), (("title", "0.5", "1"), ("1", "1", "1")), replace(form, separator=" "))
    return Layout(files)


@st.composite
def polyvore(draw: st.DrawFn) -> Layout:
    """Polyvore's outfits with both kinds of tasks."""
    number, files = 0, {}
    for part in ("train", "valid", "test"):
        sets = []
        for _ in range(draw(st.integers(1, 2))):
            number += 1
            items = [{"index": n + 1, "name": f"thing {n}", "categoryid": n % 3} for n in range(draw(st.integers(2, 3)))]
            sets.append({"set_id": str(number), "items": items})
        files[f"{part}_no_dup.json"] = json.dumps(sets, indent=1).encode()
    if draw(st.booleans()):
        blank = {"question": [f"{number}_1"], "blank_position": 2, "answers": [f"{number}_2", "1_1", "1_2"]}
        files["fill_in_blank_test.json"] = json.dumps([blank]).encode()
    if draw(st.booleans()):
        files["fashion_compatibility_prediction.txt"] = f"1 {number}_1 {number}_2\n0 1_1 {number}_2\n".encode()
    if draw(st.booleans()):
        files["category_id.txt"] = b"0 Clothing\n1 Day Dresses\n2 Skirts\n"
    return Layout(files)


@st.composite
def ifashion(draw: st.DrawFn) -> Layout:
    """iFashion's outfits."""
    count = draw(st.integers(3, 5))
    return Layout(
        {
            "outfit_data.txt": Table((), tuple((f"o{n}", f"i{n};i{n + 1}") for n in range(count))),
            "user_data.txt": Table((), tuple((f"u{n % 2}", f"i{n};i{(n + 2) % count}", f"o{n}") for n in range(count))),
            "item_data.txt": Table((), tuple((f"i{n}", f"c{n % 2}", "http://x", f"title {n}") for n in range(count + 1))),
        }
    )


@st.composite
def outfits(draw: st.DrawFn) -> Layout:
    """Tables of outfits."""
    sign = draw(st.sampled_from((" ", ",", ";")))
    rows = tuple(
        (f"o{n}", sign.join(f"i{k}" for k in range(n, n + draw(st.integers(2, 4)))), ("train", "valid", "test")[n % 3], f"text {n}")
        for n in range(draw(st.integers(3, 5)))
    )
    header: tuple[str, ...] = ("outfit", "items", "split", "text")
    if draw(st.booleans()):
        header, rows = header[:2], tuple(row[:2] for row in rows)
    files: dict[str, Content] = {"outfits.csv": Table(header, rows, draw(forms()))}
    if draw(st.booleans()):
        files["items.csv"] = Table(("item", "category"), tuple((f"i{n}", f"c{n % 2}") for n in range(9)), draw(forms()))
    return Layout(files)


@st.composite
def knowledge(draw: st.DrawFn) -> Layout:
    """Triples in the layouts of benchmarks, or as a table."""
    name = draw(st.sampled_from(WORDS))
    triples = [(name(n), f"r{n % 2}", name((n * 3 + 1) % 6)) for n in range(draw(st.integers(3, 8)))]
    form = draw(forms("\t", quoted=False))
    if draw(st.booleans()):
        files: dict[str, Content] = {"triples.csv": Table(("head", "relation", "tail"), tuple(triples), draw(forms()))}
        if draw(st.booleans()):
            files["entities.csv"] = Table(("entity", "title"), tuple((name(n), f"e{n}") for n in range(6)), draw(forms()))
        return Layout(files)
    parts = {"train": triples[:-2], "valid": triples[-2:-1], "test": triples[-1:]}
    ending = draw(st.sampled_from((".txt", ".tsv")))
    files = {f"{part}{ending}": Table((), tuple(rows), form) for part, rows in parts.items()}
    if draw(st.booleans()):
        files["entity2id.txt"] = Table((), tuple((name(n), str(n)) for n in range(6)), form)
        files["image_feat.npy"] = npy(np.ones((6, 2), np.float32))
    if draw(st.booleans()):
        files["entity2text.txt"] = Table((), tuple((name(n), f"text of {n}") for n in range(6)), form)
    return Layout(files)


@st.composite
def json_lines(draw: st.DrawFn) -> Layout:
    """Reviews with one JSON object per line."""
    log = draw(logs())
    lines = [{"reviewerID": u, "asin": i, "overall": r, "unixReviewTime": t, "reviewText": f"good {i}"} for u, i, r, t in log]
    text = "\n".join(map(json.dumps, lines)) + "\n"
    return Layout({draw(st.sampled_from(("reviews.json", "reviews.jsonl"))): text.encode()})


@st.composite
def with_arrays(draw: st.DrawFn) -> Layout:
    """A folder whose feature files are odd."""
    rows = draw(st.integers(1, 4))
    start = draw(st.integers(0, 1))
    table = Table(("user", "item"), tuple((f"u{n}", str(n + start)) for n in range(rows)))
    files: dict[str, Content] = {"interactions.csv": table}
    name = draw(st.sampled_from(("image", "user_image", "category", "x" * 200, "é", "text_x")))
    if draw(st.booleans()):
        files[f"{name}_feat.npy"] = npy(draw(arrays(rows)))
    else:
        files[f"{name}_feat.npz"] = draw(archives(rows))
    return Layout(files)


LAYOUTS: dict[str, tuple[st.SearchStrategy[Layout], int]] = {
    "table": (single_tables(), 12),
    "folder": (folders(), 12),
    "atomic": (atomic(), 8),
    "mmrec": (mmrec(), 8),
    "lists": (lists(), 6),
    "impressions": (impressions(), 6),
    "polyvore": (polyvore(), 6),
    "ifashion": (ifashion(), 4),
    "outfits": (outfits(), 6),
    "knowledge": (knowledge(), 6),
    "json lines": (json_lines(), 3),
    "features": (with_arrays(), 8),
}
"""Strategy and weight of every layout."""


@st.composite
def data_cases(draw: st.DrawFn, layouts: st.SearchStrategy[Layout], *, hostile: bool) -> Case:
    """Cases of one layout: files below a folder with an odd name, the path to read, and settings of reading."""
    layout = draw(layouts)
    folder = draw(st.sampled_from(FOLDERS))
    files = draw(damaged(layout.files)) if hostile else written(layout.files)
    alone = len(layout.files) == 1 and next(iter(layout.files)).startswith("log")
    path = f"{folder}/{sorted(files)[0]}" if alone and files else folder
    spec: dict[str, Any] = {"path": path}
    if hostile:
        spec["settings"] = draw(reading_settings)
        spec["write"] = draw(st.sampled_from((None, None, "folder", "mmrec", "atomic")))
        spec["strategy"] = draw(st.sampled_from((None, "auto", "random", "leave_last_out", "by_time", "cold_items", "cold_users")))
    else:
        spec |= {"pairs": layout.pairs, "weights": layout.weights, "times": layout.times}
    if not files:
        spec["path"] = "."
    return Case({f"{folder}/{name}": content for name, content in files.items()}, spec)


SETTINGS: Mapping[str, tuple[Any, ...]] = {
    "duplicates": ("first", "last", "sum", "keep", "error"),
    "min_rating": (0, 3, -1.0, 1e30, float("nan")),
    "k_core": (0, 1, 2),
    "utc_offset": (0.0, 5.5, -12, 1e6, 1e300, float("nan")),
    "format": ("auto", "folder", "atomic", "mmrec", "table", "knowledge", "outfits", "impressions"),
    "user_column": ("user", "item", "userID", "none", "", "nowhere"),
    "time_column": ("timestamp", "none", "user", "item", "rating"),
    "weight_column": ("rating", "none", "user", "timestamp"),
    "split_column": ("split", "none", "user", "x_label"),
    "review_column": ("item", "none", "review"),
    "title_column": ("title", "year", "item", "nowhere"),
    "review_words": (1, 3, 10**9),
    "modalities": ("image", "", "image,text", [], ["image"], "image,image"),
}
"""Settings of the section ``data``, and values."""
reading_settings = st.sampled_from(
    [{}] * 60
    + [{name: value} for name, values in SETTINGS.items() for value in values]
    + [{"duplicates": value, "k_core": 2} for value in SETTINGS["duplicates"]]
    + [{"time_column": "none", "weight_column": "none", "duplicates": value} for value in SETTINGS["duplicates"]]
)
