"""Pair decoders by name."""

from collections.abc import Callable, Mapping

from torch import Tensor

from gmmrec.nn.choice import Table
from gmmrec.nn.decoder.bilinear import BilinearDecoder
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.nn.decoder.mlp import MLPDecoder

Decoder = Callable[[Tensor, Tensor], Tensor]

DECODERS: Mapping[str, Callable[[int], Decoder]] = Table(
    "decoder",
    {
        "inner_product": lambda dim: inner_product,
        "bilinear": lambda dim: BilinearDecoder(dim),
        "mlp": lambda dim: MLPDecoder(dim),
    },
)
"""Pair decoders by name: ``DECODERS[name](dim)`` builds one."""
