"""Data folders and run folders: loaded equals saved."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gmmrec
from gmmrec.data.load import load_dataset
from tests.fuzz.check import WRITERS, check_dataset, check_same

WORD = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters="\x7f\x85\xa0\xad"), min_size=1, max_size=5)
ids = st.one_of(
    st.lists(st.integers(-(10**17), 10**17), min_size=3, max_size=8, unique=True),
    st.lists(WORD.map(lambda text: f"i{text}"), min_size=3, max_size=8, unique=True),
)


@st.composite
def datasets(draw):
    """Data sets with ids of any kind, weights, times, a split, titles and pictures."""
    users, items = draw(ids), draw(ids)
    pairs = draw(st.lists(st.tuples(st.sampled_from(users), st.sampled_from(items)), min_size=3, max_size=12, unique=True))
    frame = pd.DataFrame(pairs, columns=["user", "item"])
    if draw(st.booleans()):
        frame["rating"] = draw(st.lists(st.floats(-100, 100, width=32), min_size=len(frame), max_size=len(frame)))
    if draw(st.booleans()):
        frame["timestamp"] = draw(st.lists(st.integers(10**9, 2 * 10**9), min_size=len(frame), max_size=len(frame)))
    frame["split"] = ["train", "valid", "test"] * (len(frame) // 3) + ["train"] * (len(frame) % 3)
    titles = draw(st.lists(WORD.map(lambda text: f"t{text} x"), min_size=len(items), max_size=len(items)))
    table = pd.DataFrame({"item": items, "title": titles})
    vectors = draw(st.lists(st.floats(0.5, 9, width=32), min_size=2 * len(items), max_size=2 * len(items)))
    values = np.array(vectors, dtype=np.float32).reshape(-1, 2)
    order = draw(st.permutations(range(len(items))))
    features = {"image": ([items[n] for n in order], values[order])}
    return load_dataset(frame, items=table, features=features), dict(zip(items, values.tolist(), strict=True))


@given(datasets())
def test_features_follow_their_ids(found):
    dataset, vectors = found
    table, raw = dataset.features["image"], dataset.vocabularies["item"].ids()
    assert {one: table.values[row].tolist() for row, one in enumerate(raw)} == vectors
    assert bool(table.mask.all())


@settings(max_examples=30)
@given(datasets(), st.sampled_from(sorted(WRITERS)))
def test_a_written_data_set_reads_back(found, layout):
    dataset, _ = found
    with tempfile.TemporaryDirectory() as folder:
        again = load_dataset(WRITERS[layout](dataset, Path(folder) / "copy"), duplicates="keep")
    check_dataset(again)
    check_same(dataset, again, in_order=layout == "folder")


@settings(max_examples=12)
@given(datasets())
def test_a_saved_run_loads_the_same(found):
    dataset, _ = found
    run = gmmrec.fit(dataset, "popularity", progress=False, bootstrap=2, ks=[2], monitor="recall@2")
    with tempfile.TemporaryDirectory() as folder:
        run.save(Path(folder) / "run")
        again = gmmrec.load(Path(folder) / "run")
    assert {kind: known.ids() for kind, known in again.vocabularies.items()} == {
        kind: known.ids() for kind, known in run.vocabularies.items()
    }
    assert again.titles == run.titles
    assert again.config == run.config
    for part in ("train", "valid", "test"):
        for name, column in run.split.part(part).columns().items():
            assert torch.equal(column, getattr(again.split.part(part), name)), name
    assert torch.equal(again.graph.features["image"].values, run.graph.features["image"].values)
    pd.testing.assert_frame_equal(again.recommend(k=3), run.recommend(k=3))
