"""The one recipe, from configuration to report; :func:`run` reads from top to bottom."""

import logging
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gmmrec.abilities import WarmStarts, offered
from gmmrec.config import read_settings, unknown_setting
from gmmrec.data.dataset import Dataset
from gmmrec.data.errors import listed
from gmmrec.data.load import DataConfig, load_dataset
from gmmrec.data.split import Split, SplitConfig, split_dataset
from gmmrec.evaluation.kinds import monitored_value, task_of_metric
from gmmrec.evaluation.settings import EvalConfig, mask_of
from gmmrec.graph.build import GraphConfig, build_graph
from gmmrec.models import MODELS
from gmmrec.recommender import AnyRecommender, encode
from gmmrec.runs.run import Run, judge
from gmmrec.tasks import task_of
from gmmrec.tasks.inputs import BatchConfig, TaskInputs
from gmmrec.training.history import History
from gmmrec.training.trainer import TrainConfig, Trainer
from gmmrec.training.warm_start import places, warm_start
from gmmrec.typing import ITEM, USER

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainSettings(TrainConfig, BatchConfig):
    """The section ``train``: how batches are made (read by the task) and how steps are taken (read by the trainer)."""

    def __post_init__(self) -> None:
        BatchConfig.__post_init__(self)
        TrainConfig.__post_init__(self)


@dataclass(frozen=True)
class TopConfig:
    """Settings of the run as a whole."""

    seed: int = 0
    """Seed of initialisation, batches and negatives. The split has its own, so that all seeds are asked the same questions."""
    monitor: str | None = None
    """The validation metric that early stopping looks at: one of the ranking, or of another evaluation task as TASK/METRIC; the
    model's own where nothing is said (recall@20, rmse). An error is handed to the trainer with a minus sign: higher is better."""
    init_from: str | None = None
    """Folder of a finished run whose vectors of users and items the tables of ids begin with, matched by raw id; ids that it does
    not know keep their initial vectors. Both runs need the same dim. A model with a setting ``transfer`` may take over modules
    instead, from a run on other users and items."""

    def __post_init__(self) -> None:
        if self.monitor is not None:
            task_of_metric(self.monitor)


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides the outcome of a run; written beside every result."""

    model_name: str
    model: Any
    data: DataConfig
    split: SplitConfig
    graph: GraphConfig
    train: TrainSettings
    eval: EvalConfig
    seed: int = 0
    monitor: str | None = None
    init_from: str | None = None


def sections_of(model_name: str) -> dict[str, type]:
    """The settings' sections of a run of one model.

    Raises:
        ValueError: There is no such model; the message gives the nearest name.
    """
    if model_name not in MODELS:
        raise ValueError(str(unknown_setting(model_name, list(MODELS))).replace("setting", "model"))
    model: type = MODELS[model_name].config_class
    return {
        "model": model,
        "data": DataConfig,
        "split": SplitConfig,
        "graph": GraphConfig,
        "train": TrainSettings,
        "eval": EvalConfig,
        "run": TopConfig,
    }


def read_config(model_name: str, values: Mapping[str, Any] | None = None, arguments: Sequence[str] = ()) -> RunConfig:
    """The configuration of a run: defaults, then nested ``values``, then flags.

    Raises:
        ValueError: A name is unknown or a value is impossible.
    """
    values, sections = dict(values or {}), sections_of(model_name)
    names = [field.name for field in fields(TopConfig)]
    top = {name: values.pop(name) for name in names if name in values}
    arguments = [f"--run.{a[2:]}" if a.startswith("--") and a[2:].split("=")[0] in names else a for a in arguments]
    filled = read_settings(sections, {**values, "run": top}, arguments)
    return RunConfig(model_name, **vars(filled.pop("run")), **filled)


def run(config: RunConfig, *, dataset: Dataset | None = None, folder: Path | None = None, resume: bool = False) -> Run:
    """From configuration to report.

    Args:
        config: All settings.
        dataset: Used instead of ``config.data`` where given.
        folder: Where the log, the training state and at the end the whole run are written; nothing is written where not given.
        resume: Go on from the training state in ``folder``.

    Raises:
        ValueError: Data or settings cannot be used; the message says what to do.
    """
    if dataset is None:
        dataset = load_dataset(config.data)
    else:  # the record names what was used, not a default path
        config = replace(config, data=replace(config.data, path=dataset.name))
    split = split_dataset(dataset, config.split, torch.Generator().manual_seed(config.split.seed))
    model_class = MODELS[config.model_name]
    inputs = TaskInputs(split, dataset.num_users, dataset.num_items, config.train, dataset.reviews, config.model)
    task = task_of(model_class.query_type, split)(inputs)
    if config.monitor is None:
        config = replace(config, monitor=task.monitor)
    assert config.monitor is not None
    graph = build_graph(dataset, split, config.graph)

    generator = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = model_class(graph.schema, config.model)
        if config.init_from is not None and not resume:  # a training state has its own vectors
            start_from(model, dataset, split, config.init_from)
        with torch.no_grad():
            graph = model.prepare(graph)
        trainer = Trainer(config.train)
        on_device = graph.to(trainer.device)
        tasks = task.evaluation_tasks("valid", mask_of(config.eval, "valid"))
        monitored = task_of_metric(config.monitor)
        if monitored not in tasks:
            raise ValueError(
                f"monitor {config.monitor!r} belongs to the evaluation task {monitored!r}, which {config.model_name} does not have "
                f"on this data; it has {' and '.join(tasks)}"
            )
        validate = partial(monitored_value, graph=on_device, task=tasks[monitored], monitor=config.monitor, config=config.eval)
        history = trainer.fit(model, graph, task.batches, validate, generator=generator, run_dir=folder, resume=resume)

    finished = Run(model, on_device, split, dataset.vocabularies, dataset.attributes, asdict(config), history=history)
    finished.tokens = {name: table.tokens for name, table in dataset.features.items() if table.tokens is not None}
    finished.words = () if dataset.reviews is None else dataset.reviews.words
    started = time.perf_counter()
    judge(finished, config.eval)
    finished.report |= costs(history, time.perf_counter() - started)
    finished.model, finished.graph = model.cpu(), graph
    if folder is not None:
        finished.save(folder)
    return finished


def start_from(model: AnyRecommender, dataset: Dataset, split: Split, folder: str) -> None:
    """Lets a model take over what it can of a finished run (:class:`~gmmrec.abilities.WarmStarts`).

    If that is nothing, its tables of ids are filled with the run's vectors; see :func:`gmmrec.training.warm_start.warm_start`. Logs
    a warning where that run was trained on interactions that this one validates or tests on.
    """
    source = Run.load(folder)
    own = offered(model, WarmStarts)
    if own is None or not own.start_from(source.model):
        with torch.no_grad():
            vectors = encode(source.model, source.graph)
        warm_start(model, dataset.vocabularies, vectors, source.vocabularies)
    user, item = (places(source.vocabularies[kind], dataset.vocabularies[kind]) for kind in (USER, ITEM))
    log = source.split.train
    learned = (user[log.user] * dataset.num_items + item[log.item])[(user[log.user] >= 0) & (item[log.item] >= 0)]
    asked = torch.cat([part.user * dataset.num_items + part.item for part in (split.valid, split.test)])
    known = int(torch.isin(asked, learned).sum())
    if known:
        logger.warning(
            "init_from: %s was trained on %d of the %d interactions that this run validates or tests on, so it knows "
            "answers; results are fair after a run of the same split only",
            *(folder, known, len(asked)),
        )


def fit(
    dataset: Dataset | str | Path | pd.DataFrame, model: str = "mgat", *, out: str | Path | None = None, **settings: Any
) -> Run:
    """Trains and evaluates a model with a few words.

    Args:
        dataset: A data set, or what :func:`gmmrec.load_dataset` takes: it is then read with the settings of the section ``data``.
        model: A name from ``gmmrec.MODELS``.
        out: Folder for the run, if it is to be kept.
        **settings: Any setting by its own name where only one section has it (``dim=32, epochs=20, seed=1``), or whole sections
            as dictionaries (``train={"lr": 0.01}, split={"strategy": "by_time"}``).

    Raises:
        ValueError: A setting is unknown or impossible, or says how to read a data set that is read already.
    """
    if isinstance(settings.get("init_from"), Path):
        settings["init_from"] = str(settings["init_from"])
    values = nested(settings, sections_of(model))
    reading = values.setdefault("data", {})
    if "path" in reading:
        raise ValueError("fit() takes the path of the data as its first argument; leave data.path out of the settings")
    if isinstance(dataset, Dataset) and reading:
        raise ValueError(
            f"the settings {listed(sorted(reading))} say how data are read, but {dataset.name} is read already; "
            "give them to load_dataset(), or give fit() the path"
        )
    if isinstance(dataset, str | Path):
        reading["path"] = str(dataset)
    config = read_config(model, {**values, **values.pop("run", {})})
    if isinstance(dataset, pd.DataFrame):
        dataset = load_dataset(dataset, **reading)
    return run(config, dataset=dataset if isinstance(dataset, Dataset) else None, folder=None if out is None else Path(out))


def nested(settings: Mapping[str, Any], sections: Mapping[str, type]) -> dict[str, dict[str, Any]]:
    """Flat settings put into the one section that has them; sections given as dictionaries are kept.

    >>> nested({"seed": 1}, {"run": TopConfig})
    {'run': {'seed': 1}}
    """
    values: dict[str, dict[str, Any]] = {name: dict(value) for name, value in settings.items() if name in sections}
    for name, value in settings.items():
        if name in sections:
            continue
        owners = [section for section, config in sections.items() if name in {f.name for f in fields(config)}]
        owners = ["run"] if "run" in owners else owners  # seed is the run's; the split's is said split={"seed": …}
        if len(owners) != 1:
            known = [f.name for config in sections.values() for f in fields(config)]
            raise (
                unknown_setting(name, known)
                if not owners
                else ValueError(f"setting {name!r} is in {' and '.join(owners)}; say {owners[0]}={{{name!r}: …}}")
            )
        values.setdefault(owners[0], {})[name] = value
    return values


def costs(history: History, evaluation_seconds: float) -> dict[str, Any]:
    """What a run took: time, and the most memory that the process held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {
        "timing": {
            "seconds_per_epoch": history.seconds_per_epoch,
            "epochs": len(history.epochs),
            "best_epoch": history.best_epoch,
            "evaluation_seconds": evaluation_seconds,
        },
        "peak_rss_mib": round(peak, 1),
    }
