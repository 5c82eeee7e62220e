"""Late fusion: attention over the scores of one model per modality."""

from typing import Literal

import torch
from torch import Tensor, nn

from gmmrec.errors import UsageError
from gmmrec.nn.masked import hide_missing, masked_softmax

LEAST_VARIANCE = 1e-8
"""Added to every variance, so that a row of equal scores has a finite derivative."""


class PredictionAttentionFusion(nn.Module):
    r"""Attention over the scores of several models, with logits from the state of each model.

    .. math::
        \mathbf{w} = \mathrm{softmax}_m \big( \mathrm{ReLU}(\mathrm{MLP}(\mathrm{LN}(\mathbf{l}_m))) \big), \qquad
        \mathbf{y} = \sum_m w_m \, \mathrm{z}(\mathbf{y}_m)

    with one MLP shared by all modalities and :math:`\mathrm{z}` the standardisation of a row of scores, so that no modality
    dominates by scale. Source: the released code of MML (Pan et al., CIKM 2022), where :math:`\mathrm{z}` is a layer normalisation
    with a weight and a bias for every item of one catalogue; here it has no parameters and accepts any number of candidates. Also
    fuses vectors instead of scores, with C the width of a vector.

    Args:
        state_dim: Width of a state.
        hidden: Widths of the MLP's hidden layers.
        normalize: Normalisation of a row of scores: ``zscore`` over its candidates, or ``none`` for rows standardised already.
        relu_logits: Apply a ReLU to the logits, as in the code.

    Shapes:
        - **input:** states ``[N, M, state_dim]``, scores ``[N, M, C]``, mask ``[N, M]`` or None
        - **output:** ``[N, C]`` and weights ``[N, M]``, which sum to 1 over the modalities that are present; a missing one has
          weight 0 and is never read

    >>> fuse = PredictionAttentionFusion(3)
    >>> fused, weights = fuse(torch.ones(1, 2, 3), torch.tensor([[[1.0, 3.0], [20.0, 10.0]]]))
    >>> fused.abs().round(decimals=3).tolist(), weights.tolist()        # they disagree, at equal weights
    ([[0.0, 0.0]], [[0.5, 0.5]])
    """

    def __init__(
        self,
        state_dim: int,
        hidden: tuple[int, ...] = (128,),
        *,
        normalize: Literal["zscore", "none"] = "zscore",
        relu_logits: bool = True,
    ) -> None:
        super().__init__()
        if normalize not in ("zscore", "none"):
            raise UsageError(f"normalize must be 'zscore' or 'none', but is {normalize!r}")
        self.normalize, self.relu_logits = normalize, relu_logits
        self.norm, self.layers = nn.LayerNorm(state_dim), nn.Sequential()
        for width, next_width in zip((state_dim, *hidden), hidden, strict=False):
            self.layers.extend((nn.Linear(width, next_width), nn.ReLU()))
        self.layers.append(nn.Linear((state_dim, *hidden)[-1], 1))

    def forward(self, states: Tensor, scores: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the fused scores and the weights."""
        scores = hide_missing(scores, mask)
        if self.normalize == "zscore":
            scores = standardized(scores)
        weights = self.weights(states, mask)
        return (weights.unsqueeze(-1) * scores).sum(-2), weights

    def weights(self, states: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the weights of the modalities ``[N, M]``."""
        logits: Tensor = self.layers(self.norm(hide_missing(states, mask))).squeeze(-1)
        return masked_softmax(logits.relu() if self.relu_logits else logits, mask)


def standardized(scores: Tensor) -> Tensor:
    """Standardise every row ``[..., C]`` to mean 0 and variance 1; a constant row becomes zeros.

    >>> standardized(torch.tensor([[1.0, 3.0], [7.0, 7.0]])).round(decimals=3)
    tensor([[-1.,  1.],
            [ 0.,  0.]])
    """
    variance, mean = torch.var_mean(scores, dim=-1, correction=0, keepdim=True)
    return (scores - mean) / (variance + LEAST_VARIANCE).sqrt()
