"""Cases of ids and arguments: calls of the methods of a run in memory, and vocabularies."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st

import gmmrec
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.runs.run import Run
from tests.fuzz.case import Case
from tests.fuzz.check import check_vocabulary, expect
from tests.fuzz.values import CELLS, NUMBERS, made, odd_objects

USERS, ITEMS = 6, 7


@cache
def finished(model: str, text: bool) -> Run:
    """Return a small run whose ids are numbers or texts."""
    pairs = [(u, (u + n) % ITEMS) for u in range(USERS) for n in range(4)]
    name = (lambda kind, n: f"{kind}{n}") if text else (lambda kind, n: n)
    rows = [(name("u", u), name("i", i), n) for n, (u, i) in enumerate(pairs)]
    frame = pd.DataFrame(rows, columns=["user", "item", "timestamp"])
    ids = [name("i", i) for i in range(ITEMS)]
    features = {"image": (ids, np.random.default_rng(0).normal(size=(ITEMS, 3)))}
    quick = {"progress": False, "split": {"strategy": "leave_last_out"}, "eval": {"bootstrap": 2, "ks": [2]}, "monitor": "recall@2"}
    more: dict[str, Any] = {"epochs": 1, "dim": 4} if model not in ("popularity", "ease") else {}
    data = gmmrec.load_dataset(frame, features=features)
    return gmmrec.fit(data, model, **quick, **more)


RUNS = (("popularity", True), ("ease", False), ("ease", True), ("lightgcn", False), ("vbpr", True), ("bert4rec", False))
REQUIRED = {"similar_items": 1, "explanation": 2, "complete": 1}
"""Arguments without a default, by method; one is always given."""


def make_runs() -> None:
    """Train all runs."""
    for run in RUNS:
        finished(*run)


METHODS: dict[str, tuple[str, ...]] = {
    "recommend": ("users", "k", "exclude_seen", "histories"),
    "similar_items": ("items", "k"),
    "explanation": ("user", "item"),
    "complete": ("items", "user", "k"),
    "link": ("head", "relation"),
    "evaluate": ("part",),
}
"""Methods of runs, and their arguments."""
known = st.sampled_from((0, 1, 5, "u0", "u3", "i0", "i6", 6, "u9", -1, "0", "1", 1.0, True))
one_id = st.one_of(known, known, st.sampled_from(CELLS), st.sampled_from(NUMBERS), odd_objects, st.none())
id_lists = st.one_of(st.lists(known, max_size=3), st.lists(one_id, max_size=3), one_id)
ARGUMENTS: dict[str, st.SearchStrategy[Any]] = {
    "users": id_lists,
    "items": id_lists,
    "histories": st.one_of(st.lists(id_lists, max_size=2), one_id),
    "k": st.one_of(st.integers(-1, 9), st.sampled_from((1, 2, 100, 10**4, 2**62, 2**64, 1.0, 1.5, "3", None, True, float("nan")))),
    "exclude_seen": st.sampled_from((True, False, None, "no")),
    "user": one_id,
    "item": one_id,
    "head": one_id,
    "relation": one_id,
    "part": st.one_of(st.sampled_from(("train", "valid", "test")), one_id),
}


@st.composite
def method_cases(draw: st.DrawFn) -> Case:
    """Methods of a run with odd arguments."""
    method = draw(st.sampled_from(("recommend",) * 4 + ("similar_items",) * 2 + tuple(METHODS)))
    names = METHODS[method]
    given = {name: draw(ARGUMENTS[name]) for n, name in enumerate(names) if n < REQUIRED.get(method, 1) or draw(st.booleans())}
    return Case({}, {"run": draw(st.sampled_from(RUNS)), "method": method, "arguments": given})


def ask(case: Case, folder: Path) -> None:
    """Call the method and check its answer."""
    run, arguments = finished(*case.spec["run"]), made(dict(case.spec["arguments"]))
    found = getattr(run, case.spec["method"])(**arguments)
    if not isinstance(found, pd.DataFrame):
        return
    scores = found["score"].to_numpy(dtype=float)
    expect(bool(np.isfinite(scores).all()), "an answer that is not finite", found)
    key, value = found.columns[:2]
    asked = arguments.get("users") or arguments.get("items")
    if key != "outfit" and not (isinstance(asked, list) and len(set(asked)) < len(asked)):
        expect(not found.duplicated([key, value]).any(), "an item twice in a list", found)
    if case.spec["method"] in ("recommend", "similar_items"):
        k = arguments.get("k", 10)
        expect(bool((found.groupby(key, sort=False)["rank"].max() <= k).all()), "a list longer than k", found)
        expect(bool(found[value].isin(run.vocabularies["item"].ids()).all()), "an answer of unknown items", found)


vocabulary_cases = st.builds(
    lambda ids, probes: Case({}, {"ids": ids, "probes": probes}),
    st.one_of(
        st.lists(one_id, max_size=4),
        st.lists(st.sampled_from(CELLS), max_size=5, unique=True),
        st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5, unique=True),
        st.lists(st.text(max_size=5), max_size=5, unique=True),
    ),
    st.lists(one_id, max_size=3),
)
"""Vocabularies of ids of all types, and ids to look up."""


def look_up(case: Case, folder: Path) -> None:
    """Build a vocabulary and look ids up; what is found must be what was asked for."""
    vocabulary = Vocabulary(made(list(case.spec["ids"])))
    if all(isinstance(raw, int | str) and str(raw).strip() == str(raw) != "" for raw in vocabulary.ids()):
        check_vocabulary(vocabulary)
    probes = made(list(case.spec["probes"]))
    for probe, row in zip(probes, vocabulary.rows(probes).tolist(), strict=True):
        found = vocabulary.ids()[row]
        expect(
            bool(found == probe) and type(found) in (type(probe), type(getattr(probe, "item", lambda: 0)())),
            "another id",
            probe,
            found,
        )
