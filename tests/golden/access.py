"""Access of the golden file to the package: from settings to a finished run, and from a run to plain values.

All other modules of this folder go through this one, so a rename in the package changes this module and no recorded value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

import gmmrec
from gmmrec.evaluation.kinds import KINDS
from gmmrec.runs.config import read_config, sections_of
from gmmrec.runs.recipe import run as run_experiment

MODELS = gmmrec.MODELS
MODEL = "model_name"
"""Key of the model's name in a settings file; every other key is a section."""
PARTS = ("valid", "test")


def field_names(model: str) -> dict[str, list[str]]:
    """Return the names of all settings of a model, by section."""
    return {section: [field.name for field in fields(kind)] for section, kind in sections_of(MODELS[model]).items()}


def full_settings(model: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Return all settings of a run as stored in a file, from flags and current defaults; tuples become lists."""
    config = read_config(model, {}, arguments).to_dict()
    top = field_names(model)["run"]
    sections = {name: section for name, section in config.items() if isinstance(section, dict)}
    return {MODEL: model, **sections, "run": {name: config[name] for name in top}}


def watching(settings: Mapping[str, Any], monitor: str) -> dict[str, Any]:
    """Return settings that monitor a metric."""
    return {**settings, "run": {**settings["run"], "monitor": monitor}}


def read(settings: Mapping[str, Any]) -> Any:
    """Return the settings of a file, read by the package."""
    values = {name: dict(section) for name, section in settings.items() if name != MODEL}
    return read_config(settings[MODEL], {**values, **values.pop("run")})


def at(settings: Mapping[str, Any], data: Path, init_from: Path | None = None) -> dict[str, Any]:
    """Return settings with the paths of the data sets and of the initial run."""
    section, top = settings["data"], settings["run"]
    top = top if init_from is None else {**top, "init_from": str(init_from)}
    return {**settings, "data": {**section, "path": str(data / section["path"])}, "run": top}


def train(settings: Mapping[str, Any], folder: Path | None = None, *, epochs: int | None = None, resume: bool = False) -> Any:
    """Return a finished run."""
    if epochs is not None:
        settings = {**settings, "train": {**settings["train"], "epochs": epochs}}
    return run_experiment(read(settings), folder=folder, resume=resume)


def monitor(run: Any) -> str:
    """Return the monitored metric of a run."""
    return run.config.monitor


def num_epochs(settings: Mapping[str, Any]) -> int:
    """Return the number of epochs in the settings."""
    return settings["train"]["epochs"]


def save(run: Any, folder: Path) -> Path:
    """Write the run folder."""
    return run.save(folder)


def load(folder: Path) -> Any:
    """Read a run folder."""
    return gmmrec.load(folder)


def blend(runs: Sequence[Any], **settings: Any) -> Any:
    """Return a blend of runs."""
    return gmmrec.blend(runs, **settings)


def blend_weights(run: Any) -> list[float]:
    """Return the weights of a blend."""
    return list(run.config.model.weights)


def rerank(fast: Any, slow: Any, top: int) -> Any:
    """Return a two-stage run, with one run for candidates and one for their ranking."""
    return gmmrec.rerank(fast, slow, top=top)


def evaluations(run: Any, part: str) -> dict[str, Any]:
    """Return the stored results of a split part, by evaluation task."""
    found = {run.main: run.results[part]} | {name: results[part] for name, results in run.other_results.items() if part in results}
    return dict(sorted(found.items()))


def evaluate_again(run: Any, part: str) -> dict[str, Any]:
    """Evaluate a split part again; return the results by evaluation task."""
    return dict(sorted(run.evaluate_all(part).items()))


def means(results: Any) -> dict[str, float]:
    """Return the mean of every metric."""
    return results.mean()


def full_report(results: Any) -> dict[str, Any]:
    """Return all values of the report of an evaluation: groups, intervals, catalogue."""
    return results.to_dict()


def values_per_query(results: Any) -> list[Tensor]:
    """Return the values of every metric per query."""
    return list(results.values.values())


def history(run: Any) -> list[tuple[list[float], float | None]]:
    """Return loss terms and monitored value of every epoch; errors are negative, as recorded."""
    if not run.history:
        return []
    sign = -1 if run.history.monitor.rpartition("/")[2] in {name for kind in KINDS.values() for name in kind.lower_is_better} else 1
    return [(list(epoch.terms.values()), None if epoch.value is None else sign * epoch.value) for epoch in run.history.epochs]


def best_epoch(run: Any) -> int:
    """Return the epoch of the final weights; 0 for none."""
    return run.history.best_epoch if run.history else 0


def weights(run: Any) -> list[Tensor]:
    """Return every tensor of the model's state."""
    return list(run.model.state_dict().values())


def edges(run: Any) -> dict[tuple[str, str, str], tuple[Tensor, list[Tensor]]]:
    """Return edge index and all edge attributes, by edge type of the prepared graph."""
    found = {}
    for kind in run.graph.data.edge_types:
        store = dict(run.graph.data[kind].items())
        ends = store.pop("edge_index")
        found[kind] = ends.as_tensor() if hasattr(ends, "as_tensor") else ends, list(store.values())
    return found


def ids(run: Any, node_type: str) -> list[Any]:
    """Return the raw ids."""
    return run.vocabularies[node_type].ids()


def ability(run: Any) -> str:
    """Return the kind of answers of a run: ``items`` for users, or completed ``outfits`` or ``triples``."""
    return {"OutfitQuery": "outfits", "LinkPredictionQuery": "triples"}.get(run.model.query_type.__name__, "items")


def recommend(run: Any, users: Sequence[Any] | None, k: int, *, exclude_seen: bool = True) -> pd.DataFrame:
    """Return columns ``user_id``, ``item_id``, ``score``."""
    return run.recommend(users, k, exclude_seen=exclude_seen)


def recommend_to_new_users(run: Any, histories: Sequence[Sequence[Any]], k: int) -> pd.DataFrame:
    """Return columns ``user_id``, ``item_id``, ``score``."""
    return run.recommend(histories=histories, k=k)


def similar(run: Any, items: Sequence[Any], k: int) -> pd.DataFrame:
    """Return columns ``item_id``, ``similar_id``, ``score``."""
    return run.similar_items(items, k)


def explain(run: Any, user: Any, item: Any) -> pd.DataFrame:
    """Return columns ``modality``, ``token``, ``weight``."""
    return run.explain(user, item)


def complete(run: Any, items: Sequence[Any], user: Any, k: int, least: int, most: int) -> pd.DataFrame:
    """Return columns ``outfit``, ``item_id``, ``probability``, ``score``, and ``comment`` of models that write."""
    return run.complete(items, user, k, min_items=least, max_items=most, beam=6)


def link(run: Any, head: Any, relation: Any, k: int) -> pd.DataFrame:
    """Return columns ``entity_id``, ``score``."""
    return run.link(head, relation, k)


def packages() -> dict[str, str | None]:
    """Return the versions of PyTorch, PyG and torch-scatter, which affect the last digits as the platform does."""
    import torch_geometric

    try:
        import torch_scatter

        scatter = torch_scatter.__version__
    except ImportError:
        scatter = None
    return {"torch": torch.__version__, "torch_geometric": torch_geometric.__version__, "torch_scatter": scatter}
