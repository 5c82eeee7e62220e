"""Run: a trained model with its graph, split and results."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import torch

from gmmrec.data.interactions import joined
from gmmrec.data.ragged import RaggedSets
from gmmrec.data.split import Split
from gmmrec.data.tokens import TokenNames
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.errors import UsageError
from gmmrec.evaluation.kinds import evaluate_task
from gmmrec.evaluation.results import Results
from gmmrec.evaluation.settings import EvalConfig, mask_of
from gmmrec.explain.attention import Explanation, parts_of, weights_of
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.recommender import AnyRecommender
from gmmrec.renamed import missing_attribute
from gmmrec.runs.checkpoint import Given
from gmmrec.runs.config import AnyRunConfig
from gmmrec.runs.folder import StoredRun, read_run, write_run
from gmmrec.runs.writer import writing
from gmmrec.serving.ids import Unknown, known_row, listed
from gmmrec.serving.link_prediction import complete
from gmmrec.serving.outfit import complete_outfit
from gmmrec.serving.service import Service
from gmmrec.tasks import task_of
from gmmrec.tasks.inputs import TaskInputs
from gmmrec.tasks.task import Task
from gmmrec.training.history import History
from gmmrec.typing import NodeType

Part = Literal["valid", "test"]


@dataclass
class Run:
    """A trained model with its graph, its split and its results.

    The folder that :meth:`save` writes is enough to recommend and to evaluate without the original data.

    Attributes:
        model: Trained model, in evaluation mode.
        graph: The prepared graph of the training interactions.
        split: Interactions of all split parts.
        vocabularies: Raw ids by node type.
        attributes: Tables by node type; ``title`` is shown next to item ids.
        config: All settings.
        results: Results of the main evaluation task by part, if evaluated: the ranking, for recommendation models.
        other_results: Results of all other evaluation tasks, such as ``"rating"``, by name and part.
        history: Training history; None for a loaded run.
        report: Contents of ``metrics.json``.
        tokens: Names of the tokens of modalities, for explanations, if known.
        main: Name of the main evaluation task.
        words: Word of every id, for models of texts.
    """

    model: AnyRecommender
    graph: MultimodalGraph
    split: Split
    vocabularies: Mapping[NodeType, Vocabulary]
    attributes: Mapping[NodeType, pd.DataFrame]
    config: AnyRunConfig
    results: dict[str, Results] = field(default_factory=dict)
    other_results: dict[str, dict[str, Results]] = field(default_factory=dict)
    history: History | None = None
    report: dict[str, Any] = field(default_factory=dict)
    tokens: Mapping[str, TokenNames] = field(default_factory=dict)
    main: str = "ranking"
    words: Sequence[str] = ()

    if not TYPE_CHECKING:  # else every attribute would pass the type checker

        def __getattr__(self, name: str) -> Any:
            raise missing_attribute("Run", name)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the run folder and return its path.

        Args:
            folder: Folder, made if it is missing.
            overwrite: Replace a run in it, as soon as this one is complete.

        Raises:
            UsageError: A custom part has no importable name, or the folder holds a run already.
        """
        with writing(Path(folder), overwrite=overwrite) as writer:
            return write_run(self.stored(), writer)

    def stored(self) -> StoredRun:
        """Return what a folder holds of this run."""
        results = {self.main: self.results, **self.other_results}
        return StoredRun(
            *(self.model, self.graph, self.split, self.vocabularies, self.attributes, self.config),
            report=self.report,
            tokens=self.tokens,
            words=self.words,
            main=self.main,
            results={task: found["test"] for task, found in results.items() if "test" in found},
        )

    @classmethod
    def load(cls, folder: str | Path, model_class: Given = None, *, parts: Mapping[str, Any] | None = None) -> "Run":
        """Read a run folder.

        Args:
            folder: Folder written by :meth:`save`.
            model_class: Your own class that the folder names, or several for the members of an ensemble.
            parts: Your own parts that the model was trained with, by role, as passed to ``fit``.

        Raises:
            UsageError: The folder is not a finished run, or names a class or a part that was not given.
        """
        stored = read_run(Path(folder), model_class, parts)
        return cls(
            *(stored.model, stored.graph, stored.split, stored.vocabularies, stored.attributes, stored.config),
            report=dict(stored.report),
            tokens=stored.tokens,
            words=stored.words,
            main=stored.main,
        )

    @cached_property
    def service(self) -> Service:
        """Service in raw ids; items of a user in any split part count as seen."""
        log = joined([*self.split.past, self.split.valid, self.split.test])
        seen = RaggedSets.from_pairs(log.user, log.item, len(self.vocabularies["user"]))
        return Service(self.model, self.graph, self.vocabularies, seen, self.titles, log)

    @property
    def titles(self) -> Sequence[str] | None:
        """Title of every item, or None."""
        frame = self.attributes.get("item")
        return None if frame is None or "title" not in frame else frame["title"].fillna("").astype(str).tolist()

    def recommend(
        self,
        users: Sequence[Hashable] | None = None,
        k: int = 10,
        *,
        exclude_seen: bool = True,
        histories: Sequence[Sequence[Hashable]] | None = None,
        candidates: Sequence[Hashable] | None = None,
        exclude: Sequence[Hashable] | None = None,
        unknown: Unknown = "refuse",
    ) -> pd.DataFrame:
        """See :meth:`gmmrec.serving.service.Service.recommend`."""
        chosen = {"candidates": candidates, "exclude": exclude}
        return self.service.recommend(users, k, exclude_seen=exclude_seen, histories=histories, unknown=unknown, **chosen)

    def similar_items(
        self,
        items: Sequence[Hashable],
        k: int = 10,
        *,
        candidates: Sequence[Hashable] | None = None,
        exclude: Sequence[Hashable] | None = None,
        unknown: Unknown = "refuse",
    ) -> pd.DataFrame:
        """See :meth:`gmmrec.serving.service.Service.similar_items`."""
        return self.service.similar_items(items, k, candidates=candidates, exclude=exclude, unknown=unknown)

    def score(self, pairs: pd.DataFrame | Sequence[tuple[Hashable, Hashable]], *, unknown: Unknown = "refuse") -> pd.DataFrame:
        """See :meth:`gmmrec.serving.service.Service.score`."""
        return self.service.score(pairs, unknown=unknown)

    def predict(self, users: Sequence[Hashable], items: Sequence[Hashable]) -> pd.DataFrame:
        """Return the score of every user for the item at the same position; see :meth:`score`.

        Raises:
            UsageError: The lists differ in length.
        """
        pairs = listed("users", users, "user ids"), listed("items", items, "item ids")
        if len(pairs[0]) != len(pairs[1]):
            raise UsageError(f"users and items must be lists of one length, but hold {len(pairs[0])} and {len(pairs[1])} ids")
        return self.score(list(zip(*pairs, strict=True)))

    def complete(self, items: Sequence[Hashable], user: Hashable | None = None, k: int = 5, **settings: Any) -> pd.DataFrame:
        """Return outfits or bundles that contain given items, with a column ``category`` if known.

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
        """Return predicted tails for ``head``, or predicted heads for ``tail``; see :func:`complete`.

        Raises:
            KeyError: An id is unknown; the message gives the nearest.
            UsageError: The model does not predict links, or not exactly one end and a relation are given.
        """
        triples = self.split.triples
        if triples is None:
            raise UsageError(f"{self.config.model_name} does not predict links; use a run of mkgformer")
        if (head is None) == (tail is None) or relation is None:
            raise UsageError("give a relation and one end of the triple, the head or the tail")
        frame = self.attributes.get("entity")
        titles = None if frame is None or "title" not in frame else frame["title"].fillna("").astype(str)
        parts = (self.model, self.graph, self.vocabularies, triples, tail if head is None else head, relation, k)
        return complete(*parts, backwards=head is None, exclude_known=exclude_known, titles=titles)

    def explain(self, user: Hashable, item: Hashable) -> pd.DataFrame:
        """Return weights of an item's parts for a user: columns ``modality``, ``token``, ``weight``; see :meth:`explanation`."""
        return self.explanation(user, item).to_frame()

    def explanation(self, user: Hashable, item: Hashable) -> Explanation:
        """Return the explanation of an item's score for a user, for :func:`gmmrec.report.picture.draw`.

        Regions of attributes in a picture are read from the data folder, if it still exists.

        Raises:
            KeyError: An id is unknown.
            UsageError: The model has no attention to show.
        """
        ids = {"user": user, "item": item}
        rows = {kind: known_row(self.vocabularies[kind], ids[kind]) for kind in ids}
        self.service.check_known(rows["user"], rows["item"])
        encoded, items = self.service.encoded, self.vocabularies["item"].ids()
        titles = self.titles or [""] * len(items)
        query = self.service.query(torch.tensor([rows["user"]]))
        meaning, weights = weights_of(self.model, self.graph, encoded, query, rows["item"])
        with torch.no_grad():
            score = self.model.score(encoded, query, torch.tensor([rows["item"]]))

        def label(row: int) -> str:
            return titles[row] or str(items[row])

        folder = Path(self.config.data.path)
        parts = parts_of(weights, self.graph, rows, ids, tokens=self.tokens, item_labels=label, folder=folder)
        return Explanation(user, item, label(rows["item"]), float(score), meaning, parts)

    def evaluate(self, part: Part = "test", config: EvalConfig | None = None) -> Results:
        """Evaluate the main task of one part, usually the ranking; settings default to those of the run."""
        (first,) = self._evaluate_tasks(part, config, only_first=True).values()
        return first

    def evaluate_all(self, part: Part = "test", config: EvalConfig | None = None) -> dict[str, Results]:
        """Evaluate all tasks of one part; return results by name, the main one first."""
        return self._evaluate_tasks(part, config)

    def _evaluate_tasks(self, part: Part, config: EvalConfig | None, *, only_first: bool = False) -> dict[str, Results]:
        config = config or self.config.eval
        tasks = self.task().evaluation_tasks(part, mask_of(config, part))
        selected = list(tasks.items())[: 1 if only_first else None]
        return {name: evaluate_task(self.model, self.graph, task, config) for name, task in selected}

    def task(self) -> Task:
        """Return the task of the model's query type."""
        users, items = (self.vocabularies[kind] for kind in ("user", "item"))
        inputs = TaskInputs(self.split, len(users), len(items), settings=self.model.config, item_order=items.order)
        return task_of(self.model.query_type, self.split)(inputs)


def load(folder: str | Path, model_class: Given = None, *, parts: Mapping[str, Any] | None = None) -> Run:
    """Read a run folder; see :meth:`Run.load`."""
    return Run.load(folder, model_class, parts=parts)
