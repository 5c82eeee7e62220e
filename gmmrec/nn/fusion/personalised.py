"""Attention with a query computed from an ID embedding."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.errors import UsageError
from gmmrec.nn.masked import hide_missing, masked_softmax


class PersonalisedAttention(nn.Module):
    r"""Personalised attention, as in NRPA (Liu et al., SIGIR 2019), https://arxiv.org/abs/1905.12480.

    .. math::
        \mathbf{q} = \mathrm{ReLU}(\mathbf{W} \mathbf{u} + \mathbf{b}), \qquad
        \alpha_m = \mathrm{softmax}_m (\mathbf{q}^\top \mathbf{A} \mathbf{x}_m), \qquad
        \mathbf{z} = \sum_m \alpha_m \mathbf{x}_m

    with :math:`\mathbf{u}` the ID embedding of a user or an item. The equations are those on which secondary sources and
    independent re-implementations of the paper agree. The ID only guides the attention and is not part of the result. For two
    levels use two modules, one for the words of every review and one for the reviews.

    Args:
        dim: Token width.
        query_dim: Width of the ID embedding; None for ``dim``.
        hidden: Width of :math:`\mathbf{q}`; None for ``dim``.

    Shapes:
        - **input:** tokens ``[..., M, D]``, mask ``[..., M]``, query ``[..., query_dim]``. Leading axes are broadcast: for the
          words of reviews ``[B, M, T, D]`` the query is ``[B, 1, query_dim]`` and is mapped once per user
        - **output:** ``[..., D]``; zeros for a row without tokens. Weights ``[..., M]``

    >>> words, reviews = PersonalisedAttention(80, 32), PersonalisedAttention(80, 32)
    >>> texts, user = torch.randn(4, 5, 9, 80), torch.randn(4, 32)    # 5 reviews of 9 words
    >>> reviews(words(texts, query=user.unsqueeze(1)), query=user).shape
    torch.Size([4, 80])
    """

    def __init__(self, dim: int, query_dim: int | None = None, hidden: int | None = None) -> None:
        super().__init__()
        self.query = nn.Linear(query_dim or dim, hidden or dim)  # W and b
        self.harmony = nn.Linear(hidden or dim, dim, bias=False)  # A, transposed

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuse the tokens, guided by the ID.

        Raises:
            UsageError: There is no query.
        """
        if query is None:
            raise UsageError("personalised attention needs a query, the ID embedding of a user or an item; pass one for every row")
        tokens = hide_missing(tokens, mask)
        query = self.harmony(F.relu(self.query(query)))  # q A: the query is mapped, not the tokens
        weights = masked_softmax(torch.einsum("...d,...md->...m", query, tokens), mask)
        fused = torch.einsum("...m,...md->...d", weights, tokens)
        return (fused, weights) if return_weights else fused
