"""Graph files: tensors as safetensors, everything else as JSON in the header; nothing is ever unpickled."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData

from gmmrec.errors import MissingFileError, UsageError
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.storage.atomic import write_tensors

FORMAT = "gmmrec graph 1"


def save_graph(graph: MultimodalGraph, path: str | Path) -> None:
    """Write a graph to a file.

    Raises:
        UsageError: The graph holds a value that is not a tensor.
    """
    data, tensors = graph.data, dict[str, Tensor]()
    owners = [*data.node_types, *data.edge_types]
    for position, owner in enumerate(owners):
        for name, value in data[owner].items():
            if name == "num_nodes":
                continue
            if not isinstance(value, Tensor):
                raise UsageError(f"cannot save {name!r} of {owner!r}: expected a tensor, found {type(value).__name__}")
            plain = value.as_tensor() if isinstance(value, EdgeIndex) else value
            tensors[f"{position}/{name}"] = plain.detach().cpu().clone(memory_format=torch.contiguous_format)
    schema = graph.schema
    header = {
        "nodes": {node_type: graph.num_nodes(node_type) for node_type in data.node_types},
        "owners": owners,
        "num_nodes": dict(schema.num_nodes),
        "feature_dims": dict(schema.feature_dims),
        "feature_nodes": dict(schema.feature_nodes),
        "relations": schema.relations,
        "num_words": schema.num_words,
        "num_relations": schema.num_relations,
    }
    write_tensors(Path(path), tensors, {"format": FORMAT, "graph": json.dumps(header)})


def load_graph(path: str | Path) -> MultimodalGraph:
    """Read a graph written by :func:`save_graph`.

    Raises:
        FileNotFoundError: The file does not exist.
        UsageError: The file is not a saved graph.
    """
    if not Path(path).is_file():
        raise MissingFileError(f"there is no file {str(path)!r}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a file is not a mapping)
    except SafetensorError as error:
        raise UsageError(f"{str(path)!r} is not a saved graph ({error}); write one with save_graph") from error
    if metadata.get("format") != FORMAT:
        found = metadata.get("format", "no format")
        raise UsageError(f"{str(path)!r} is not a saved graph: expected {FORMAT!r}, found {found!r}; write one with save_graph")
    header = json.loads(metadata["graph"])
    owners = [owner if isinstance(owner, str) else tuple(owner) for owner in header["owners"]]
    data = HeteroData()
    for node_type, count in header["nodes"].items():
        data[node_type].num_nodes = count
    for key, tensor in tensors.items():
        position, name = key.split("/", 1)
        data[owners[int(position)]][name] = tensor
    for edge_type in owners[len(header["nodes"]) :]:
        sizes = (header["nodes"][edge_type[0]], header["nodes"][edge_type[2]])
        data[edge_type].edge_index = EdgeIndex(data[edge_type].edge_index, sparse_size=sizes, sort_order="col")
    schema = GraphSchema(
        header["num_nodes"],
        header["feature_dims"],
        header["feature_nodes"],
        tuple(map(tuple, header["relations"])),
        header.get("num_words", 0),  # files of earlier versions have no reviews
        header.get("num_relations", 0),  # nor triples
    )
    return MultimodalGraph(data, schema)
