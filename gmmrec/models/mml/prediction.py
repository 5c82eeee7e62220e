"""Fusion of predictions: every modality ranks by itself, and attention weighs the rankings."""

from typing import Literal

import torch
from torch import Tensor, nn

from gmmrec.nn.masked import hide_missing, masked_softmax

LEAST_VARIANCE = 1e-8
"""Added to every variance, so that a row whose scores are all equal has a derivative."""


class PredictionAttentionFusion(nn.Module):
    r"""Weighs the scores that several models give, by the state that each of them is in.

    .. math::
        \mathbf{w} = \mathrm{softmax}_m \big( \mathrm{ReLU}(\mathrm{MLP}(\mathrm{LN}(\mathbf{l}_m))) \big), \qquad
        \mathbf{y} = \sum_m w_m \, \mathrm{z}(\mathbf{y}_m)

    with one perceptron for all modalities and :math:`\mathrm{z}` the standardisation of a row of scores, so that no modality speaks
    louder than another. Source: the released code of MML (Pan et al., CIKM 2022), where :math:`\mathrm{z}` is a layer normalisation
    with a weight and a bias for every item of one catalogue; here it has no parameters, so that any number of candidates will do.
    Given vectors in place of scores (C the width of a vector), it fuses those.

    Args:
        state_dim: Width of a state.
        hidden: Widths of the perceptron's hidden layers.
        normalize: What is done to a row of scores: standardised over its candidates, or nothing (it is standardised already).
        relu_logits: Whether logits are at least 0, as in the code.

    Shapes:
        - **input:** states ``[N, M, state_dim]``, scores ``[N, M, C]``, mask ``[N, M]`` or None
        - **output:** ``[N, C]`` and weights ``[N, M]``, which sum to 1 over the modalities that are present; a missing one has
          weight 0 and is never read

    >>> fuse = PredictionAttentionFusion(3)
    >>> fused, weights = fuse(torch.ones(1, 2, 3), torch.tensor([[[1.0, 3.0], [20.0, 10.0]]]))
    >>> fused.abs().round(decimals=3).tolist(), weights.tolist()        # they disagree, and are equally right
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
            raise ValueError(f"normalize must be 'zscore' or 'none', but is {normalize!r}")
        self.normalize, self.relu_logits = normalize, relu_logits
        self.norm, self.layers = nn.LayerNorm(state_dim), nn.Sequential()
        for width, next_width in zip((state_dim, *hidden), hidden, strict=False):
            self.layers.extend((nn.Linear(width, next_width), nn.ReLU()))
        self.layers.append(nn.Linear((state_dim, *hidden)[-1], 1))

    def forward(self, states: Tensor, scores: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The fused scores, and the weights."""
        scores = hide_missing(scores, mask)
        if self.normalize == "zscore":
            scores = standardized(scores)
        weights = self.weights(states, mask)
        return (weights.unsqueeze(-1) * scores).sum(-2), weights

    def weights(self, states: Tensor, mask: Tensor | None = None) -> Tensor:
        """How much every modality counts ``[N, M]``."""
        logits: Tensor = self.layers(self.norm(hide_missing(states, mask))).squeeze(-1)
        return masked_softmax(logits.relu() if self.relu_logits else logits, mask)


def standardized(scores: Tensor) -> Tensor:
    """Every row ``[..., C]`` at mean 0 and variance 1; zeros where all are equal.

    >>> standardized(torch.tensor([[1.0, 3.0], [7.0, 7.0]])).round(decimals=3)
    tensor([[-1.,  1.],
            [ 0.,  0.]])
    """
    variance, mean = torch.var_mean(scores, dim=-1, correction=0, keepdim=True)
    return (scores - mean) / (variance + LEAST_VARIANCE).sqrt()
