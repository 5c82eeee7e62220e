"""Graph files: tensors as safetensors, everything else as JSON in the header; nothing is ever unpickled."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData

from gmmrec.errors import DataError, UsageError
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.safety.tensors import check_finite, check_tensor, header_json, read_tensors
from gmmrec.storage.atomic import checksum, write_tensors
from gmmrec.typing import EdgeType, NodeType

FORMAT = "gmmrec graph 1"
REMEDY = "write one with save_graph"


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
    text = json.dumps(header)
    write_tensors(Path(path), tensors, {"format": FORMAT, "graph": text, "checksum": checksum(tensors, text)})


def load_graph(path: str | Path) -> MultimodalGraph:
    """Read a graph written by :func:`save_graph`.

    Raises:
        FileNotFoundError: The file does not exist.
        UsageError: The file is not a saved graph.
    """
    path = Path(path)
    tensors, metadata = read_tensors(path, "a saved graph", REMEDY)
    if metadata.get("format") != FORMAT:
        found = metadata.get("format", "no format")
        raise UsageError(f"{str(path)!r} is not a saved graph: expected {FORMAT!r}, found {found!r}; write one with save_graph")
    if metadata.get("checksum") not in (None, checksum(tensors, metadata.get("graph", ""))):  # older files have none
        raise UsageError(f"{str(path)!r} is damaged: its content is not what was written; {REMEDY}")
    header = header_json(metadata, "graph", path, REMEDY)
    nodes, owners = header.pop("nodes", None), header.pop("owners", None)
    schema = GraphSchema.from_dict(header, f"{path}, header 'graph'")
    try:
        edge_types = _edge_types(nodes, owners)
        stored = _by_owner(tensors, [*nodes, *edge_types])
        for node_type, count in nodes.items():
            _check_nodes(node_type, count, stored[node_type], schema)
        for edge_type in edge_types:
            _check_edges(edge_type, nodes, stored[edge_type], schema)
        unknown = set(schema.num_nodes) ^ set(nodes) or set(schema.relations) ^ set(edge_types)
        if unknown:
            raise DataError(f"its schema and its tensors differ in {str(unknown.pop())[:60]!r}")
    except UsageError as error:
        raise DataError(f"{path} is damaged ({error}); {REMEDY}") from None
    data = HeteroData()
    for owner, values in stored.items():
        if owner in nodes:
            data[owner].num_nodes = nodes[owner]
        for name, tensor in values.items():
            data[owner][name] = tensor
    for edge_type in edge_types:
        sizes = (nodes[edge_type[0]], nodes[edge_type[2]])
        data[edge_type].edge_index = EdgeIndex(data[edge_type].edge_index, sparse_size=sizes, sort_order="col")
    return MultimodalGraph(data, schema)


def _edge_types(nodes: Any, owners: Any) -> list[EdgeType]:
    """Return the edge types among the owners of tensors, which are all node types and then all edge types."""
    if not isinstance(nodes, dict) or not all(type(count) is int and count >= 0 for count in nodes.values()):
        raise DataError("it has no number of nodes for every type")
    if not isinstance(owners, list) or owners[: len(nodes)] != list(nodes):
        raise DataError("it has no list of its node and edge types")
    edges = owners[len(nodes) :]
    if not all(isinstance(edge, list) and len(edge) == 3 and all(isinstance(part, str) for part in edge) for edge in edges):
        raise DataError("an edge type is not a source, a name and a target")
    if not all({edge[0], edge[2]} <= set(nodes) for edge in edges) or len({tuple(edge) for edge in edges}) < len(edges):
        raise DataError("an edge type has unknown ends, or occurs twice")
    return [(source, name, target) for source, name, target in edges]


def _by_owner(tensors: dict[str, Tensor], owners: list[Any]) -> dict[Any, dict[str, Tensor]]:
    """Return the tensors by owner and name; keys are ``POSITION/NAME``."""
    stored: dict[Any, dict[str, Tensor]] = {owner: {} for owner in owners}
    for key, tensor in tensors.items():
        position, slash, name = key.partition("/")
        if not slash or not position.isascii() or not position.isdigit() or len(position) > 6 or int(position) >= len(owners):
            raise DataError(f"the tensor {key[:60]!r} belongs to no node or edge type")
        stored[owners[int(position)]][name] = tensor
    return stored


def _check_nodes(node_type: NodeType, count: int, tensors: dict[str, Tensor], schema: GraphSchema) -> None:
    check_tensor(tensors.get("degree"), f"degree of {node_type}", (count,), (torch.float32,), 0)
    check_finite(tensors["degree"], f"degree of {node_type}")
    if "n_id" in tensors:
        check_tensor(tensors["n_id"], f"n_id of {node_type}", (count,), (torch.int64,), -1, schema.num_nodes.get(node_type, 0))
    elif schema.num_nodes.get(node_type) != count:
        raise DataError(f"it has {count} nodes of type {node_type!r}, but its schema {schema.num_nodes.get(node_type)}")
    for name in schema.modalities(node_type):
        values, mask = tensors.get(name), tensors.get(f"{name}_mask")
        inner = (None,) * (0 if values is None else values.dim() - 2)
        check_tensor(values, name, (count, *inner, schema.feature_dims[name]), (torch.float32,))
        check_tensor(mask, f"{name}_mask", (count, *(() if values is None else values.shape[1:-1])), (torch.bool,))
    for name, tensor in tensors.items():
        if tensor.dim() == 0 or len(tensor) != count:
            raise DataError(f"{name[:60]!r} of {node_type} has the shape {list(tensor.shape)} for {count} nodes")


def _check_edges(edge_type: EdgeType, nodes: dict[NodeType, int], tensors: dict[str, Tensor], schema: GraphSchema) -> None:
    source, kind, target = edge_type
    edges = tensors.get("edge_index")
    check_tensor(edges, f"edge_index of {kind}", (2, None), (torch.int64,), 0)
    assert edges is not None
    for side, owner in enumerate((source, target)):
        check_tensor(edges[side], f"edge_index of {kind}", (None,), (torch.int64,), 0, nodes[owner])
    if bool((edges[1].diff() < 0).any()):
        raise DataError(f"the edges of {kind} are not sorted by target")
    for name, tensor in tensors.items():
        if name != "edge_index" and (tensor.dim() == 0 or len(tensor) != edges.shape[1]):
            raise DataError(f"{name[:60]!r} of {kind} has the shape {list(tensor.shape)} for {edges.shape[1]} edges")
    rows = {"text": schema.num_words, "relation": schema.num_relations}
    for name in set(rows) & set(tensors):
        shape = (edges.shape[1], None) if name == "text" else (edges.shape[1],)
        check_tensor(tensors[name], f"{name} of {kind}", shape, (torch.int32, torch.int64), 0, rows[name])
    for name in {"edge_weight", "rating"} & set(tensors):
        check_tensor(tensors[name], f"{name} of {kind}", (edges.shape[1],), (torch.float32,))
        check_finite(tensors[name], f"{name} of {kind}")
