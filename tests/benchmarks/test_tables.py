"""Tables are rendered from CSV alone, and what is committed is what the results say."""

import importlib
from pathlib import Path

import pytest

import accuracy
from gmmrec.evaluation.compare import Comparison, Row
from lab import summary
from lab.cells import Lab
from lab.grid import digest
from lab.paths import BENCHMARKS, RESULTS, ROOT, TABLES
from lab.results import Store
from lab.significance import Significance, verdict
from lab.tables import between


def opened(name: str) -> tuple:
    script = importlib.import_module(name)
    if name in ("transfer", "outfits"):
        return script, (Store(name, keys=script.KEYS), Significance(name))
    if name in ("links", "outfit_comments"):
        return script, (Store(name, keys=("dataset", "model", "seed")),)
    return script, (script.opened(Lab(name)) if name == "cold_sequences" else Lab(name),)


PAGES = [
    "accuracy",
    "ablations",
    "best",
    "cold_sequences",
    "missing",
    "graph_meets_sequence",
    "knowledge",
    "transfer",
    "outfits",
    "outfit_comments",
    "links",
]


@pytest.mark.parametrize("name", PAGES)
def test_committed_tables_are_those_of_the_results(name):
    script, arguments = opened(name)
    made = script.tables(*arguments)
    assert made
    for table, text in made.items():
        assert (TABLES / f"{table}.md").read_text(encoding="utf-8") == text, f"run python benchmarks/{name}.py --tables-only"


def test_no_table_is_without_results():
    made = {table for name in PAGES for table in opened(name)[0].tables(*opened(name)[1])}
    assert {path.stem for path in TABLES.glob("*.md")} == made


@pytest.mark.parametrize("name", ["speed", "evaluation", "models", "sequences"])
def test_blocks_of_the_readme_are_those_of_the_results(name):
    script = importlib.import_module(name)
    store = Store(name, keys=())
    text = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    for block, content in script.blocks(store).items():
        assert content in text.split(f"<!-- {block}: begin")[1].split(f"<!-- {block}: end")[0]


def test_the_readme_has_the_summary_of_the_results():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert summary.fill(text, Store("accuracy"), accuracy.COMPACT) == text


def small_lab(folder: Path) -> Lab:
    lab = Lab("accuracy", results=folder)
    for dataset, model, seed, recall in (("a", "good", 0, 0.5), ("a", "good", 1, 0.7), ("a", "bad", 0, 0.1), ("b", "good", 0, 0.4)):
        row = {
            "dataset": dataset,
            "model": model,
            "seed": seed,
            "part": "test",
            "digest": digest({}),
            "settings": "{}",
            "points": 1,
        }
        cost = {"queries": 9, "masked": "train", "epochs": 3, "seconds_per_epoch": 1.5, "peak_mib": 100.0, "seconds": 4.5}
        lab.store.put(row | cost | {"recall@20": recall, "ndcg@20": recall / 2, "commit": "abc"})
    return lab


def test_a_table_shows_means_and_deviations_of_the_rows(tmp_path):
    text = accuracy.tables(small_lab(tmp_path))["a"]
    assert "| good (earlier grid) | 2 |  | 0.6000 ± 0.1414 |  | 0.3000 ± 0.0707 | 1 | 3 | 1.50 | 100 |" in text
    assert text.index("| good") < text.index("| bad")
    assert "Measured since" not in text


def test_tests_are_kept_and_models_measured_since_are_named(tmp_path):
    lab = small_lab(tmp_path)
    lines = (Row("good", 2, 0.6, deviation=0.1), Row("worse", 1, 0.2, -0.4, -0.5, -0.3, 0.01, 0.02, 0.03))
    lab.significance.keep(Comparison("recall@20", "all", "good", 9, 0, lines), dataset="a", digests={"good": digest({})})
    text = accuracy.tables(Lab("accuracy", results=tmp_path))["a"]
    assert "| worse | 1 | 0.2000 | -0.4000 | -0.5000 to -0.3000 | 0.01 | 0.02 | 0.03 |" in text
    assert "Measured since, so not in these tests: bad." in text


def test_a_kept_comparison_says_what_was_paired_as_before(tmp_path):
    lines = (Row("good", 1, 0.5), Row("bad", 1, 0.7, 0.2, 0.1, 0.3, 0.01, 0.02, 0.03))
    of_ratings = Comparison("rmse", "all", "good", 9, 0, lines, unit="rating", lower_is_better=True)
    sampled = Comparison("recall@20", "all", "good", 9, 2, lines, sampled=100, sampled_by="popularity")
    lab = small_lab(tmp_path)
    for found in (of_ratings, sampled):
        lab.significance.keep(found, dataset="a")
    assert Lab("accuracy", results=tmp_path).significance.comparisons("a") == [of_ratings, sampled]


def test_the_compact_summary_has_the_best_models_that_all_chosen_data_sets_have(tmp_path):
    store = small_lab(tmp_path).store
    text = summary.compact(store, ["a", "b"])
    assert "| good | 0.6000 / 0.3000 | 0.4000 / 0.2000 |" in text
    assert "bad" not in text
    full = summary.compact(Store("accuracy"), accuracy.COMPACT, most=12)
    assert sum(line.startswith("| ") for line in full.splitlines()) == 13
    with pytest.raises(ValueError, match=r"expected results of nowhere in accuracy\.csv"):
        summary.compact(store, ["a", "nowhere"])
    with pytest.raises(ValueError, match="differ"):
        summary.compact(Store("accuracy"), ["tiktok", "rt-critic-reviews"])


def test_a_page_gets_the_summary_that_its_mark_asks_for(tmp_path):
    store = small_lab(tmp_path).store
    page = f"before\n{summary.COMPACT}\nold\n{summary.END}\nafter"
    assert summary.fill(page, store, ["a"]) == between(page, summary.COMPACT, summary.END, summary.compact(store, ["a"]))
    assert summary.fill("no mark", store, ["a"]) == "no mark"


def test_a_difference_within_that_of_the_seeds_is_no_verdict():
    line = Row("without", 3, 0.08, -0.01, p=0.0001)
    assert verdict("recall@20", line, [0.091, 0.089, 0.090], [0.080, 0.081, 0.079]) == "worse"
    assert verdict("rmse", line, [0.091, 0.089, 0.090], [0.080, 0.081, 0.079]) == "better"
    assert verdict("recall@20", line, [0.09], [0.08]) == "worse (one seed)"


def test_every_benchmark_keeps_its_results():
    assert {path.stem.removesuffix("-significance") for path in RESULTS.glob("*.csv")} >= set(PAGES)
