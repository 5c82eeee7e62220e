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

from gmmrec.checkpoint import load_model, save_model
from gmmrec.data.interactions import Interactions
from gmmrec.data.ragged import Ragged
from gmmrec.data.split import Split
from gmmrec.data.tokens import TokenNames
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.evaluation.evaluator import EvalConfig, default_groups, evaluate
from gmmrec.evaluation.rating import evaluate_ratings, rating_groups
from gmmrec.evaluation.results import RATINGS_FILE, Results
from gmmrec.explain.attention import Explanation, parts_of, weights_of
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.graph.store import load_graph, save_graph
from gmmrec.recommender import Recommender
from gmmrec.serving.service import Service
from gmmrec.tasks import TASKS
from gmmrec.tasks.query import RatingQuery
from gmmrec.tasks.rating import RatingTask
from gmmrec.training.trainer import History
from gmmrec.typing import NodeType

Part = Literal["valid", "test"]
PARTS = ("train", "valid", "test")
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
        results: By part, as far as evaluated.
        ratings: Errors of predicted ratings by part, for models that predict ratings.
        history: How training went; None for a loaded run.
        report: What ``metrics.json`` holds.
        tokens: What the tokens of modalities are, for explanations, as far as known.
    """

    model: Recommender[Any]
    graph: MultimodalGraph
    split: Split
    vocabularies: Mapping[NodeType, Vocabulary]
    attributes: Mapping[NodeType, pd.DataFrame]
    config: Mapping[str, Any]
    results: dict[str, Results] = field(default_factory=dict)
    ratings: dict[str, Results] = field(default_factory=dict)
    history: History | None = None
    report: dict[str, Any] = field(default_factory=dict)
    tokens: Mapping[str, TokenNames] = field(default_factory=dict)

    @cached_property
    def service(self) -> Service:
        """Answers questions in raw ids; everything a user did in any part counts as seen."""
        parts = [getattr(self.split, part) for part in PARTS]
        users, items = torch.cat([p.user for p in parts]), torch.cat([p.item for p in parts])
        seen = Ragged.from_pairs(users, items, len(self.vocabularies["user"]))
        return Service(self.model, self.graph, self.vocabularies, seen, self.titles)

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

    def explain(self, user: Hashable, item: Hashable) -> pd.DataFrame:
        """What of an item counts for a user: columns ``modality``, ``token`` and ``weight``; see :meth:`explanation`."""
        return self.explanation(user, item).to_frame()

    def explanation(self, user: Hashable, item: Hashable) -> Explanation:
        """What of an item counts for a user, for :func:`gmmrec.explain.picture.draw`.

        Raises:
            KeyError: An id is unknown.
            ValueError: The model has no attention to show.
        """
        ids = {"user": user, "item": item}
        rows = {kind: int(self.vocabularies[kind].rows([ids[kind]])[0]) for kind in ids}
        encoded, items = self.service.encoded, self.vocabularies["item"].ids()
        titles = self.titles or [""] * len(items)
        meaning, weights = weights_of(self.model, self.graph, encoded, rows["user"], rows["item"])
        query: Any = self.model.query_type
        with torch.no_grad():
            score = self.model.score(encoded, query(user=torch.tensor([rows["user"]])), torch.tensor([rows["item"]]))

        def label(row: int) -> str:
            return titles[row] or str(items[row])

        parts = parts_of(weights, self.graph, rows, ids, tokens=self.tokens, item_labels=label)
        return Explanation(user, item, label(rows["item"]), float(score), meaning, parts)

    def evaluate(self, part: Part = "test", config: EvalConfig | None = None) -> Results:
        """Asks the questions of one part; the settings are the run's own where none are given."""
        config = config or self.eval_config()
        sizes = len(self.vocabularies["user"]), len(self.vocabularies["item"])
        task = TASKS[self.model.query_type](self.split, *sizes)
        questions = task.questions(part, config.mask if part == "test" else "train")
        return evaluate(
            self.model,
            self.graph,
            questions,
            metrics=config.metrics,
            ks=config.ks,
            groups=default_groups(self.graph, questions),
            chunk_size=config.chunk_size,
            candidate_chunk=config.candidate_chunk,
            bootstrap=config.bootstrap,
        )

    def evaluate_ratings(self, part: Part = "test", config: EvalConfig | None = None) -> Results | None:
        """Errors of the predicted ratings of one part; None where the model does not predict ratings."""
        if self.model.query_type is not RatingQuery:
            return None
        config = config or self.eval_config()
        task = RatingTask(self.split, len(self.vocabularies["user"]), len(self.vocabularies["item"]))
        ratings = task.ratings(part)
        groups = rating_groups(self.graph, ratings)
        return evaluate_ratings(
            self.model, self.graph, ratings, clip=config.clip_ratings, groups=groups, bootstrap=config.bootstrap
        )

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
        for node_type, frame in self.attributes.items():
            frame.to_csv(folder / f"{node_type}s.csv", index=False)
        (folder / "environment.json").write_text(json.dumps(environment(), indent=2), encoding="utf-8")
        (folder / "metrics.json").write_text(json.dumps(self.report, indent=2), encoding="utf-8")
        if "test" in self.results:
            self.results["test"].save(folder)
        if "test" in self.ratings:
            self.ratings["test"].save(folder, RATINGS_FILE)
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
        report, tokens = folder / "metrics.json", folder / "tokens.json"
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
        )


def save_split(split: Split, path: Path) -> None:
    """Writes all columns of all parts."""
    columns = {f"{part}.{name}": column for part in PARTS for name, column in getattr(split, part).columns().items()}
    save_file({name: column.contiguous() for name, column in columns.items()}, path)


def load_split(path: Path) -> Split:
    """Reads what :func:`save_split` wrote."""
    columns = load_file(path)
    parts = {
        part: Interactions(**{name.split(".")[1]: column for name, column in columns.items() if name.startswith(f"{part}.")})
        for part in PARTS
    }
    return Split(**parts)


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


def judge(run: Run, **facts: Any) -> None:
    """Evaluates a run that was made of others, and fills in its report; ``facts`` join it."""
    run.results = {part: run.evaluate(part) for part in ("valid", "test")}
    test = run.results["test"]
    run.report = {
        "model": run.config["model_name"],
        "dataset": run.config["data"]["path"],
        "test": test.mean(),
        "valid": run.results["valid"].mean(),
        **{key: found for key, found in test.to_dict().items() if key != "metrics"},
        **facts,
    }


def check_same(first_name: str, first: Run, name: str, run: Run) -> None:
    """Two runs that rank together must know the same ids in the same order, and have the same interactions in the same parts.

    Raises:
        ValueError: They do not.
    """
    remedy = "take runs of the same data set and the same split"
    for node_type in ("user", "item"):
        if first.vocabularies[node_type] != run.vocabularies[node_type]:
            raise ValueError(f"{first_name} and {name} cannot rank together: their {node_type} ids differ; {remedy}")
    for part in PARTS:
        log, other = getattr(first.split, part), getattr(run.split, part)
        if not (torch.equal(log.user, other.user) and torch.equal(log.item, other.item)):
            raise ValueError(f"{first_name} and {name} cannot rank together: their {part} parts differ; {remedy}")
