"""Example of ``fusion_figures.py``: an item with four tokens, with and without audio, and modules with random parameters."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from lab.heatmaps import Panel

Module = TypeVar("Module", bound=nn.Module)
DIM = 8
TOKENS = ("id", "image", "text", "audio")
MISSING = (True, True, True, False)
"""The second item has no audio."""
USERS = ("user A", "user B")
WORDS = ("red", "silk", "evening", "dress", "(none)")
REGIONS = ("collar", "sleeve", "hem", "(none)")


def build(seed: int, module: Callable[[], Module], sharpen: float = 1.0) -> Module:
    """Build a module with random parameters; matrices scaled by ``sharpen`` keep weights from being nearly uniform."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = module().eval().requires_grad_(False)
    for parameter in made.parameters():
        if parameter.dim() > 1:
            parameter.mul_(sharpen)
    return made


def example(*shape: int, seed: int = 0) -> Tensor:
    """Return random vectors ``[*shape, DIM]``, the same for every figure."""
    return torch.randn(*shape, DIM, generator=torch.Generator().manual_seed(seed))


def hidden(values: Tensor, mask: Tensor) -> Tensor:
    """Replace masked values by NaN."""
    return values.masked_fill(~mask.expand_as(values), torch.nan)


MASK = torch.tensor([[True] * 4, MISSING])
ITEMS = ("all there", "no audio")
TWICE = example(4).expand(2, 4, DIM)
"""The same item, once with all tokens and once without audio."""


def plain_weights(module: nn.Module) -> Tensor:
    """Return the weights of the item with and without audio ``[2, 4]``."""
    return hidden(module(TWICE, MASK, return_weights=True)[1], MASK)


def effects(title: str, module: nn.Module) -> list[Panel]:
    """Return panels for modules without weights: the effect of removing one token or two."""

    def result(*gone: int) -> Tensor:
        mask = torch.ones(1, 4, dtype=torch.bool)
        mask[0, list(gone)] = False
        fused: Tensor = module(example(1, 4), mask)
        return fused[0]

    alone = torch.stack([(result() - result(m)).abs() for m in range(4)])
    both = torch.full((4, 4), torch.nan)
    for m in range(4):
        for n in range(m):
            both[m, n] = (result() - result(m) - result(n) + result(m, n)).norm()
    return [
        Panel(f"{title}: change of each\ndimension without a token", alone, TOKENS, [str(d + 1) for d in range(DIM)], digits=1),
        Panel("what two tokens do together\nbeyond what each does", both, TOKENS, TOKENS, digits=1, most=3.0),
    ]
