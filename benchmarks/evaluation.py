"""How long an evaluation of all users takes, beside the bare matrix product with top-50 that it cannot do without.

Both run in one process, one after the other in turns, on amazon-baby (19,445 users, 7,050 items) with random factors of width 64.
Without the data set, questions of the same size are drawn at random.

    python benchmarks/evaluation.py [--data FOLDER] [--threads 2] [--repeats 7]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch_geometric.data import HeteroData

from gmmrec.data.ragged import RaggedSets
from gmmrec.evaluation.evaluator import evaluate
from gmmrec.evaluation.groups import default_groups
from gmmrec.evaluation.settings import EvalConfig
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.models.lightgcn import LightGCN, LightGCNConfig
from gmmrec.tasks.evaluation_tasks import RankingEvaluation
from gmmrec.tasks.query import UserQuery

NUM_USERS, NUM_ITEMS, DIM, K = 19_445, 7_050, 64, 50


@dataclass
class Pairs:
    """Users and items of one part of the data."""

    user: torch.Tensor
    item: torch.Tensor

    def by_user(self) -> RaggedSets:
        """The items of every user."""
        return RaggedSets.from_pairs(self.user, self.item, NUM_USERS)


def read(folder: Path) -> tuple[Pairs, Pairs]:
    """Training and test pairs; drawn at random where the data set is absent."""
    path = folder / "interactions.csv.gz"
    if path.is_file():
        frame = pd.read_csv(path)
        parts = [frame[frame["split"] == part] for part in ("train", "test")]
        train, test = (Pairs(torch.tensor(p["user"].to_numpy()), torch.tensor(p["item"].to_numpy())) for p in parts)
        return train, test
    print(f"no data set in {folder}: questions are drawn at random")
    generator = torch.Generator().manual_seed(0)
    sizes = (118_551, 20_559)
    drawn = [[torch.randint(high, (n,), generator=generator) for high in (NUM_USERS, NUM_ITEMS)] for n in sizes]
    return Pairs(*drawn[0]), Pairs(*drawn[1])


def prepare(train: Pairs, test: Pairs) -> tuple[LightGCN, MultimodalGraph, RankingEvaluation[UserQuery]]:
    """A LightGCN without layers (its encoding is its factors), and one question a user."""
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = NUM_USERS, NUM_ITEMS
    data["user"].degree = torch.bincount(train.user, minlength=NUM_USERS).float()
    data["item"].degree = torch.bincount(train.item, minlength=NUM_ITEMS).float()
    schema = GraphSchema({"user": NUM_USERS, "item": NUM_ITEMS}, {}, {}, ())
    everybody = torch.arange(NUM_USERS)  # one relevant item at least, so that all users are ranked
    filled = Pairs(torch.cat([test.user, everybody]), torch.cat([test.item, everybody % NUM_ITEMS]))
    questions = RankingEvaluation(UserQuery(everybody), filled.by_user(), train.by_user(), "train")
    return LightGCN(schema, LightGCNConfig(dim=DIM, num_layers=0)), MultimodalGraph(data, schema), questions


def bare(users: torch.Tensor, items: torch.Tensor, chunk_size: int) -> torch.Tensor:
    """Matrix product and top-50, nothing excluded and nothing measured."""
    return torch.cat([(part @ items.t()).topk(K, dim=1).indices for part in users.split(chunk_size)])


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data" / "amazon-baby")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--chunk-size", type=int, default=EvalConfig.chunk_size)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model, graph, questions = prepare(*read(arguments.data))
    users, items = model.users.detach(), model.items.detach()
    groups = default_groups(graph, questions)
    works: dict[str, Callable[[], object]] = {
        f"bare product and top-50, {size} users at once": lambda size=size: bare(users, items, size)  # type: ignore[misc]
        for size in (arguments.chunk_size, 2048)
    }
    works["evaluate, recall@20 alone (validation)"] = lambda: evaluate(
        model, graph, questions, metrics=("recall",), ks=(20,), chunk_size=arguments.chunk_size
    )
    works["evaluate, all metrics at 5, 10, 20, 50"] = lambda: evaluate(model, graph, questions, chunk_size=arguments.chunk_size)
    works["evaluate, all metrics and groups"] = lambda: evaluate(
        model, graph, questions, groups=groups, chunk_size=arguments.chunk_size
    )
    works["evaluate, all, with intervals"] = lambda: evaluate(
        model, graph, questions, groups=groups, chunk_size=arguments.chunk_size
    ).to_dict()
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(arguments.repeats + 1):
        for name, work in works.items():
            taken = seconds(work)
            if turn:  # the first turn warms up
                times[name].append(taken)
    medians = {name: statistics.median(values) for name, values in times.items()}
    reference = min(list(medians.values())[:2])
    for name, median in medians.items():
        print(f"{name:48} {median:7.3f} s   {median / reference:5.2f} x")


if __name__ == "__main__":
    main()
