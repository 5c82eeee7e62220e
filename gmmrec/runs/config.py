"""Settings of runs: sections, reading and storing."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias

from gmmrec.config import from_plain, quoted_value, read_settings, to_plain, unknown_setting
from gmmrec.data.load import DataConfig
from gmmrec.data.split import SplitConfig
from gmmrec.ensemble.blend import Blend, BlendConfig
from gmmrec.ensemble.two_stage import TwoStage, TwoStageConfig
from gmmrec.errors import UsageError
from gmmrec.evaluation.kinds import task_of_metric
from gmmrec.evaluation.settings import EvalConfig
from gmmrec.graph.build import GraphConfig
from gmmrec.models.lookup import find_model, name_of
from gmmrec.recommender import AnyRecommender
from gmmrec.safety.types import conforms
from gmmrec.tasks.inputs import BatchConfig
from gmmrec.training.trainer import TrainConfig

ENSEMBLES: dict[str, type[AnyRecommender]] = {"blend": Blend, "two-stage": TwoStage}
"""Ensembles of finished runs, by the name stored in files."""


@dataclass(frozen=True)
class TrainSettings(TrainConfig, BatchConfig):
    """Section ``train``: settings of batches (read by the task) and of steps (read by the trainer)."""

    def __post_init__(self) -> None:
        BatchConfig.__post_init__(self)
        TrainConfig.__post_init__(self)


@dataclass(frozen=True)
class TopConfig:
    """Settings of the run as a whole."""

    seed: int = 0
    """Seed of initial weights, batches and negatives. The split has its own, so that runs with different seeds are comparable."""
    monitor: str | None = None
    """Validation metric that selects the best epoch: one of the ranking, or TASK/METRIC of another evaluation task; None takes the
    model's own (recall@20, rmse, …). Errors are minimised."""
    init_from: str | None = None
    """Folder of a finished run whose user and item vectors initialise the id tables, matched by raw id; unknown ids keep their
    random vectors. Both runs need the same ``dim``. A model with a setting ``transfer`` may take over modules instead, from a run
    on other users and items."""

    def __post_init__(self) -> None:
        if self.monitor is not None:
            task_of_metric(self.monitor)


@dataclass(frozen=True)
class RunConfig:
    """All settings that determine the outcome of a run; stored with every result."""

    model_class: type[AnyRecommender]
    """Class of the model."""
    model: Any
    """Settings of the model, an instance of ``model_class.config_class``."""
    parts: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    """Import paths of the custom parts that the model is built with, by role."""
    data: DataConfig = field(default_factory=DataConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    graph: GraphConfig = field(default_factory=GraphConfig)
    train: TrainSettings = field(default_factory=TrainSettings)
    eval: EvalConfig = field(default_factory=EvalConfig)
    seed: int = 0
    monitor: str | None = None
    init_from: str | None = None

    @property
    def model_name(self) -> str:
        """Name of the model class; see :func:`gmmrec.models.lookup.name_of`."""
        return name_of(self.model_class)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain data, as stored in ``config.yaml``."""
        left_out = ("model_class",) if self.parts else ("model_class", "parts")
        sections = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in left_out}
        return {"model_name": self.model_name, **to_plain(sections)}


@dataclass(frozen=True)
class CombinedConfig:
    """Settings of a combination of finished runs: a blend or two stages."""

    model: BlendConfig | TwoStageConfig
    """Settings of the ensemble."""
    runs: tuple[str, ...]
    """Member runs: folders, or positions of those passed as objects."""
    data: DataConfig
    split: SplitConfig
    eval: EvalConfig
    monitor: str | None = None
    """Validation metric by which weights were chosen; None if they were given."""

    @property
    def model_name(self) -> str:
        """Name of the ensemble."""
        return next(name for name, model_class in ENSEMBLES.items() if isinstance(self.model, model_class.config_class))

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the models, in the order of the runs."""
        return tuple(member.model for member in self.model.members)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain data; the members are described in the model file."""
        own = {name: value for name, value in vars(self.model).items() if name in ("weights", "scale", "top")}
        rest = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in ("model", "runs")}
        return {"model_name": self.model_name, "runs": list(self.runs), "models": list(self.members), **to_plain({**own, **rest})}


AnyRunConfig: TypeAlias = RunConfig | CombinedConfig


def sections_of(model_class: type[AnyRecommender]) -> dict[str, type]:
    """Return the sections of a run's settings, by name."""
    return {
        "model": model_class.config_class,
        "data": DataConfig,
        "split": SplitConfig,
        "graph": GraphConfig,
        "train": TrainSettings,
        "eval": EvalConfig,
        "run": TopConfig,
    }


def read_config(
    model: str | type[AnyRecommender], values: Mapping[str, Any] | None = None, arguments: Sequence[str] = ()
) -> RunConfig:
    """Return the settings of a run: defaults, then nested ``values``, then flags.

    Args:
        model: A name, ``module:Class``, or a class.
        values: Sections as nested dictionaries; ``seed``, ``monitor`` and ``init_from`` at the top.
        arguments: Flags ``--SECTION.FIELD VALUE``.

    Raises:
        UsageError: A name is unknown or a value is impossible.
    """
    model_class = find_model(model)
    if not isinstance(values if values is not None else {}, Mapping):
        raise UsageError(f"settings must be sections such as 'train:', but are a {type(values).__name__}")
    values = dict(values or {})
    parts = values.pop("parts", None) or {}
    if not isinstance(parts, Mapping):
        raise UsageError(f"section 'parts' must hold names of modules by role, but is a {type(parts).__name__}")
    names = [each.name for each in fields(TopConfig)]
    top = {name: values.pop(name) for name in names if name in values}
    arguments = [f"--run.{a[2:]}" if a.startswith("--") and a[2:].split("=")[0] in names else a for a in arguments]
    filled = read_settings(sections_of(model_class), {**values, "run": top}, arguments)
    return RunConfig(model_class, **vars(filled.pop("run")), **filled, parts=parts)


def stored_config(values: Mapping[str, Any], model: AnyRecommender, where: str) -> AnyRunConfig:
    """Return typed settings from those that :meth:`RunConfig.to_dict` or :meth:`CombinedConfig.to_dict` wrote.

    Args:
        values: Contents of the file.
        model: The model of the same run.
        where: Name of the file, for messages.

    Raises:
        UsageError: A section or a setting is missing or unknown.
    """
    sections: dict[str, type] = {"data": DataConfig, "split": SplitConfig, "eval": EvalConfig}
    if type(model) not in ENSEMBLES.values():
        sections |= {"graph": GraphConfig, "train": TrainSettings}
    missing = [name for name in sections if not isinstance(values.get(name), Mapping)]
    if missing:
        raise UsageError(f"{where} has no section {missing[0]!r}; the file was changed since; train the run again")
    typed: dict[str, Any] = {
        name: from_plain(section, values[name], f"{where}, section {name!r}") for name, section in sections.items()
    }
    if type(model) in ENSEMBLES.values():
        runs = values.get("runs")
        if not conforms(list[str], runs) or not conforms(str | None, values.get("monitor")):
            raise UsageError(
                f"{where} has no list of runs, or no metric as monitor; the file was changed since; train the run again"
            )
        return CombinedConfig(model.config, tuple(runs or ()), **typed, monitor=values.get("monitor"))
    top = from_plain(TopConfig, {each.name: values.get(each.name) for each in fields(TopConfig)}, where)
    parts = values.get("parts", {})
    if not conforms(Mapping[str, str], parts):
        raise UsageError(f"{where} has parts that are not names by role; the file was changed since; train the run again")
    return RunConfig(type(model), model.config, **typed, **asdict(top), parts=parts)


def nested(settings: Mapping[str, Any], sections: Mapping[str, type]) -> dict[str, dict[str, Any]]:
    """Put flat settings into the one section that has them; sections given as dictionaries are kept.

    >>> nested({"seed": 1}, {"run": TopConfig})
    {'run': {'seed': 1}}
    """
    for name in sections:
        if settings.get(name) is not None and not isinstance(settings[name], Mapping):
            raise UsageError(f"{name} is a section: give it as a dictionary of settings, not as {quoted_value(settings[name])}")
    values: dict[str, dict[str, Any]] = {name: dict(value or {}) for name, value in settings.items() if name in sections}
    for name, value in settings.items():
        if name in sections:
            continue
        owners = [section for section, config in sections.items() if name in {f.name for f in fields(config)}]
        owners = ["run"] if "run" in owners else owners  # seed is the run's; the split's is given as split={"seed": …}
        if not owners:
            raise unknown_setting(name, [f.name for config in sections.values() for f in fields(config)])
        if len(owners) > 1:
            raise UsageError(f"setting {name!r} is in {' and '.join(owners)}; give {owners[0]}={{{name!r}: …}}")
        values.setdefault(owners[0], {})[name] = str(value) if isinstance(value, Path) else value
    return values


def merged(stored: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored settings, by section, with those given in their place.

    >>> merged({"seed": 1, "train": {"lr": 0.1, "epochs": 5}}, {"train": {"epochs": 9}})
    {'seed': 1, 'train': {'lr': 0.1, 'epochs': 9}}
    """
    result = dict(stored)
    for name, value in given.items():
        known = result.get(name)
        result[name] = {**known, **value} if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return result
