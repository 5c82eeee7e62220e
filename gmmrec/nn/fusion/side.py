"""Fusion of item IDs with side information, for the queries and keys of non-invasive attention."""

from typing import Literal

import torch
from torch import Tensor, nn

from gmmrec.errors import UsageError
from gmmrec.nn.fusion.concat import ConcatFusion
from gmmrec.nn.fusion.gate import GateFusion
from gmmrec.nn.fusion.mean import SumFusion

FORMS = ("add", "concat", "gate")


class SideFusion(nn.Module):
    r"""Fusion of an ID vector with side information (modalities, category, position), as in NOVA (Liu et al., AAAI 2021).

    .. math::
        \mathbf{z} = \sum_i \mathbf{f}_i \; (\text{add}), \qquad
        \mathbf{z} = \mathbf{W} [\mathbf{f}_0 \| \dots \| \mathbf{f}_M] + \mathbf{b} \; (\text{concat}), \qquad
        \mathbf{z} = \sum_i g_i \mathbf{f}_i, \; g = \sigma([\mathbf{w}^\top \mathbf{f}_i]_i) \; (\text{gate})

    where :math:`\mathbf{f}_0` is the ID vector and the others are the side information. The ID vector is passed as the query,
    because it is always present and everything else is optional. Source: https://arxiv.org/abs/2103.03578, section "fusion
    operations", from secondary sources; as :math:`\sigma` is the softmax in the paper's other equations, the gate is a softmax by
    default. This module only fuses: attention is non-invasive if its queries and keys are computed from the result and its values
    from the ID vectors.

    Args:
        dim: Width of all vectors.
        num_tokens: Number M of kinds of side information; may be 0.
        form: ``"add"``, ``"concat"`` or ``"gate"``.
        gate: Activation of the gate's logits.

    Shapes:
        - **input:** tokens ``[..., M, D]``, mask ``[..., M]``, query ``[..., D]``
        - **output:** ``[..., D]``; without side information not zeros, as of other fusions, but the result for the ID vector alone.
          Weights ``[..., 1 + M]``, that of the ID vector first: ones (add), uniform (concat) or the gates

    >>> SideFusion(2, 1, form="add")(torch.tensor([[[1.0, 2.0]]]), query=torch.tensor([[10.0, 20.0]]))
    tensor([[11., 22.]])
    """

    def __init__(
        self,
        dim: int,
        num_tokens: int,
        *,
        form: Literal["add", "concat", "gate"] = "gate",
        gate: Literal["softmax", "sigmoid"] = "softmax",
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise UsageError(f"form must be 'add', 'concat' or 'gate', but is {form!r}")
        self.fuse: nn.Module
        if form == "gate":
            self.fuse = GateFusion(dim, gate=gate, bias=False)
        else:
            self.fuse = SumFusion() if form == "add" else ConcatFusion(dim, 1 + num_tokens)

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuse every ID vector with its side information.

        Raises:
            UsageError: There is no query.
        """
        if query is None:
            raise UsageError("side fusion needs a query, the ID vector; pass one for every row of tokens")
        tokens = torch.cat([query.unsqueeze(-2), tokens], dim=-2)
        if mask is not None:
            mask = torch.cat([mask.new_ones(*mask.shape[:-1], 1), mask], dim=-1)
        fused: Tensor | tuple[Tensor, Tensor] = self.fuse(tokens, mask, return_weights=return_weights)
        return fused
