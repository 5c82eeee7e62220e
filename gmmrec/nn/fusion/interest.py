"""Target-dependent attention over a history."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.errors import UsageError
from gmmrec.nn.blocks import block_rows
from gmmrec.nn.chunks import in_chunks
from gmmrec.nn.masked import hide_missing, masked_softmax
from gmmrec.nn.pairs import PairNetwork, pair_logits
from gmmrec.nn.segment import segment_sum

LARGEST = 30.0
"""Maximum absolute logit: unnormalised weights grow exponentially, and their sums must stay finite."""

CELLS, PAIRS = 2**21, 2**24
"""Maximum elements held of a token-target table (8 MB), and of pairs where every history has its own targets (64 MB)."""

CACHED, LARGEST_BLOCK = 2**18, 2**26
"""Maximum elements of a block of hidden layers: 1 MB on a CPU without gradients, to stay in the cache, and 256 MB otherwise."""

COLUMNS = 2048
"""Tokens in such a block."""


Pair = Literal["concat", "prod", "both", "none"]


class InterestAttention(nn.Module):
    r"""Attention over the items of a history for each target item.

    .. math::
        f_j = \mathbf{w}^\top \mathrm{ReLU}(\mathbf{W} [\mathbf{p} \| \mathbf{q}_j \| \mathbf{p} \odot \mathbf{q}_j] + \mathbf{b}),
        \qquad a_j = \frac{\exp f_j}{(\sum_k \exp f_k)^\beta}, \qquad \mathbf{z} = \sum_j a_j \mathbf{q}_j

    With :math:`\beta < 1` the weights sum to :math:`(\sum_k \exp f_k)^{1 - \beta}`, so a long history has more weight than a short
    one. The target's score is :math:`\langle \mathbf{p}, \mathbf{z} \rangle` plus a bias. In training the target is an item of the
    history and must be masked there.

    A reconstruction of the interest-related network of IRIS (Lv et al., IEEE Access 2019), https://arxiv.org/abs/1902.05566: we
    know its abstract but not its equations, which are taken from attentive item similarity (NAIS, He et al., TKDE 2018).

    ``score`` computes the scores of many targets without pooling a history for each. In

    .. math::
        \langle \mathbf{p}, \mathbf{z} \rangle =
        \frac{\sum_j \exp f_j \, \langle \mathbf{p}, \mathbf{q}_j \rangle}{(\sum_k \exp f_k)^\beta}

    the terms of both sums depend on two items and not on the user.

    Args:
        dim: Width of tokens and queries.
        hidden: Hidden width; None for ``dim``.
        pair: Input of the hidden layer: both vectors (``concat``), their product (``prod``), or all three (``both``). With ``none``
            there is no hidden layer, all logits are 0, and every item of a history of length H has weight :math:`1 / H^\beta`
            (FISM).
        beta: Exponent of the sum, greater than 0 and at most 1; 1 is the softmax.

    Shapes:
        - **input:** tokens ``[..., M, D]`` (the history), mask ``[..., M]``, query ``[..., D]`` (the target). Leading axes are
          broadcast: tokens ``[B, 1, M, D]`` and query ``[B, C, D]`` give all pairs, and each history is mapped once
        - **output:** ``[..., D]``; zeros for an empty history. Weights ``[..., M]`` sum to 1 only if :math:`\beta = 1`
    """

    def __init__(self, dim: int, hidden: int | None = None, *, pair: Pair = "both", beta: float = 0.5) -> None:
        super().__init__()
        if pair not in ("concat", "prod", "both", "none"):
            raise UsageError(f"pair must be 'concat', 'prod', 'both' or 'none', but is {pair!r}")
        if not 0 < beta <= 1:
            raise UsageError(f"beta must be greater than 0 and at most 1, but is {beta}")
        self.beta, self.pair = beta, pair
        if pair == "none":
            return
        num_parts = {"concat": 2, "prod": 1, "both": 3}[pair]
        self.hidden = nn.Linear(num_parts * dim, hidden or dim)  # W and b
        self.logit = nn.Linear(hidden or dim, 1, bias=False)  # w

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuse the history for the target.

        Raises:
            UsageError: There is no query.
        """
        if query is None:
            raise UsageError("interest attention needs a query, the target item; pass one vector for every row of tokens")
        tokens = hide_missing(tokens, mask)
        weights = smoothed_softmax(self.logits(tokens, query), mask, self.beta)
        fused = torch.einsum("...m,...md->...d", weights, tokens)
        return (fused, weights) if return_weights else fused

    def logits(self, tokens: Tensor, query: Tensor) -> Tensor:
        """Compute the logits of the tokens for their query ``[..., M]``, clamped to [-30, 30]."""
        query = query.unsqueeze(-2)
        products = query * tokens
        network = self._network(query, tokens)
        hidden = network.query
        if network.token is not None:
            hidden = hidden + network.token
        if network.product is not None:
            hidden = hidden + F.linear(products, network.product)
        return _clamp((F.relu(hidden) @ network.logit).expand(products.shape[:-1]))

    def score(
        self, query: Tensor, tokens: Tensor, index: Tensor, indptr: Tensor, *, query_ids: Tensor, token_ids: Tensor
    ) -> Tensor:
        """Compute the inner product of every target with each history fused for it, for B histories of any length.

        Shared targets are paired with distinct tokens, in blocks: the logit of a target and a token is computed once for all
        histories with that token. Where each history has its own targets, its pairs are formed.

        Args:
            query: Targets ``[C, D]``, the same for every history, or ``[B, C, D]``.
            tokens: Token table ``[N, D]``.
            index: Rows of ``tokens``, all histories concatenated ``[F]``.
            indptr: Bounds of the histories in ``index`` ``[B + 1]``.
            query_ids: Item IDs of the targets, ``[C]`` or ``[B, C]``; a target is excluded from its own history.
            token_ids: Item IDs of the tokens ``[N]``.

        Returns:
            ``[B, C]``; 0 for an empty history.
        """
        if query.dim() == 3:
            return self._score_separate(query, tokens, index, indptr, query_ids, token_ids)
        rows, position = index.unique(return_inverse=True)
        if not len(rows):
            return query.new_zeros(len(indptr) - 1, len(query))
        tokens, token_ids = F.embedding(rows, tokens), token_ids[rows]

        def score(part: slice) -> Tensor:
            logits, products = self._table(query[part], tokens), query[part] @ tokens.mT  # [c, N]
            exponentials = logits.exp().masked_fill(query_ids[part, None] == token_ids, 0.0)
            both = torch.cat([exponentials * products, exponentials]).t().contiguous()  # [N, 2c]
            return self._divide(F.embedding_bag(position, both, indptr[:-1], mode="sum"))

        return in_chunks(score, len(query), block_rows(CELLS, len(rows)))

    def _score_separate(
        self, query: Tensor, tokens: Tensor, index: Tensor, indptr: Tensor, query_ids: Tensor, token_ids: Tensor
    ) -> Tensor:
        network = self._network(query, tokens)

        def score(part: slice) -> Tensor:
            bounds = indptr[part.start : part.stop + 1]
            token = index[bounds[0] : bounds[-1]]
            row = torch.repeat_interleave(torch.arange(part.start, part.stop, device=index.device), bounds.diff())
            logits, products = pair_logits(query, tokens, row, token, network)  # [f, C]
            exponentials = _clamp(logits).exp().masked_fill(query_ids[row] == token_ids[token].unsqueeze(1), 0.0)
            both = torch.cat([exponentials * products, exponentials], dim=1)
            return self._divide(segment_sum(both, bounds - bounds[0])).t()

        count, num_targets = query.shape[:2]
        return in_chunks(score, count, block_rows(count * PAIRS, len(index) * num_targets)).t()

    def _divide(self, sums: Tensor) -> Tensor:
        """Divide weighted sums by a power of the sums of weights, given side by side ``[B, 2C]``."""
        numerator, denominator = sums.chunk(2, dim=1)
        scores: Tensor = numerator / denominator.clamp(min=math.exp(-LARGEST)) ** self.beta  # smaller only without tokens
        return scores

    def _network(self, query: Tensor, tokens: Tensor) -> PairNetwork:
        """Split the hidden layer into maps of the products, the query and the tokens, whose sum it is."""
        if self.pair == "none":
            return PairNetwork(None, query[..., :0], None, query.new_zeros(0))
        dim, weight, bias, logit = query.shape[-1], self.hidden.weight, self.hidden.bias, self.logit.weight[0]
        product = None if self.pair == "concat" else weight[:, -dim:]
        if self.pair == "prod":
            return PairNetwork(product, bias.expand(*query.shape[:-1], -1), None, logit)
        return PairNetwork(product, F.linear(query, weight[:, :dim], bias), F.linear(tokens, weight[:, dim : 2 * dim]), logit)

    def _table(self, query: Tensor, tokens: Tensor) -> Tensor:
        r"""Compute the logits of all pairs ``[C, N]``, block by block, without forming products of vectors.

        As :math:`\mathbf{W} (\mathbf{p} \odot \mathbf{q}) = (\mathbf{W} \mathrm{diag}(\mathbf{p})) \mathbf{q}`, every target has
        a matrix, and the stacked matrices are multiplied with the tokens in one product.
        """
        if self.pair == "none":
            return query.new_zeros(len(query), len(tokens))
        network, dim, width = self._network(query, tokens), query.shape[1], len(self.hidden.bias)
        room = CACHED if query.device.type == "cpu" and not torch.is_grad_enabled() else LARGEST_BLOCK
        step = block_rows(room, width * COLUMNS)
        blocks = []
        for j in range(0, len(tokens), COLUMNS):
            columns, logits = slice(j, j + COLUMNS), []
            for i in range(0, len(query), step):
                rows = slice(i, i + step)
                hidden = network.query[rows].unsqueeze(-1)  # [c, H, 1]
                if network.product is not None:
                    maps = network.product * query[rows].unsqueeze(1)  # [c, H, D]
                    if network.token is not None:  # the term of the tokens alone is a map of the tokens, too
                        maps = maps + self.hidden.weight[:, dim : 2 * dim]
                    hidden = (maps.flatten(0, 1) @ tokens[columns].t()).unflatten(0, (-1, width)) + hidden
                elif network.token is not None:
                    hidden = hidden + network.token[columns].t()
                logits.append(torch.matmul(network.logit, F.relu(hidden)))  # [c, n]
            blocks.append(torch.cat(logits))
        return _clamp(torch.cat(blocks, dim=1))


def _clamp(logits: Tensor) -> Tensor:
    """Clamp the logits, in single precision at least, before they are exponentiated."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).clamp(-LARGEST, LARGEST)


def smoothed_softmax(logits: Tensor, mask: Tensor | None, beta: float) -> Tensor:
    r"""Compute the smoothed softmax over the last axis, :math:`\exp(f_j) / (\sum_k \exp f_k)^\beta`.

    Source: He et al., NAIS, TKDE 2018. If ``beta`` is less than 1, the largest logit does not cancel, so logits are clamped to
    [-30, 30].

    Args:
        logits: ``[..., M]``.
        mask: ``[..., M]``, True for present entries; None: everywhere. A row without entries gives zeros.
        beta: Exponent greater than 0; 1 is the softmax.

    >>> smoothed_softmax(torch.zeros(4), None, 0.5)
    tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """
    if beta == 1:
        return masked_softmax(logits, mask)
    logits = logits.clamp(-LARGEST, LARGEST)
    if mask is None:
        return (logits - beta * logits.logsumexp(-1, keepdim=True)).exp()
    hidden = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
    total = hidden.logsumexp(-1, keepdim=True).clamp(min=-LARGEST)  # smaller only without entries
    return (logits - beta * total).exp().masked_fill(~mask, 0.0)
