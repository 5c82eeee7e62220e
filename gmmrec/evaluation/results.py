"""Results: one value per question, and what is made of them: means, intervals, groups, tables, a file for later comparison."""

import json
from collections.abc import Mapping, Sequence
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
from gmmrec.evaluation.metrics import finish
from gmmrec.evaluation.significance import bootstrap_intervals

FILE = "per_user.safetensors"
"""Name of the values per question in a run's folder."""
SAMPLED = "such figures mislead, and may order models otherwise than a ranking of all (Krichene and Rendle, KDD 2020)"
"""What is said wherever candidates were sampled."""
OTHERS = {
    "ratings": ("ratings", "ratings predicted; lower is better"),
    "choices": ("choices", "choices among the candidates of each question"),
    "sets": ("sets", "sets of items, told apart as real or random; chance is 0.5"),
    "links": ("links", "ends of facts to be found among all entities, other right answers left out"),
}
"""What is counted, and how the report begins, where nothing was ranked."""
EVERYTHING = "all"
"""Name of the group of all questions."""


def file_of(exam: str) -> str:
    """Name of the values per question of an exam in a run's folder.

    >>> file_of("ranking"), file_of("ratings")
    ('per_user.safetensors', 'per_rating.safetensors')
    """
    return FILE if exam == "ranking" else f"per_{exam.removesuffix('s')}.safetensors"


@dataclass(frozen=True)
class GroupValues:
    """One group: the positions of its questions ``[q]`` among all, and by metric a value for each ``[q]``."""

    position: Tensor
    values: Mapping[str, Tensor]


@dataclass(frozen=True)
class Results:
    """What an evaluation found.

    Attributes:
        values: By metric, such as ``"recall@20"``: one value per question ``[Q]``; for ``"rmse"`` squared errors.
        query: What identifies each question ``[Q]``: the user's row; for ratings, a number for user and item.
        relevant: A number made of each question's right answers ``[Q]``; it tells whether two runs answered the same questions.
        masked: Whose items were not ranked: ``"train"``, ``"train+valid"``, ``"the outfit"`` or ``"none"``; ``"ratings"``,
            ``"sets"`` and ``"choices"`` where nothing was ranked, or candidates were given.
        groups: Parts of the questions, or of the right answers.
        catalogue: Coverage and novelty of the lists, by name.
        bootstrap: Resamples behind an interval; 0 for none.
        seed: Of the resampling.
        sampled: Among how many sampled candidates was ranked; 0 for all.
        sampled_by: How they were sampled, ``"uniform"`` or ``"popularity"``; of no meaning where all were ranked.
    """

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
        """Two tables for people, aligned: every metric by list length, with its interval, and the groups at one list length.

        The groups show recall and NDCG at 20 (at the last list length where 20 is not among them); :meth:`to_frame` has all. Errors
        of ratings make one table, with a row for every group.
        """
        if self.masked in OTHERS:
            return self._others_to_markdown()
        names = list(dict.fromkeys(metric.split("@")[0] for metric in (*self.values, *self.catalogue)))
        ks = list(dict.fromkeys(int(metric.split("@")[1]) for metric in self.values))
        means, intervals = {**self.mean(), **self.catalogue}, self.intervals()

        def cell(metric: str) -> str:
            ends = intervals.get(metric)
            return f"{means[metric]:.4f}" + (f" ({ends[0]:.4f} to {ends[1]:.4f})" if ends else "") if metric in means else ""

        masked = "all items are ranked" if self.masked == "none" else f"items known from {self.masked} are not ranked"
        text = f"{len(self)} questions; {masked}; 95 % intervals in brackets.\n\n"
        if self.sampled:
            text += f"Ranked among {candidates(self.sampled, self.sampled_by)}: {SAMPLED}.\n\n"
        text += aligned([["metric", *(f"@{k}" for k in ks)], *([name, *(cell(f"{name}@{k}") for k in ks)] for name in names)])
        if self.groups:
            k = 20 if 20 in ks else ks[-1]
            shown = [f"{name}@{k}" for name in ("recall", "ndcg") if f"{name}@{k}" in self.values] or list(self.values)[:1]
            rows = [
                [name, str(g.position.numel()), *(f"{self.mean(name)[m]:.4f}" for m in shown)] for name, g in self.groups.items()
            ]
            text += "\n" + aligned([["group", "questions", *shown], *rows])
        return text

    def _others_to_markdown(self) -> str:
        def cell(name: str, metric: str) -> str:
            ends = self.intervals(name).get(metric)
            return f"{self.mean(name)[metric]:.4f}" + (f" ({ends[0]:.4f} to {ends[1]:.4f})" if ends else "")

        noun, text = OTHERS[self.masked]
        text = f"{len(self)} {text}; 95 % intervals in brackets.\n\n"
        rows = [
            [name, str(self.group(name).position.numel()), *(cell(name, metric) for metric in self.values)]
            for name in (EVERYTHING, *self.groups)
        ]
        return text + aligned([["group", noun, *self.values], *rows])

    def save(self, folder: str | Path, file: str = FILE) -> Path:
        """Writes the values per question, with their questions and groups, to a file in a folder."""
        tensors = {"query": self.query, "relevant": self.relevant}
        for name in (EVERYTHING, *self.groups):
            group = self.group(name)
            tensors[f"{name}/position"] = group.position
            tensors |= {f"{name}/{metric}": value for metric, value in group.values.items()}
        about = {"masked": self.masked, "catalogue": dict(self.catalogue), "bootstrap": self.bootstrap, "seed": self.seed}
        about |= {"sampled": self.sampled, "sampled_by": self.sampled_by} if self.sampled else {}
        path = Path(folder) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {"gmmrec": json.dumps(about)})
        return path

    @classmethod
    def load(cls, folder: str | Path, file: str = FILE) -> "Results":
        """Reads what ``save`` wrote.

        Raises:
            ValueError: The folder holds no values per question, or none that can be read.
        """
        path = Path(folder) / file
        if not path.is_file():
            raise ValueError(f"{folder} holds no {file}; give the folder of a finished run, or evaluate the run again")
        try:
            with safe_open(path, framework="pt") as opened:
                about = json.loads((opened.metadata() or {})["gmmrec"])
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dictionary)
        except (SafetensorError, KeyError) as error:
            raise ValueError(f"{path} is damaged or was not written by gmmrec ({error}); evaluate the run again") from None
        groups: dict[str, GroupValues] = {}
        for key in tensors:
            name, slash, column = key.rpartition("/")
            if slash and column == "position":
                values = {k.rpartition("/")[2]: v for k, v in tensors.items() if k.rpartition("/")[0] == name and k != key}
                groups[name] = GroupValues(tensors[key], values)
        return cls(groups.pop(EVERYTHING).values, tensors["query"], tensors["relevant"], groups=groups, **about)


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


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, header first, whose columns also line up in a terminal; all but the first are set to the right.

    >>> print(aligned([["a", "b"], ["long", "1"]]), end="")
    | a    | b |
    |------|--:|
    | long | 1 |
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))) + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]]) + "\n"
