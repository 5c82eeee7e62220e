"""Time of an evaluation of all users, compared with the bare matrix product and top-50 that it requires.

Both run in one process, in turns, on amazon-baby (19,445 users, 7,050 items) with random factors of width 64.
Without the data set, interactions of the same size are drawn at random.

    python benchmarks/evaluation.py [--data FOLDER] [--threads 2] [--repeats 7] [--keep]

With --keep the figures go to benchmarks/results/evaluation.csv, and from there to benchmarks/README.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from gmmrec.data.dataset import Dataset
from gmmrec.data.interactions import Interactions
from gmmrec.data.ragged import RaggedSets
from gmmrec.data.split import Split
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.evaluation.evaluator import evaluate
from gmmrec.evaluation.groups import default_groups
from gmmrec.evaluation.results import Results
from gmmrec.evaluation.settings import EvalConfig
from gmmrec.evaluation.significance import bootstrap_intervals
from gmmrec.graph.build import build_graph
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.lightgcn import LightGCN, LightGCNConfig
from gmmrec.tasks.evaluation_tasks import RankingEvaluation
from gmmrec.tasks.query import UserQuery
from lab import command
from lab.cells import commit
from lab.paths import ROOT
from lab.results import Store
from lab.tables import fill, markdown
from lab.timing import timed

NUM_USERS, NUM_ITEMS, DIM, K = 19_445, 7_050, 64, 50
BARE = "bare product and top 50"
INTERVALS = "the same, with intervals: the default of `gmmrec train`"


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
    print(f"no data set in {folder}: queries are drawn at random")
    generator = torch.Generator().manual_seed(0)
    sizes = (118_551, 20_559)
    drawn = [[torch.randint(high, (n,), generator=generator) for high in (NUM_USERS, NUM_ITEMS)] for n in sizes]
    return Pairs(*drawn[0]), Pairs(*drawn[1])


def prepare(train: Pairs, test: Pairs) -> tuple[LightGCN, MultimodalGraph, RankingEvaluation[UserQuery]]:
    """A LightGCN without layers (its encoding is its factors), and one query a user."""
    log = Interactions(train.user, train.item)
    nothing = log.take(torch.arange(0))
    vocabularies = {"user": Vocabulary(range(NUM_USERS), name="user"), "item": Vocabulary(range(NUM_ITEMS), name="item")}
    graph = build_graph(Dataset("users and items", vocabularies, log, {}), Split(log, nothing, nothing))
    everybody = torch.arange(NUM_USERS)  # one relevant item at least, so that all users are ranked
    filled = Pairs(torch.cat([test.user, everybody]), torch.cat([test.item, everybody % NUM_ITEMS]))
    ranking = RankingEvaluation(UserQuery(everybody), filled.by_user(), train.by_user(), "train")
    return LightGCN(graph.schema, LightGCNConfig(dim=DIM, num_layers=0)), graph, ranking


def bare(users: torch.Tensor, items: torch.Tensor, chunk_size: int) -> torch.Tensor:
    """Return the top 50 of the matrix product, without exclusion or metrics."""
    return torch.cat([(part @ items.t()).topk(K, dim=1).indices for part in users.split(chunk_size)])


def resampled(results: Results) -> list[dict[str, tuple[float, float]]]:
    """Return the intervals of all groups by resampling, however many queries they have."""
    values = [results.group(name).values for name in ("all", *results.groups)]
    return [bootstrap_intervals(each, results.bootstrap, torch.Generator().manual_seed(0)) for each in values]


def measure(data: Path, chunk_size: int, repeats: int) -> dict[str, float]:
    """Return the median seconds of every workload, run in turns."""
    torch.manual_seed(0)
    model, graph, ranking = prepare(*read(data))
    users, items = model.users.detach(), model.items.detach()
    groups = default_groups(graph, ranking)
    level = LightGCN(graph.schema, LightGCNConfig(dim=DIM, num_layers=0))
    torch.nn.init.zeros_(level.items)
    works: dict[str, Callable[[], object]] = {
        BARE: lambda: bare(users, items, chunk_size),
        f"{BARE}, 2048 users at once": lambda: bare(users, items, 2048),
        "`evaluate`, recall@20 alone: a validation": lambda: evaluate(
            model, graph, ranking, metrics=("recall",), ks=(20,), chunk_size=chunk_size
        ),
        "`evaluate`, six metrics at 5, 10, 20 and 50": lambda: evaluate(model, graph, ranking, chunk_size=chunk_size),
        "the same, with groups": lambda: evaluate(model, graph, ranking, groups=groups, chunk_size=chunk_size),
        INTERVALS: lambda: evaluate(model, graph, ranking, groups=groups, chunk_size=chunk_size).to_dict(),
        "that, if every interval took 1,000 resamples": lambda: resampled(
            evaluate(model, graph, ranking, groups=groups, chunk_size=chunk_size)
        ),
        "that, where all items tie": lambda: evaluate(level, graph, ranking, groups=groups, chunk_size=chunk_size).to_dict(),
    }
    return timed(works, repeats)


def blocks(store: Store) -> dict[str, str]:
    """Render the tables of the README, by name."""
    return {"evaluation": table({row["work"]: float(row["seconds"]) for row in store.rows})}


def table(found: dict[str, float]) -> str:
    """Render a row per workload, with the ratio to the fastest bare product."""
    floor = min(seconds for work, seconds in found.items() if work.startswith(BARE))
    lines = [[work, f"{seconds:.3f}", f"{seconds / floor:.2f}"] for work, seconds in found.items()]
    return markdown(["work", "seconds", "ratio"], lines)


def main() -> None:
    parser = command.timing_parser(__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "amazon-baby")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--chunk-size", type=int, default=EvalConfig.chunk_size)
    flags = command.start(parser)
    store = Store("evaluation", keys=("work",))
    if not flags.tables_only:
        found = measure(flags.data, flags.chunk_size, flags.repeats)
        print(table(found))
        for work, seconds in found.items() if flags.keep else ():
            about = {"threads": flags.threads, "chunk_size": flags.chunk_size, "commit": commit()}
            store.put({"work": work, "seconds": seconds} | about)
    if flags.keep or flags.tables_only:
        fill(blocks(store), "evaluation.py")


if __name__ == "__main__":
    main()
