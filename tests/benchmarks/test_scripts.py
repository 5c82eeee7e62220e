"""Benchmarks run their declared cells on toy data, keep rows, and render what the rows say."""

from argparse import Namespace

import ablations
import graph_meets_sequence
import missing
import outfits
from gmmrec.models import MODELS
from gmmrec.testing import checkerboard, with_outfits
from lab.cells import Cell
from lab.results import Store
from lab.significance import Significance
from tests.benchmarks.toy import SETTINGS, toy_lab


def test_ablations_compare_every_variant_with_the_full_model(tmp_path):
    full, lab = toy_lab(tmp_path), toy_lab(tmp_path, "ablations")
    ablations.ablate(lab, full, Cell("toy", "freedom", SETTINGS, variant=ablations.FULL), [0, 1], [""])
    variants = {"full", "without the item graph", "without image", "without text"}
    assert {row["variant"] for row in lab.store.rows} == variants
    assert len(lab.store.rows) == 8
    text = ablations.tables(lab)["ablations-toy"]
    assert "## freedom\n\nSeeds 0, 1." in text
    assert "| variant | recall@20 | p (recall@20) | ndcg@20 | p (ndcg@20) | vs. the full model | avg.diff image |" in text
    tested = {row["run"] for row in lab.significance.rows(dataset="toy", study="freedom") if "verdict" in row}
    assert tested == variants - {"full"}


def test_every_ablation_names_a_model_and_settings_that_it_has():
    for model, variants in ablations.ABLATIONS.items():
        known = set(MODELS[model].config_class.__dataclass_fields__)
        for changes in variants.values():
            assert {key.removeprefix("model.") for key in changes if key.startswith("model.")} <= known, model


def test_missing_pictures_and_cold_items_have_rows_and_run_folders_of_their_own(tmp_path):
    lab = toy_lab(tmp_path, "missing", by_variant=True)
    for variant in [*map(missing.missing, missing.SHARES), missing.COLD]:
        missing.measure(lab, Cell("toy", "vbpr", SETTINGS | {"model": {"dim": 4}}, variant=variant))
    assert len(list((tmp_path / "runs" / "missing" / "toy" / "vbpr").iterdir())) == len(lab.store.rows) == 4
    cold = next(row for row in lab.store.rows if row["variant"] == missing.COLD)
    assert "recall@20, cold items" in cold
    assert "| vbpr | " in missing.tables(lab)["missing-toy"]


def test_a_sequence_model_starts_from_the_graph_of_its_seed(tmp_path):
    lab = toy_lab(tmp_path, "graph_meets_sequence")
    sections = SETTINGS | {"split": {"strategy": "random"}}
    graph = Cell("toy", "lightgcn", sections)
    alone = Cell("toy", "vbpr", sections | {"model": {"dim": 4}, "model_name": "lightgcn"})
    started = Cell("toy", "vbpr from lightgcn", alone.settings)
    cells = {cell.model: cell for cell in (graph, alone, started)}
    graph_meets_sequence.measure(lab, cells, [0, 1], "python benchmarks/graph_meets_sequence.py")
    digests = {row["model"]: row["digest"] for row in lab.store.rows}
    assert len(set(digests.values())) == 3
    assert len(lab.store.rows) == 6
    text = graph_meets_sequence.tables(lab)["graph-meets-sequence-toy"]
    assert "differences to vbpr, paired by user" in text
    assert "Means over seeds 0, 1;" in text


def test_models_and_controls_answer_the_same_queries_on_outfits(tmp_path, monkeypatch):
    dataset = with_outfits(checkerboard()[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(outfits.gmmrec, "load_dataset", lambda path, modalities: dataset)
    sizes = {"epochs": 1, "batch_size": 64, "dim": 8, "layers": 1, "no_ids": False, "length": 5}
    names = ["popularity", "pmi", "siamese", "fom", "pog", "pog-alone"]
    flags = Namespace(data="toy", modalities=None, models=names, seeds=[0, 1], threads=1, tables_only=False, **sizes)
    store, tests = Store("outfits", tmp_path, outfits.KEYS), Significance("outfits", tmp_path)
    outfits.measure(flags, store, tests, "made so")
    assert [(row["model"], row["seed"]) for row in store.rows if row["model"] in ("pmi", "pog")] == [
        ("pmi", "0"),
        ("pog", "0"),
        ("pog", "1"),
    ]
    assert all(0 <= float(row["fill_in_the_blank/accuracy"]) <= 1 for row in store.rows)
    assert "differences to FOM, paired by outfit." in outfits.table(dataset.name, store.rows, tests)
