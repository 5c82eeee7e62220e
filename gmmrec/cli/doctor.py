"""``gmmrec doctor``: installed versions, hardware, a self-test of sparse products, and remedies."""

import argparse
import importlib
import json
import platform
import re
import time
from importlib import metadata
from statistics import median
from typing import Any, NamedTuple


class Part(NamedTuple):
    """An optional package: its name, the module it provides, its purpose, and how to install it."""

    package: str
    module: str
    purpose: str
    remedy: str


OPTIONAL = (
    Part(
        "torch-scatter",
        "torch_scatter",
        "alternative backend for sums and softmax over segments",
        'pip install --no-build-isolation "gmmrec[scatter]", or make scatter in a checkout; it needs a C++ compiler',
    ),
    Part("faiss-cpu", "faiss", "nearest neighbours in large catalogues", 'pip install "gmmrec[faiss]"'),
    Part("pyarrow", "pyarrow", "reading and writing Parquet tables", 'pip install "gmmrec[parquet]"'),
    Part("transformers", "transformers", "extracting features from pictures and texts", 'pip install "gmmrec[encoders]"'),
    Part("tensorboard", "tensorboard", "viewing training curves in a browser", 'pip install "gmmrec[tensorboard]"'),
)


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``doctor``."""
    parser = subparsers.add_parser("doctor", help="check the installation and the machine")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    report = examine()
    print(json.dumps(report, indent=2) if arguments.json else to_text(report))
    return 0 if all(test["right"] for test in report["self_test"]) else 1


def examine() -> dict[str, Any]:
    """Return the report as plain dictionaries; imports torch, which takes seconds."""
    import torch  # not at the top: the command line answers --help without it

    return {
        "gmmrec": metadata.version("gmmrec"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {package: installed_version(package) for package in required_packages()},
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "mkl": torch.backends.mkl.is_available(),
        "optional": {part.package: examine_part(part) for part in OPTIONAL},
        "self_test": [sparse_product(device) for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else []))],
    }


def required_packages() -> list[str]:
    """Return the required dependencies of ``gmmrec``, without the extras."""
    requirements = metadata.requires("gmmrec") or []
    return [re.split(r"[^\w.-]", text, maxsplit=1)[0] for text in requirements if "extra ==" not in text]


def installed_version(package: str) -> str | None:
    """Return the version of a package, None if it is not installed.

    >>> installed_version("no-such-package") is None
    True
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def examine_part(part: Part) -> dict[str, Any]:
    """Return the version of an optional package, whether it imports, and the remedy if not.

    >>> examine_part(Part("no-such-package", "no_such_package", "nothing", "do without"))["remedy"]
    'do without'
    """
    found: dict[str, Any] = {"version": installed_version(part.package), "active": True, "purpose": part.purpose}
    try:
        importlib.import_module(part.module)
    except (ImportError, OSError) as error:  # OSError: a library that was compiled against another torch
        found |= {"active": False, "remedy": part.remedy}
        if found["version"] is not None:
            found["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
    return found


def sparse_product(device: str, *, num_nodes: int = 20_000, num_edges: int = 100_000, dim: int = 64) -> dict[str, Any]:
    """Sum neighbours over a random graph, compare with a plain float64 sum, and take the median time of nine runs."""
    import torch
    from torch_geometric import EdgeIndex

    from gmmrec.nn.propagate import weighted_sum

    generator = torch.Generator().manual_seed(0)
    target = torch.randint(num_nodes, (num_edges,), generator=generator).sort().values
    source = torch.randint(num_nodes, (num_edges,), generator=generator)
    x = torch.rand(num_nodes, dim, generator=generator)
    weight = torch.rand(num_edges, generator=generator)
    expected = torch.zeros(num_nodes, dim, dtype=torch.float64).index_add_(0, target, x[source].double() * weight[:, None].double())

    edges = EdgeIndex(torch.stack([source, target]).to(device), sparse_size=(num_nodes, num_nodes), sort_order="col")
    x, weight = x.to(device), weight.to(device)
    seconds = []
    for _ in range(9):
        begin = time.perf_counter()
        found = weighted_sum(edges, x, weight).cpu()  # the copy waits for the device
        seconds.append(time.perf_counter() - begin)
    right = bool(torch.allclose(found.double(), expected, rtol=1e-4, atol=1e-5))
    return {"device": device, "right": right, "milliseconds": round(1000 * median(seconds), 2), "num_edges": num_edges, "dim": dim}


def to_text(report: dict[str, Any]) -> str:
    """Return the report as readable text."""
    width = max(map(len, (*report["versions"], *report["optional"]))) + 2
    lines = [f"gmmrec {report['gmmrec']}, Python {report['python']}, {report['system']}", "", "Versions"]
    lines += [f"  {name:{width}}{version or 'not installed'}" for name, version in report["versions"].items()]
    lines += ["", "Machine", f"  {'threads':{width}}{report['threads']}", f"  {'GPU':{width}}{', '.join(report['gpus']) or 'none'}"]
    without_mkl = "no: sparse products on the CPU are slow without it; install a build of torch with MKL"
    lines += [f"  {'MKL':{width}}{'yes' if report['mkl'] else without_mkl}", "", "Optional packages"]
    for name, part in report["optional"].items():
        state = "not installed" if part["version"] is None else part["version"]
        if "error" in part:
            state += f", but fails to import ({part['error']})"
        lines.append(f"  {name:{width}}{state} ({part['purpose']})")
        lines += [] if part["active"] else [f"  {'':{width}}to install: {part['remedy']}"]
    lines += ["", "Self-test"]
    for test in report["self_test"]:
        verdict = "correct" if test["right"] else "WRONG: do not trust the sparse products of this installation"
        size = f"{test['num_edges']:,} edges, {test['dim']} wide"
        lines.append(f"  {'sparse, ' + test['device']:{width}}{verdict}, {test['milliseconds']} ms ({size})")
    return "\n".join(lines)
