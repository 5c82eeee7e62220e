"""Training recipe, from settings to report; start with :func:`run`."""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gmmrec.abilities import WarmStarts, offered
from gmmrec.data.dataset import Dataset
from gmmrec.data.load import DataConfig, check_source, load_dataset
from gmmrec.data.reviews import training_texts
from gmmrec.data.split import Split, chosen_strategy, split_dataset
from gmmrec.errors import UsageError, quote_names
from gmmrec.evaluation.kinds import monitored_mode, monitored_value, task_of_metric
from gmmrec.evaluation.settings import mask_of
from gmmrec.graph.build import build_graph
from gmmrec.models.lookup import build_model, find_model, part_names, part_paths
from gmmrec.recommender import AnyRecommender, encode
from gmmrec.runs.checkpoint import Given
from gmmrec.runs.config import RunConfig, nested, read_config, sections_of
from gmmrec.runs.run import Run
from gmmrec.runs.summary import evaluate_run, run_costs
from gmmrec.tasks import task_of
from gmmrec.tasks.inputs import TaskInputs
from gmmrec.training.trainer import Trainer
from gmmrec.training.warm_start import matching_rows, warm_start
from gmmrec.typing import ITEM, USER

logger = logging.getLogger(__name__)


def run(
    config: RunConfig,
    *,
    dataset: Dataset | None = None,
    folder: Path | None = None,
    resume: bool = False,
    parts: Mapping[str, Any] | None = None,
    classes: Given = None,
) -> Run:
    """Train and evaluate, from settings to report.

    Args:
        config: All settings.
        dataset: Data set to use instead of ``config.data``.
        folder: Folder for the log, the training state and finally the run; nothing is written by default.
        resume: Resume from the training state in ``folder``.
        parts: Your own parts for models that accept them, by role.
        classes: Your own model classes that the run of ``init_from`` may name.

    Raises:
        UsageError: Data or settings cannot be used; the message gives the remedy.
    """
    if dataset is None:
        dataset = load_dataset(config.data)
    else:  # record the data set that was used, not a default path
        config = replace(config, data=replace(config.data, path=dataset.name))
    model_class = config.model_class
    strategy = chosen_strategy(dataset, config.split.strategy, reads_histories=model_class.query_type.reads_histories)
    config = replace(config, split=replace(config.split, strategy=strategy))  # record the split that was used, not "auto"
    split = split_dataset(dataset, config.split, torch.Generator().manual_seed(config.split.seed))
    texts = training_texts(dataset.reviews, split)
    dataset = replace(dataset, reviews=texts.reviews)
    if split.outfits is not None and split.outfits.text is not None:
        split = replace(split, outfits=replace(split.outfits, text=texts.numbered(split.outfits.text)))
    known = (model_class, *((classes,) if isinstance(classes, type) else classes or ()))
    inputs = TaskInputs(split, dataset.num_users, dataset.num_items, config.train, dataset.reviews, config.model)
    task = task_of(model_class.query_type, split)(inputs)
    monitor = config.monitor or task.monitor
    config = replace(config, monitor=monitor)
    graph = build_graph(dataset, split, config.graph)

    generator = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = build_model(model_class, graph.schema, config.model, parts)
        config = replace(config, parts=part_paths(model) if folder is not None else part_names(model))
        if config.init_from is not None and not resume:  # a training state includes its vectors
            start_from(model, dataset, split, config.init_from, known, parts)
        with torch.no_grad():
            graph = model.prepare(graph)
        trainer = Trainer(config.train)
        on_device = graph.to(trainer.device)
        tasks = task.evaluation_tasks("valid", mask_of(config.eval, "valid"))
        monitored = task_of_metric(monitor)
        if monitored not in tasks:
            raise UsageError(
                f"monitor {monitor!r} belongs to the evaluation task {monitored!r}, which {config.model_name} does not have "
                f"on this data; it has {' and '.join(tasks)}"
            )
        validate = partial(monitored_value, graph=on_device, task=tasks[monitored], monitor=monitor, config=config.eval)
        history = trainer.fit(
            model,
            graph,
            task.batches,
            validate,
            generator=generator,
            monitor=monitor,
            mode=monitored_mode(tasks[monitored], monitor),
            run_dir=folder,
            resume=resume,
        )

    finished = Run(model, on_device, split, dataset.vocabularies, dataset.attributes, config, history=history)
    finished.tokens = {name: table.tokens for name, table in dataset.features.items() if table.tokens is not None}
    finished.words = texts.words
    started = time.perf_counter()
    evaluate_run(finished, config.eval)
    finished.report |= run_costs(history, time.perf_counter() - started)
    finished.model, finished.graph = model.cpu(), graph
    if folder is not None:
        finished.save(folder)
    return finished


def start_from(
    model: AnyRecommender,
    dataset: Dataset,
    split: Split,
    folder: str,
    classes: Given = None,
    parts: Mapping[str, Any] | None = None,
) -> None:
    """Initialise a model from a finished run, as far as it can (:class:`~gmmrec.abilities.WarmStarts`).

    Otherwise its id tables are initialised with the run's vectors; see :func:`gmmrec.training.warm_start.warm_start`. Logs
    a warning where that run was trained on interactions that this one validates or tests on.
    """
    source = Run.load(folder, classes, parts=parts)
    warm_starting = offered(model, WarmStarts)
    if warm_starting is None or not warm_starting.start_from(source.model):
        with torch.no_grad():
            vectors = encode(source.model, source.graph)
        warm_start(model, dataset.vocabularies, vectors, source.vocabularies)
    user, item = (matching_rows(source.vocabularies[kind], dataset.vocabularies[kind]) for kind in (USER, ITEM))
    log = source.split.train
    learned = (user[log.user] * dataset.num_items + item[log.item])[(user[log.user] >= 0) & (item[log.item] >= 0)]
    held_out = torch.cat([part.user * dataset.num_items + part.item for part in (split.valid, split.test)])
    known = int(torch.isin(held_out, learned).sum())
    if known:
        logger.warning(
            "init_from: %s was trained on %d of the %d interactions that this run validates or tests on, so answers "
            "leak; results are fair only if both runs use the same split",
            *(folder, known, len(held_out)),
        )


def fit(
    dataset: Dataset | str | Path | pd.DataFrame | DataConfig,
    model: str | type[AnyRecommender] = "mgat",
    *,
    out: str | Path | None = None,
    parts: Mapping[str, Any] | None = None,
    classes: Given = None,
    **settings: Any,
) -> Run:
    """Train and evaluate a model in one call.

    Args:
        dataset: A data set, or what :func:`gmmrec.load_dataset` takes: it is then read with the settings of the section ``data``.
        model: A name from ``gmmrec.MODELS``, a model class of your own, or ``"module:Class"``.
        out: Folder to save the run to; not saved by default.
        parts: Your own modules for models that accept them: for ``graph-fusion`` a ``fusion``, an ``encoder`` or a ``decoder``,
            each a class or function that builds it (see :mod:`gmmrec.models.graph_fusion.parts`).
        classes: Your own model classes that the run of ``init_from`` may name.
        **settings: Any setting by its name, if only one section has it (``dim=32, epochs=20, seed=1``), or whole sections
            as dictionaries (``train={"lr": 0.01}, split={"strategy": "by_time"}``).

    Raises:
        WrongTypeError: ``dataset`` is nothing that is read as a data set, such as a list or an array.
        UsageError: A setting is unknown or impossible, or concerns the reading of a data set that is already loaded; or a run to be
            saved has a part without an importable name.
    """
    if not isinstance(dataset, Dataset):
        check_source(dataset, "fit")
    model_class = find_model(model)
    values = nested(settings, sections_of(model_class))
    reading = values.setdefault("data", {})
    if "path" in reading:
        raise UsageError("fit() takes the path of the data as its first argument; leave data.path out of the settings")
    if isinstance(dataset, Dataset) and reading:
        raise UsageError(
            f"the settings {quote_names(sorted(reading))} concern the reading of data, but {dataset.name} is already loaded; "
            "give them to load_dataset(), or give fit() the path"
        )
    if isinstance(dataset, str | Path):
        reading["path"] = str(dataset)
    if isinstance(dataset, DataConfig):
        reading |= {name: value for name, value in vars(dataset).items() if name not in reading}
    config = read_config(model_class, {**values, **values.pop("run", {})})
    if isinstance(dataset, pd.DataFrame):
        dataset = load_dataset(dataset, **reading)
    folder = None if out is None else Path(out)
    return run(config, dataset=dataset if isinstance(dataset, Dataset) else None, folder=folder, parts=parts, classes=classes)
