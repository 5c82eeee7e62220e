"""Results: one value per question, and what is made of them: means, intervals, groups, tables, a file for later comparison."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gmmrec.data.ragged import RaggedSets
from gmmrec.evaluation.groups import Group
from gmmrec.evaluation.metrics import finish
from gmmrec.evaluation.settings import EvalConfig
from gmmrec.evaluation.significance import bootstrap_intervals
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.recommender import Recommender

SAMPLED = "such figures mislead, and may order models otherwise than a ranking of all (Krichene and Rendle, KDD 2020)"
"""What is said wherever candidates were sampled."""
EVERYTHING = "all"
"""Name of the group of all questions."""


@dataclass(frozen=True)
class GroupValues:
    """One group: the positions of its questions ``[q]`` among all, and by metric a value for each ``[q]``."""

    position: Tensor
    values: Mapping[str, Tensor]


@dataclass(frozen=True)
class EvaluationKind:
    """One kind of evaluation: a row of :data:`gmmrec.evaluation.kinds.KINDS`, from which all that shows or stores results follows.

    Attributes:
        name: In tables, files and messages.
        task: Data class of its evaluation tasks.
        unit: Noun, in the plural, for what a report counts.
        paired_by: Noun for what a comparison pairs, such as ``"user"``.
        headline: First words of a report, behind the number of questions.
        evaluate: Takes a model, a graph, an evaluation task, settings, and groups.
        groups: Groups that every report shows, of a graph and an evaluation task.
        monitoring: Settings under which ``evaluate`` yields a metric at the least cost; for early stopping.
        report: Report in Markdown.
        lower_is_better: Metrics of which a model should have little.
        bare: Whether a metric, by its name, is one of this kind without ``TASK/`` in front, if the task is named like the kind.
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
    """What an evaluation found.

    Attributes:
        kind: Of the evaluation.
        values: By metric, such as ``"recall@20"``: one value per question ``[Q]``; for ``"rmse"`` squared errors.
        query: What identifies each question ``[Q]``: the user's row; for ratings, a number for user and item.
        relevant: A number made of each question's answers ``[Q]``; it tells whether two runs answered the same questions.
        masked: What was not ranked: ``"train"``, ``"train+valid"``, ``"the outfit"``, ``"known answers"`` or ``"none"``.
        groups: Parts of the questions, or of the relevant items.
        catalogue: Coverage and novelty of the lists, by name.
        bootstrap: Resamples behind an interval; 0 for none.
        seed: Of the resampling.
        sampled: Among how many sampled candidates was ranked; 0 for all.
        sampled_by: How they were sampled, ``"uniform"`` or ``"popularity"``; of no meaning where all were ranked.
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
        """The values of one group; ``"all"`` names the whole.

        Raises:
            KeyError: There is no such group.
        """
        if name == EVERYTHING:
            return GroupValues(torch.arange(len(self)), self.values)
        if name not in self.groups:
            raise KeyError(f"there is no group {name!r}; the groups are {', '.join((EVERYTHING, *self.groups))}")
        return self.groups[name]

    def part(self, group: str) -> "Results":
        """The questions of one group alone."""
        found = self.group(group)
        position = found.position
        return replace(self, values=found.values, query=self.query[position], relevant=self.relevant[position], groups={})

    def mean(self, group: str = EVERYTHING) -> dict[str, float]:
        """Mean of every metric over the questions of a group; the root of the mean for ``rmse``."""
        return {metric: finish(metric, float(value.double().mean())) for metric, value in self.group(group).values.items()}

    @cached_property
    def _intervals(self) -> dict[str, dict[str, tuple[float, float]]]:
        if not self.bootstrap:
            return {}
        found = {}
        for name in (EVERYTHING, *self.groups):
            means = bootstrap_intervals(self.group(name).values, self.bootstrap, torch.Generator().manual_seed(self.seed))
            found[name] = {metric: (finish(metric, low), finish(metric, high)) for metric, (low, high) in means.items()}
        return found

    def intervals(self, group: str = EVERYTHING) -> dict[str, tuple[float, float]]:
        """95 % interval of every mean of a group; empty where ``bootstrap`` is 0. Drawn once, when first asked for."""
        self.group(group)
        return self._intervals.get(group, {})

    def to_dict(self) -> dict[str, Any]:
        """Everything but the values per question, ready for JSON."""
        return {
            "kind": self.kind.name,
            "masked": self.masked,
            **({"sampled": self.sampled, "sampled_by": self.sampled_by, "warning": SAMPLED} if self.sampled else {}),
            "num_questions": len(self),
            "metrics": self.mean(),
            "intervals": {metric: list(ends) for metric, ends in self.intervals().items()},
            "groups": {
                name: {
                    "num_questions": group.position.numel(),
                    "metrics": self.mean(name),
                    "intervals": {metric: list(ends) for metric, ends in self.intervals(name).items()},
                }
                for name, group in self.groups.items()
            },
            "catalogue": dict(self.catalogue),
        }

    def to_frame(self) -> pd.DataFrame:
        """One row a group and metric: ``group, questions, metric, mean, low, high`` (the ends of the interval, NaN for none)."""
        frame: pd.DataFrame = pd.DataFrame(
            [
                (name, self.group(name).position.numel(), metric, mean, *self.intervals(name).get(metric, (float("nan"),) * 2))
                for name in (EVERYTHING, *self.groups)
                for metric, mean in self.mean(name).items()
            ],
            columns=["group", "questions", "metric", "mean", "low", "high"],
        )
        return frame

    def to_markdown(self) -> str:
        """Tables for people, aligned: every metric with its interval, and the groups."""
        return self.kind.report(self)

    def save(self, folder: str | Path, task: str | None = None) -> Path:
        """Writes the values per question, with their questions and groups, to a file in a folder.

        Args:
            folder: Made where it is missing.
            task: Name of the evaluation task, which names the file; that of the kind where not given.
        """
        tensors = {"query": self.query, "relevant": self.relevant}
        for name in (EVERYTHING, *self.groups):
            group = self.group(name)
            tensors[f"{name}/position"] = group.position
            tensors |= {f"{name}/{metric}": value for metric, value in group.values.items()}
        about: dict[str, Any] = {"kind": self.kind.name, "masked": self.masked, "catalogue": dict(self.catalogue)}
        about |= {"bootstrap": self.bootstrap, "seed": self.seed}
        about |= {"sampled": self.sampled, "sampled_by": self.sampled_by} if self.sampled else {}
        path = Path(folder) / file_of(task or self.kind.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {"gmmrec": json.dumps(about)})
        return path

    @classmethod
    def load(cls, folder: str | Path, task: str, kinds: Mapping[str, EvaluationKind]) -> "Results":
        """Reads what ``save`` wrote; see :func:`gmmrec.evaluation.kinds.load_results`, which knows the kinds.

        Args:
            folder: Of a finished run.
            task: Name of the evaluation task.
            kinds: Known kinds by name.

        Raises:
            ValueError: The folder holds no such results, or none that can be read.
        """
        path = Path(folder) / file_of(task)
        if not path.is_file():
            raise ValueError(f"{folder} holds no {path.name}; give the folder of a finished run, or evaluate the run again")
        try:
            with safe_open(path, framework="pt") as opened:
                about = json.loads((opened.metadata() or {})["gmmrec"])
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dictionary)
            kind = about.pop("kind")
        except (SafetensorError, KeyError) as error:
            raise ValueError(f"{path} is damaged or was not written by gmmrec ({error}); evaluate the run again") from None
        if kind not in kinds:
            raise ValueError(f"{path} holds results of kind {kind!r}; add that kind to KINDS, which has {', '.join(kinds)}")
        groups: dict[str, GroupValues] = {}
        for key in tensors:
            name, slash, column = key.rpartition("/")
            if slash and column == "position":
                values = {k.rpartition("/")[2]: v for k, v in tensors.items() if k.rpartition("/")[0] == name and k != key}
                groups[name] = GroupValues(tensors[key], values)
        whole = groups.pop(EVERYTHING)
        return cls(kinds[kind], whole.values, tensors["query"], tensors["relevant"], groups=groups, **about)


def file_of(task: str) -> str:
    """Name of the file of values per question of an evaluation task, in a run's folder.

    >>> file_of("ranking"), file_of("impressions")
    ('results_ranking.safetensors', 'results_impressions.safetensors')
    """
    return f"results_{task}.safetensors"


def candidates(sampled: int, sampled_by: str) -> str:
    """What was ranked, in words.

    >>> candidates(0, "uniform"), candidates(100, "uniform"), candidates(100, "popularity")
    ('all candidates', '100 candidates sampled uniformly', '100 candidates sampled by popularity')
    """
    how = "uniformly" if sampled_by == "uniform" else f"by {sampled_by}"
    return f"{sampled} candidates sampled {how}" if sampled else "all candidates"


def fingerprint(relevant: RaggedSets) -> Tensor:
    """A number per set ``[G]`` (int64), the same for the same rows; different for different rows but for rare chance.

    >>> a, b, c = fingerprint(RaggedSets(torch.tensor([0, 2, 4, 6]), torch.tensor([3, 8, 3, 8, 4, 7]))).tolist()
    >>> a == b, a == c
    (True, False)
    """
    value = relevant.values + 1
    for factor, shift in ((-7046029254386353131, 29), (-4417276706812531889, 32)):  # odd constants of xxHash, wrapped to int64
        value = value * factor
        value = value ^ (value >> shift)
    return torch.zeros(len(relevant), dtype=torch.long, device=value.device).index_add_(0, relevant.groups, value)
