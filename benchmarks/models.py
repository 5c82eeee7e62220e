"""Cost of an epoch of every model, next to LightGCN in one run at the size of Amazon Baby.

    python benchmarks/models.py [--models mgat freedom] [--profile mgat]

19,445 users, 7,050 items, 118,551 training interactions (the real ones where ``shared/data/amazon-baby`` lies beside the
checkout, else synthetic ones, about as many) and synthetic features 4,096 and 384 wide. 64 wide, 2 layers (MGAT 1), 2,048 a
batch. The models take turns of a few steps each; an epoch is the median step times the number of batches. "prepare" is what a
model does once with the graph; "peak" is the resident memory of a process that loads the data, prepares, takes some steps and
validates. The last lines are what projecting the features of all items costs alone, and MGAT's layer by gather and scatter, as in
PyTorch Geometric. With --keep the figures go to benchmarks/results/models.csv, and from there to benchmarks/README.md.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from gmmrec.data.features import FeatureTable
from gmmrec.data.load import load_dataset
from gmmrec.data.split import split_dataset
from gmmrec.data.synthetic import SyntheticConfig, synthetic_dataset
from gmmrec.evaluation.evaluator import evaluate
from gmmrec.graph.build import build_graph
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models import MODELS
from gmmrec.nn.conv.gated_attention import GatedAttentionConv
from gmmrec.recommender import AnyRecommender
from gmmrec.tasks.collaborative import CollaborativeTask
from gmmrec.tasks.inputs import BatchConfig, TaskInputs
from gmmrec.typing import ITEM_USER, USER_ITEM
from lab import command
from lab.cells import commit
from lab.paths import ROOT
from lab.results import Store
from lab.tables import fill, markdown
from lab.timing import in_new_process, interleaved, peak_mib

REAL = ROOT.parent / "shared" / "data" / "amazon-baby" / "interactions.csv.gz"
SIZES = SyntheticConfig(num_users=19_445, num_items=7_050, num_interactions=148_000, dims={"image": 4096, "text": 384})
SETTINGS = {"dim": 64, "num_layers": 2}
OWN = {"mgat": {"num_layers": 1}}  # as in the authors' code
COLUMNS = ("prepare s", "epoch s", "times lightgcn", "validation s", "peak MiB")


def load() -> tuple[MultimodalGraph, CollaborativeTask]:
    """The graph with wide features, and the task."""
    generator = torch.Generator().manual_seed(0)
    if REAL.exists():
        dataset = load_dataset(REAL)
        features = {n: FeatureTable(n, torch.randn(dataset.num_items, d, generator=generator)) for n, d in SIZES.dims.items()}
        dataset = replace(dataset, features=features)
    else:
        dataset = synthetic_dataset(SIZES, generator)
    split = split_dataset(dataset)
    return build_graph(dataset, split), CollaborativeTask(TaskInputs(split, dataset.num_users, dataset.num_items, BatchConfig()))


def built(name: str, graph: MultimodalGraph) -> tuple[AnyRecommender, MultimodalGraph, float]:
    """A model with the common settings, its graph, and the seconds ``prepare`` took."""
    config_class = MODELS[name].config_class
    known = {field.name for field in fields(config_class)}
    torch.manual_seed(0)
    settings = {k: v for k, v in {**SETTINGS, **OWN.get(name, {})}.items() if k in known}
    model = MODELS[name](graph.schema, config_class(**settings))
    begin = time.perf_counter()
    with torch.no_grad():
        graph = model.prepare(graph)
    return model.train(), graph, time.perf_counter() - begin


def stepper(model: AnyRecommender, graph: MultimodalGraph, task: CollaborativeTask) -> Callable[[], float]:
    """A function that takes one training step, epoch after epoch, and returns its seconds.

    Drawing the batch counts, and so does what a model does at the beginning of an epoch: one share of it in every step.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    generator = torch.Generator().manual_seed(0)

    @torch.no_grad()
    def begun() -> tuple[MultimodalGraph, float]:
        begin = time.perf_counter()
        epoch_graph = model.begin_epoch(graph, generator)
        return epoch_graph, (time.perf_counter() - begin) / task.num_batches

    def endless() -> Iterator[Any]:
        while True:
            epoch_graph, share = begun()
            for batch in task.batches(epoch_graph, generator):
                yield share, *batch

    batches = endless()
    next(batches)

    def step() -> float:
        begin = time.perf_counter()
        share, batch_graph, batch = next(batches)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(model.loss(batch_graph, batch).values())).sum().backward()
        optimizer.step()
        return time.perf_counter() - begin + float(share)

    return step


def peak_megabytes(name: str, threads: int) -> float:
    """Peak resident memory of this process after an epoch and a validation."""
    torch.set_num_threads(threads)
    graph, task = load()
    model, graph, _ = built(name, graph)
    if list(model.parameters()):
        step = stepper(model, graph, task)
        for _ in range(5):
            step()
    evaluate(model.eval(), graph, task.ranking("valid"), metrics=("recall",), ks=(20,), bootstrap=0)
    return peak_mib()


def validation(model: AnyRecommender, graph: MultimodalGraph, task: CollaborativeTask) -> float:
    """Seconds of a validation."""
    begin = time.perf_counter()
    evaluate(model.eval(), graph, task.ranking("valid"), metrics=("recall",), ks=(20,), bootstrap=0)
    model.train()
    return time.perf_counter() - begin


def attention_layer(graph: MultimodalGraph, *, fused: bool) -> Callable[[], float]:
    """A call of MGAT's layer in both directions with its derivative, fused or by gather and scatter."""
    conv = GatedAttentionConv(64, 64, fused=fused)
    users, items = (torch.randn(graph.num_nodes(t), 64, requires_grad=True) for t in ("user", "item"))

    def call() -> float:
        begin = time.perf_counter()
        to_user = conv((items, users), graph.edges(ITEM_USER).edge_index, graph.degree("item"))
        to_item = conv((users, items), graph.edges(USER_ITEM).edge_index, graph.degree("user"))
        (to_user.sum() + to_item.square().sum()).backward()
        return time.perf_counter() - begin

    return call


def projection(graph: MultimodalGraph) -> Callable[[], float]:
    """Features of all items projected to the models' width, and the derivative of the maps: what nobody spares who does that."""
    tables = [table.pooled for table in graph.features.values()]
    maps = [torch.nn.Linear(table.shape[1], SETTINGS["dim"]) for table in tables]

    def call() -> float:
        begin = time.perf_counter()
        for table, project in zip(tables, maps, strict=True):
            project(table).sum().backward()
        return time.perf_counter() - begin

    return call


def show_profile(name: str) -> None:
    """Profile one training step."""
    graph, task = load()
    step = stepper(*built(name, graph)[:2], task)
    for _ in range(3):
        step()
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        for _ in range(10):
            step()
    print(recorded.key_averages().table(sort_by="self_cpu_time_total", row_limit=18, max_name_column_width=48))


def measure(names: list[str], rounds: int, threads: int) -> list[dict[str, Any]]:
    """Measure the cost of an epoch of each model, and print the cost of its parts."""
    graph, task = load()
    models = {name: built(name, graph) for name in names}
    trained = [name for name in names if list(models[name][0].parameters())]
    steps = interleaved({name: stepper(*models[name][:2], task) for name in trained}, rounds, each=3)
    rows = []
    for name in names:
        model, own_graph, prepare = models[name]
        peak = in_new_process(peak_megabytes, name, threads)
        step = steps.get(name, 0.0)
        found = (prepare, step * task.num_batches, step / steps["lightgcn"], validation(model, own_graph, task), peak)
        rows.append({"model": name, **dict(zip(COLUMNS, found, strict=True))})
    layer = interleaved({f"fused {f}": attention_layer(graph, fused=f) for f in (True, False)}, rounds, each=3)
    floor = interleaved({"projection": projection(graph)}, rounds, each=3)["projection"]
    share = floor / steps["lightgcn"]
    print(f"Projecting all features, forward and derivative: {1000 * floor:.1f} ms, {share:.2f} steps of lightgcn.")
    gain = layer["fused False"] / layer["fused True"]
    print(f"\nMGAT's layer, both directions with derivatives: {1000 * layer['fused True']:.1f} ms;")
    print(f"by gather and scatter {gain:.1f} times as long\n")
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Render a row per model."""
    forms = (".2f", ".2f", ".2f", ".2f", ".0f")
    lines = [[row["model"], *(format(float(row[name]), form) for name, form in zip(COLUMNS, forms, strict=True))] for row in rows]
    return markdown(["model", *COLUMNS], lines)


def blocks(store: Store) -> dict[str, str]:
    """Render the tables of the README, by name."""
    return {"models": table([dict(row) for row in store.rows])}


def main() -> None:
    parser = command.timing_parser(__doc__)
    parser.add_argument("--models", nargs="+", help="which models beside lightgcn (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds of three steps each (default: %(default)s)")
    parser.add_argument("--profile", metavar="MODEL", help="show where the time of this model's step goes, and nothing else")
    flags = command.start(parser)
    if flags.profile:
        show_profile(flags.profile)
        return
    store = Store("models", keys=("model",))
    if not flags.tables_only:
        names = [n for n, model in MODELS.items() if model.query_type.ranks_for_users and n in (flags.models or MODELS)]
        rows = measure(["lightgcn", *(name for name in names if name != "lightgcn")], flags.rounds, flags.threads)
        print(f"{flags.threads} threads, torch {torch.__version__}\n\n{table(rows)}")
        for row in rows if flags.keep else ():
            store.put(row | {"threads": flags.threads, "torch": torch.__version__, "commit": commit()})
    if flags.keep or flags.tables_only:
        fill(blocks(store), "models.py")


if __name__ == "__main__":
    main()
