"""Autoregressive decoder of a set of items, given a context."""

import torch
from torch import Tensor, nn

from gmmrec.errors import UsageError
from gmmrec.nn.attention import MultiHeadAttention
from gmmrec.nn.dropout import Dropout
from gmmrec.nn.fusion.set_attention import SetAttention
from gmmrec.nn.masked import hide_missing


class ContextDecoder(nn.Module):
    r"""Transformer decoder without positions: the generation network of POG (Chen et al., KDD 2019).

    Every layer is one of :class:`~gmmrec.nn.fusion.set_attention.SetAttention`, in which an item attends to itself and the items
    before it, with cross-attention to the context :math:`\mathbf{K}` between self-attention and the feed-forward layer:

    .. math:: \mathbf{Z}' = \mathrm{LN}(\mathbf{Z} + \mathrm{MHA}(\mathbf{Z}, \mathbf{K}, \mathbf{K}))

    An empty context adds nothing. A reconstruction of https://arxiv.org/abs/1905.01866: the networks and their inputs are the
    paper's, the algebra is that of the standard decoder.

    Args:
        dim: Width of the model and of the context.
        num_layers: Number of layers.
        num_heads: H.
        in_dim: Width of tokens; None for ``dim``.
        out_dim: Width of the output; None for the width of tokens.
        hidden: Width of the feed-forward layers; None for 4 times ``dim``.
        dropout: Dropout probability of attention weights and sublayer outputs.

    Shapes:
        - **input:** tokens ``[B, N, in_dim]``, mask ``[B, N]``, context ``[B, M, dim]``, its mask ``[B, M]``, visible ``[N, N]``:
          True where the token of the row attends to that of the column; None: every token attends to itself and those before it
        - **output:** ``[B, N, out_dim]``; zeros for missing tokens. Weights of tokens ``[B, layers, H, N, N]`` and of the context
          ``[B, layers, H, N, M]``
    """

    def __init__(
        self,
        dim: int,
        *,
        num_layers: int = 2,
        num_heads: int = 8,
        in_dim: int | None = None,
        out_dim: int | None = None,
        hidden: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        in_dim = in_dim or dim
        self.transition = nn.Sequential(nn.Linear(in_dim, dim), nn.LeakyReLU(), nn.Linear(dim, dim))
        self.layers = nn.ModuleList(_Layer(dim, num_heads, hidden or 4 * dim, dropout) for _ in range(num_layers))
        self.output = nn.Linear(dim, out_dim or in_dim, bias=False)

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor,
        context: Tensor,
        context_mask: Tensor,
        *,
        visible: Tensor | None = None,
        return_weights: bool = False,
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Return the prediction after every token, and the weights or None."""
        hidden, maps = self.transition(hide_missing(tokens, mask)), []
        if visible is None:
            visible = torch.ones(mask.shape[-1], mask.shape[-1], dtype=torch.bool, device=mask.device).tril()
        readable = mask.unsqueeze(-2) & visible  # [B, N, N]
        context = hide_missing(context, context_mask)
        for layer in self.layers:
            hidden, weights = layer(hide_missing(hidden, mask), readable, context, context_mask, return_weights)
            maps.append(weights)
        output = hide_missing(self.output(hidden), mask)
        if not return_weights:
            return output, None
        hidden_maps = ([hide_missing(w, mask.unsqueeze(-2)) for w in kind] for kind in zip(*maps, strict=True))
        self_maps, cross_maps = (torch.stack(kind, 1) for kind in hidden_maps)
        return output, (self_maps, cross_maps)

    @torch.no_grad()
    def take_over(self, source: SetAttention) -> None:
        """Copy all weights of a set attention of the same sizes; the cross-attention starts with a zero output.

        Raises:
            UsageError: Sizes differ.
        """
        parameters = dict(self.named_parameters())
        copied = {name: value for name, value in source.named_parameters() if name != "unknown"}  # the vector of a hidden item
        expected = {name for name in parameters if ".context" not in name}
        if expected != set(copied) or any(parameters[name].shape != value.shape for name, value in copied.items()):
            raise UsageError("the set attention has other sizes than the decoder; give both the same widths and numbers of layers")
        for name, value in copied.items():
            parameters[name].copy_(value)
        for layer in self.layers:
            assert isinstance(layer, _Layer)
            for parameter in layer.context.output.parameters():
                parameter.zero_()


class _Layer(nn.Module):
    """Self-attention, cross-attention to the context and a feed-forward layer, each with a residual and a normalisation."""

    def __init__(self, dim: int, num_heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(dim, num_heads, dropout=dropout)
        self.context = MultiHeadAttention(dim, num_heads, dropout=dropout)
        self.norm, self.context_norm, self.hidden_norm = (nn.LayerNorm(dim) for _ in range(3))
        self.feed = nn.Sequential(nn.Linear(dim, hidden), nn.LeakyReLU(), nn.Linear(hidden, dim))
        self.dropout = Dropout(dropout)

    def forward(
        self, tokens: Tensor, readable: Tensor, context: Tensor, context_mask: Tensor, return_weights: bool
    ) -> tuple[Tensor, tuple[Tensor | None, Tensor | None]]:
        messages, self_weights = self.attention(tokens, tokens, readable, return_weights=return_weights)
        mixed = self.norm(tokens + self.dropout(messages))
        messages, cross_weights = self.context(mixed, context, context_mask.unsqueeze(-2), return_weights=return_weights)
        messages = messages * context_mask.any(-1)[:, None, None]  # an empty context would yield the output bias
        mixed = self.context_norm(mixed + self.dropout(messages))
        return self.hidden_norm(mixed + self.dropout(self.feed(mixed))), (self_weights, cross_weights)
