"""Results: values per query, with means, intervals, groups, tables, and a file for later comparison."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from gmmrec.data.ragged import RaggedSets
from gmmrec.errors import UnknownIdError, UsageError
from gmmrec.evaluation.groups import Group
from gmmrec.evaluation.metrics import finish
from gmmrec.evaluation.settings import EvalConfig
from gmmrec.evaluation.significance import mean_intervals
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.recommender import Recommender
from gmmrec.safety.names import check_name
from gmmrec.safety.tensors import check_tensor, header_json, read_tensors
from gmmrec.safety.types import check_fields
from gmmrec.storage.atomic import write_tensors
from gmmrec.storage.manifest import StoredFolder, read_manifest

SAMPLED = "sampled metrics are misleading and may order models differently than full rankings (Krichene and Rendle, KDD 2020)"
"""Warning shown with all results on sampled candidates."""
REMEDY = "evaluate the run again"
EVERYTHING = "all"
"""Name of the group of all queries."""


@dataclass(frozen=True)
class GroupValues:
    """One group: positions of its queries ``[q]`` among all, and their values ``[q]`` by metric."""

    position: Tensor
    values: Mapping[str, Tensor]


@dataclass(frozen=True)
class EvaluationKind:
    """One kind of evaluation: a row of :data:`gmmrec.evaluation.kinds.KINDS`, which determines how results are shown and stored.

    Attributes:
        name: Name in tables, files and messages.
        task: Data class of the evaluation tasks.
        unit: Plural noun for the rows that a report counts.
        paired_by: Noun for the rows that a comparison pairs, such as ``"user"``.
        headline: First words of a report, after the number of queries.
        evaluate: Function of a model, a graph, an evaluation task, settings, and groups.
        groups: Groups that every report shows, from a graph and an evaluation task.
        monitoring: Settings under which ``evaluate`` computes a metric at the lowest cost; for early stopping.
        report: Report in Markdown.
        lower_is_better: Metrics of which lower values are better.
        bare: Whether a metric name belongs to this kind without the prefix ``TASK/``, if the task has the name of the kind.
    """

    name: str
    task: type[Any]
    unit: str
    paired_by: str
    headline: str
    evaluate: Callable[[Recommender[Any], MultimodalGraph, Any, EvalConfig, Mapping[str, Group]], "Results"]
    report: Callable[["Results"], str]
    groups: Callable[[MultimodalGraph, Any], Mapping[str, Group]] = lambda graph, task: {}
    monitoring: Callable[[str, EvalConfig], EvalConfig] = lambda metric, config: config
    lower_is_better: frozenset[str] = frozenset()
    bare: Callable[[str], bool] = lambda metric: False


@dataclass(frozen=True)
class Results:
    """Results of an evaluation.

    Attributes:
        kind: Kind of the evaluation.
        values: Values per query ``[Q]`` by metric, such as ``"recall@20"``; squared errors for ``"rmse"``.
        query: Identifier of each query ``[Q]``: the user's row; for ratings, a number for user and item.
        relevant: Fingerprint of each query's relevant items ``[Q]``, to check that two runs answered the same queries.
        masked: Excluded candidates: ``"train"``, ``"train+valid"``, ``"the outfit"``, ``"known answers"`` or ``"none"``.
        groups: Values of groups of queries or of relevant items.
        catalogue: Coverage and novelty of the lists, by name.
        bootstrap: Resamples per interval of a small group, see :func:`~gmmrec.evaluation.significance.mean_intervals`; 0 for no
            intervals.
        seed: Seed of the resampling.
        sampled: Number of sampled candidates; 0 if all were ranked.
        sampled_by: Distribution of the sample, ``"uniform"`` or ``"popularity"``; unused if all were ranked.
    """

    kind: EvaluationKind
    values: Mapping[str, Tensor]
    query: Tensor
    relevant: Tensor
    masked: str
    groups: Mapping[str, GroupValues] = field(default_factory=dict)
    catalogue: Mapping[str, float] = field(default_factory=dict)
    bootstrap: int = 1000
    seed: int = 0
    sampled: int = 0
    sampled_by: str = "uniform"

    def __len__(self) -> int:
        return self.query.numel()

    def group(self, name: str) -> GroupValues:
        """Return the values of one group; ``"all"`` names the whole.

        Raises:
            KeyError: There is no such group.
        """
        if name == EVERYTHING:
            return GroupValues(torch.arange(len(self)), self.values)
        if name not in self.groups:
            raise UnknownIdError(f"there is no group {name!r}; the groups are {', '.join((EVERYTHING, *self.groups))}")
        return self.groups[name]

    def part(self, group: str) -> "Results":
        """Return the results restricted to one group."""
        found = self.group(group)
        position = found.position
        return replace(self, values=found.values, query=self.query[position], relevant=self.relevant[position], groups={})

    def mean(self, group: str = EVERYTHING) -> dict[str, float]:
        """Return the mean of every metric over the queries of a group; the root of the mean for ``rmse``."""
        return {metric: finish(metric, float(value.double().mean())) for metric, value in self.group(group).values.items()}

    @cached_property
    def _intervals(self) -> dict[str, dict[str, tuple[float, float]]]:
        if not self.bootstrap:
            return {}
        found = {}
        for name in (EVERYTHING, *self.groups):
            means = mean_intervals(self.group(name).values, self.bootstrap, torch.Generator().manual_seed(self.seed))
            found[name] = {metric: (finish(metric, low), finish(metric, high)) for metric, (low, high) in means.items()}
        return found

    def intervals(self, group: str = EVERYTHING) -> dict[str, tuple[float, float]]:
        """Return the 95 % interval of every mean of a group; empty if ``bootstrap`` is 0. They are computed on first access."""
        self.group(group)
        return self._intervals.get(group, {})

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the values per query, ready for JSON."""
        return {
            "kind": self.kind.name,
            "masked": self.masked,
            **({"sampled": self.sampled, "sampled_by": self.sampled_by, "warning": SAMPLED} if self.sampled else {}),
            "num_queries": len(self),
            "metrics": self.mean(),
            "intervals": {metric: list(ends) for metric, ends in self.intervals().items()},
            "groups": {
                name: {
                    "num_queries": group.position.numel(),
                    "metrics": self.mean(name),
                    "intervals": {metric: list(ends) for metric, ends in self.intervals(name).items()},
                }
                for name, group in self.groups.items()
            },
            "catalogue": dict(self.catalogue),
        }

    def to_frame(self) -> pd.DataFrame:
        """Return one row per group and metric: ``group, queries, metric, mean, low, high`` (interval ends, NaN for none)."""
        frame: pd.DataFrame = pd.DataFrame(
            [
                (name, self.group(name).position.numel(), metric, mean, *self.intervals(name).get(metric, (float("nan"),) * 2))
                for name in (EVERYTHING, *self.groups)
                for metric, mean in self.mean(name).items()
            ],
            columns=["group", "queries", "metric", "mean", "low", "high"],
        )
        return frame

    def to_markdown(self) -> str:
        """Return aligned tables of every metric with its interval, and of the groups."""
        return self.kind.report(self)

    def save(self, folder: str | Path, task: str | None = None) -> Path:
        """Write the values per query, with their queries and groups, to a file in a folder.

        Args:
            folder: Created if missing.
            task: Name of the evaluation task, which names the file; by default that of the kind.
        """
        path = Path(folder) / file_of(task or self.kind.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.write(path)
        return path

    def write(self, path: Path) -> None:
        """Write the values per query, with their queries and groups, to a file."""
        tensors = {"query": self.query, "relevant": self.relevant}
        for name in (EVERYTHING, *self.groups):
            group = self.group(name)
            tensors[f"{name}/position"] = group.position
            tensors |= {f"{name}/{metric}": value for metric, value in group.values.items()}
        about: dict[str, Any] = {"kind": self.kind.name, "masked": self.masked, "catalogue": dict(self.catalogue)}
        about |= {"bootstrap": self.bootstrap, "seed": self.seed}
        about |= {"sampled": self.sampled, "sampled_by": self.sampled_by} if self.sampled else {}
        write_tensors(path, {name: tensor.contiguous() for name, tensor in tensors.items()}, {"gmmrec": json.dumps(about)})

    @classmethod
    def load(cls, folder: str | Path, task: str, kinds: Mapping[str, EvaluationKind]) -> "Results":
        """Read a file written by ``save``; see :func:`gmmrec.evaluation.kinds.load_results`, which passes the kinds.

        Args:
            folder: Folder of a finished run.
            task: Name of the evaluation task.
            kinds: Known kinds by name.

        Raises:
            UsageError: The folder holds no such results, or they cannot be read.
        """
        remedy = "give the folder of a finished run, or train it again"
        path = StoredFolder(Path(folder), read_manifest(Path(folder), remedy), remedy).file(file_of(task))
        tensors, header = read_tensors(path, "results of gmmrec", REMEDY)
        about = header_json(header, "gmmrec", path, REMEDY)
        kind = str(about.pop("kind", None))
        if kind not in kinds:
            raise UsageError(f"{path} holds results of unknown kind {kind!r}; add it to KINDS, which has {', '.join(kinds)}")
        groups: dict[str, GroupValues] = {}
        for key in tensors:
            name, slash, column = key.rpartition("/")
            if slash and column == "position":
                values = {k.rpartition("/")[2]: v for k, v in tensors.items() if k.rpartition("/")[0] == name and k != key}
                groups[name] = GroupValues(tensors[key], values)
        whole = groups.pop(EVERYTHING, None)
        try:
            check_fields(cls, about, "its header")
            _check_values(tensors, whole, groups)
        except UsageError as error:
            raise UsageError(f"{path} is damaged ({error}); {REMEDY}") from None
        assert whole is not None
        return cls(kinds[kind], whole.values, tensors["query"], tensors["relevant"], groups=groups, **about)


def _check_values(tensors: Mapping[str, Tensor], whole: GroupValues | None, groups: Mapping[str, GroupValues]) -> None:
    """Refuse values and positions that do not fit the queries."""
    check_tensor(tensors.get("query"), "query", (None,), (torch.int64,))
    count = len(tensors["query"])
    check_tensor(tensors.get("relevant"), "relevant", (count,), (torch.int64,))
    if whole is None or len(whole.position) != count:
        raise UsageError("it has no values of all queries")
    for name, group in {EVERYTHING: whole, **groups}.items():
        check_tensor(group.position, f"{name}/position", (None,), (torch.int64,), 0, count)
        for metric, values in group.values.items():
            check_tensor(values, f"{name}/{metric}", (len(group.position),), (torch.float32, torch.float64))


def file_of(task: str) -> str:
    """Return the name of the results file of an evaluation task in a run folder.

    >>> file_of("ranking"), file_of("impressions")
    ('results_ranking.safetensors', 'results_impressions.safetensors')
    """
    return f"results_{check_name(task, 'evaluation task')}.safetensors"


def candidates(sampled: int, sampled_by: str) -> str:
    """Return a description of the ranked candidates.

    >>> candidates(0, "uniform"), candidates(100, "uniform"), candidates(100, "popularity")
    ('all candidates', '100 candidates sampled uniformly', '100 candidates sampled by popularity')
    """
    how = "uniformly" if sampled_by == "uniform" else f"by {sampled_by}"
    return f"{sampled} candidates sampled {how}" if sampled else "all candidates"


def fingerprint(relevant: RaggedSets) -> Tensor:
    """Return a hash per set ``[G]`` (int64), equal for equal sets and different otherwise, except for rare collisions.

    >>> a, b, c = fingerprint(RaggedSets(torch.tensor([0, 2, 4, 6]), torch.tensor([3, 8, 3, 8, 4, 7]))).tolist()
    >>> a == b, a == c
    (True, False)
    """
    value = relevant.values + 1
    for factor, shift in ((-7046029254386353131, 29), (-4417276706812531889, 32)):  # odd constants of xxHash, wrapped to int64
        value = value * factor
        value = value ^ (value >> shift)
    return torch.zeros(len(relevant), dtype=torch.long, device=value.device).index_add_(0, relevant.groups, value)
