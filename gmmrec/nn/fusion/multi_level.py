"""MEncoder: words and regions meet in the last layers of two Transformers, coarsely by prefixes, finely by correlation."""

from typing import Literal, NamedTuple, overload

import torch
from torch import Tensor, nn

from gmmrec.nn.attention import attend, check_heads
from gmmrec.nn.dropout import Dropout
from gmmrec.nn.fusion.correlation import CorrelationAwareFusion
from gmmrec.nn.fusion.prefix import PrefixGuidedAttention
from gmmrec.nn.masked import hide_missing

Prefix = tuple[Tensor, Tensor]


class FusionWeights(NamedTuple):
    """What was looked at, layer by layer: ``pgi`` ``[B, H, m, n + m]`` and ``caf`` ``[B, n, m]``; empty without that module."""

    pgi: list[Tensor]
    caf: list[Tensor]


class TextLayer(nn.Module):
    r"""A layer as in BERT whose feed-forward part may gather regions.

    .. math::
        \mathbf{C} = \mathrm{A}(\mathbf{X W}_Q, \mathbf{X W}_K, \mathbf{X W}_V), \qquad
        \mathbf{S} = \mathrm{LN}(\mathbf{X} + \mathbf{C W}_O), \qquad
        \mathbf{X}' = \mathrm{LN} \big( \mathbf{S} + \mathrm{FFN}(\mathbf{S}, \mathrm{softmax}(\mathbf{C V}^\top) \mathbf{V}) \big)

    Source: MKGformer (Chen et al., SIGIR 2022) as its released code has it: similarities are taken of the attention's context
    :math:`\mathbf{C}` before its output map, with regions :math:`\mathbf{V}` that have left their own layer.

    Args:
        dim: Width of all tokens.
        num_heads: H.
        hidden: Width of the hidden layer.
        gathers: Whether regions take part; without them it is a plain layer.
        dropout: Share of what is added to a token that is dropped in training.

    Shapes:
        - **input:** tokens ``[B, n, D]``, mask ``[B, n]``, regions ``[B, m, D]`` or None, region_mask ``[B, m]``
        - **output:** ``[B, n, D]``, and the weights of the regions ``[B, n, m]`` where they were asked for
    """

    def __init__(self, dim: int, num_heads: int, hidden: int, *, gathers: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        self.num_heads = num_heads
        self.query, self.key, self.value, self.output = (nn.Linear(dim, dim) for _ in range(4))
        self.norm, self.dropout = nn.LayerNorm(dim), Dropout(dropout)
        self.fuse = CorrelationAwareFusion(dim, hidden, dropout=dropout) if gathers else None
        self.feed = None if gathers else nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim), Dropout(dropout))
        self.feed_norm = None if gathers else nn.LayerNorm(dim)

    def keys_and_values(self, tokens: Tensor) -> Prefix:
        """What this layer's attention looks at, and what it sees there ``[B, n, D]`` each."""
        return self.key(tokens), self.value(tokens)

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        regions: Tensor | None = None,
        region_mask: Tensor | None = None,
        *,
        return_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The tokens after the layer."""
        tokens = hide_missing(tokens, mask)
        seen = None if mask is None else mask.unsqueeze(-2)
        context = attend(self.query(tokens), *self.keys_and_values(tokens), seen, num_heads=self.num_heads)
        mixed = self.norm(tokens + self.dropout(self.output(context)))
        if self.fuse is None:
            assert self.feed is not None
            assert self.feed_norm is not None
            return hide_missing(self.feed_norm(mixed + self.feed(mixed)), mask), None
        if regions is None:
            regions, region_mask = tokens.new_zeros(*tokens.shape[:-2], 0, tokens.shape[-1]), None
        if not return_weights:
            return self.fuse(mixed, mask, regions, region_mask, context), None
        fused, weights = self.fuse(mixed, mask, regions, region_mask, context, return_weights=True)
        return fused, weights


class VisionLayer(nn.Module):
    r"""A layer as in a vision Transformer (normalised before each step) whose attention a prefix may guide.

    .. math::
        \mathbf{S} = \mathbf{X} + \mathrm{PGI}(\mathrm{LN}(\mathbf{X}), \mathbf{K}_t, \mathbf{V}_t), \qquad
        \mathbf{X}' = \mathbf{S} + \mathbf{W}_2 \, \phi(\mathbf{W}_1 \mathrm{LN}(\mathbf{S})), \qquad
        \phi(x) = x \, \sigma(1.702 \, x)

    Source: the vision side of MKGformer, which is CLIP's, with its quick form of GELU.

    Args:
        dim: Width of all tokens.
        num_heads: H.
        hidden: Width of the hidden layer.
        dropout: Share of what is added to a token that is dropped in training.

    Shapes:
        - **input:** regions ``[B, m, D]``, mask ``[B, m]``, prefix: keys and values ``[B, n, D]`` each, prefix_mask ``[B, n]``
        - **output:** ``[B, m, D]``, and the weights ``[B, H, m, n + m]`` where they were asked for
    """

    def __init__(self, dim: int, num_heads: int, hidden: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm, self.feed_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = PrefixGuidedAttention(dim, num_heads, project_prefix=False)
        self.inner, self.outer, self.dropout = nn.Linear(dim, hidden), nn.Linear(hidden, dim), Dropout(dropout)

    def forward(
        self,
        regions: Tensor,
        mask: Tensor | None = None,
        prefix: Prefix | None = None,
        prefix_mask: Tensor | None = None,
        *,
        return_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The regions after the layer."""
        messages: Tensor = self.norm(hide_missing(regions, mask))
        weights = None
        if return_weights:
            messages, weights = self.attention(messages, mask, prefix, prefix_mask, return_weights=True)
        else:
            messages = self.attention(messages, mask, prefix, prefix_mask)
        regions = hide_missing(regions, mask) + self.dropout(messages)
        hidden = self.inner(self.feed_norm(regions))
        return hide_missing(regions + self.dropout(self.outer(hidden * torch.sigmoid(1.702 * hidden))), mask), weights


class MEncoder(nn.Module):
    """Paired layers of words and regions: words guide the attention of regions, then gather the regions that correlate with them.

    Multi-level fusion of MKGformer (Chen et al., SIGIR 2022), https://arxiv.org/abs/2205.02357, in the order of its released
    code: keys and values of the text layer before it guide the regions of a layer, and its words gather the regions that have just
    left theirs. It is a fusion of any token and region features once these have one width; the first token, or a mean, then stands
    for both.

    Args:
        dim: Width of all tokens.
        num_heads: Heads of every attention.
        hidden: Width of the hidden layers; None for 4 times ``dim``.
        num_layers: Pairs of layers.
        use_pgi: Whether words guide the regions.
        use_caf: Whether words gather regions; without it no word learns anything of a picture.
        dropout: Share of what is added to a token that is dropped in training.

    Shapes:
        - **input:** text ``[B, n, D]``, vision ``[B, m, D]`` or None, their masks ``[B, n]`` and ``[B, m]``, prefix: keys and
          values ``[B, n, D]`` of the text layer in front of the first; None for those of the first layer itself
        - **output:** ``[B, n, D]`` and ``[B, m, D]`` (None without vision), zeros in place of missing tokens; the weights behind
          them where they were asked for

    >>> text, vision = MEncoder(8, num_heads=2, num_layers=2)(torch.randn(3, 4, 8), torch.randn(3, 6, 8))
    >>> text.shape, vision.shape
    (torch.Size([3, 4, 8]), torch.Size([3, 6, 8]))
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 4,
        *,
        hidden: int | None = None,
        num_layers: int = 3,
        use_pgi: bool = True,
        use_caf: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        hidden = hidden or 4 * dim
        self.use_pgi = use_pgi
        self.text = nn.ModuleList(TextLayer(dim, num_heads, hidden, gathers=use_caf, dropout=dropout) for _ in range(num_layers))
        self.vision = nn.ModuleList(VisionLayer(dim, num_heads, hidden, dropout=dropout) for _ in range(num_layers))

    @overload
    def forward(
        self,
        text: Tensor,
        vision: Tensor | None,
        text_mask: Tensor | None = ...,
        vision_mask: Tensor | None = ...,
        prefix: Prefix | None = ...,
    ) -> tuple[Tensor, Tensor | None]: ...
    @overload
    def forward(
        self,
        text: Tensor,
        vision: Tensor | None,
        text_mask: Tensor | None = ...,
        vision_mask: Tensor | None = ...,
        prefix: Prefix | None = ...,
        *,
        return_weights: Literal[True],
    ) -> tuple[Tensor, Tensor | None, FusionWeights]: ...
    def forward(
        self,
        text: Tensor,
        vision: Tensor | None,
        text_mask: Tensor | None = None,
        vision_mask: Tensor | None = None,
        prefix: Prefix | None = None,
        *,
        return_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None] | tuple[Tensor, Tensor | None, FusionWeights]:
        """Words and regions after all layers."""
        text, found = hide_missing(text, text_mask), FusionWeights([], [])
        for words, regions in zip(self.text, self.vision, strict=True):
            own = words.keys_and_values(text)  # type: ignore[operator]
            if vision is not None:
                guide = (own if prefix is None else prefix) if self.use_pgi else None
                vision, weights = regions(vision, vision_mask, guide, text_mask if guide else None, return_weights=return_weights)
                found.pgi.extend([] if weights is None else [weights])
            text, weights = words(text, text_mask, vision, vision_mask, return_weights=return_weights)
            found.caf.extend([] if weights is None else [weights])
            prefix = own
        return (text, vision, found) if return_weights else (text, vision)
