"""The Cloze task: some items of a sequence are hidden, and to be found from all others."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.nn.classify import classify


class ClozeMasker:
    r"""Chooses what to hide: of a sequence of n items, :math:`\mathrm{clip}(\mathrm{round}(\rho n), 1, P)` at random.

    Source: BERT4Rec (Sun et al., CIKM 2019), section 3.6, and the released code: what is chosen is always hidden, never exchanged
    or left. There, copies of a sequence are made beforehand, ten with random items hidden and one with the last alone, as it is
    when the next item is asked for; here choices are drawn anew each time, and the last alone is hidden with a chance.

    Args:
        share: :math:`\rho`.
        most: P.
        last: Chance that the last item alone is hidden.

    Shapes:
        - **input:** mask ``[B, L]``, True where there is an item; sequences end in the last column
        - **output:** ``[B, L]``, True where it is hidden; at least one item of every sequence that has any

    >>> ClozeMasker(0.5, 20)(torch.tensor([[False, True, True, True, True], [False] * 5])).sum(1)
    tensor([2, 0])
    >>> ClozeMasker(0.5, 20, last=1.0)(torch.tensor([[False, True, True]]))
    tensor([[False, False,  True]])
    """

    def __init__(self, share: float, most: int, *, last: float = 0.0) -> None:
        self.share, self.most, self.last = share, most, last

    def __call__(self, mask: Tensor) -> Tensor:
        """Draws from torch's own generator."""
        count = (mask.sum(1).double() * self.share + 0.5).floor().clamp(1, self.most)
        chance = torch.rand(mask.shape, device=mask.device).masked_fill_(~mask, 2.0)  # what is not there comes last
        among_first = torch.arange(mask.shape[1], device=mask.device) < count[:, None]
        chosen = torch.zeros_like(mask).scatter_(1, chance.argsort(1), among_first)
        if self.last:
            alone = torch.zeros_like(mask)
            alone[:, -1] = True
            asked = torch.rand(len(mask), 1, device=mask.device) < self.last
            chosen = torch.where(asked, alone, chosen)
        return chosen & mask


class TiedHead(nn.Module):
    r"""What may stand in a hidden place, by the table :math:`\mathbf{E}` that items enter with.

    .. math:: p = \mathrm{softmax}(\mathrm{LN}(\mathrm{GELU}(\mathbf{W h} + \mathbf{b})) \, \mathbf{E}^\top + \mathbf{b}_O)

    Source: BERT4Rec (Sun et al., CIKM 2019), equation 7; the normalisation is in the released code alone.

    Args:
        dim: Width of a state and of an item.

    Shapes:
        - **input:** states ``[n, dim]``
        - **output:** ``[n, dim]``; the inner product with an item, and its bias, is a logit
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.project, self.norm = nn.Linear(dim, dim), nn.LayerNorm(dim)

    def forward(self, states: Tensor) -> Tensor:
        """Vectors to compare items with."""
        made: Tensor = self.norm(F.gelu(self.project(states)))
        return made

    def loss(self, states: Tensor, items: Tensor, bias: Tensor, answer: Tensor) -> Tensor:
        """Mean of ``-ln p`` of the answers ``[n]`` among all items ``[I, dim]``, with biases ``[I]``; no ``[n, I]`` is held."""
        return classify(self(states), items, bias, answer).mean()
