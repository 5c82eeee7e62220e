"""Run: a trained model with all it needs to answer, and its folder on disk."""

import json
import platform
import sys
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
import yaml
from safetensors.torch import load_file, save_file

from gmmrec.data.interactions import joined
from gmmrec.data.pack import packed, unpacked
from gmmrec.data.parts import GIVEN_PARTS
from gmmrec.data.ragged import RaggedSets
from gmmrec.data.split import Split
from gmmrec.data.tokens import TokenNames
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.evaluation.kinds import evaluate_task, metric_name
from gmmrec.evaluation.results import Results
from gmmrec.evaluation.settings import EvalConfig, mask_of
from gmmrec.explain.attention import Explanation, parts_of, weights_of
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.graph.store import load_graph, save_graph
from gmmrec.recommender import AnyRecommender
from gmmrec.runs.checkpoint import load_model, save_model
from gmmrec.serving.links import complete
from gmmrec.serving.outfit import complete_outfit
from gmmrec.serving.service import Service
from gmmrec.tasks import task_of
from gmmrec.tasks.inputs import TaskInputs
from gmmrec.tasks.task import Task
from gmmrec.training.history import History
from gmmrec.typing import NodeType

Part = Literal["valid", "test"]
PACKAGES = ("gmmrec", "torch", "torch-geometric", "numpy", "scipy", "pandas", "lightning-fabric")


@dataclass
class Run:
    """A trained model, the graph it is asked on, the split it was judged on, and what came of it.

    The folder that :meth:`save` writes is enough to recommend and to evaluate without the original data.

    Attributes:
        model: In evaluation mode.
        graph: The prepared graph of the training interactions.
        split: Row numbers of all three parts.
        vocabularies: Raw ids by node type.
        attributes: Tables by node type; ``title`` is shown beside item ids.
        config: Every setting, as nested dictionaries.
        results: Of the main evaluation task by part, as far as evaluated: the ranking, where the model recommends.
        other_results: Of all other evaluation tasks, such as ``"rating"``, by name and part.
        history: How training went; None for a loaded run.
        report: What ``metrics.json`` holds.
        tokens: What the tokens of modalities are, for explanations, as far as known.
        main: Name of the main evaluation task.
        words: The word of every id, where texts were learned from.
    """

    model: AnyRecommender
    graph: MultimodalGraph
    split: Split
    vocabularies: Mapping[NodeType, Vocabulary]
    attributes: Mapping[NodeType, pd.DataFrame]
    config: Mapping[str, Any]
    results: dict[str, Results] = field(default_factory=dict)
    other_results: dict[str, dict[str, Results]] = field(default_factory=dict)
    history: History | None = None
    report: dict[str, Any] = field(default_factory=dict)
    tokens: Mapping[str, TokenNames] = field(default_factory=dict)
    main: str = "ranking"
    words: Sequence[str] = ()

    @cached_property
    def service(self) -> Service:
        """Answers questions in raw ids; everything a user did in any part counts as seen."""
        log = joined([*self.split.past, self.split.valid, self.split.test])
        seen = RaggedSets.from_pairs(log.user, log.item, len(self.vocabularies["user"]))
        return Service(self.model, self.graph, self.vocabularies, seen, self.titles, log)

    @property
    def titles(self) -> Sequence[str] | None:
        """What to show for every item, or None."""
        frame = self.attributes.get("item")
        return None if frame is None or "title" not in frame else frame["title"].fillna("").astype(str).tolist()

    def recommend(
        self,
        users: Sequence[Hashable] | None = None,
        k: int = 10,
        *,
        exclude_seen: bool = True,
        histories: Sequence[Sequence[Hashable]] | None = None,
    ) -> pd.DataFrame:
        """See :meth:`gmmrec.serving.service.Service.recommend`."""
        return self.service.recommend(users, k, exclude_seen=exclude_seen, histories=histories)

    def similar_items(self, items: Sequence[Hashable], k: int = 10) -> pd.DataFrame:
        """See :meth:`gmmrec.serving.service.Service.similar_items`."""
        return self.service.similar_items(items, k)

    def complete(self, items: Sequence[Hashable], user: Hashable | None = None, k: int = 5, **settings: Any) -> pd.DataFrame:
        """Outfits or bundles that hold some items, with a column ``category`` where that is known.

        See :func:`gmmrec.serving.outfit.complete_outfit`, which has more settings.
        """
        frame = complete_outfit(self.service, self.split.outfits, items, user, k, words=self.words, **settings)
        known = self.attributes.get("item")
        if known is not None and "category" in known:
            rows = self.vocabularies["item"].rows(frame["item_id"].tolist())
            frame["category"] = known["category"].iloc[rows.numpy()].to_numpy()
        return frame

    def link(
        self,
        head: Hashable | None = None,
        relation: Hashable | None = None,
        k: int = 10,
        *,
        tail: Hashable | None = None,
        exclude_known: bool = True,
    ) -> pd.DataFrame:
        """The tails of facts that begin with ``head``, or the heads of those that end in ``tail``; see :func:`complete`.

        Raises:
            KeyError: An id is unknown; the message gives the nearest.
            ValueError: The model knows no facts, or not exactly one end and a relation are given.
        """
        triples = self.split.triples
        if triples is None:
            raise ValueError(f"{self.config['model_name']} completes no facts; take a run of mkgformer")
        if (head is None) == (tail is None) or relation is None:
            raise ValueError("give a relation and one end of the fact, the head or the tail")
        frame = self.attributes.get("entity")
        titles = None if frame is None or "title" not in frame else frame["title"].fillna("").astype(str)
        parts = (self.model, self.graph, self.vocabularies, triples, tail if head is None else head, relation, k)
        return complete(*parts, backwards=head is None, exclude_known=exclude_known, titles=titles)

    def explain(self, user: Hashable, item: Hashable) -> pd.DataFrame:
        """What of an item counts for a user: columns ``modality``, ``token`` and ``weight``; see :meth:`explanation`."""
        return self.explanation(user, item).to_frame()

    def explanation(self, user: Hashable, item: Hashable) -> Explanation:
        """What of an item counts for a user, for :func:`gmmrec.report.picture.draw`.

        Where in a picture attributes show is read from the folder of the data, as far as it is still there.

        Raises:
            KeyError: An id is unknown.
            ValueError: The model has no attention to show.
        """
        ids = {"user": user, "item": item}
        rows = {kind: int(self.vocabularies[kind].rows([ids[kind]])[0]) for kind in ids}
        encoded, items = self.service.encoded, self.vocabularies["item"].ids()
        titles = self.titles or [""] * len(items)
        query = self.service.query(torch.tensor([rows["user"]]))
        meaning, weights = weights_of(self.model, self.graph, encoded, query, rows["item"])
        with torch.no_grad():
            score = self.model.score(encoded, query, torch.tensor([rows["item"]]))

        def label(row: int) -> str:
            return titles[row] or str(items[row])

        folder = Path(self.config["data"]["path"])
        parts = parts_of(weights, self.graph, rows, ids, tokens=self.tokens, item_labels=label, folder=folder)
        return Explanation(user, item, label(rows["item"]), float(score), meaning, parts)

    def evaluate(self, part: Part = "test", config: EvalConfig | None = None) -> Results:
        """Results of the main evaluation task of one part, the ranking as a rule; settings are the run's where none are given."""
        (first,) = self._take(part, config, only_first=True).values()
        return first

    def evaluate_all(self, part: Part = "test", config: EvalConfig | None = None) -> dict[str, Results]:
        """Results of all evaluation tasks of one part by name, the main one first."""
        return self._take(part, config)

    def _take(self, part: Part, config: EvalConfig | None, *, only_first: bool = False) -> dict[str, Results]:
        config = config or self.eval_config()
        tasks = self.task().evaluation_tasks(part, mask_of(config, part))
        asked = list(tasks.items())[: 1 if only_first else None]
        return {name: evaluate_task(self.model, self.graph, task, config) for name, task in asked}

    def task(self) -> Task:
        """The task that asks the model's questions."""
        sizes = len(self.vocabularies["user"]), len(self.vocabularies["item"])
        return task_of(self.model.query_type, self.split)(TaskInputs(self.split, *sizes, settings=self.model.config))

    def eval_config(self) -> EvalConfig:
        """How the run was evaluated."""
        settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in self.config["eval"].items()}
        return EvalConfig(**settings)

    def save(self, folder: str | Path) -> Path:
        """Writes the run folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(_plain(self.config), sort_keys=False), encoding="utf-8")
        save_model(self.model, folder / "model.safetensors")
        save_graph(self.graph, folder / "graph.safetensors")
        save_split(self.split, folder / "split.safetensors")
        ids = {node_type: vocabulary.ids() for node_type, vocabulary in self.vocabularies.items()}
        (folder / "vocabularies.json").write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
        if self.tokens:
            tokens = {name: asdict(known) for name, known in self.tokens.items()}
            (folder / "tokens.json").write_text(json.dumps(tokens, ensure_ascii=False), encoding="utf-8")
        if self.words:
            (folder / "words.json").write_text(json.dumps(self.words, ensure_ascii=False), encoding="utf-8")
        for node_type, frame in self.attributes.items():
            if len(frame.columns):  # of some only the ids are known
                frame.to_csv(folder / f"{node_type}s.csv", index=False)
        (folder / "environment.json").write_text(json.dumps(environment(), indent=2), encoding="utf-8")
        (folder / "metrics.json").write_text(json.dumps(self.report, indent=2), encoding="utf-8")
        if "test" in self.results:
            self.results["test"].save(folder, self.main)
        for task, found in self.other_results.items():
            if "test" in found:
                found["test"].save(folder, task)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> "Run":
        """Reads a run folder.

        Raises:
            ValueError: The folder is not a run folder, or a file of it is missing.
        """
        folder = Path(folder)
        missing = [
            name
            for name in ("config.yaml", "model.safetensors", "graph.safetensors", "split.safetensors", "vocabularies.json")
            if not (folder / name).is_file()
        ]
        if missing:
            raise ValueError(
                f"{folder} is not a finished run: {missing[0]} is missing; make one with 'gmmrec train --out {folder}'"
            )
        ids = json.loads((folder / "vocabularies.json").read_text(encoding="utf-8"))
        attributes = {
            node_type: pd.read_csv(folder / f"{node_type}s.csv") for node_type in ids if (folder / f"{node_type}s.csv").is_file()
        }
        report, tokens, words = (folder / f"{name}.json" for name in ("metrics", "tokens", "words"))
        known = json.loads(tokens.read_text(encoding="utf-8")) if tokens.is_file() else {}
        return cls(
            model=load_model(folder / "model.safetensors"),
            graph=load_graph(folder / "graph.safetensors"),
            split=load_split(folder / "split.safetensors"),
            vocabularies={node_type: Vocabulary(values, name=node_type) for node_type, values in ids.items()},
            attributes=attributes,
            config=yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")),
            report=json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {},
            tokens={name: TokenNames(**fields) for name, fields in known.items()},
            words=json.loads(words.read_text(encoding="utf-8")) if words.is_file() else (),
        )


def save_split(split: Split, path: Path) -> None:
    """Writes all that a split holds."""
    save_file({name: column.clone() for name, column in packed(split).items()}, path)  # parts may be one log under three names


def load_split(path: Path) -> Split:
    """Reads what :func:`save_split` wrote."""
    split = unpacked(Split, load_file(path))
    assert split is not None
    return split


def environment() -> dict[str, Any]:
    """What the run was made with: versions, threads, device."""
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _plain(value: Any) -> Any:
    """Tuples become lists, which YAML has; paths become text."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def load(folder: str | Path) -> Run:
    """Reads a run folder; see :meth:`Run.load`."""
    return Run.load(folder)


def judge(run: Run, config: EvalConfig | None = None, **facts: Any) -> None:
    """Evaluates a run on all tasks of both parts, and fills in its report; ``facts`` join it."""
    judged: dict[Part, dict[str, Results]] = {part: run.evaluate_all(part, config) for part in ("valid", "test")}
    for part, taken in judged.items():
        run.main = next(iter(taken))
        for name, found in taken.items():
            (run.results if name == run.main else run.other_results.setdefault(name, {}))[part] = found
    run.report = {
        "model": run.config["model_name"],
        "dataset": run.config["data"]["path"],
        "test": all_means(judged["test"]),
        "valid": all_means(judged["valid"]),
        **details(judged["test"]),
        **facts,
    }


def all_means(found: Mapping[str, Results]) -> dict[str, float]:
    """The mean of every metric of all evaluation tasks, under the name that ``monitor`` takes."""
    return {metric_name(task, results, metric): mean for task, results in found.items() for metric, mean in results.mean().items()}


def details(found: Mapping[str, Results]) -> dict[str, Any]:
    """All other figures of evaluation tasks: those of the main one, and by name those of the others."""
    (_, main), *others = found.items()
    first = {key: value for key, value in main.to_dict().items() if key != "metrics"}
    return first | {name: results.to_dict() for name, results in others}


def check_same(first_name: str, first: Run, name: str, run: Run) -> None:
    """Two runs that rank together must know the same ids in the same order, and have the same interactions in the same parts.

    Raises:
        ValueError: They do not.
    """
    remedy = "take runs of the same data set and the same split"
    for node_type in ("user", "item"):
        if first.vocabularies[node_type] != run.vocabularies[node_type]:
            raise ValueError(f"{first_name} and {name} cannot rank together: their {node_type} ids differ; {remedy}")
    for part in GIVEN_PARTS:
        log, other = first.split.part(part), run.split.part(part)
        if not (torch.equal(log.user, other.user) and torch.equal(log.item, other.item)):
            raise ValueError(f"{first_name} and {name} cannot rank together: their {part} parts differ; {remedy}")
