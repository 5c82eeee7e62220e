"""Contextual word vectors by a convolution over the words of a text."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.errors import UsageError


class ReviewEncoder(nn.Module):
    r"""Convolution over word vectors of NRPA (Liu et al., SIGIR 2019), with one output per word.

    .. math:: \mathbf{z}_t = \mathrm{ReLU}\Big(\mathbf{b} + \sum_{s=-(w-1)/2}^{(w-1)/2} \mathbf{W}_s \mathbf{x}_{t+s}\Big)

    with :math:`\mathbf{x}` the word vectors, zeros outside of the text and for padding ("same" padding): the form on which readers
    and independent re-implementations of the paper agree. The word vectors are an input, so several encoders can share one table.

    A word has the same :math:`\mathbf{W}_s \mathbf{x}` at every position: these are computed once for every word of the table (or
    of the texts, if they contain fewer), and the convolution is a sum of rows.

    Args:
        word_dim: Width of word vectors.
        num_filters: Output width, D.
        window: Number of words in the convolution window; odd.

    Shapes:
        - **input:** tokens ``[..., T]`` (0 is padding), table ``[V - 1, word_dim]``: the vectors of the words 1 to V - 1
        - **output:** ``[..., T, D]``; undefined at padding

    >>> encoder, table = ReviewEncoder(8, 16), torch.randn(99, 8)
    >>> encoder(torch.tensor([[5, 3, 99, 0, 0], [7, 0, 0, 0, 0]]), table).shape
    torch.Size([2, 5, 16])
    """

    def __init__(self, word_dim: int, num_filters: int, window: int = 3) -> None:
        super().__init__()
        if window < 1 or window % 2 == 0:
            raise UsageError(f"window must be an odd number of words, but is {window}")
        self.window = window
        self.weight = nn.Parameter(torch.empty(window, word_dim, num_filters))
        self.bias = nn.Parameter(torch.zeros(num_filters))
        bound = (6 / (window * word_dim + num_filters)) ** 0.5  # Glorot & Bengio (2010), with the fan-in of a whole window
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, tokens: Tensor, table: Tensor) -> Tensor:
        """Contextualise the words of texts."""
        tokens = tokens.long()
        shape = tokens.shape
        if tokens.numel() < len(table):  # only the words that occur
            words, tokens = torch.unique(F.pad(tokens.flatten(), (1, 0)), return_inverse=True)  # with padding, which maps to 0
            tokens, table = tokens[1:], F.embedding(words[1:] - 1, table)
        rows = F.pad(torch.einsum("vd,wdk->vwk", table, self.weight), (0, 0, 0, 0, 1, 0))  # [V, w, D], zeros for padding
        near = F.pad(tokens.reshape(-1, shape[-1]), (self.window // 2, self.window // 2)).unfold(1, self.window, 1)
        index = near * self.window + torch.arange(self.window, device=tokens.device)  # [n, T, w]
        total = F.embedding_bag(index.reshape(-1, self.window), rows.flatten(0, 1), mode="sum")
        return F.relu(total + self.bias).view(*shape, len(self.bias))
