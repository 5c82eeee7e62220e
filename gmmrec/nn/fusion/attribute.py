"""Attention over the attributes of an item (neckline, heel height) by what a user cares for."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.nn.additive import rectified_logits
from gmmrec.nn.chunks import in_chunks
from gmmrec.nn.fusion.mean import uniform_weights
from gmmrec.nn.init import embedding_table
from gmmrec.nn.masked import hide_missing, masked_mean, masked_softmax

CELLS = 2**22
"""Numbers a chunk of pairs may hold at once: 16 MB."""


class AttributeFusion(nn.Module):
    r"""Which attributes of an item count depends on the user: the preference attention of SAERS (Hou et al., IJCAI 2019).

    .. math::
        \mathbf{z}_i^a = \mathbf{W}_s \mathbf{x}_i^a + \mathbf{b}_s, \qquad
        \alpha_{ui} = \mathrm{softmax}_a \big( \mathbf{h}^\top \mathrm{ReLU}(\mathbf{W}_u \mathbf{t}_u + \mathbf{W}_z \mathbf{z}_i^a
            + \mathbf{b}) \big), \qquad
        \mathbf{s}_{ui} = \sum_a \alpha_{ui}^a \mathbf{z}_i^a

    or, with bilinear scores, :math:`\langle \mathbf{W}_u \mathbf{t}_u, \mathbf{z}_i^a \rangle` in place of the perceptron. The mask
    says which attributes an item has: a shoe has no neckline. A reconstruction from the abstract and summaries (arXiv 1905.12862);
    the equations of the paper are not known to us, nor is code.

    It needs a query and is therefore not in ``FUSIONS``: GraphFusion would have to pair users with items in ``score``, as it does
    for ``modality_aware``.

    Args:
        dim: Width of the result.
        query_dim: Width of a query; None for ``dim``.
        token_dim: Width of an attribute's features; None for ``dim``.
        hidden: Width of the perceptron; None for ``dim``.
        num_tokens: A, for a vector of each attribute's own that is added to :math:`\mathbf{z}`, so that an attribute has a meaning
            beside its features; None (the default) for none, so that the order of the attributes does not matter.
        score: Form of the logits; ``mean`` for equal weights, which no query changes.

    Shapes:
        - **input:** tokens ``[..., A, token_dim]``, mask ``[..., A]``, query ``[..., query_dim]``; leading axes are broadcast:
          ``[C, A, token_dim]`` with ``[B, 1, query_dim]`` are all pairs
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
            raise ValueError(f"score must be 'mlp', 'bilinear' or 'mean', but is {score!r}")
        hidden = hidden or dim
        mlp = score == "mlp"
        self.value = nn.Linear(token_dim or dim, dim)
        self.attributes = None if num_tokens is None else embedding_table(num_tokens, dim, 0.1)
        self.query = None if score == "mean" else nn.Linear(query_dim or dim, hidden if mlp else dim, bias=mlp)
        self.key = nn.Linear(dim, hidden, bias=False) if mlp else nn.Identity()
        self.logit = nn.Linear(hidden, 1, bias=False) if mlp else None

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuses the attributes of an item as the query beside it sees them.

        Raises:
            ValueError: There is no query.
        """
        if query is None:
            raise ValueError("attribute fusion needs a query, whose view it is; give one vector for every row of tokens")
        values = self.values(hide_missing(tokens, mask))
        weights = self.weights(query, values, mask)
        fused = torch.einsum("...a,...ad->...d", weights, values)
        return (fused, weights) if return_weights else fused

    def values(self, tokens: Tensor) -> Tensor:
        """The attributes in the users' space, ``[..., A, dim]``; the same for all queries."""
        values: Tensor = self.value(tokens)
        return values if self.attributes is None else values + self.attributes

    def weights(self, query: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """How much each attribute counts ``[..., A]``, from queries and :meth:`values`."""
        if self.query is None:
            shares = uniform_weights(values, mask)
            return shares.expand(torch.broadcast_shapes(shares.shape, (*query.shape[:-1], 1)))
        return masked_softmax(self._logits(self.query(query), self.key(values)), mask)

    def _logits(self, query: Tensor, key: Tensor) -> Tensor:
        if self.logit is None:
            return torch.einsum("...d,...ad->...a", query, key)
        logits: Tensor = self.logit(torch.relu(query.unsqueeze(-2) + key))
        return logits.squeeze(-1)

    def score(self, query: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        r"""Inner products :math:`\langle \mathbf{t}_u, \mathbf{s}_{ui} \rangle` of all queries with all items as they see them.

        They are :math:`\sum_a \alpha_{ui}^a \langle \mathbf{t}_u, \mathbf{z}_i^a \rangle`: two numbers an attribute and pair, and
        no vector, in chunks of items. Queries must be as wide as values.

        Args:
            query: ``[B, D]``.
            values: Of :meth:`values`, ``[C, A, D]``.
            mask: ``[C, A]``.

        Returns:
            ``[B, C]``.
        """
        if self.query is None:
            return query @ masked_mean(values, mask).mT
        asks, keys = self.query(query), self.key(values)

        def score(part: slice) -> Tensor:
            weights = masked_softmax(self._all_logits(asks, keys[part]), None if mask is None else mask[part])  # [B, c, A]
            return (weights * torch.einsum("bd,cad->bca", query, values[part])).sum(-1)

        held = keys.shape[-1] if self.logit is not None and torch.is_grad_enabled() else 1
        return in_chunks(score, len(values), CELLS // max(1, len(query) * values.shape[1] * held))

    def _all_logits(self, query: Tensor, key: Tensor) -> Tensor:
        """Logits of all pairs ``[B, c, A]`` of what :attr:`query` and :attr:`key` gave."""
        if self.logit is None or torch.is_grad_enabled():
            return self._logits(query.unsqueeze(1), key)
        logits = rectified_logits(query, key.flatten(0, 1), self.logit.weight[0])
        return logits.view(-1, *key.shape[:2])

    def score_rows(self, query: Tensor, values: Tensor, mask: Tensor, rows: Tensor) -> Tensor:
        """As :meth:`score`, of items named by their rows: ``[C]`` for all queries, or ``[B, C]``, where each has its own."""
        if rows.dim() == 1:
            return self.score(query, values.index_select(0, rows), mask[rows])
        asks, keys = (None, None) if self.query is None else (self.query(query).unsqueeze(1), self.key(values))

        def score(part: slice) -> Tensor:
            position = rows[:, part]
            own = _take(values, position)  # [B, c, A, D]
            if asks is None or keys is None:
                weights = uniform_weights(own, mask[position])
            else:
                weights = masked_softmax(self._logits(asks, _take(keys, position)), mask[position])
            return (weights * (own @ query[:, None, :, None]).squeeze(-1)).sum(-1)

        return in_chunks(score, rows.shape[1], CELLS // max(1, len(query) * values[0].numel()))


def _take(tokens: Tensor, rows: Tensor) -> Tensor:
    """``tokens[rows]`` with a fast derivative."""
    return F.embedding(rows, tokens.flatten(1)).view(*rows.shape, *tokens.shape[1:])


class SlotPooling(nn.Module):
    r"""Regions of a picture, gathered into slots that a learned query each looks for.

    .. math:: \mathbf{s}^a = \sum_k \gamma_k^a \mathbf{W}_v \mathbf{r}_k, \qquad
        \gamma^a = \mathrm{softmax}_k \big( \langle \mathbf{e}^a, \mathbf{W}_k \mathbf{r}_k \rangle / \sqrt{D} \big)

    Not in the paper: it takes the place of SAERS' network for attributes, whose labels most data sets lack. The slots are tokens
    for :class:`AttributeFusion`, present where there is any region; weights of both, multiplied, are weights of regions.

    Args:
        dim: Width of a slot.
        num_slots: A.
        token_dim: Width of a region; None for ``dim``.

    Shapes:
        - **input:** tokens ``[..., R, token_dim]``, mask ``[..., R]``
        - **output:** ``[..., A, dim]``: unlike a fusion's, more than one vector; zeros where there is no region. Weights
          ``[..., A, R]``
    """

    def __init__(self, dim: int, num_slots: int, token_dim: int | None = None) -> None:
        super().__init__()
        self.slots = embedding_table(num_slots, dim, 1.0)
        self.key, self.value = (nn.Linear(token_dim or dim, dim, bias=False) for _ in range(2))

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Gathers the regions of every picture."""
        tokens = hide_missing(tokens, mask)
        looks = self.slots @ self.key.weight / self.slots.shape[1] ** 0.5  # what a slot looks for, in the space of the regions
        weights = masked_softmax(looks @ tokens.mT, None if mask is None else mask.unsqueeze(-2))
        slots = self.value(weights @ tokens)  # few slots are projected, not many regions
        return (slots, weights) if return_weights else slots


def strongest(weights: Tensor, mask: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
    """The k tokens that count most, by falling weight: an explanation.

    Args:
        weights: ``[..., A]``, of any fusion.
        mask: ``[..., A]``.
        k: How many, at most A.

    Returns:
        Tokens ``[..., k]`` and their weights; -1 and 0 where fewer are present.

    >>> strongest(torch.tensor([0.2, 0.0, 0.8]), torch.tensor([True, False, True]), 3)
    (tensor([ 2,  0, -1]), tensor([0.8000, 0.2000, 0.0000]))
    """
    values, tokens = (weights if mask is None else weights.masked_fill(~mask, -1.0)).topk(k)
    return tokens.masked_fill(values < 0, -1), values.clamp(min=0)
