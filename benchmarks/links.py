"""Missing ends of facts: MKGformer, what it is without text, pictures or its fusions, and TransE, DistMult and ComplEx of PyG.

All are asked the same questions, both ends of every test fact, and ranked among all entities with the other right answers left out
(``gmmrec.evaluation.link_prediction``); validation facts decide which epoch is tested. The baselines are those of
``torch_geometric.nn.kge`` with the
loss that they have there (one corrupted fact each), and, named ``softmax``, DistMult and ComplEx with the loss that MKGformer has
here: the right answer among all entities, from either end.

    python benchmarks/links.py -d runs/content/movie-knowledge --out benchmarks/tables/links-movies.md
    python benchmarks/links.py -d mkg-y --out benchmarks/tables/links-mkg-y.md --epochs 10

With ``--grid benchmarks/configs/mkg-y/mkgformer.yaml`` validation facts also decide MKGformer's settings, among those of the grid.
"""

import argparse
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

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
from gmmrec.evaluation.report import aligned
from gmmrec.evaluation.settings import EvalConfig
from gmmrec.graph.build import build_graph
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.models.mkgformer import MKGformer, MKGformerConfig
from gmmrec.recommender import AnyRecommender, Encoded, Recommender
from gmmrec.tasks.inputs import BatchConfig, TaskInputs
from gmmrec.tasks.link import LinkTask
from gmmrec.tasks.query import Batch, LinkQuery
from gmmrec.training.history import History
from gmmrec.training.trainer import TrainConfig, Trainer
from gmmrec.typing import ENTITY

KINDS: dict[str, type[KGEModel]] = {"transe": TransE, "distmult": DistMult, "complex": ComplEx}


@dataclass(frozen=True)
class EmbeddingsConfig:
    """Settings of the baselines."""

    kind: str = "distmult"
    """Which of them."""
    dim: int = 64
    """Numbers of a vector (complex numbers count twice)."""
    softmax: bool = False
    """Whether the right answer is learned among all entities, not against one corrupted fact."""


class Embeddings(Recommender[LinkQuery, EmbeddingsConfig]):
    """A model of ``torch_geometric.nn.kge``, asked for all entities at once by matrix products."""

    def __init__(self, schema: GraphSchema, config: EmbeddingsConfig = EmbeddingsConfig()) -> None:
        super().__init__(schema, config)
        channels = config.dim // 2 if config.kind == "complex" else config.dim
        self.model = KINDS[config.kind](schema.num_nodes[ENTITY], schema.num_relations, channels)

    def encode(self, graph: MultimodalGraph) -> Encoded:
        """Nothing is passed along edges."""
        return Encoded({})

    def score(self, encoded: Encoded, query: LinkQuery, candidates: Tensor) -> Tensor:
        """What the model says of every fact, candidates ``[C]`` being its other end."""
        model, count = self.model, self.schema.num_relations
        backwards = (query.relation >= count)[:, None]
        row = query.relation % count
        known, relation, other = model.node_emb(query.head), model.rel_emb(row), model.node_emb(candidates)
        if isinstance(model, TransE):
            known, other = (F.normalize(x, p=model.p_norm, dim=-1) for x in (known, other))
            return -torch.cdist(known + torch.where(backwards, -relation, relation), other, p=model.p_norm)
        if isinstance(model, ComplEx):
            turn = torch.where(backwards, -model.rel_emb_im(row), model.rel_emb_im(row))
            imaginary, theirs = model.node_emb_im(query.head), model.node_emb_im(candidates)
            real = known * relation - imaginary * turn
            return real @ other.t() + (known * turn + imaginary * relation) @ theirs.t()
        return (known * relation) @ other.t()

    def loss(self, graph: MultimodalGraph, batch: Batch[LinkQuery]) -> dict[str, Tensor]:
        """PyG's own loss, or that of the right answer among all."""
        count, head = self.schema.num_relations, batch.query.head
        if self.config.softmax:
            scores = self.score(Encoded({}), batch.query, torch.arange(graph.num_nodes(ENTITY), device=head.device))
            return {"softmax": F.cross_entropy(scores, batch.positive, label_smoothing=0.1)}
        forwards = batch.query.relation < count
        ends = torch.where(forwards, head, batch.positive), torch.where(forwards, batch.positive, head)
        return {"pyg": self.model.loss(ends[0], batch.query.relation % count, ends[1])}


def variants(dataset: Dataset, args: argparse.Namespace) -> dict[str, tuple[Dataset, type[AnyRecommender], Any, float]]:
    """What is compared, by name: data, model, settings, learning rate."""
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
    found["MKGformer, neither"] = select_modalities(dataset, []), MKGformer, config, args.lr
    found["MKGformer, links alone"] = dataset, MKGformer, replace(config, stage="links"), args.lr
    return found


def fit(
    model_class: type[AnyRecommender],
    graph: MultimodalGraph,
    config: Any,
    settings: TrainConfig,
    task: LinkTask,
    look: Callable[[AnyRecommender], float],
    seed: int,
) -> tuple[AnyRecommender, History]:
    """A model with the weights of its best epoch, and how that came."""
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
    """Trains and asks all, and writes the table anew after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", "--data", required=True, help="a data set with facts")
    parser.add_argument("--out", type=Path, required=True, help="Markdown table")
    parser.add_argument("--only", help="names, separated by semicolons")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=30, help="at most (default 30); the baselines get four times as many")
    parser.add_argument("--patience", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--objective", choices=("bce", "softmax"), default="softmax", help="of MKGformer")
    parser.add_argument("--fusion-layers", type=int, default=MKGformerConfig.fusion_layers, help="of MKGformer")
    parser.add_argument("--entity-weight", type=float, default=MKGformerConfig.entity_weight, help="of MKGformer")
    parser.add_argument("--lr", type=float, default=1e-3, help="of MKGformer")
    parser.add_argument("--grid", type=Path, help="YAML file with settings of MKGformer and a grid of some")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    dataset = gmmrec.load_dataset(args.data)
    split = gmmrec.split_dataset(dataset, generator=torch.Generator().manual_seed(0))
    task = LinkTask(TaskInputs(split, 0, 0, BatchConfig(batch_size=args.batch_size)))
    asked = {part: task.evaluation_tasks(part)["link_prediction"] for part in ("valid", "test")}
    whole = build_graph(dataset, split)
    groups = link_groups(whole, asked["test"])
    shown = [name for name in groups if name.startswith("facts")]
    header = ["model", "MRR", "Hits@1", "Hits@3", "Hits@10", "mean rank", *(f"MRR, {name}" for name in shown), "epochs", "CPU s"]
    rows, only = [header], args.only.split(";") if args.only else None
    for name, (data, model_class, config, lr) in variants(dataset, args).items():
        if only is not None and name not in only:
            continue
        graph = build_graph(data, split)
        epochs, plain = args.epochs, isinstance(config, EmbeddingsConfig) and not config.softmax
        if isinstance(config, EmbeddingsConfig):
            epochs *= 4 if plain else 1
        settings = TrainConfig(lr=lr, epochs=epochs, patience=args.patience, evaluate_every=5 if plain else 1, progress=False)
        started, eval_config = time.process_time(), EvalConfig(bootstrap=0)
        look = partial(monitored_value, graph=graph, task=asked["valid"], monitor="link_prediction/mrr", config=eval_config)
        points = points_of(args.grid, settings, config) if args.grid and model_class is MKGformer else [(settings, config)]
        fits = [fit(model_class, graph, c, s, task, look, args.seed) for s, c in points]
        model, history = max(fits, key=lambda made: made[1].best_value or 0.0)
        spent = time.process_time() - started
        found = evaluate_link_prediction(model, graph, asked["test"], groups=groups, bootstrap=0)
        mean = found.mean()
        cells = [f"{mean[metric]:.4f}" for metric in ("mrr", "hits@1", "hits@3", "hits@10")] + [f"{mean['mean_rank']:.0f}"]
        cells += [f"{found.mean(group)['mrr']:.4f}" for group in shown]
        rows.append([name, *cells, f"{history.best_epoch} of {len(history.epochs)}", f"{spent:.0f}"])
        args.out.parent.mkdir(parents=True, exist_ok=True)
        title = f"# Missing ends of facts: {dataset.name}\n\n"
        about = (
            f"{len(asked['test']):,} questions (both ends of {len(asked['test']) // 2:,} test facts) among "
            f"{whole.num_nodes(ENTITY):,} entities, other right answers left out; {task.num_batches} batches of {args.batch_size}; "
            f"{args.dim} numbers a vector, seed {args.seed}. Made by `benchmarks/links.py`.\n\n"
        )
        args.out.write_text(title + about + aligned(rows), encoding="utf-8")
        print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
