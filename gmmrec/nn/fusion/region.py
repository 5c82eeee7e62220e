"""User-dependent attention over the regions of an image, and the modules that use its result."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.errors import UsageError
from gmmrec.nn.masked import hide_missing, masked_softmax


class RegionFusion(nn.Module):
    r"""User-dependent attention over the regions of an image, as in VECF (Chen et al., SIGIR 2019).

    .. math::
        a_{ijk} = \mathbf{w}^\top \mathrm{ReLU}\big( (\mathbf{W}_u \mathbf{p}_i) \odot (\mathbf{W}_f \mathbf{f}_j^k) \big), \qquad
        \alpha_{ij} = \mathrm{softmax}_k (a_{ijk}), \qquad
        \mathbf{I}_{ij} = \sum_k \alpha_{ijk} \mathbf{f}_j^k

    or, in one layer, :math:`a_{ijk} = \mathrm{ReLU}(\mathbf{w}_u^\top \mathbf{p}_i + \mathbf{w}_f^\top \mathbf{f}_j^k + b)`. The
    formulas are those of the code released for the paper (https://doi.org/10.1145/3331184.3331254; its headers name no authors):
    the biases of the first form are disabled there and absent here. In the second form the user only has an effect where the ReLU
    is zero for some regions of an image.

    As :math:`\mathrm{ReLU}(xy) = \mathrm{ReLU}(x) \mathrm{ReLU}(y) + \mathrm{ReLU}(-x) \mathrm{ReLU}(-y)`, the logits are inner
    products of a user vector and a region vector: all pairs are one matrix product, and the region vectors (see :meth:`keys`) are
    computed once.

    Not in ``FUSIONS``, because it needs a query: GraphFusion would have to pair users with items in ``score``, as it does for
    ``modality_aware``.

    Args:
        dim: Region width.
        query_dim: Query width; None for ``dim``.
        hidden: Hidden width.
        score: ``product`` for the form with two layers, ``sum`` for the form with one.

    Shapes:
        - **input:** tokens ``[..., R, D]``, mask ``[..., R]``, query ``[..., query_dim]``; leading axes are broadcast:
          ``[C, R, D]`` and ``[B, 1, query_dim]`` give all pairs, for which no region is copied
        - **output:** ``[..., D]``; zeros for an image without regions. Weights ``[..., R]``

    >>> regions, users = torch.randn(4, 196, 32), torch.randn(3, 16)
    >>> fused, weights = RegionFusion(32, 16)(regions, None, users[:, None], return_weights=True)
    >>> fused.shape, weights.unflatten(-1, (14, 14)).shape
    (torch.Size([3, 4, 32]), torch.Size([3, 4, 14, 14]))
    """

    def __init__(
        self, dim: int, query_dim: int | None = None, *, hidden: int = 10, score: Literal["product", "sum"] = "product"
    ) -> None:
        super().__init__()
        if score not in ("product", "sum"):
            raise UsageError(f"score must be 'product' or 'sum', but is {score!r}")
        is_product = score == "product"
        self.query = nn.Linear(query_dim or dim, hidden if is_product else 1, bias=not is_product)
        self.key = nn.Linear(dim, hidden if is_product else 1, bias=False)
        self.logit = nn.Linear(hidden, 1, bias=False) if is_product else None

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuse the regions of every image for its query.

        Raises:
            UsageError: There is no query.
        """
        if query is None:
            raise UsageError("region fusion needs a query; pass one vector for every row of tokens")
        tokens = hide_missing(tokens, mask)
        weights = self.weights(query, self.keys(tokens), mask)
        fused = torch.einsum("...r,...rd->...d", weights, tokens)  # pairs are broadcast without copying images
        return (fused, weights) if return_weights else fused

    def keys(self, tokens: Tensor) -> Tensor:
        """Compute the keys of the regions ``[..., R, K]``; independent of the query."""
        key: Tensor = self.key(tokens)
        return key if self.logit is None else _signs(key)

    def weights(self, query: Tensor, keys: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the region weights ``[..., R]`` from queries and :meth:`keys`."""
        query = self.query(query)
        if self.logit is None:
            return masked_softmax(F.relu(query + keys.squeeze(-1)), mask)
        factor = self.logit.weight[0].repeat(2)
        return masked_softmax(torch.einsum("...k,...rk->...r", _signs(query) * factor, keys), mask)


class VisualMerge(nn.Module):
    r"""Merge of an item's ID embedding with the user's view of its image, as in VECF.

    .. math::
        \mathbf{q} \odot s \mathbf{W} \mathbf{I} \quad (\text{mul}), \qquad
        (1 - s) \mathbf{q} + s \mathbf{W} \mathbf{I} \quad (\text{add}), \qquad
        [\mathbf{q} \,\|\, s \mathbf{W} \mathbf{I}] \quad (\text{concat})

    In the released code, the scale s is 0.01 for ``mul`` and 0.5 for the others.

    Args:
        dim: Width of the ID embedding.
        visual_dim: Width of the image vector.
        mode: ``"mul"``, ``"add"`` or ``"concat"``.
        scale: Scale s; None for that of the released code.
        concat_dim: Width of the image part in ``concat``; None for ``dim``.

    Shapes:
        - **input:** ids ``[..., dim]``, visual ``[..., visual_dim]``, present ``[...]`` (True for items with an image). Without an
          image the ID embedding is unchanged (our choice; followed by zeros in ``concat``)
        - **output:** ``[..., out_dim]``
    """

    def __init__(
        self,
        dim: int,
        visual_dim: int,
        mode: Literal["mul", "add", "concat"] = "mul",
        *,
        scale: float | None = None,
        concat_dim: int | None = None,
    ) -> None:
        super().__init__()
        if mode not in ("mul", "add", "concat"):
            raise UsageError(f"mode must be 'mul', 'add' or 'concat', but is {mode!r}")
        self.mode = mode
        self.scale = scale if scale is not None else 0.01 if mode == "mul" else 0.5
        width = (concat_dim or dim) if mode == "concat" else dim
        self.project = nn.Linear(visual_dim, width, bias=False)
        self.out_dim = dim + width if mode == "concat" else dim
        """Output width."""

    def forward(self, ids: Tensor, visual: Tensor, present: Tensor | None = None) -> Tensor:
        """Merge ID embeddings and image vectors."""
        visual = self.scale * self.project(hide_missing(visual, present))
        if self.mode == "concat":
            return torch.cat([ids.expand(*visual.shape[:-1], -1), visual], dim=-1)
        merged = ids * visual if self.mode == "mul" else (1 - self.scale) * ids + visual
        return merged if present is None else torch.where(present.unsqueeze(-1), merged, ids)


class ContextGate(nn.Module):
    r"""Gate between an image and the user and item embeddings for the next word: VECF's review decoder.

    .. math::
        \beta_t = \sigma(\mathbf{w}^\top \mathbf{s}_{t-1}), \qquad
        \mathbf{c}_t = \mathrm{ReLU}\big( (1 - \beta_t) \, \mathbf{C} [\mathbf{p} \| \mathbf{q}] + \beta_t \mathbf{C}_I \mathbf{I}
            + \mathbf{c} \big)

    As in the released code, the gate is the weight of the image; in the paper's figure it is that of the embeddings. A decoder
    calls :meth:`parts` once and :meth:`mix` for every word.

    Args:
        state_dim: Width of the state.
        visual_dim: Width of the image vector.
        ids_dim: Width of the concatenated user and item embeddings.
        dim: Width of the context.

    Shapes:
        - **input:** state ``[..., state_dim]``, visual ``[..., visual_dim]``, ids ``[..., ids_dim]``
        - **output:** ``[..., dim]``, and on request the gate ``[..., 1]``
    """

    def __init__(self, state_dim: int, visual_dim: int, ids_dim: int, dim: int) -> None:
        super().__init__()
        self.gate = nn.Linear(state_dim, 1, bias=False)
        self.visual, self.ids = nn.Linear(visual_dim, dim, bias=False), nn.Linear(ids_dim, dim, bias=False)
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, state: Tensor, visual: Tensor, ids: Tensor, *, return_gate: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Compute the context of each state."""
        context, gate = self.mix(state, *self.parts(visual, ids))
        return (context, gate) if return_gate else context

    def parts(self, visual: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Project both to the width of the context; the same for all words."""
        return self.visual(visual), self.ids(ids)

    def mix(self, state: Tensor, visual: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Compute context and gate from a state and :meth:`parts`."""
        gate = self.gate(state).sigmoid()
        return F.relu((1 - gate) * ids + gate * visual + self.bias), gate


def _signs(x: Tensor) -> Tensor:
    return torch.cat([F.relu(x), F.relu(-x)], dim=-1)
