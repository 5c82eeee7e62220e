"""``gmmrec graph``: what a data set looks like as a graph, before anything is trained on it."""

import argparse
import json
from pathlib import Path
from typing import Any, TypeAlias

from gmmrec.cli.settings import describe_flags, expand

Table: TypeAlias = list[tuple[str, ...]]


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``graph``."""
    parser = subparsers.add_parser("graph", help="build the training graph of a data set and describe it", allow_abbrev=False)
    parser.add_argument("-d", "--data", metavar="PATH", required=True, help="data set: a path or the name of a bundled one")
    parser.add_argument("--dim", type=int, default=64, help="size of embeddings in the memory forecast (default 64)")
    parser.add_argument("--layers", type=int, default=3, help="propagation steps in the memory forecast (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split and of random pairs (default 0)")
    parser.add_argument("--out", metavar="FILE", type=Path, help="save the graph, for gmmrec.graph.store.load_graph")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.set_defaults(run=run)
    describe_flags(parser, "data", "split", "graph")


def run(arguments: argparse.Namespace) -> int:
    """Builds, describes, saves and prints."""
    import torch  # not at the top: the command line answers --help without it

    from gmmrec.config import check_non_negative, check_positive, read_settings
    from gmmrec.data.load import DataConfig, load_dataset
    from gmmrec.data.split import SplitConfig, split_dataset
    from gmmrec.graph.build import GraphConfig, build_graph
    from gmmrec.graph.describe import describe
    from gmmrec.graph.store import save_graph

    check_positive(dim=arguments.dim)
    check_non_negative(layers=arguments.layers)
    sections = {"data": DataConfig, "split": SplitConfig, "graph": GraphConfig}
    flags = ["--data.path", arguments.data, *expand(arguments.flags)]
    settings = read_settings(sections, {}, flags, prog="gmmrec graph")
    generator = torch.Generator().manual_seed(arguments.seed)
    dataset = load_dataset(settings["data"])
    graph = build_graph(dataset, split_dataset(dataset, settings["split"], generator), settings["graph"])
    facts = describe(graph, generator=generator, knn=settings["graph"].knn or 10, dim=arguments.dim, num_layers=arguments.layers)
    facts = {"dataset": dataset.name, **facts}
    if arguments.out is not None:
        save_graph(graph, arguments.out)
    print(json.dumps(facts, indent=2) if arguments.json else to_text(facts))
    return 0


def to_text(facts: dict[str, Any]) -> str:
    """The facts as aligned tables."""
    nodes: Table = [("nodes", "count", "cold", "isolated", "degree min", "median", "mean", "max")]
    for name, node in facts["nodes"].items():
        degree = [f"{node['degree'][key]:.4g}" for key in ("min", "median", "mean", "max")]
        nodes.append((name, f"{node['count']:,}", f"{node['cold']:.1%}", f"{node['isolated']:.1%}", *degree))
    edges: Table = [("edges", "count"), *((name, f"{count:,}") for name, count in facts["edges"].items())]
    tables = [nodes, edges]
    if facts["modalities"]:
        modalities: Table = [("modality", "of", "width", "missing", "neighbours' cosine", "random pairs'")]
        for name, modality in facts["modalities"].items():
            found = modality["agreement"]
            cosines = (f"{found['neighbors']:.4f}", f"{found['random']:.4f}") if found else ("-", "-")
            modalities.append((name, modality["node_type"], str(modality["dim"]), f"{modality['missing']:.1%}", *cosines))
        tables.append(modalities)
    tables.append([("training memory", "MiB"), *((name, f"{size / 2**20:,.1f}") for name, size in facts["memory"].items())])
    parts, largest = facts["components"]["count"], facts["components"]["largest"]
    summary = [
        f"{facts['dataset']}: {facts['density']:.4%} of all pairs in training",
        f"{parts:,} connected component{'s' if parts > 1 else ''}, the largest with {largest:.1%} of the nodes",
    ]
    return "\n\n".join(["\n".join(summary), *(_aligned(table) for table in tables)])


def _aligned(rows: Table) -> str:
    """Columns side by side: the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
