"""Speed of the hot path, next to what it replaces, in one run at the size of Amazon Baby.

a  one epoch of LightGCN through the trainer, against PyTorch Geometric's own LightGCN on the same batches
b  ``weighted_sum``, forward and with its derivative, against the bare sparse product
c  the peak memory of a process that trains
d  ``classify``, the cross-entropy over 12,101 items of 3,000 masked positions and its derivative, against PyTorch's own
e  ``attend`` with a share of its weights dropped, 512 histories of 51 items, and its derivative, against PyTorch's own

    python benchmarks/speed.py --part a,b,c,d,e

19,445 users, 7,050 items, 118,551 training interactions: the real ones where ``shared/data/amazon-baby`` lies beside the checkout,
else synthetic ones in the same number. 64 wide, 2 layers, 2,048 interactions a batch. Both sides of a comparison take turns;
the table shows medians. With --keep they go to benchmarks/results/speed.csv, and from there to benchmarks/README.md.
"""

from collections.abc import Callable, Sequence
from typing import Any

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
from gmmrec.typing import ITEM_USER, USER_ITEM, EdgeType
from lab import command
from lab.cells import commit
from lab.paths import ROOT
from lab.results import Row, Store, number
from lab.tables import fill, markdown, shown
from lab.timing import in_new_process, peak_mib, timed

REAL = ROOT.parent / "shared" / "data" / "amazon-baby" / "interactions.csv.gz"
NUM_USERS, NUM_ITEMS, NUM_TRAIN = 19_445, 7_050, 118_551
DIM, NUM_LAYERS, L2 = 64, 2, 1e-4
SCRIPT = "speed.py"
BLOCKS = {"speed": ("a", "b", "c"), "speed of softmax and attention": ("d", "e")}
"""Parts of the README's tables."""
Figure = dict[str, Any]


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


def interleave(works: dict[str, Callable[[], object]], rounds: int) -> list[Figure]:
    """Median milliseconds of every work, and their ratio to the first."""
    seconds = timed(works, rounds)
    first = next(iter(seconds.values()))
    return [{"what": name, "milliseconds": 1000 * value, "ratio": value / first} for name, value in seconds.items()]


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


def part_a(graph: MultimodalGraph, task: CollaborativeTask, repetitions: int) -> list[Figure]:
    works: dict[str, Callable[[], object]] = {
        "LightGCN, one epoch": lambda: train_one_epoch(graph, task),
        "the same in PyTorch Geometric": lambda: train_one_epoch_of_pyg(graph, task),
    }
    return interleave(works, repetitions)


def part_b(graph: MultimodalGraph, task: CollaborativeTask, repetitions: int) -> list[Figure]:
    """Both directions of one propagation step."""
    vectors = {USER_ITEM: torch.rand(NUM_USERS, DIM), ITEM_USER: torch.rand(NUM_ITEMS, DIM)}
    sizes = {USER_ITEM: (NUM_USERS, NUM_ITEMS), ITEM_USER: (NUM_ITEMS, NUM_USERS)}
    edges = {edge_type: graph.edges(edge_type) for edge_type in vectors}
    matrices = {t: structure_of(edges[t].edge_index, *sizes[t]).by_target.matrix(weight_of(graph, t)) for t in vectors}
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

    names = ("bare sparse product", "`weighted_sum`", "`weighted_sum` and its derivative")
    return interleave(dict(zip(names, (bare, forward, forward_backward), strict=True)), 20 * repetitions)


def weight_of(graph: MultimodalGraph, edge_type: EdgeType) -> Tensor:
    """Weights of edges that have some."""
    weight = graph.edges(edge_type).weight
    assert weight is not None
    return weight


def peak_megabytes(threads: int) -> float:
    """Peak resident memory of this process after two epochs."""
    torch.set_num_threads(threads)
    graph, task, _ = load()
    for _ in range(2):
        train_one_epoch(graph, task)
    return peak_mib()


def part_c(graph: MultimodalGraph, task: CollaborativeTask, repetitions: int) -> list[Figure]:
    return [{"what": "peak memory of training", "MiB": in_new_process(peak_megabytes, torch.get_num_threads())}]


def part_d(graph: MultimodalGraph, task: CollaborativeTask, repetitions: int) -> list[Figure]:
    """As in a batch of BERT4Rec on Amazon Beauty; the floor is the three products that logits and their derivatives need."""
    positions, items = 3_000, 12_101
    x, weight, bias = torch.randn(positions, DIM), torch.randn(items, DIM) / DIM**0.5, torch.zeros(items)
    target, leaves = torch.randint(items, (positions,)), (x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_())

    def products() -> None:
        with torch.no_grad():
            logits = x @ weight.t()
            logits @ weight
            logits.t() @ x

    def whole() -> None:
        torch.autograd.grad(F.cross_entropy(F.linear(x, weight, bias), target), leaves)

    def blocks() -> None:
        torch.autograd.grad(classify(x, weight, bias, target).mean(), leaves)

    names = ("three products, logits held whole", "`F.cross_entropy(F.linear(...))`", "`classify`")
    return interleave(dict(zip(names, (products, whole, blocks), strict=True)), 2 * repetitions)


def part_e(graph: MultimodalGraph, task: CollaborativeTask, repetitions: int) -> list[Figure]:
    """A layer of BERT4Rec, two heads; without dropout the kernel is the same for both, and shows what dropping costs."""
    batch, length, heads = 512, 51, 2
    query, key, value = parts = [torch.randn(batch, length, DIM, requires_grad=True) for _ in range(3)]
    mask = (torch.arange(length) >= torch.randint(length, (batch, 1))).unsqueeze(1)
    ones = torch.ones(batch, length, DIM)

    def theirs(dropout: float) -> Tensor:
        q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in parts)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.unsqueeze(1), dropout_p=dropout)
        return seen.transpose(1, 2).flatten(2)

    def step(attention: Callable[[float], Tensor], dropout: float) -> Callable[[], object]:
        return lambda: torch.autograd.grad(attention(dropout), parts, ones)

    def ours(dropout: float) -> Tensor:
        return attend(query, key, value, mask, num_heads=heads, dropout=dropout)

    works = {
        "attention, nothing dropped": step(theirs, 0.0),
        "`scaled_dot_product_attention`, 0.2 dropped": step(theirs, 0.2),
        "`attend`, 0.2 dropped": step(ours, 0.2),
    }
    return interleave(works, 10 * repetitions)


PARTS = {"a": part_a, "b": part_b, "c": part_c, "d": part_d, "e": part_e}


def blocks(store: Store) -> dict[str, str]:
    """Render the tables of the README, by name."""
    return {name: table([row for row in store.rows if row["part"] in parts]) for name, parts in BLOCKS.items()}


def table(rows: Sequence[Row]) -> str:
    """A row per measurement; columns that none has are left out."""
    names = [name for name in ("milliseconds", "ratio", "MiB") if any(name in row for row in rows)]
    return markdown(["what", *names], [[row["what"], *(shown(number(row, name), ",.2f") for name in names)] for row in rows])


def main() -> None:
    parser = command.timing_parser(__doc__)
    parser.add_argument("--part", default="a,b,c,d,e", help="which comparisons (default: %(default)s)")
    parser.add_argument("--repetitions", type=int, default=5, help="timed rounds, twenty times as many in b (default: %(default)s)")
    flags = command.start(parser)
    if unknown := set(flags.part.split(",")) - PARTS.keys():
        parser.error(f"--part names {', '.join(sorted(unknown))}, but the parts are {', '.join(PARTS)}")
    store = Store("speed", keys=("part", "what", "threads"))
    if not flags.tables_only:
        graph, task, source = load()
        about = {"threads": flags.threads, "data": source, "torch": torch.__version__, "pyg": torch_geometric.__version__}
        found = {part: PARTS[part](graph, task, flags.repetitions) for part in flags.part.split(",")}
        print(", ".join(f"{name} {value}" for name, value in about.items()) + "\n")
        print(table([{k: str(v) for k, v in figure.items()} for figures in found.values() for figure in figures]))
        for part, figures in found.items() if flags.keep else ():
            rows = [{"part": part} | figure | about | {"commit": commit()} for figure in figures]
            store.replace(rows, part=part)
    if flags.keep or flags.tables_only:
        fill(blocks(store), SCRIPT)


if __name__ == "__main__":
    main()
