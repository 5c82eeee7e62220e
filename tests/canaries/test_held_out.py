"""Held-out rows change no bit of training: neither the graph nor a batch, a statistic, a vocabulary or a weight."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from gmmrec.models import MODELS
from gmmrec.runs.recipe import run as run_recipe
from tests.canaries.data import TIMED, UNTIMED, write
from tests.canaries.tensors import assert_same_bits, tensors
from tests.golden import access
from tests.golden.measure import read_settings

VARIANTS = (
    *("graph-fusion-knowledge", "mkgformer-knowledge", "lightgcn-sampled", "mmt-net-sampled", "nrpa-words", "nrpa-sampled"),
    *("pog-mean", "graph-filter-features", "vecf-dot", "ease-features-l3ae", "freedom-knn-cosine", "marank-mean"),
)
"""Cases of the golden file besides the one named like each model."""
BY_STRATEGY = ("lightgcn-sampled", "freedom-knn-cosine", "bert4rec", "mmt-net", "nrpa", "ease", "popularity", "bias", "vecf")
"""One of every task that reads the log, and of every way to learn from it."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("canaries")

    @cache
    def written(strategy: str) -> tuple[Path, Path]:
        for altered in (False, True):
            write(base / strategy / str(altered), strategy, altered=altered)
        return base / strategy / "False", base / strategy / "True"

    return written


def trained(name: str, data: Path, strategy: str) -> Any:
    """Train a case of the golden file for one epoch."""
    settings = access.at(read_settings(name), data)
    has_log = settings["data"]["path"].rpartition("/")[2] not in ("news", "triples")
    settings["split"] = {**settings["split"], "strategy": strategy if has_log else "auto"}
    settings["train"] = {**settings["train"], "epochs": 1, "batch_size": 256}
    settings["eval"] = {**settings["eval"], "bootstrap": 0, "ks": [20]}
    if has_log:
        settings["graph"] = {**settings["graph"], "co_occurrence": 3, "user_co_occurrence": 3}
        settings["train"]["negatives_from"] = "train"
    return run_recipe(access.read(settings))


def learned(run: Any) -> dict[str, Any]:
    """Return what training made: the prepared graph, the weights and every other value of the model, and its losses."""
    log = {name: getattr(run.split.train, name) for name in ("user", "item", "time", "weight")}
    graph = {"data": run.graph.data, "schema": run.graph.schema}
    return {"log": log, "graph": graph, "model": run.model, "losses": [epoch.terms for epoch in run.history.epochs]}


def held_out(run: Any) -> list[Any]:
    """Return what is in other parts, among it training triples, outfits and impressions."""
    split = run.split
    return [split.valid, split.test, split.triples, split.outfits, split.impressions]


@pytest.mark.parametrize("name", [*MODELS, *VARIANTS])
def test_held_out_rows_of_a_given_split_change_no_training_tensor(folders, name):
    first, second = (trained(name, folder, "given") for folder in folders("given"))
    assert assert_same_bits(learned(first), learned(second)) > 10
    assert [str(pair) for pair in tensors(held_out(first))] != [str(pair) for pair in tensors(held_out(second))]


@pytest.mark.parametrize("strategy", [*TIMED, *UNTIMED])
@pytest.mark.parametrize("name", BY_STRATEGY)
def test_held_out_rows_of_every_strategy_change_no_training_tensor(folders, name, strategy):
    first, second = (trained(name, folder, strategy) for folder in folders(strategy))
    assert assert_same_bits(learned(first), learned(second)) > 10
    assert first.split.test.weight.tolist() != second.split.test.weight.tolist()
    if strategy in TIMED:
        assert first.split.valid.item.tolist() != second.split.valid.item.tolist()
