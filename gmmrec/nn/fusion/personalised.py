"""Attention with a query made of somebody's ID."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.nn.masked import hide_missing, masked_softmax


class PersonalisedAttention(nn.Module):
    r"""Who somebody is decides which tokens count: the attention of NRPA (Liu et al., SIGIR 2019), https://arxiv.org/abs/1905.12480.

    .. math::
        \mathbf{q} = \mathrm{ReLU}(\mathbf{W} \mathbf{u} + \mathbf{b}), \qquad
        \alpha_m = \mathrm{softmax}_m (\mathbf{q}^\top \mathbf{A} \mathbf{x}_m), \qquad
        \mathbf{z} = \sum_m \alpha_m \mathbf{x}_m

    with :math:`\mathbf{u}` the ID embedding of a user or an item: the equations in which readers and independent re-implementations
    of the paper agree. The ID steers the attention only; it is no part of the result. Two levels are two of these modules, one for
    the words of every review, one for the reviews.

    Args:
        dim: Width of a token.
        query_dim: Width of the ID embedding; None for ``dim``.
        hidden: Width of :math:`\mathbf{q}`; None for ``dim``.

    Shapes:
        - **input:** tokens ``[..., M, D]``, mask ``[..., M]``, query ``[..., query_dim]``. Leading axes are broadcast: for the
          words of reviews ``[B, M, T, D]`` the query is ``[B, 1, query_dim]``, and is mapped once a user
        - **output:** ``[..., D]``; zeros where there is no token. Weights ``[..., M]``

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
        """Fuses the tokens as the one with this ID reads them.

        Raises:
            ValueError: There is no query.
        """
        if query is None:
            raise ValueError("personalised attention needs a query, the ID embedding of a user or an item; give one for every row")
        tokens = hide_missing(tokens, mask)
        own = self.harmony(F.relu(self.query(query)))  # q A, so that no token is mapped
        weights = masked_softmax(torch.einsum("...d,...md->...m", own, tokens), mask)
        fused = torch.einsum("...m,...md->...d", weights, tokens)
        return (fused, weights) if return_weights else fused
