"""Token encoder: the vectors of a modality, one or several a node, brought to the width of a model."""

import torch
from torch import Tensor, nn

from gmmrec.nn.project import project_rows


class TokenEncoder(nn.Module):
    r"""A linear map of every token, :math:`\mathbf{W} \mathbf{x} + \mathbf{b}`, for some nodes or for all.

    The tokens are multiplied in blocks; no copy of theirs is made, however many a node has.

    Args:
        feature_dim: Width of a feature vector, F.
        dim: Width of a token.

    Shapes:
        - **input:** features ``[N, F]``, read as one token each, or ``[N, T, F]``; rows ``[n]`` of the nodes, None for all; lengths
          ``[N]`` or ``[N, T]`` by which the features are divided, None for none (the map is linear: its result is divided)
        - **output:** ``[n, T, dim]``

    >>> TokenEncoder(8, 4)(torch.randn(5, 3, 8), torch.tensor([4, 0])).shape
    torch.Size([2, 3, 4])
    """

    def __init__(self, feature_dim: int, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(feature_dim, dim)

    def forward(self, features: Tensor, rows: Tensor | None = None, lengths: Tensor | None = None) -> Tensor:
        """Encodes the tokens; those of length 0 become the bias."""
        count = features.shape[1:-1].numel()  # 1 without a token axis
        if rows is not None:
            rows = (rows.unsqueeze(1) * count + torch.arange(count, device=rows.device)).flatten()
        tokens: Tensor = project_rows(features.reshape(-1, features.shape[-1]), rows, self.project.weight)
        if lengths is not None:
            lengths = lengths.flatten() if rows is None else lengths.flatten()[rows]
            tokens = tokens / lengths.clamp(min=1e-12).unsqueeze(1)
        tokens = tokens + self.project.bias
        return tokens.view(-1, count, tokens.shape[-1])
