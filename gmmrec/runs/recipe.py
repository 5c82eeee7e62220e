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
from gmmrec.errors import UsageError, WrongTypeError, literal, quote_names
from gmmrec.evaluation.kinds import monitored_mode, monitored_value, task_of_metric
from gmmrec.evaluation.settings import mask_of
from gmmrec.graph.build import build_graph
from gmmrec.models.lookup import build_model, find_model, name_of, part_names, part_paths, stored_model
from gmmrec.recommender import AnyRecommender, encode
from gmmrec.runs.checkpoint import Given
from gmmrec.runs.config import RunConfig, merged, nested, read_config, sections_of
from gmmrec.runs.folder import write_run
from gmmrec.runs.identity import identify
from gmmrec.runs.run import Run
from gmmrec.runs.status import settings_to_resume
from gmmrec.runs.summary import evaluate_run, run_costs
from gmmrec.runs.writer import RunWriter, check_writable, current_environment, environment_changes, writing
from gmmrec.tasks import task_of
from gmmrec.tasks.inputs import TaskInputs
from gmmrec.training.trainer import ShouldStop, Trainer
from gmmrec.training.warm_start import matching_rows, warm_start
from gmmrec.typing import ITEM, USER

logger = logging.getLogger(__name__)


def run(
    config: RunConfig,
    *,
    dataset: Dataset | None = None,
    folder: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    parts: Mapping[str, Any] | None = None,
    classes: Given = None,
    should_stop: ShouldStop | None = None,
) -> Run:
    """Train and evaluate, from settings to report.

    Args:
        config: All settings.
        dataset: Data set to use instead of ``config.data``.
        folder: Folder for the log, the training state and finally the run; nothing is written by default.
        resume: Go on with the run in ``folder``, from its last training state.
        overwrite: Replace the run in ``folder`` when the new one is complete.
        parts: Your own parts for models that accept them, by role.
        classes: Your own model classes that the run of ``init_from`` may name.
        should_stop: Function asked after every epoch; if it returns True, the state is saved and training stops.

    Raises:
        UsageError: Data or settings cannot be used, the folder holds a run already, or the run to resume is another one; the
            message gives the remedy.
        TrainingStopped: ``should_stop`` returned True.
    """
    if folder is None:
        if resume or overwrite:
            raise UsageError("resume and overwrite concern a run folder, but none is given; give one with out=FOLDER")
        found = load_dataset(config.data) if dataset is None else dataset
        config = config if dataset is None else named_after(config, dataset)
        return _run(config, found, None, None, parts, classes, should_stop)
    check_writable(folder, resume=resume, overwrite=overwrite)  # before the reading, which may take long and makes no folder
    source = None
    if dataset is None:
        dataset, source = load_dataset(config.data), place_of(config.data.path)
    else:
        config = named_after(config, dataset)
    with writing(folder, resume=resume, overwrite=overwrite) as writer:
        return _run(config, dataset, source, writer, parts, classes, should_stop)


def _run(
    config: RunConfig,
    dataset: Dataset,
    source: str | None,
    writer: RunWriter | None,
    parts: Mapping[str, Any] | None,
    classes: Given,
    should_stop: ShouldStop | None,
) -> Run:
    model_class = config.model_class
    strategy = chosen_strategy(dataset, config.split.strategy, reads_histories=model_class.query_type.holds_history)
    config = replace(config, split=replace(config.split, strategy=strategy))  # record the split that was used, not "auto"
    split = split_dataset(dataset, config.split, torch.Generator().manual_seed(config.split.seed))
    texts = training_texts(dataset.reviews, split)
    dataset = replace(dataset, reviews=texts.reviews)
    if split.outfits is not None and split.outfits.text is not None:
        split = replace(split, outfits=replace(split.outfits, text=texts.numbered(split.outfits.text)))
    known = (model_class, *((classes,) if isinstance(classes, type) else classes or ()))
    sizes, vocabularies = (dataset.num_users, dataset.num_items), dataset.vocabularies
    inputs = TaskInputs(
        split, *sizes, config.train, dataset.reviews, config.model, item_order=vocabularies[ITEM].order, users=vocabularies[USER]
    )
    task = task_of(model_class.query_type, split)(inputs)
    monitor = config.monitor or task.monitor
    config = replace(config, monitor=monitor)
    graph = build_graph(dataset, split, config.graph)

    generator = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = build_model(model_class, graph.schema, config.model, parts)
        config = replace(config, parts=part_names(model) if writer is None else part_paths(model))
        trainer = Trainer(config.train)
        files = None
        if writer is not None:
            environment = current_environment(trainer.device)
            if writer.status is not None and (changes := environment_changes(writer.status.environment, environment)):
                logger.warning("resuming where %s: the last bits may differ from those of an uninterrupted run", changes)
            files = writer.begin(config, identify(config, dataset, split), source, environment)
        resumes = writer is not None and writer.resumes
        if config.init_from is not None and not (resumes and files is not None and files.state.is_file()):
            start_from(model, dataset, split, config.init_from, known, parts)  # a training state includes its vectors
        with torch.no_grad():
            graph = model.prepare(graph)
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
            run_dir=files,
            resume=resumes,
            should_stop=should_stop,
        )

    finished = Run(model, on_device, split, dataset.vocabularies, dataset.attributes, config, history=history)
    finished.tokens = {name: table.tokens for name, table in dataset.features.items() if table.tokens is not None}
    finished.words = texts.words
    started = time.perf_counter()
    evaluate_run(finished, config.eval)
    finished.report |= run_costs(history, time.perf_counter() - started)
    finished.model, finished.graph = model.cpu(), graph
    if writer is not None:
        write_run(finished.stored(), writer)
    return finished


def named_after(config: RunConfig, dataset: Dataset) -> RunConfig:
    """Return settings that record the data set that is used, not a default path."""
    return replace(config, data=replace(config.data, path=dataset.name))


def place_of(path: str) -> str:
    """Return where data can be found again from any working folder: an absolute path, or a bundled name as it is."""
    place = Path(path).expanduser()
    return str(place.resolve()) if place.exists() else path


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
    model: str | type[AnyRecommender] | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    parts: Mapping[str, Any] | None = None,
    classes: Given = None,
    **settings: Any,
) -> Run:
    """Train and evaluate a model in one call.

    Args:
        dataset: A data set, or what :func:`gmmrec.load_dataset` takes: it is then read with the settings of the section ``data``.
        model: A name from ``gmmrec.MODELS``, a model class of your own, or ``"module:Class"``; by default that of the run to
            resume, else ``"mgat"``.
        out: Folder to save the run to; not saved by default.
        resume: Go on with the run in ``out``, from the state of its last epoch. Settings are those of the run unless given.
        overwrite: Replace the run in ``out`` when the new one is complete.
        parts: Your own modules for models that accept them: for ``graph-fusion`` a ``fusion``, an ``encoder`` or a ``decoder``,
            each a class or function that builds it (see :mod:`gmmrec.models.graph_fusion.parts`).
        classes: Your own model classes that the run of ``init_from`` may name.
        **settings: Any setting by its name, if only one section has it (``dim=32, epochs=20, seed=1``), or whole sections
            as dictionaries (``train={"lr": 0.01}, split={"strategy": "by_time"}``).

    Raises:
        WrongTypeError: ``dataset`` is nothing that is read as a data set, such as a list or an array.
        UsageError: A setting is unknown or impossible, or concerns the reading of a data set that is already loaded; a run to be
            saved has a part without an importable name; or ``out`` holds a run already.
    """
    if not isinstance(dataset, Dataset):
        check_source(dataset, "fit")
    if out is not None and not isinstance(out, str | Path):
        raise WrongTypeError(f"out must be the path of a folder, but is {literal(out)}")
    folder = None if out is None else Path(out)
    stored = settings_to_resume(folder) if resume and folder is not None else {}
    named = stored.pop("model_name", "mgat")
    model_class = find_model(model) if model is not None else stored_model(str(named))
    if name_of(model_class) != named:  # another model has other settings; that it is another is refused later
        stored.pop("model", None)
    values = nested(settings, sections_of(model_class))
    reading = dict(values.get("data", {}))
    if "path" in reading:
        raise UsageError("fit() takes the path of the data as its first argument; leave data.path out of the settings")
    if isinstance(dataset, Dataset) and reading:
        raise UsageError(
            f"the settings {quote_names(sorted(reading))} concern the reading of data, but {dataset.name} is already loaded; "
            "give them to load_dataset(), or give fit() the path"
        )
    values = merged(stored, {**values, **values.pop("run", {})})
    reading = dict(values.setdefault("data", {}))
    if isinstance(dataset, DataConfig):
        reading = {**vars(dataset), **{name: value for name, value in reading.items() if name != "path"}}
    elif isinstance(dataset, str | Path):
        reading["path"] = str(dataset)
    else:
        reading.pop("path", None)
    values["data"] = reading
    config = read_config(model_class, values)
    if isinstance(dataset, pd.DataFrame):
        dataset = load_dataset(dataset, **reading)
    whole = dataset if isinstance(dataset, Dataset) else None
    return run(config, dataset=whole, folder=folder, resume=resume, overwrite=overwrite, parts=parts, classes=classes)
