"""From representations to scores.

A decoder of pairs takes queries ``[B, D]`` and candidates ``[C, D]`` or ``[B, C, D]`` and gives scores ``[B, C]``; ``DECODERS`` has
them by name.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor

from gmmrec.nn.decoder.bilinear import BilinearDecoder
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.nn.decoder.mlp import MLPDecoder

Decoder = Callable[[Tensor, Tensor], Tensor]

DECODERS: Mapping[str, Callable[[int], Decoder]] = MappingProxyType(
    {
        "inner_product": lambda dim: inner_product,
        "bilinear": lambda dim: BilinearDecoder(dim),
        "mlp": lambda dim: MLPDecoder(dim),
    }
)
"""Every decoder by name: ``DECODERS[name](dim)`` builds it."""
