"""The Cloze task: some items of a sequence are hidden and predicted from all others."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.nn.classify import classify


class ClozeMasker:
    r"""Random choice of the items to hide: :math:`\mathrm{clip}(\mathrm{round}(\rho n), 1, P)` of a sequence of n items.

    Source: BERT4Rec (Sun et al., CIKM 2019), section 3.6, and the released code: a chosen item is always hidden, never replaced or
    left unchanged. The code makes copies of a sequence in advance, ten with random items hidden and one with only the last hidden,
    as in next-item prediction; here choices are redrawn each time, and only the last item is hidden with a given probability.

    Args:
        share: :math:`\rho`.
        most: P.
        last: Probability that only the last item is hidden.

    Shapes:
        - **input:** mask ``[B, L]``, True where there is an item; sequences are left-padded
        - **output:** ``[B, L]``, True where the item is hidden; at least one item of every non-empty sequence

    >>> ClozeMasker(0.5, 20)(torch.tensor([[False, True, True, True, True], [False] * 5])).sum(1)
    tensor([2, 0])
    >>> ClozeMasker(0.5, 20, last=1.0)(torch.tensor([[False, True, True]]))
    tensor([[False, False,  True]])
    """

    def __init__(self, share: float, most: int, *, last: float = 0.0) -> None:
        self.share, self.most, self.last = share, most, last

    def __call__(self, mask: Tensor) -> Tensor:
        """Draw from torch's default generator."""
        count = (mask.sum(1).double() * self.share + 0.5).floor().clamp(1, self.most)
        priority = torch.rand(mask.shape, device=mask.device).masked_fill_(~mask, 2.0)  # padding comes last
        among_first = torch.arange(mask.shape[1], device=mask.device) < count[:, None]
        chosen = torch.zeros_like(mask).scatter_(1, priority.argsort(1), among_first)
        if self.last:
            last_item = torch.zeros_like(mask)
            last_item[:, -1] = True
            last_only = torch.rand(len(mask), 1, device=mask.device) < self.last
            chosen = torch.where(last_only, last_item, chosen)
        return chosen & mask


class TiedHead(nn.Module):
    r"""Prediction head for hidden items, tied to the input embedding table :math:`\mathbf{E}` of the items.

    .. math:: p = \mathrm{softmax}(\mathrm{LN}(\mathrm{GELU}(\mathbf{W h} + \mathbf{b})) \, \mathbf{E}^\top + \mathbf{b}_O)

    Source: BERT4Rec (Sun et al., CIKM 2019), equation 7; the normalisation is in the released code only.

    Args:
        dim: Width of a state and of an item.

    Shapes:
        - **input:** states ``[n, dim]``
        - **output:** ``[n, dim]``; the inner product with an item plus its bias is a logit
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.project, self.norm = nn.Linear(dim, dim), nn.LayerNorm(dim)

    def forward(self, states: Tensor) -> Tensor:
        """Return query vectors for the items."""
        queries: Tensor = self.norm(F.gelu(self.project(states)))
        return queries

    def loss(self, states: Tensor, items: Tensor, bias: Tensor, answer: Tensor) -> Tensor:
        """Average ``-ln p`` of the answers ``[n]`` among all items ``[I, dim]`` with biases ``[I]``, without an ``[n, I]``."""
        return classify(self(states), items, bias, answer).mean()
