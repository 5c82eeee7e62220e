r"""Item-item weights in closed form: linear autoencoders with a zero diagonal.

Each column of :math:`\mathbf{B}` is a ridge regression of one item on all others. H. Steck, *Embarrassingly Shallow Autoencoders
for Sparse Data*, WWW 2019, https://arxiv.org/abs/1905.03375.
"""

import torch
from torch import Tensor

from gmmrec.errors import UsageError


def item_weights(gram: Tensor, reg: float, *, prior: Tensor | None = None) -> Tensor:
    r"""Minimise :math:`\|\mathbf{X} - \mathbf{X}\mathbf{B}\|^2 + \lambda \|\mathbf{B} - \mathbf{S}\|^2` with a zero diagonal of B.

    .. math::
        \mathbf{P} &= (\mathbf{X}^\top \mathbf{X} + \lambda \mathbf{I})^{-1}, \qquad
        \mathbf{C} = \mathbf{P} (\mathbf{X}^\top \mathbf{X} + \lambda \mathbf{S})

        \mathbf{B} &= \mathbf{C}
            - \mathbf{P} \operatorname{diagMat}(\operatorname{diag} \mathbf{C} / \operatorname{diag} \mathbf{P})

    Without a prior S this is :math:`\mathbf{I} - \mathbf{P} \operatorname{diagMat}(1 / \operatorname{diag} \mathbf{P})` (EASE,
    equation 8). Two matrices of the size of ``gram`` are held at once, three with a prior.

    Args:
        gram: :math:`\mathbf{X}^\top \mathbf{X}` ``[I, I]``, or that of any stacked data; OVERWRITTEN to save memory.
        reg: :math:`\lambda`, greater than 0.
        prior: S ``[I, I]`` of the same dtype, or None for zeros.

    Returns:
        B ``[I, I]`` with the dtype of ``gram``: column j holds the weights that predict item j from the others.

    Raises:
        UsageError: The matrix is too ill-conditioned for its dtype.

    >>> item_weights(torch.tensor([[2.0, 1.0], [1.0, 1.0]]), reg=1.0)
    tensor([[0.0000, 0.3333],
            [0.5000, 0.0000]])
    """
    inverse = ridge_inverse(gram, reg)
    if prior is None:
        weights = inverse.div_(-inverse.diagonal().clone())
    else:  # with P X'X = I - reg P, C is reg P S off the diagonal, and the constraint absorbs -reg P
        weights = torch.mm(inverse, prior, out=gram).mul_(reg)
        weights -= inverse.mul_((1 + weights.diagonal()) / inverse.diagonal())
    return weights.fill_diagonal_(0.0)


def ridge_inverse(gram: Tensor, reg: float) -> Tensor:
    r"""Compute :math:`(\mathbf{G} + \lambda \mathbf{I})^{-1}` ``[I, I]`` by Cholesky factorisation; ``gram`` is overwritten.

    Raises:
        UsageError: The matrix is too ill-conditioned for its dtype.

    >>> ridge_inverse(torch.tensor([[2.0, 1.0], [1.0, 1.0]]), reg=1.0)
    tensor([[ 0.4000, -0.2000],
            [-0.2000,  0.6000]])
    """
    gram.diagonal().add_(reg)
    factor = gram.t()  # symmetric, and its transpose has the memory layout that LAPACK overwrites in place
    failed = torch.empty((), dtype=torch.int32, device=gram.device)
    torch.linalg.cholesky_ex(factor, out=(factor, failed))
    if int(failed):
        raise UsageError(f"a regularisation of {reg} is too small for {gram.dtype}; raise it, or compute in float64")
    return torch.cholesky_inverse(factor)
