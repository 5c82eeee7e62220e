"""Token encoder: a projection of a modality's vectors, one or more per node, to the width of a model."""

import torch
from torch import Tensor, nn

from gmmrec.nn.project import project_rows


class TokenEncoder(nn.Module):
    r"""Linear map of every token, :math:`\mathbf{W} \mathbf{x} + \mathbf{b}`, for some nodes or for all.

    The tokens are multiplied in blocks and never copied, however many a node has.

    Args:
        feature_dim: Feature width F.
        dim: Token width.

    Shapes:
        - **input:** features ``[N, F]`` (one token per node) or ``[N, T, F]``; rows ``[n]`` of nodes, None for all; lengths ``[N]``
          or ``[N, T]`` by which the features are divided, None for none (as the map is linear, its result is divided)
        - **output:** ``[n, T, dim]``

    >>> TokenEncoder(8, 4)(torch.randn(5, 3, 8), torch.tensor([4, 0])).shape
    torch.Size([2, 3, 4])
    """

    def __init__(self, feature_dim: int, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(feature_dim, dim)

    def forward(self, features: Tensor, rows: Tensor | None = None, lengths: Tensor | None = None) -> Tensor:
        """Encode the tokens; those of length 0 become the bias."""
        count = features.shape[1:-1].numel()  # 1 without a token axis
        if rows is not None:
            rows = (rows.unsqueeze(1) * count + torch.arange(count, device=rows.device)).flatten()
        tokens: Tensor = project_rows(features.reshape(-1, features.shape[-1]), rows, self.project.weight)
        if lengths is not None:
            lengths = lengths.flatten() if rows is None else lengths.flatten()[rows]
            tokens = tokens / lengths.clamp(min=1e-12).unsqueeze(1)
        tokens = tokens + self.project.bias
        return tokens.view(-1, count, tokens.shape[-1])
