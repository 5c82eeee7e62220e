"""Attention over the attributes of an item (neckline, heel height), guided by user preferences."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.errors import UsageError
from gmmrec.nn.additive import rectified_logits
from gmmrec.nn.blocks import block_rows
from gmmrec.nn.chunks import in_chunks
from gmmrec.nn.fusion.mean import uniform_weights
from gmmrec.nn.init import embedding_table
from gmmrec.nn.masked import hide_missing, masked_mean, masked_softmax

CELLS = 2**22
"""Maximum number of elements held for a chunk of pairs: 16 MB."""


class AttributeFusion(nn.Module):
    r"""User-dependent weighting of item attributes: the preference attention of SAERS (Hou et al., IJCAI 2019).

    .. math::
        \mathbf{z}_i^a = \mathbf{W}_s \mathbf{x}_i^a + \mathbf{b}_s, \qquad
        \alpha_{ui} = \mathrm{softmax}_a \big( \mathbf{h}^\top \mathrm{ReLU}(\mathbf{W}_u \mathbf{t}_u + \mathbf{W}_z \mathbf{z}_i^a
            + \mathbf{b}) \big), \qquad
        \mathbf{s}_{ui} = \sum_a \alpha_{ui}^a \mathbf{z}_i^a

    or, with bilinear scores, :math:`\langle \mathbf{W}_u \mathbf{t}_u, \mathbf{z}_i^a \rangle` instead of the MLP. The mask marks
    the attributes that an item has: a shoe has no neckline. A reconstruction from the abstract and summaries (arXiv 1905.12862); we
    know neither the paper's equations nor any code.

    Not in ``FUSIONS``, because it needs a query: GraphFusion would have to pair users with items in ``score``, as it does for
    ``modality_aware``.

    Args:
        dim: Output width.
        query_dim: Query width; None for ``dim``.
        token_dim: Width of an attribute's features; None for ``dim``.
        hidden: Hidden width of the MLP; None for ``dim``.
        num_tokens: Number of attributes A, for an attribute embedding added to :math:`\mathbf{z}`; None (the default) for none, so
            that the order of the attributes does not matter.
        score: Form of the logits; ``mean`` for uniform weights, whatever the query.

    Shapes:
        - **input:** tokens ``[..., A, token_dim]``, mask ``[..., A]``, query ``[..., query_dim]``; leading axes are broadcast:
          ``[C, A, token_dim]`` and ``[B, 1, query_dim]`` give all pairs
        - **output:** ``[..., dim]``; zeros where no attribute applies. Weights ``[..., A]``
    """

    def __init__(
        self,
        dim: int,
        query_dim: int | None = None,
        *,
        token_dim: int | None = None,
        hidden: int | None = None,
        num_tokens: int | None = None,
        score: Literal["mlp", "bilinear", "mean"] = "mlp",
    ) -> None:
        super().__init__()
        if score not in ("mlp", "bilinear", "mean"):
            raise UsageError(f"score must be 'mlp', 'bilinear' or 'mean', but is {score!r}")
        hidden = hidden or dim
        is_mlp = score == "mlp"
        self.value = nn.Linear(token_dim or dim, dim)
        self.attributes = None if num_tokens is None else embedding_table(num_tokens, dim, 0.1)
        self.query = None if score == "mean" else nn.Linear(query_dim or dim, hidden if is_mlp else dim, bias=is_mlp)
        self.key = nn.Linear(dim, hidden, bias=False) if is_mlp else nn.Identity()
        self.logit = nn.Linear(hidden, 1, bias=False) if is_mlp else None

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuse the attributes of every item for its query.

        Raises:
            UsageError: There is no query.
        """
        if query is None:
            raise UsageError("attribute fusion needs a query; pass one vector for every row of tokens")
        values = self.values(hide_missing(tokens, mask))
        weights = self.weights(query, values, mask)
        fused = torch.einsum("...a,...ad->...d", weights, values)
        return (fused, weights) if return_weights else fused

    def values(self, tokens: Tensor) -> Tensor:
        """Project the attributes to user space ``[..., A, dim]``; independent of the query."""
        values: Tensor = self.value(tokens)
        return values if self.attributes is None else values + self.attributes

    def weights(self, query: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the attribute weights ``[..., A]`` from queries and :meth:`values`."""
        if self.query is None:
            weights = uniform_weights(values, mask)
            return weights.expand(torch.broadcast_shapes(weights.shape, (*query.shape[:-1], 1)))
        return masked_softmax(self._logits(self.query(query), self.key(values)), mask)

    def _logits(self, query: Tensor, key: Tensor) -> Tensor:
        if self.logit is None:
            return torch.einsum("...d,...ad->...a", query, key)
        logits: Tensor = self.logit(torch.relu(query.unsqueeze(-2) + key))
        return logits.squeeze(-1)

    def score(self, query: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        r"""Compute the inner products :math:`\langle \mathbf{t}_u, \mathbf{s}_{ui} \rangle` of all queries with all fused items.

        They are :math:`\sum_a \alpha_{ui}^a \langle \mathbf{t}_u, \mathbf{z}_i^a \rangle`: two numbers per pair and attribute
        instead of a vector, in chunks of items. Queries must be as wide as values.

        Args:
            query: ``[B, D]``.
            values: Output of :meth:`values`, ``[C, A, D]``.
            mask: ``[C, A]``.

        Returns:
            ``[B, C]``.
        """
        if self.query is None:
            return query @ masked_mean(values, mask).mT
        queries, keys = self.query(query), self.key(values)

        def score(part: slice) -> Tensor:
            weights = masked_softmax(self._all_logits(queries, keys[part]), None if mask is None else mask[part])  # [B, c, A]
            return (weights * torch.einsum("bd,cad->bca", query, values[part])).sum(-1)

        hidden_width = keys.shape[-1] if self.logit is not None and torch.is_grad_enabled() else 1
        return in_chunks(score, len(values), block_rows(CELLS, len(query) * values.shape[1] * hidden_width))

    def _all_logits(self, query: Tensor, key: Tensor) -> Tensor:
        """Compute the logits of all pairs ``[B, c, A]`` from the outputs of :attr:`query` and :attr:`key`."""
        if self.logit is None or torch.is_grad_enabled():
            return self._logits(query.unsqueeze(1), key)
        logits = rectified_logits(query, key.flatten(0, 1), self.logit.weight[0])
        return logits.view(-1, *key.shape[:2])

    def score_rows(self, query: Tensor, values: Tensor, mask: Tensor, rows: Tensor) -> Tensor:
        """Compute :meth:`score` for some rows of items: ``[C]``, shared by all queries, or ``[B, C]``, separate for each."""
        if rows.dim() == 1:
            return self.score(query, values.index_select(0, rows), mask[rows])
        queries, keys = (None, None) if self.query is None else (self.query(query).unsqueeze(1), self.key(values))

        def score(part: slice) -> Tensor:
            position = rows[:, part]
            taken = _take(values, position)  # [B, c, A, D]
            if queries is None or keys is None:
                weights = uniform_weights(taken, mask[position])
            else:
                weights = masked_softmax(self._logits(queries, _take(keys, position)), mask[position])
            return (weights * (taken @ query[:, None, :, None]).squeeze(-1)).sum(-1)

        return in_chunks(score, rows.shape[1], block_rows(CELLS, len(query) * values[0].numel()))


def _take(tokens: Tensor, rows: Tensor) -> Tensor:
    """Return ``tokens[rows]`` with a fast backward pass."""
    return F.embedding(rows, tokens.flatten(1)).view(*rows.shape, *tokens.shape[1:])


class SlotPooling(nn.Module):
    r"""Pooling of the regions of an image into slots, each by a learned query.

    .. math:: \mathbf{s}^a = \sum_k \gamma_k^a \mathbf{W}_v \mathbf{r}_k, \qquad
        \gamma^a = \mathrm{softmax}_k \big( \langle \mathbf{e}^a, \mathbf{W}_k \mathbf{r}_k \rangle / \sqrt{D} \big)

    Not in the paper: it replaces SAERS's attribute network, as most data sets lack attribute labels. The slots are tokens for
    :class:`AttributeFusion`, present wherever there is any region; the product of the weights of both gives region weights.

    Args:
        dim: Slot width.
        num_slots: Number of slots A.
        token_dim: Region width; None for ``dim``.

    Shapes:
        - **input:** tokens ``[..., R, token_dim]``, mask ``[..., R]``
        - **output:** ``[..., A, dim]``, several vectors unlike a fusion's; zeros for an image without regions. Weights
          ``[..., A, R]``
    """

    def __init__(self, dim: int, num_slots: int, token_dim: int | None = None) -> None:
        super().__init__()
        self.slots = embedding_table(num_slots, dim, 1.0)
        self.key, self.value = (nn.Linear(token_dim or dim, dim, bias=False) for _ in range(2))

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Pool the regions of every image."""
        tokens = hide_missing(tokens, mask)
        queries = self.slots @ self.key.weight / self.slots.shape[1] ** 0.5  # in the space of the regions
        weights = masked_softmax(queries @ tokens.mT, None if mask is None else mask.unsqueeze(-2))
        slots = self.value(weights @ tokens)  # project the few slots, not the many regions
        return (slots, weights) if return_weights else slots


def strongest(weights: Tensor, mask: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
    """Return the k tokens of largest weight, in descending order, as an explanation.

    Args:
        weights: ``[..., A]``, of any fusion.
        mask: ``[..., A]``.
        k: Number of tokens, at most A.

    Returns:
        Tokens ``[..., k]`` and their weights, padded with -1 and 0 where fewer are present.

    >>> strongest(torch.tensor([0.2, 0.0, 0.8]), torch.tensor([True, False, True]), 3)
    (tensor([ 2,  0, -1]), tensor([0.8000, 0.2000, 0.0000]))
    """
    values, tokens = (weights if mask is None else weights.masked_fill(~mask, -1.0)).topk(k)
    return tokens.masked_fill(values < 0, -1), values.clamp(min=0)
