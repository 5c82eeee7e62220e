"""``gmmrec graph``: statistics of the training graph of a data set."""

import argparse
import json
from pathlib import Path
from typing import Any, TypeAlias

from gmmrec.cli.settings import describe_flags, expand
from gmmrec.errors import UsageError
from gmmrec.safety.names import visible

Table: TypeAlias = list[tuple[str, ...]]


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``graph``."""
    parser = subparsers.add_parser("graph", help="build the training graph of a data set and describe it", allow_abbrev=False)
    parser.add_argument("-d", "--data", metavar="PATH", required=True, help="data set: a path or a bundled name")
    parser.add_argument("--dim", type=int, default=64, help="embedding width in the memory estimate (default 64)")
    parser.add_argument("--layers", type=int, default=3, help="number of propagation layers in the memory estimate (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split and of the random pairs (default 0)")
    parser.add_argument("--out", metavar="FILE", type=Path, help="save the graph, to be read by gmmrec.graph.store.load_graph")
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --out")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.set_defaults(run=run)
    describe_flags(parser, "data", "split", "graph")


def run(arguments: argparse.Namespace) -> int:
    """Build, describe, save and print."""
    import torch  # not at the top: the command line answers --help without it

    from gmmrec.config import check_non_negative, check_positive, read_settings
    from gmmrec.data.load import DataConfig, load_dataset
    from gmmrec.data.split import SplitConfig, split_dataset
    from gmmrec.graph.build import GraphConfig, build_graph
    from gmmrec.graph.describe import describe
    from gmmrec.graph.store import save_graph

    if arguments.out is not None and arguments.out.exists() and not arguments.overwrite:
        raise UsageError(f"{arguments.out} exists; replace it with --overwrite, or give another name")
    check_positive(dim=arguments.dim)
    check_non_negative(layers=arguments.layers)
    sections = {"data": DataConfig, "split": SplitConfig, "graph": GraphConfig}
    flags = ["--data.path", arguments.data, *expand(arguments.flags)]
    settings = read_settings(sections, {}, flags, prog="gmmrec graph")
    generator = torch.Generator().manual_seed(arguments.seed)
    dataset = load_dataset(settings["data"])
    graph = build_graph(dataset, split_dataset(dataset, settings["split"], generator), settings["graph"])
    report = describe(graph, generator=generator, knn=settings["graph"].knn or 10, dim=arguments.dim, num_layers=arguments.layers)
    report = {"dataset": dataset.name, **report}
    if arguments.out is not None:
        save_graph(graph, arguments.out)
    print(json.dumps(report, indent=2) if arguments.json else visible(to_text(report)))
    return 0


def to_text(report: dict[str, Any]) -> str:
    """Return the report as aligned tables."""
    nodes: Table = [("nodes", "count", "cold", "isolated", "degree min", "median", "mean", "max")]
    for name, node in report["nodes"].items():
        degree = [f"{node['degree'][key]:.4g}" for key in ("min", "median", "mean", "max")]
        nodes.append((name, f"{node['count']:,}", f"{node['cold']:.1%}", f"{node['isolated']:.1%}", *degree))
    edges: Table = [("edges", "count"), *((name, f"{count:,}") for name, count in report["edges"].items())]
    tables = [nodes, edges]
    if report["modalities"]:
        modalities: Table = [("modality", "of", "width", "missing", "neighbours' cosine", "random pairs'")]
        for name, modality in report["modalities"].items():
            found = modality["agreement"]
            cosines = (f"{found['neighbors']:.4f}", f"{found['random']:.4f}") if found else ("-", "-")
            modalities.append((name, modality["node_type"], str(modality["dim"]), f"{modality['missing']:.1%}", *cosines))
        tables.append(modalities)
    tables.append([("training memory", "MiB"), *((name, f"{size / 2**20:,.1f}") for name, size in report["memory"].items())])
    parts, largest = report["components"]["count"], report["components"]["largest"]
    summary = [
        f"{report['dataset']}: {report['density']:.4%} of all pairs in training",
        f"{parts:,} connected component{'s' if parts > 1 else ''}, the largest with {largest:.1%} of the nodes",
    ]
    return "\n\n".join(["\n".join(summary), *(_aligned(table) for table in tables)])


def _aligned(rows: Table) -> str:
    """Return rows with aligned columns: the first flush left, numbers flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
