"""Times ways to sum and to take a softmax over CSR segments, forward and backward, and prints a table.

    python benchmarks/segment.py [--threads 1] [--edges 240000 1600000] [--heads 0]

``gmmrec`` is what the package does; the rest are the alternatives. torch-scatter takes part when it is installed.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gmmrec.nn.segment import segment_max, segment_softmax, segment_sum

Way = Callable[[Tensor, Tensor, Tensor], Tensor]  # values, indptr, index -> result


def scattered(values: Tensor, indptr: Tensor, index: Tensor) -> Tensor:
    return values.new_zeros(indptr.numel() - 1, *values.shape[1:]).index_add(0, index, values)


def scatter_reduced(values: Tensor, indptr: Tensor, index: Tensor) -> Tensor:
    wide = index.view(-1, *[1] * (values.dim() - 1)).expand_as(values)
    return values.new_zeros(indptr.numel() - 1, *values.shape[1:]).scatter_add(0, wide, values)


def reduced(values: Tensor, indptr: Tensor, index: Tensor) -> Tensor:
    return torch.segment_reduce(values, "sum", offsets=indptr, axis=0, initial=0.0)


def difference(values: Tensor, indptr: Tensor, index: Tensor) -> Tensor:
    total = torch.cat([values.new_zeros(1, *values.shape[1:]), values.cumsum(0)])
    return total[indptr[1:]] - total[indptr[:-1]]


def multiplied(values: Tensor, indptr: Tensor, index: Tensor) -> Tensor:
    edges = torch.arange(values.shape[0])
    matrix = torch.sparse_csr_tensor(indptr, edges, values.new_ones(values.shape[0]), (indptr.numel() - 1, values.shape[0]))
    return (matrix @ values.reshape(values.shape[0], -1)).view(-1, *values.shape[1:])


def softmax_by(total: Way, largest: Way) -> Way:
    def softmax(values: Tensor, indptr: Tensor, index: Tensor) -> Tensor:
        with torch.no_grad():
            peak = largest(values, indptr, index)
        exponential = (values - peak.index_select(0, index)).exp()
        return exponential / total(exponential, indptr, index).index_select(0, index)

    return softmax


def max_reduced(values: Tensor, indptr: Tensor, index: Tensor) -> Tensor:
    return torch.segment_reduce(values, "max", offsets=indptr, axis=0)


def max_scattered(values: Tensor, indptr: Tensor, index: Tensor) -> Tensor:
    wide = index.view(-1, *[1] * (values.dim() - 1)).expand_as(values)
    return values.new_full((indptr.numel() - 1, *values.shape[1:]), -torch.inf).scatter_reduce(0, wide, values, "amax")


def max_everywhere(values: Tensor, indptr: Tensor, index: Tensor) -> Tensor:
    return values.amax(0, keepdim=True).expand(indptr.numel() - 1, *values.shape[1:])  # not safe: far smaller segments underflow


def ways() -> Iterator[tuple[str, str, Way]]:
    yield "sum", "gmmrec", lambda v, p, i: segment_sum(v, p, i)
    yield "sum", "index_add", scattered
    yield "sum", "scatter_add", scatter_reduced
    yield "sum", "segment_reduce", reduced
    yield "sum", "cumsum difference (inexact)", difference
    yield "sum", "sparse product", multiplied
    yield "max", "gmmrec", lambda v, p, i: segment_max(v, p, i)
    yield "max", "scatter_reduce", max_scattered
    yield "max", "segment_reduce", max_reduced
    yield "softmax", "gmmrec", lambda v, p, i: segment_softmax(v, p, i)
    yield "softmax", "autograd, index_add + scatter_reduce", softmax_by(scattered, max_scattered)
    yield "softmax", "autograd, index_add + segment_reduce", softmax_by(scattered, max_reduced)
    yield "softmax", "autograd, segment_reduce twice", softmax_by(reduced, max_reduced)
    yield "softmax", "autograd, one maximum (unsafe)", softmax_by(scattered, max_everywhere)
    try:
        from torch_scatter import gather_csr, segment_csr
    except ImportError:
        return
    yield "sum", "torch-scatter", lambda v, p, i: segment_csr(v, p, reduce="sum")
    yield "max", "torch-scatter", lambda v, p, i: segment_csr(v, p, reduce="max")
    yield (
        "softmax",
        "torch-scatter, autograd",
        lambda v, p, i: (lambda e: e / gather_csr(segment_csr(e, p, reduce="sum"), p))(
            (v - gather_csr(segment_csr(v.detach(), p, reduce="max"), p)).exp()
        ),
    )
    yield "sum", "gmmrec, backend='scatter'", lambda v, p, i: segment_sum(v, p, i, backend="scatter")
    yield "max", "gmmrec, backend='scatter'", lambda v, p, i: segment_max(v, p, i, backend="scatter")
    yield "softmax", "gmmrec, backend='scatter'", lambda v, p, i: segment_softmax(v, p, i, backend="scatter")


def milliseconds(way: Way, values: Tensor, indptr: Tensor, index: Tensor, repeats: int) -> tuple[float, float]:
    forward, both = [], []
    for _ in range(repeats):
        leaf = values.clone().requires_grad_()
        start = time.perf_counter()
        result = way(leaf, indptr, index)
        forward.append(time.perf_counter() - start)
        if result.requires_grad:
            gradient = torch.ones_like(result)
            start = time.perf_counter()
            result.backward(gradient)
        both.append(forward[-1] + time.perf_counter() - start if result.requires_grad else forward[-1])
    return 1e3 * statistics.median(forward), 1e3 * statistics.median(both)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--edges", type=int, nargs="+", default=[240_000, 1_600_000])
    parser.add_argument("--heads", type=int, default=0, help="width of the values; 0 for one number per edge")
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(0)
    print(f"torch {torch.__version__}, {args.threads} thread(s), median of {args.repeats}, milliseconds")
    print("| edges | nodes | what | way | forward | forward + backward |\n|---|---|---|---|---|---|")
    for edges in args.edges:
        nodes = edges // 9  # the mean degree of amazon-baby
        skewed = torch.rand(edges, generator=generator).square().mul(nodes).long()
        index = skewed.sort().values
        indptr = torch.cat([index.new_zeros(1), torch.bincount(index, minlength=nodes).cumsum(0)])
        values = torch.randn((edges, args.heads) if args.heads else (edges,), generator=generator)
        for what, name, way in ways():
            way(values, indptr, index)
            forward, both = milliseconds(way, values, indptr, index, args.repeats)
            print(f"| {edges} | {nodes} | {what} | {name} | {forward:.2f} | {both:.2f} |")


if __name__ == "__main__":
    main()
