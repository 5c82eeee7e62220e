"""Decoders from representations to scores or words.

A pair decoder maps queries ``[B, D]`` and candidates ``[C, D]`` or ``[B, C, D]`` to scores ``[B, C]``; ``DECODERS`` lists them by
name.
"""

from gmmrec.nn.decoder.bilinear import BilinearDecoder
from gmmrec.nn.decoder.by_name import DECODERS
from gmmrec.nn.decoder.comment import CommentDecoder, Scene
from gmmrec.nn.decoder.factorization_machine import FactorizationMachine
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.nn.decoder.mlp import MLPDecoder
from gmmrec.nn.decoder.modality_preserving import ModalityPreservingDecoder
from gmmrec.nn.decoder.text import TextDecoder

__all__ = [
    "DECODERS",
    "BilinearDecoder",
    "CommentDecoder",
    "FactorizationMachine",
    "MLPDecoder",
    "ModalityPreservingDecoder",
    "Scene",
    "TextDecoder",
    "inner_product",
]
