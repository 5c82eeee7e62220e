"""Neighbour sampling on CSR arrays, for PyG's loaders, without compiled extensions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData
from torch_geometric.loader.utils import filter_hetero_data
from torch_geometric.sampler import BaseSampler, EdgeSamplerInput, HeteroSamplerOutput, NegativeSampling, NodeSamplerInput

from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.typing import EdgeType, NodeType

Negatives = Callable[[Tensor, int], Tensor]


def sample_subgraph(
    graph: MultimodalGraph,
    seeds: Mapping[NodeType, Tensor],
    num_neighbors: Sequence[int],
    generator: torch.Generator,
) -> tuple[MultimodalGraph, dict[NodeType, Tensor]]:
    """Sample the subgraph of the seeds and their neighbours up to ``len(num_neighbors)`` hops away.

    With all neighbours (-1) and as many hops as a model has layers, the seeds get the same vectors as on the whole graph.

    Args:
        graph: The graph to sample from.
        seeds: Nodes of ``graph`` by node type, repeats allowed.
        num_neighbors: Number of incoming edges kept per node and relation, for each hop; -1 for all.
        generator: Random generator, on the graph's device.

    Returns:
        The subgraph, and the position of every seed in it, in the shape of ``seeds``.
    """
    output, positions = sample_neighbors(graph, seeds, num_neighbors, generator)
    return subgraph(graph, output), positions


def sample_neighbors(
    graph: MultimodalGraph,
    seeds: Mapping[NodeType, Tensor],
    num_neighbors: Sequence[int],
    generator: torch.Generator,
) -> tuple[HeteroSamplerOutput, dict[NodeType, Tensor]]:
    """Sample neighbourhoods like :func:`sample_subgraph`, with PyG's output type.

    Nodes are numbered starting with the distinct seeds in order, followed by the new nodes of every hop. The incoming edges of a
    node are drawn once, in the hop after the one that reached it, uniformly without replacement. Edges are sorted by target.
    """
    node_types = graph.data.node_types
    incoming = {edge_type: graph.edges(edge_type).edge_index.get_csc()[0] for edge_type in graph.data.edge_types}
    device = graph.degree(node_types[0]).device
    local = {t: torch.full((graph.num_nodes(t),), -1, device=device) for t in node_types}  # number of a node in the subgraph
    node: dict[NodeType, list[Tensor]] = {t: [] for t in node_types}
    edge: dict[EdgeType, list[Tensor]] = {t: [] for t in incoming}
    target: dict[EdgeType, list[Tensor]] = {t: [] for t in incoming}

    nothing = torch.empty(0, dtype=torch.long, device=device)
    frontier = {t: _number_new(seeds.get(t, nothing).flatten(), local[t], node[t]) for t in node_types}
    for fanout in num_neighbors:
        reached: dict[NodeType, list[Tensor]] = {t: [] for t in node_types}
        for edge_type, (indptr, source) in incoming.items():
            picked, owner = _pick(indptr, frontier[edge_type[2]], fanout, generator)
            edge[edge_type].append(picked)
            target[edge_type].append(owner)
            reached[edge_type[0]].append(source[picked])
        frontier = {t: _number_new(torch.cat([nothing, *nodes]), local[t], node[t]) for t, nodes in reached.items()}

    output = HeteroSamplerOutput(
        node={t: torch.cat(parts) for t, parts in node.items()},
        row={},
        col={},
        edge={},
        num_sampled_nodes={t: [part.numel() for part in parts] for t, parts in node.items()},
        num_sampled_edges={t: [part.numel() for part in parts] for t, parts in edge.items()},
    )
    for edge_type, (_, source) in incoming.items():
        chosen = torch.cat([nothing, *edge[edge_type]])
        row = local[edge_type[0]][source[chosen]]
        col = local[edge_type[2]][torch.cat([nothing, *target[edge_type]])]
        order = torch.argsort(col * output.node[edge_type[0]].numel() + row, stable=True)
        output.row[edge_type], output.col[edge_type], output.edge[edge_type] = row[order], col[order], chosen[order]
    return output, {t: local[t][nodes] for t, nodes in seeds.items()}


def subgraph(graph: MultimodalGraph, output: HeteroSamplerOutput) -> MultimodalGraph:
    """Build the sampled subgraph, with the features, degrees and edge weights of ``graph``."""
    data = filter_hetero_data(graph.data, output.node, output.row, output.col, output.edge)
    for node_type, nodes in output.node.items():
        if "n_id" not in data[node_type]:  # an existing one was filtered: rows always refer to the embedding table
            data[node_type].n_id = nodes
    return as_graph(data, graph.schema)


def as_graph(data: HeteroData, schema: GraphSchema) -> MultimodalGraph:
    """Convert a mini-batch of a PyG loader with a :class:`NeighborSampler` to a graph; ``data`` is modified."""
    for edge_type in data.edge_types:
        source, _, target = edge_type
        sizes = (data[source].num_nodes, data[target].num_nodes)
        data[edge_type].edge_index = EdgeIndex(data[edge_type].edge_index, sparse_size=sizes, sort_order="col")
    return MultimodalGraph(data, schema)


class NeighborSampler(BaseSampler):
    """Neighbour sampler for PyG's ``NodeLoader`` and ``LinkLoader``.

    With ``transform=lambda batch: as_graph(batch, graph.schema)`` the loader yields :class:`MultimodalGraph`. For training
    triplets, pass ``neg_sampling=NegativeSampling("triplet", amount=K)``: the positions of users, positives and negatives in the
    subgraph are then ``batch.data["user"].src_index`` ``[B]``, ``batch.data["item"].dst_pos_index`` ``[B]`` and
    ``.dst_neg_index`` ``[B, K]``.

    Args:
        graph: The graph to sample from; the loader's ``data`` is ``graph.data``.
        num_neighbors: Number of incoming edges kept per node and relation, for each hop; -1 for all.
        generator: Random generator of all draws, reseeded with the worker's seed in the worker processes of a loader.
        negatives: Function from sources ``[B]`` and a count K to negative targets ``[B, K]`` (default: uniform draws).

    Raises:
        UsageError: ``num_neighbors`` is empty or contains a number below -1.
    """

    def __init__(
        self,
        graph: MultimodalGraph,
        num_neighbors: Sequence[int],
        *,
        generator: torch.Generator,
        negatives: Negatives | None = None,
    ) -> None:
        if not num_neighbors or min(num_neighbors) < -1:
            raise UsageError(f"num_neighbors must hold a number (-1 for all) for every hop, but is {list(num_neighbors)}")
        self.graph, self.num_neighbors = graph, tuple(num_neighbors)
        self.generator, self.negatives = generator, negatives
        self._worker: int | None = None

    def sample_from_nodes(self, index: NodeSamplerInput, **kwargs: Any) -> HeteroSamplerOutput:
        """Sample the neighbourhood of nodes of one type."""
        output, _ = sample_neighbors(self.graph, {index.input_type: index.node}, self.num_neighbors, self._generator())
        output.metadata = (index.input_id, index.time)
        return output

    def sample_from_edges(self, index: EdgeSamplerInput, neg_sampling: NegativeSampling | None = None) -> HeteroSamplerOutput:
        """Sample the neighbourhood of both ends of edges, and of negatives if ``neg_sampling`` is given.

        Raises:
            UsageError: The mode of ``neg_sampling`` is not ``"triplet"``.
        """
        source, _, target = index.input_type
        negative = self._draw_negatives(index.row, neg_sampling, target)  # [B, K], K = 0 without negatives
        ends = torch.cat([index.row[:, None], index.col[:, None], negative], dim=1)  # [B, 2 + K]
        seeds = {target: ends} if source == target else {source: ends[:, :1], target: ends[:, 1:]}
        output, positions = sample_neighbors(self.graph, seeds, self.num_neighbors, self._generator())
        ends = torch.cat([positions[t] for t in seeds], dim=1)
        if neg_sampling is None:
            output.metadata = (index.input_id, ends[:, :2].t().contiguous(), index.label, index.time)
        else:
            output.metadata = (index.input_id, ends[:, 0], ends[:, 1], ends[:, 2:], index.time)
        return output

    def _draw_negatives(self, sources: Tensor, neg_sampling: NegativeSampling | None, target: NodeType) -> Tensor:
        if neg_sampling is None:
            return sources.new_empty(sources.numel(), 0)
        if not neg_sampling.is_triplet():
            raise UsageError(f"neg_sampling must be of mode 'triplet', but is {neg_sampling}")
        count = int(neg_sampling.amount)
        if self.negatives is not None:
            return self.negatives(sources, count)
        return torch.randint(self.graph.num_nodes(target), (sources.numel(), count), generator=self._generator())

    def _generator(self) -> torch.Generator:
        worker = torch.utils.data.get_worker_info()
        if worker is not None and self._worker != worker.id:  # copies of the generator must not draw the same numbers
            self.generator.manual_seed(worker.seed)
            self._worker = worker.id
        return self.generator


def _number_new(nodes: Tensor, local: Tensor, known: list[Tensor]) -> Tensor:
    """Number the nodes that are still unnumbered consecutively, and return them, distinct, in order of appearance."""
    unknown = nodes[local[nodes] < 0]
    distinct, inverse = torch.unique(unknown, return_inverse=True)
    position = torch.arange(unknown.numel(), device=nodes.device)
    first_position = torch.full_like(distinct, unknown.numel()).scatter_reduce_(0, inverse, position, "amin")
    new = unknown[first_position.sort().values]
    first = sum(part.numel() for part in known)
    local[new] = torch.arange(first, first + new.numel(), device=new.device)
    known.append(new)
    return new


def _pick(indptr: Tensor, nodes: Tensor, fanout: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the positions of the edges kept by nodes ``[n]``, and the node of each edge."""
    start, count = indptr[nodes], indptr[nodes + 1] - indptr[nodes]
    if fanout < 0:
        return _whole(start, count), torch.repeat_interleave(nodes, count)
    above = count > fanout
    below = ~above
    drawn = start[above, None] + _distinct(count[above], fanout, generator)
    picked = torch.cat([_whole(start[below], count[below]), drawn.flatten()])
    owner = torch.cat([torch.repeat_interleave(nodes[below], count[below]), torch.repeat_interleave(nodes[above], fanout)])
    return picked, owner


def _whole(start: Tensor, count: Tensor) -> Tensor:
    """Concatenate the ranges ``start … start + count - 1``."""
    shift = torch.repeat_interleave(start - (count.cumsum(0) - count), count)
    return shift + torch.arange(shift.numel(), device=shift.device)


def _distinct(count: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Draw ``size`` distinct numbers below each ``count`` ``[n]`` uniformly (Floyd's algorithm: cost independent of ``count``)."""
    drawn = torch.empty(count.numel(), size, dtype=torch.long, device=count.device)
    for i in range(size):
        last = count - size + i  # draw from 0 … last; if the number is taken, use last, which is free
        chance = torch.rand(count.numel(), dtype=torch.double, device=count.device, generator=generator)
        draw = (chance * (last + 1)).long()
        taken = (drawn[:, :i] == draw[:, None]).any(1)
        drawn[:, i] = torch.where(taken, last, draw)
    return drawn
