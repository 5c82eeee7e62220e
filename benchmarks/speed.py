"""How fast the hot path is, side by side with what it replaces, in one run at the size of Amazon Baby.

a  one epoch of LightGCN through the trainer, against PyTorch Geometric's own LightGCN on the same batches
b  ``weighted_sum``, forward and with its derivative, against the bare sparse product
c  the peak memory of a process that trains
d  ``classify``, the cross-entropy over 12,101 items of 3,000 hidden places and its derivative, against PyTorch's own
e  ``attend`` with a share of its weights dropped, 512 histories of 51 items, and its derivative, against PyTorch's own

    python benchmarks/speed.py --part a,b,c,d,e

19,445 users, 7,050 items, 118,551 training interactions: the real ones where ``shared/data/amazon-baby`` lies beside the checkout,
else synthetic ones in the same number. 64 wide, 2 layers, 2,048 interactions a batch. Both sides of a comparison take turns;
the table shows medians.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

import torch
import torch_geometric
from torch import Tensor
from torch.nn import functional as F

from gmmrec.data.load import load_dataset
from gmmrec.data.split import Split, split_dataset
from gmmrec.data.synthetic import SyntheticConfig, synthetic_dataset
from gmmrec.graph.build import build_graph
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.lightgcn import LightGCN, LightGCNConfig
from gmmrec.nn.attention import attend
from gmmrec.nn.classify import classify
from gmmrec.nn.propagate import structure_of, weighted_sum
from gmmrec.tasks.collaborative import CollaborativeTask
from gmmrec.tasks.inputs import TaskInputs
from gmmrec.training.trainer import TrainConfig, Trainer
from gmmrec.typing import ITEM_USER, USER_ITEM

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT.parent / "shared" / "data" / "amazon-baby" / "interactions.csv.gz"
NUM_USERS, NUM_ITEMS, NUM_TRAIN = 19_445, 7_050, 118_551
DIM, NUM_LAYERS, L2 = 64, 2, 1e-4
MEGABYTES_A_UNIT = 2**20 if sys.platform == "darwin" else 2**10  # getrusage counts bytes there, kibibytes elsewhere

Row = dict[str, str | float]


def load() -> tuple[MultimodalGraph, CollaborativeTask, str]:
    """Graph and task, and where the interactions come from."""
    if REAL.exists():
        dataset = load_dataset(REAL)
        train = split_dataset(dataset).train
        source = "Amazon Baby"
    else:
        config = SyntheticConfig(num_users=NUM_USERS, num_items=NUM_ITEMS, num_interactions=NUM_TRAIN, dims={})
        dataset = synthetic_dataset(config, torch.Generator().manual_seed(0))
        train, source = dataset.interactions, "synthetic interactions"
    nothing = train.take(torch.arange(0))
    split = Split(train, nothing, nothing)
    return build_graph(dataset, split), CollaborativeTask(TaskInputs(split, dataset.num_users, dataset.num_items)), source


def take_turns(runs: Sequence[Callable[[], object]], repetitions: int) -> list[float]:
    """Median seconds of every function; one round to warm up, then all in turn."""
    seconds: list[list[float]] = [[] for _ in runs]
    for repetition in range(repetitions + 1):
        for run, times in zip(runs, seconds, strict=True):
            begin = time.perf_counter()
            run()
            if repetition:
                times.append(time.perf_counter() - begin)
    return [median(times) for times in seconds]


def train_one_epoch(graph: MultimodalGraph, task: CollaborativeTask) -> None:
    model = LightGCN(graph.schema, LightGCNConfig(dim=DIM, num_layers=NUM_LAYERS, l2=L2))
    config = TrainConfig(epochs=1, checkpoint_every=0, accelerator="cpu", progress=False)
    Trainer(config).fit(model, graph, task.batches, None, generator=torch.Generator().manual_seed(0))


def train_one_epoch_of_pyg(graph: MultimodalGraph, task: CollaborativeTask) -> None:
    """As in the example that comes with PyTorch Geometric: one node set, both directions, the batch's nodes regularised."""
    model = torch_geometric.nn.LightGCN(NUM_USERS + NUM_ITEMS, DIM, NUM_LAYERS)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    user, item = graph.edges(USER_ITEM).edge_index.as_tensor()
    edge_index = torch.stack([torch.cat([user, item + NUM_USERS]), torch.cat([item + NUM_USERS, user])])
    for _, batch in task.batches(graph, torch.Generator().manual_seed(0)):
        users = batch.query.user.repeat(2)
        items = torch.cat([batch.positive, batch.negative[:, 0]]) + NUM_USERS
        pairs = torch.stack([users, items])
        optimizer.zero_grad()
        positive, negative = model(edge_index, pairs).chunk(2)
        loss = model.recommendation_loss(positive, negative, node_id=pairs.unique(), lambda_reg=L2)
        loss.backward()
        optimizer.step()


def part_a(graph: MultimodalGraph, task: CollaborativeTask, repetitions: int) -> list[Row]:
    ours, theirs = take_turns([lambda: train_one_epoch(graph, task), lambda: train_one_epoch_of_pyg(graph, task)], repetitions)
    return [
        {"what": "LightGCN, one epoch", "milliseconds": 1000 * ours, "ratio": 1.0},
        {"what": "the same in PyTorch Geometric", "milliseconds": 1000 * theirs, "ratio": theirs / ours},
    ]


def part_b(graph: MultimodalGraph, task: CollaborativeTask, repetitions: int) -> list[Row]:
    """Both directions of one propagation step."""
    vectors = {USER_ITEM: torch.rand(NUM_USERS, DIM), ITEM_USER: torch.rand(NUM_ITEMS, DIM)}
    sizes = {USER_ITEM: (NUM_USERS, NUM_ITEMS), ITEM_USER: (NUM_ITEMS, NUM_USERS)}
    edges = {edge_type: graph.edges(edge_type) for edge_type in vectors}
    matrices = {t: structure_of(edges[t].edge_index, *sizes[t]).by_target.matrix(edges[t].weight) for t in vectors}
    leaves = {t: x.clone().requires_grad_() for t, x in vectors.items()}
    ones = {t: torch.ones(sizes[t][1], DIM) for t in vectors}

    def bare() -> list[Tensor]:
        return [matrices[t] @ x for t, x in vectors.items()]

    def forward() -> list[Tensor]:
        return [weighted_sum(edges[t].edge_index, x, edges[t].weight) for t, x in vectors.items()]

    def forward_backward() -> None:
        for t, x in leaves.items():
            x.grad = None
            weighted_sum(edges[t].edge_index, x, edges[t].weight).backward(ones[t])

    seconds = take_turns([bare, forward, forward_backward], 20 * repetitions)
    names = ("bare sparse product", "weighted_sum", "weighted_sum and its derivative")
    return [{"what": name, "milliseconds": 1000 * s, "ratio": s / seconds[0]} for name, s in zip(names, seconds, strict=True)]


def peak_megabytes(threads: int) -> float:
    """Peak resident memory of this process after two epochs."""
    torch.set_num_threads(threads)
    graph, task, _ = load()
    for _ in range(2):
        train_one_epoch(graph, task)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MEGABYTES_A_UNIT


def part_c(graph: MultimodalGraph, task: CollaborativeTask, repetitions: int) -> list[Row]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        peak = pool.submit(peak_megabytes, torch.get_num_threads()).result()
    return [{"what": "peak memory of training", "MiB": peak}]


def part_d(graph: MultimodalGraph, task: CollaborativeTask, repetitions: int) -> list[Row]:
    """As in a batch of BERT4Rec on Amazon Beauty; the floor is the three products that logits and their derivatives need."""
    places, items = 3_000, 12_101
    x, weight, bias = torch.randn(places, DIM), torch.randn(items, DIM) / DIM**0.5, torch.zeros(items)
    target, leaves = torch.randint(items, (places,)), (x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_())

    def products() -> None:
        with torch.no_grad():
            logits = x @ weight.t()
            logits @ weight
            logits.t() @ x

    def whole() -> None:
        torch.autograd.grad(F.cross_entropy(F.linear(x, weight, bias), target), leaves)

    def blocks() -> None:
        torch.autograd.grad(classify(x, weight, bias, target).mean(), leaves)

    seconds = take_turns([products, whole, blocks], 2 * repetitions)
    names = ("three products, logits held whole", "F.cross_entropy(F.linear(...))", "classify")
    return [{"what": name, "milliseconds": 1000 * s, "ratio": s / seconds[0]} for name, s in zip(names, seconds, strict=True)]


def part_e(graph: MultimodalGraph, task: CollaborativeTask, repetitions: int) -> list[Row]:
    """A layer of BERT4Rec, two heads; without dropout the kernel is the same for both, and shows what dropping costs."""
    batch, length, heads = 512, 51, 2
    parts = [torch.randn(batch, length, DIM, requires_grad=True) for _ in range(3)]
    mask = (torch.arange(length) >= torch.randint(length, (batch, 1))).unsqueeze(1)
    ones = torch.ones(batch, length, DIM)

    def theirs(dropout: float) -> Tensor:
        split = [x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in parts]
        seen = F.scaled_dot_product_attention(*split, attn_mask=mask.unsqueeze(1), dropout_p=dropout)
        return seen.transpose(1, 2).flatten(2)

    def step(attention: Callable[[float], Tensor], dropout: float) -> Callable[[], object]:
        return lambda: torch.autograd.grad(attention(dropout), parts, ones)

    def ours(dropout: float) -> Tensor:
        return attend(*parts, mask, num_heads=heads, dropout=dropout)

    seconds = take_turns([step(theirs, 0.0), step(theirs, 0.2), step(ours, 0.2)], 10 * repetitions)
    names = ("attention, nothing dropped", "scaled_dot_product_attention, 0.2 dropped", "attend, 0.2 dropped")
    return [{"what": name, "milliseconds": 1000 * s, "ratio": s / seconds[0]} for name, s in zip(names, seconds, strict=True)]


PARTS = {"a": part_a, "b": part_b, "c": part_c, "d": part_d, "e": part_e}


def to_markdown(rows: Sequence[Row]) -> str:
    lines = ["| what | milliseconds | ratio | MiB |", "|---|---:|---:|---:|"]
    for row in rows:
        cells = (f"{row[name]:,.2f}" if name in row else "" for name in ("milliseconds", "ratio", "MiB"))
        lines.append(f"| {row['what']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", default="a,b,c,d,e", help="which comparisons (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads torch may use (default: %(default)s)")
    parser.add_argument("--repetitions", type=int, default=5, help="timed rounds, twenty times as many in b (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "benchmarks" / "speed.json", help="where the figures go")
    arguments = parser.parse_args()
    if unknown := set(arguments.part.split(",")) - PARTS.keys():
        parser.error(f"--part names {', '.join(sorted(unknown))}, but the parts are {', '.join(PARTS)}")

    torch.set_num_threads(arguments.threads)
    graph, task, source = load()
    rows = [row for name in arguments.part.split(",") for row in PARTS[name](graph, task, arguments.repetitions)]
    print(f"{source}, {arguments.threads} threads, torch {torch.__version__}, torch-geometric {torch_geometric.__version__}\n")
    print(to_markdown(rows))
    versions = {"torch": torch.__version__, "torch-geometric": torch_geometric.__version__}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(
        json.dumps({"data": source, "threads": arguments.threads, "versions": versions, "rows": rows}, indent=2)
    )


if __name__ == "__main__":
    main()
