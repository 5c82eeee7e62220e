"""Link prediction: MKGformer, its ablations without text, pictures or fusions, and TransE, DistMult and ComplEx of PyG.

All have the same queries, both ends of every test triple, and rank all entities except the other known answers
(``gmmrec.evaluation.link_prediction``); validation triples choose the epoch. The baselines are those of
``torch_geometric.nn.kge`` with their own loss (one corrupted triple each), and, named ``softmax``, DistMult and ComplEx with the
loss of MKGformer here: a softmax over all entities, from either end.

    python benchmarks/links.py -d runs/content/movie-knowledge
    python benchmarks/links.py -d mkg-y --epochs 10
    python benchmarks/links.py --tables-only

Results are kept in benchmarks/results/links.csv; the tables go to benchmarks/tables/links-DATA.md.

With ``--grid benchmarks/configs/mkg-y/mkgformer.yaml`` validation triples also choose MKGformer's settings from the grid.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
import yaml
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.nn.kge import ComplEx, DistMult, KGEModel, TransE

import gmmrec
from gmmrec.data.dataset import Dataset
from gmmrec.data.filter import select_modalities
from gmmrec.evaluation.kinds import monitored_value
from gmmrec.evaluation.link_prediction import evaluate_link_prediction, link_groups
from gmmrec.evaluation.settings import EvalConfig
from gmmrec.graph.build import build_graph
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.models.mkgformer import MKGformer, MKGformerConfig
from gmmrec.recommender import AnyRecommender, Encoded, Recommender
from gmmrec.tasks.evaluation_tasks import LinkPredictionEvaluation
from gmmrec.tasks.inputs import BatchConfig, TaskInputs
from gmmrec.tasks.link_prediction import LinkPredictionTask
from gmmrec.tasks.query import Batch, LinkPredictionQuery
from gmmrec.training.history import History
from gmmrec.training.trainer import TrainConfig, Trainer
from gmmrec.typing import ENTITY
from lab import command
from lab.cells import commit
from lab.grid import digest
from lab.results import Row, Store, number
from lab.tables import by, markdown, page, seeds_of, shown, write

METRICS = ("mrr", "hits@1", "hits@3", "hits@10", "mean_rank")
HEADER = ("model", "MRR", "Hits@1", "Hits@3", "Hits@10", "mean rank")
NAMES = {"movie-knowledge": "links-movies"}
"""Names of tables that differ from those of the data."""
KINDS: dict[str, type[KGEModel]] = {"transe": TransE, "distmult": DistMult, "complex": ComplEx}


@dataclass(frozen=True)
class EmbeddingsConfig:
    """Settings of the baselines."""

    kind: str = "distmult"
    """Kind of embedding."""
    dim: int = 64
    """Embedding width (complex numbers count twice)."""
    softmax: bool = False
    """Softmax over all entities instead of one corrupted triple."""


class Embeddings(Recommender[LinkPredictionQuery, EmbeddingsConfig]):
    """A model of ``torch_geometric.nn.kge`` that scores all entities at once by matrix products."""

    def __init__(self, schema: GraphSchema, config: EmbeddingsConfig = EmbeddingsConfig()) -> None:
        super().__init__(schema, config)
        channels = config.dim // 2 if config.kind == "complex" else config.dim
        self.model = KINDS[config.kind](schema.num_nodes[ENTITY], schema.num_relations, channels)

    def encode(self, graph: MultimodalGraph) -> Encoded:
        """Return nothing: there is no propagation."""
        return Encoded({})

    def score(self, encoded: Encoded, query: LinkPredictionQuery, candidates: Tensor) -> Tensor:
        """Scores of the triples with candidates ``[C]`` as the other end."""
        model, count = self.model, self.schema.num_relations
        backwards = (query.relation >= count)[:, None]
        row = query.relation % count
        known, relation, other = model.node_emb(query.head), model.rel_emb(row), model.node_emb(candidates)
        if isinstance(model, TransE):
            known, other = (F.normalize(x, p=model.p_norm, dim=-1) for x in (known, other))
            return -torch.cdist(known + torch.where(backwards, -relation, relation), other, p=model.p_norm)
        if isinstance(model, ComplEx):
            turn = torch.where(backwards, -model.rel_emb_im(row), model.rel_emb_im(row))
            imaginary, other_imaginary = model.node_emb_im(query.head), model.node_emb_im(candidates)
            real = known * relation - imaginary * turn
            scores: Tensor = real @ other.t() + (known * turn + imaginary * relation) @ other_imaginary.t()
            return scores
        products: Tensor = (known * relation) @ other.t()
        return products

    def loss(self, graph: MultimodalGraph, batch: Batch[LinkPredictionQuery]) -> dict[str, Tensor]:
        """Compute PyG's own loss, or the softmax over all entities."""
        count, head = self.schema.num_relations, batch.query.head
        if self.config.softmax:
            scores = self.score(Encoded({}), batch.query, torch.arange(graph.num_nodes(ENTITY), device=head.device))
            return {"softmax": F.cross_entropy(scores, batch.positive, label_smoothing=0.1)}
        forwards = batch.query.relation < count
        ends = torch.where(forwards, head, batch.positive), torch.where(forwards, batch.positive, head)
        return {"pyg": self.model.loss(ends[0], batch.query.relation % count, ends[1])}


def variants(dataset: Dataset, args: argparse.Namespace) -> dict[str, tuple[Dataset, type[AnyRecommender], Any, float]]:
    """Compared models by name: data, class, settings, learning rate."""
    found: dict[str, tuple[Dataset, type[AnyRecommender], Any, float]] = {}
    for kind, label in (("transe", "TransE"), ("distmult", "DistMult"), ("complex", "ComplEx")):
        found[label] = dataset, Embeddings, EmbeddingsConfig(kind, args.dim), 1e-2
    for kind, label in (("distmult", "DistMult, softmax"), ("complex", "ComplEx, softmax")):
        found[label] = dataset, Embeddings, EmbeddingsConfig(kind, args.dim, softmax=True), 3e-3
    config = MKGformerConfig(
        dim=args.dim, objective=args.objective, fusion_layers=args.fusion_layers, entity_weight=args.entity_weight
    )
    found["MKGformer"] = dataset, MKGformer, config, args.lr
    names = list(dataset.features)
    pictures = [name for name in names if name == "image"]
    if pictures:
        texts = [name for name in names if name not in pictures]
        found["MKGformer, text only"] = select_modalities(dataset, texts), MKGformer, config, args.lr
        found["MKGformer, pictures only"] = select_modalities(dataset, pictures), MKGformer, config, args.lr
        found["MKGformer without PGI"] = dataset, MKGformer, replace(config, use_pgi=False), args.lr
    found["MKGformer, neither text nor pictures"] = select_modalities(dataset, []), MKGformer, config, args.lr
    found["MKGformer, link prediction only"] = dataset, MKGformer, replace(config, stage="links"), args.lr
    return found


def fit(
    model_class: type[AnyRecommender],
    graph: MultimodalGraph,
    config: Any,
    settings: TrainConfig,
    task: LinkPredictionTask,
    look: Callable[[AnyRecommender], float],
    seed: int,
) -> tuple[AnyRecommender, History]:
    """Model with the weights of its best epoch, and its history."""
    torch.manual_seed(seed)
    model = model_class(graph.schema, config)
    generator = torch.Generator().manual_seed(seed)
    return model, Trainer(settings).fit(model, graph, task.batches, look, generator=generator, monitor="link_prediction/mrr")


def points_of(file: Path, settings: TrainConfig, config: MKGformerConfig) -> list[tuple[TrainConfig, MKGformerConfig]]:
    """The settings of every point of a grid."""
    grid, points = yaml.safe_load(file.read_text(encoding="utf-8"))["grid"], []
    for choice in itertools.product(*grid.values()):
        changes: dict[str, dict[str, Any]] = {"train": {}, "model": {}}
        for name, setting in zip(grid, choice, strict=True):
            section, field = name.split(".")
            changes[section][field] = setting
        points.append((replace(settings, **changes["train"]), replace(config, **changes["model"])))
    return points


def main() -> None:
    parser = command.plain_parser(__doc__, threads=torch.get_num_threads())
    parser.add_argument("-d", "--data", help="data set with triples")
    parser.add_argument("--only", help="names of models, separated by semicolons")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=30, help="maximum (default 30); four times as many for the baselines")
    parser.add_argument("--patience", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--objective", choices=("bce", "softmax"), default="softmax", help="of MKGformer")
    parser.add_argument("--fusion-layers", type=int, default=MKGformerConfig.fusion_layers, help="of MKGformer")
    parser.add_argument("--entity-weight", type=float, default=MKGformerConfig.entity_weight, help="of MKGformer")
    parser.add_argument("--lr", type=float, default=1e-3, help="of MKGformer")
    parser.add_argument("--grid", type=Path, help="YAML file with settings of MKGformer and a grid of some")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tables-only", action="store_true", help="run nothing; render the tables from the results")
    flags = command.start(parser)
    store = Store("links", keys=("dataset", "model", "seed"))
    if flags.data is None and not flags.tables_only:
        parser.error("expected a data set with triples, but none is named; add -d, or --tables-only")
    if not flags.tables_only:
        measure(flags, store, f"python benchmarks/links.py {command.given(parser, flags)}")
    write(tables(store))


def measure(flags: argparse.Namespace, store: Store, made_by: str) -> None:
    """Train and evaluate all models without a row for these settings, and keep every row immediately."""
    dataset = gmmrec.load_dataset(flags.data)
    split = gmmrec.split_dataset(dataset, generator=torch.Generator().manual_seed(0))
    task = LinkPredictionTask(TaskInputs(split, 0, 0, BatchConfig(batch_size=flags.batch_size)))
    asked = {"valid": links_of(task, "valid"), "test": links_of(task, "test")}
    whole = build_graph(dataset, split)
    about: dict[str, Any] = {"queries": len(asked["test"]), "entities": whole.num_nodes(ENTITY), "batches": task.num_batches}
    about |= {"batch_size": flags.batch_size, "dim": flags.dim, "command": made_by, "commit": commit()}
    only = flags.only.split(";") if flags.only else None
    for name, (data, model_class, config, lr) in variants(dataset, flags).items():
        if only is not None and name not in only:
            continue
        plain = isinstance(config, EmbeddingsConfig) and not config.softmax
        epochs, every = (4 * flags.epochs, 5) if plain else (flags.epochs, 1)
        settings = TrainConfig(lr=lr, epochs=epochs, patience=flags.patience, evaluate_every=every, progress=False)
        points = (
            points_of(flags.grid, settings, config) if flags.grid and isinstance(config, MKGformerConfig) else [(settings, config)]
        )
        tried = [{"train": asdict(s), "model": asdict(c), "batch_size": flags.batch_size} for s, c in points]
        where = {"dataset": dataset.name, "model": name, "seed": flags.seed}
        known = store.find(**where)
        if known is not None and known.get("digest") == digest({"points": tried}):
            continue
        graph = build_graph(data, split)
        started, look = time.process_time(), partial(validated, graph=graph, task=asked["valid"])
        fits = [fit(model_class, graph, c, s, task, look, flags.seed) for s, c in points]
        best = max(range(len(fits)), key=lambda number: fits[number][1].best_value or 0.0)
        (model, history), spent = fits[best], time.process_time() - started
        found = evaluate_link_prediction(model, graph, asked["test"], groups=link_groups(whole, asked["test"]), bootstrap=0)
        row = where | {"digest": digest({"points": tried}), "settings": json.dumps(tried[best])}
        row |= {metric: found.mean()[metric] for metric in METRICS}
        row |= {f"mrr, {group}": found.mean(group)["mrr"] for group in found.groups if group.startswith("triples")}
        row |= {"best_epoch": history.best_epoch, "epochs": len(history.epochs), "cpu_seconds": spent}
        store.put(row | about)
        print(name, {metric: round(found.mean()[metric], 4) for metric in METRICS}, flush=True)
        write(tables(store))


def links_of(task: LinkPredictionTask, part: Literal["valid", "test"]) -> LinkPredictionEvaluation:
    """Evaluation task of the triples of one split part."""
    found = task.evaluation_tasks(part)["link_prediction"]
    return cast(LinkPredictionEvaluation, found)


def validated(model: AnyRecommender, graph: MultimodalGraph, task: LinkPredictionEvaluation) -> float:
    """Validation metric that chooses the epoch."""
    return monitored_value(model, graph=graph, task=task, monitor="link_prediction/mrr", config=EvalConfig(bootstrap=0))


def tables(store: Store) -> dict[str, str]:
    """A page per data set."""
    return {NAMES.get(name, f"links-{name}"): table(name, rows) for (name,), rows in by(store.rows, "dataset").items()}


def table(dataset: str, rows: list[Row]) -> str:
    """Page with one row per model."""
    groups = list(dict.fromkeys(column for row in rows for column in row if column.startswith("mrr, ")))
    header = [*(name for name in HEADER), *(group.replace("mrr", "MRR") for group in groups), "epochs", "CPU s"]
    lines = []
    for row in rows:
        cells = [*(shown(number(row, metric)) for metric in METRICS[:-1]), shown(number(row, METRICS[-1]), ".0f")]
        cells += [shown(number(row, group)) for group in groups]
        lines.append([row["model"], *cells, f"{row['best_epoch']} of {row['epochs']}", shown(number(row, "cpu_seconds"), ".0f")])
    first = rows[0]
    queries = int(first["queries"])
    batches = f"{first['batches']} batches of {first['batch_size']}; " if "batches" in first else ""
    seeds = ", ".join(map(str, seeds_of(rows)))
    commands = " and ".join(f"`{found}`" for found in dict.fromkeys(row["command"] for row in rows))
    about = (
        f"{queries:,} queries (both ends of {queries // 2:,} test triples) among "
        f"{int(first['entities']):,} entities, other known "
        f"answers excluded; {batches}width {first['dim']}, seed {seeds}. Made by {commands}."
    )
    name = NAMES.get(dataset, f"links-{dataset}")
    return page(f"Link prediction: {dataset}", about, markdown(header, lines), name=name)


if __name__ == "__main__":
    main()
