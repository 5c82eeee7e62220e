"""Sequences per second of BERT4Rec's training step, next to a lower bound and, if installed, RecBole; prints a table.

    python benchmarks/sequences.py [--threads 1] [--steps 8] [--rounds 5]

A step is the loss and its derivatives, without the optimizer, which is the same for all. Two kinds of synthetic data: short
histories and many items, as in Amazon Beauty, in batches from the task; and long histories and few items, as in MovieLens-1M. The
rows:

- ``floor``: ``torch.nn.TransformerEncoder`` of the same size on given vectors, and the product of the masked positions with the
  table of items, with derivatives; no position embeddings, head, softmax or item embeddings. On the same batches.
- ``recbole``: the models of RecBole 1.2 with the cross-entropy over all items, on batches as its loader makes them, always 50 wide;
  masks are drawn beforehand. Its SASRec learns one item per sequence. RecBole is not a dependency of this project: ``pip install
  --no-deps --target FOLDER recbole colorlog colorama thop tabulate texttable`` and ``PYTHONPATH=FOLDER``.

All take turns in one process, after a warm-up round; the table shows medians. With one thread, processor time is measured, so that
other work on the machine hardly counts. With --keep the figures go to benchmarks/results/sequences.csv, and
from there to benchmarks/README.md.
"""

import argparse
import importlib
import importlib.util
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.data.interactions import Interactions
from gmmrec.data.split import Split
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.graph.build import build_graph
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.bert4rec import BERT4Rec, BERT4RecConfig
from gmmrec.models.nova_bert import NOVABERT, NOVABERTConfig
from gmmrec.recommender import AnyRecommender
from gmmrec.tasks.inputs import BatchConfig, TaskInputs
from gmmrec.tasks.next_item import NextItemTask
from gmmrec.tasks.query import Batch, HistoryQuery
from lab import command
from lab.cells import commit
from lab.results import Store
from lab.tables import fill, markdown

DIM, LAYERS, HEADS, WIDTH, BATCH = 64, 2, 2, 50, 256
THEIRS: dict[str, type] = {}
"""Models of RecBole, where it is installed."""
if importlib.util.find_spec("recbole") is not None:
    for _label in ("BERT4Rec", "SASRec"):
        THEIRS[_label] = getattr(importlib.import_module(f"recbole.model.sequential_recommender.{_label.lower()}"), _label)
Step = Callable[[Batch[HistoryQuery]], Tensor]


def made_up(num_items: int, mean: float, users: int) -> tuple[MultimodalGraph, list[Batch[HistoryQuery]]]:
    """A log with lengths from an exponential distribution (all 51 where the mean is none), and one epoch of batches."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.full((users,), WIDTH + 1)
    if mean:
        lengths = (3 + torch.empty(users).exponential_(1 / (mean - 3), generator=generator)).long().clamp(max=WIDTH + 1)
    user = torch.repeat_interleave(torch.arange(users), lengths)
    item = (torch.rand(len(user), generator=generator).square() * num_items).long()  # some are more popular than others
    log = Interactions(user, item, torch.arange(len(user)))
    nothing = log.take(torch.arange(0))
    features = {"attribute": FeatureTable("attribute", torch.rand(num_items, 384, generator=generator))}
    vocabularies = {"user": Vocabulary(range(users), name="user"), "item": Vocabulary(range(num_items), name="item")}
    split = Split(log, nothing, nothing)
    task = NextItemTask(TaskInputs(split, users, num_items, BatchConfig(batch_size=BATCH), settings=BERT4RecConfig()))
    graph = build_graph(Dataset("made up", vocabularies, log, features), split)
    return graph, [batch for _, batch in task.batches(graph, generator)]


def ours(model: AnyRecommender, graph: MultimodalGraph) -> Step:
    model.train()
    return lambda batch: torch.stack(list(model.loss(graph, batch).values())).sum()


def floor(num_items: int, share: float) -> Step:
    """Return the lower bound: encoder and output product only."""
    layer = nn.TransformerEncoderLayer(DIM, HEADS, 4 * DIM, 0.2, "gelu", batch_first=True)
    encoder = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False).train()
    table = nn.Parameter(0.02 * torch.randn(num_items, DIM))
    inputs: dict[tuple[int, ...], tuple[Tensor, Tensor, Tensor]] = {}

    def step(batch: Batch[HistoryQuery]) -> Tensor:
        mask = nn.functional.pad(batch.query.mask, (0, 1), value=True)
        if tuple(mask.shape) not in inputs:
            hidden = max(1, round(share * int(mask.sum())))
            vectors = torch.randn(*mask.shape, DIM, requires_grad=True)
            inputs[tuple(mask.shape)] = vectors, torch.randint(mask.numel(), (hidden,)), torch.ones(hidden, num_items)
        vectors, positions, ones = inputs[tuple(mask.shape)]
        states = encoder(vectors, src_key_padding_mask=~mask).flatten(0, 1).index_select(0, positions)
        logits = states @ table.t()
        torch.autograd.backward(logits, ones)
        nothing: Tensor = logits.new_zeros((), requires_grad=True)
        return nothing

    return step


def theirs(kind: type, num_items: int, share: float) -> Step:
    """Return the step of a RecBole model, on inputs in the form of its loader and transformation."""
    config = {
        **{"USER_ID_FIELD": "user", "ITEM_ID_FIELD": "item", "LIST_SUFFIX": "_list", "ITEM_LIST_LENGTH_FIELD": "length"},
        **{"NEG_PREFIX": "neg_", "MAX_ITEM_LIST_LENGTH": WIDTH, "device": "cpu", "mask_ratio": share, "loss_type": "CE"},
        **{"n_layers": LAYERS, "n_heads": HEADS, "hidden_size": DIM, "inner_size": 4 * DIM, "initializer_range": 0.02},
        **{"hidden_dropout_prob": 0.2, "attn_dropout_prob": 0.2, "hidden_act": "gelu", "layer_norm_eps": 1e-12},
        **{"MASK_ITEM_SEQ": "masked", "POS_ITEMS": "positive", "NEG_ITEMS": "negative", "MASK_INDEX": "positions"},
    }
    model = kind(config, SimpleNamespace(num=lambda field: num_items + 1)).train()
    made: dict[int, dict[str, Tensor]] = {}

    def step(batch: Batch[HistoryQuery]) -> Tensor:
        if id(batch) not in made:
            made[id(batch)] = for_recbole(batch, num_items, int(share * WIDTH), share)
        loss: Tensor = model.calculate_loss(made[id(batch)])
        return loss

    return step


def for_recbole(batch: Batch[HistoryQuery], num_items: int, most: int, share: float) -> dict[str, Tensor]:
    """Return items from 1, right-padded to 50 positions, and as many masked positions as RecBole has, left-padded with 0."""
    rows = [torch.cat([items[mask], last[None]]) + 1 for items, mask, last in zip(*_parts(batch), strict=True)]
    rows = [row[-WIDTH:] for row in rows]
    sequence = torch.zeros(len(rows), WIDTH, dtype=torch.long)
    positions, positive = torch.zeros(2, len(rows), most, dtype=torch.long)
    for n, row in enumerate(rows):
        sequence[n, : len(row)] = row
        hidden = torch.randperm(len(row))[: max(1, min(most, round(share * len(row))))]
        positions[n, -len(hidden) :], positive[n, -len(hidden) :] = hidden, row[hidden]
    masked = sequence.clone()
    masked[torch.arange(len(rows))[:, None].expand_as(positions)[positive > 0], positions[positive > 0]] = num_items + 1
    lengths = torch.tensor([len(row) - 1 for row in rows])
    history = sequence.scatter(1, lengths[:, None], 0)
    return {
        **{"masked": masked, "positive": positive, "negative": positive, "positions": positions},
        **{"item_list": history, "length": lengths, "item": torch.stack([row[-1] for row in rows])},
    }


def _parts(batch: Batch[HistoryQuery]) -> tuple[Tensor, Tensor, Tensor]:
    return batch.query.items, batch.query.mask, batch.positive


def per_second(steps: dict[str, Step], batches: Sequence[Batch[HistoryQuery]], rounds: int) -> dict[str, float]:
    """Return sequences per second: medians over rounds in which all take turns."""
    now = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, step in steps.items():
            begin = now()
            for batch in batches:
                step(batch).backward()
            found[name].append(sum(map(len, batches)) / (now() - begin))
    return {name: statistics.median(rates[1:]) for name, rates in found.items()}


def measure(flags: argparse.Namespace) -> list[dict[str, Any]]:
    """Sequences a second of every step on every kind of data."""
    rows: list[dict[str, Any]] = []
    for name, num_items, mean, share in (("short", 12_101, 8.0, 0.2), ("short", 12_101, 8.0, 0.6), ("long", 3_416, 0.0, 0.2)):
        graph, batches = made_up(num_items, mean, flags.steps * BATCH)
        ours_config = BERT4RecConfig(dim=DIM, num_layers=LAYERS, num_heads=HEADS, mask_prob=share, last_copy=0.0)
        nova_config = NOVABERTConfig(dim=DIM, num_layers=LAYERS, num_heads=HEADS, mask_prob=share, last_copy=0.0)
        steps = {
            "floor": floor(num_items, share),
            "bert4rec": ours(BERT4Rec(graph.schema, ours_config), graph),
            "nova-bert, 384 features": ours(NOVABERT(graph.schema, nova_config), graph),
        }
        steps |= {f"RecBole's {label}": theirs(kind, num_items, share) for label, kind in THEIRS.items()}
        rates = per_second(steps, batches, flags.rounds)
        where = {"histories": name, "items": num_items, "hidden": share}
        rows += [where | {"step": step, "rate": rate, "times": rates["floor"] / rate} for step, rate in rates.items()]
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A row per kind of data and step."""
    lines = [
        [
            *(row["histories"], f"{int(row['items']):,}", f"{float(row['hidden']):.0%}", row["step"]),
            *(f"{float(row['rate']):,.0f}", f"{float(row['times']):.2f}"),
        ]
        for row in rows
    ]
    return markdown(["histories", "items", "hidden", "step", "sequences a second", "times floor"], lines)


def blocks(store: Store) -> dict[str, str]:
    """Render the tables of the README, by name."""
    return {"sequences": table(store.rows)}


def main() -> None:
    parser = command.timing_parser(__doc__, threads=1)
    parser.add_argument("--steps", type=int, default=8, help="batches of 256 in a round")
    parser.add_argument("--rounds", type=int, default=5)
    flags = command.start(parser)
    store = Store("sequences", keys=("histories", "items", "hidden", "step"))
    if not flags.tables_only:
        torch.manual_seed(0)
        if not THEIRS:
            print("RecBole is not installed here, so its rows are missing.")
        rows = measure(flags)
        print(
            f"torch {torch.__version__}, {flags.threads} thread(s), {DIM} wide, {LAYERS} layers, batches of "
            f"{BATCH}\n\n{table(rows)}"
        )
        for row in rows if flags.keep else ():
            store.put(row | {"threads": flags.threads, "torch": torch.__version__, "commit": commit()})
    if flags.keep or flags.tables_only:
        fill(blocks(store), "sequences.py")


if __name__ == "__main__":
    main()
