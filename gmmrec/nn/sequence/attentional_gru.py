"""Recurrence over a history, in which attention to the candidate weighs every step."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.errors import UsageError
from gmmrec.nn.additive import additive_logits
from gmmrec.nn.blocks import block_rows
from gmmrec.nn.chunks import in_chunks
from gmmrec.nn.fusion.mean import uniform_weights
from gmmrec.nn.masked import hide_missing, masked_softmax

CELLS = 2**24
"""Maximum number of cells in a chunk of candidates: 64 MB."""

CACHED = 2**19
"""The same on a CPU without gradients: 2 MB, so that states stay in the cache between steps."""

Mode = Literal["update", "input", "post", "plain"]


class Packed(NamedTuple):
    """Order of the rows in the batch, longest first, each with its steps moved to the end, so that missing steps cost nothing."""

    rows: Tensor
    """Original row at each position ``[N]``."""
    columns: Tensor
    """Original step at each position of the row ``[N, L]``."""
    counts: list[int]
    """Number of rows that have started by each of the L positions."""


class Steps(NamedTuple):
    """Candidate-independent part of an :class:`AttentionalGRU`."""

    tokens: Tensor
    """Tokens ``[N, L, dim]``; zeros for missing ones."""
    mask: Tensor | None
    """Mask of the steps that exist ``[N, L]``; None if none is missing."""
    initial: Tensor
    """States before the first step ``[N, 1 or C, hidden]``."""
    inputs: Tensor
    """Inputs of the gates at every step ``[L, N, 3 hidden]``, in the order of ``packed``, without bias."""
    packed: Packed | None
    """Order of the rows; None if no step is missing, and for ``post``."""
    keys: Tensor | None
    """Keys of the attention ``[N, L, ...]``."""
    states: Tensor | None
    """States after every step of an ordinary GRU ``[N, L, hidden]``, for ``post``."""

    @property
    def shape(self) -> torch.Size:
        """N and L."""
        return self.tokens.shape[:2]


class AttentionalGRU(nn.Module):
    r"""Gated recurrence whose update gate is scaled by the attention of a candidate to each step.

    .. math::
        \alpha_l = \mathrm{softmax}_l (\mathbf{h}_l^\top \mathbf{W}_a \mathbf{c} / \sqrt{D}), \qquad
        (\mathbf{z}_l, \mathbf{r}_l) = \sigma(\mathbf{W}_{zr} [\mathbf{h}_l \| \mathbf{g}_{l-1}] + \mathbf{b}_{zr}), \qquad
        \tilde{\mathbf{g}}_l = \tanh(\mathbf{W}_g [\mathbf{h}_l \| \mathbf{r}_l \odot \mathbf{g}_{l-1}] + \mathbf{b}_g), \qquad
        \mathbf{g}_l = (1 - \alpha_l \mathbf{z}_l) \odot \mathbf{g}_{l-1} + \alpha_l \mathbf{z}_l \odot \tilde{\mathbf{g}}_l

    Source: the GRU with attentional update gate of DIEN (Zhou et al., AAAI 2019), section 3.3, with the gated unit of Cho et al.
    (EMNLP 2014). VLSNR (Han et al., 2022) names an attentional GRU, of which this is our reading; ``input`` and ``post`` are two
    alternatives.

    Every candidate has a separate recurrence: a step costs :math:`6 H^2` operations per row and candidate. The inputs of the gates,
    :math:`\mathbf{W} \mathbf{h}_l`, are shared by all candidates and take one matrix product for all steps. The loop runs over
    steps, for all rows and candidates of a chunk at once, and a row joins at its first step. With ``post`` and ``plain``, or
    without attention, there is one recurrence per row.

    Args:
        dim: Width of tokens and queries.
        hidden: Width of a state, H.
        mode: ``update``: as above; ``input``: an ordinary GRU reads scaled tokens :math:`\alpha_l \mathbf{h}_l`; ``post``: additive
            attention pools the states of an ordinary GRU,
            :math:`\mathrm{softmax}_l (\mathbf{w}^\top \tanh(\mathbf{W}_k \mathbf{g}_l + \mathbf{W}_q \mathbf{c} + \mathbf{b}))`;
            ``plain``: the last state of an ordinary GRU, without attention.
        attend: Whether to attend; False weighs all steps uniformly.

    Shapes:
        - **input:** tokens ``[N, L, dim]``, query ``[N, C, dim]``, or ``[1, C, dim]`` for candidates shared by all rows, mask
          ``[N, L]``, weights ``[N, C or 1, L]``, initial ``[N, C or 1, hidden]``
        - **output:** ``[N, C, hidden]``, with C = 1 if nothing depends on candidates. Missing steps leave the state unchanged, so a
          row without steps keeps the initial state (default: zeros; always zeros with ``post``)

    >>> gru = AttentionalGRU(16, 8)
    >>> clicks, candidates = torch.randn(4, 10, 16), torch.randn(1, 300, 16)
    >>> gru(clicks, candidates).shape
    torch.Size([4, 300, 8])
    """

    def __init__(self, dim: int, hidden: int, mode: Mode = "update", *, attend: bool = True) -> None:
        super().__init__()
        if mode not in ("update", "input", "post", "plain"):
            raise UsageError(f"mode must be 'update', 'input', 'post' or 'plain', but is {mode!r}")
        self.hidden, self.mode, self.attend = hidden, mode, attend and mode != "plain"
        self.input = nn.Linear(dim, 3 * hidden)  # of z, r and g~
        self.gates = nn.Linear(hidden, 2 * hidden, bias=False)
        self.made = nn.Linear(hidden, hidden, bias=False)
        if self.attend and mode == "post":
            self.key, self.query = nn.Linear(hidden, hidden), nn.Linear(dim, hidden, bias=False)
            self.logit = nn.Linear(hidden, 1, bias=False)
        elif self.attend:
            self.relevance = nn.Linear(dim, dim, bias=False)  # W_a

    def forward(
        self,
        tokens: Tensor,
        query: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        weights: Tensor | None = None,
        initial: Tensor | None = None,
    ) -> Tensor:
        """Compute the final state of every row for each candidate, in chunks of candidates.

        Args:
            tokens: Steps, oldest first.
            query: Candidates.
            mask: Mask of the steps that exist; None: all.
            weights: Weights that replace attention.
            initial: States before the first step.

        Raises:
            UsageError: The mode needs a query or weights, but there is neither.
        """
        steps = self.read(tokens, mask, initial)
        return self.follow(steps, query) if weights is None else self._follow(steps, weights)

    def read(self, tokens: Tensor, mask: Tensor | None = None, initial: Tensor | None = None) -> Steps:
        """Compute the candidate-independent part; arguments as in :meth:`forward`."""
        tokens = hide_missing(tokens, mask)
        if mask is not None and bool(mask.all()):
            mask = None
        initial = tokens.new_zeros(1, 1, self.hidden).expand(len(tokens), -1, -1) if initial is None else initial
        packed = None if mask is None or self.mode == "post" else pack(mask)
        ordered = tokens if packed is None else tokens[packed.rows.unsqueeze(1), packed.columns]
        inputs = F.linear(ordered.transpose(0, 1), self.input.weight)
        if self.mode == "post":
            states = self._states(inputs, initial, mask)
            return Steps(tokens, mask, initial, inputs, packed, self.key(states) if self.attend else None, states)
        return Steps(tokens, mask, initial, inputs, packed, self.relevance(tokens) if self.attend else None, None)

    def follow(self, steps: Steps, query: Tensor | None = None) -> Tensor:
        """Compute the final state of every row for each candidate, ``[N, C, hidden]``."""
        if self.mode == "plain":
            return self._follow(steps, None)
        if self.mode == "post" and self.attend and query is not None:
            shared = len(query) == 1 and not torch.is_grad_enabled()
            step = self._chunk(steps, steps.shape[1] * (1 if shared else self.hidden))
            return in_chunks(lambda part: self._follow(steps, self.weights(steps, query[:, part])), query.shape[1], step)
        return self._follow(steps, self.weights(steps, query))

    def weights(self, steps: Steps, query: Tensor | None = None) -> Tensor:
        """Compute the weight of every step for each candidate ``[N, C, L]``; without attention uniform weights ``[N, 1, L]``.

        Raises:
            UsageError: There is no query.
        """
        if not self.attend or steps.keys is None:
            return uniform_weights(steps.tokens, steps.mask).unsqueeze(1)
        if query is None:
            raise UsageError("an attentional GRU needs a query; pass candidate vectors [N, C, dim], or weights")
        if self.mode != "post":
            logits = query @ steps.keys.mT / query.shape[-1] ** 0.5
        elif len(query) == 1 and not torch.is_grad_enabled():
            pairs = additive_logits(steps.keys.flatten(0, 1), self.query(query[0]), self.logit.weight[0])
            logits = pairs.unflatten(0, steps.shape).mT
        else:
            logits = torch.tanh(steps.keys.unsqueeze(1) + self.query(query).unsqueeze(2)) @ self.logit.weight[0]
        return masked_softmax(logits, None if steps.mask is None else steps.mask.unsqueeze(1))

    def _follow(self, steps: Steps, weights: Tensor | None) -> Tensor:
        """Compute the final states, given the weights of the steps for the candidates ``[N, C or 1, L]``."""
        if steps.states is not None and weights is not None:
            return weights @ steps.states
        packed, initial = steps.packed, steps.initial
        counts = [steps.shape[0]] * steps.shape[1] if packed is None else packed.counts
        if packed is not None:
            initial = initial[packed.rows]
            if weights is not None:
                weights = weights[packed.rows].gather(2, packed.columns.unsqueeze(1).expand(-1, weights.shape[1], -1))
        width = max(initial.shape[1], 1 if weights is None else weights.shape[1])
        initial = initial.expand(-1, width, -1)
        weights = None if weights is None else weights.expand(-1, width, -1)

        def run(part: slice) -> Tensor:
            return self._run(steps.inputs, initial[:, part], None if weights is None else weights[:, part], counts)

        step = self._chunk(steps, 4 * self.hidden * (steps.shape[1] if torch.is_grad_enabled() else 1))
        last = in_chunks(run, width, step)
        return last if packed is None else last[packed.rows.argsort()]

    def _chunk(self, steps: Steps, cells: int) -> int:
        """Return the number of candidates per chunk, if each needs ``cells`` cells per row."""
        budget = CELLS if torch.is_grad_enabled() or steps.tokens.device.type != "cpu" else CACHED
        return block_rows(budget, steps.shape[0] * cells)

    def _run(self, inputs: Tensor, initial: Tensor, weights: Tensor | None, counts: list[int]) -> Tensor:
        """Return the final states ``[N, C, hidden]`` of packed rows, of which ``counts[l]`` have started by step l."""
        state, step_weights = initial[:0], [None] * len(counts) if weights is None else weights.unbind(2)
        positions = zip(inputs.unbind(), step_weights, counts, strict=True)  # unbound: each derivative has the size of one step
        for step_inputs, weight, count in positions:
            if count > len(state):
                state = torch.cat([state, initial[len(state) : count]])
            if count:
                state = self._step(step_inputs[:count], state, None if weight is None else weight[:count])
        return torch.cat([state, initial[len(state) :]])

    def _step(self, inputs: Tensor, state: Tensor, weights: Tensor | None) -> Tensor:
        """Advance states ``[n, C, hidden]`` by a step with inputs ``[n, 3 hidden]`` and weights ``[n, C]``."""
        inputs, bias = inputs.unsqueeze(1), self.input.bias
        if weights is not None:
            weights = weights.unsqueeze(-1)
        inputs = weights * inputs + bias if self.mode == "input" and weights is not None else inputs + bias
        gates = F.linear(state, self.gates.weight).add_(inputs[..., : 2 * self.hidden]).sigmoid_()
        update, reset = gates.chunk(2, dim=-1)
        proposal = F.linear(reset * state, self.made.weight).add_(inputs[..., 2 * self.hidden :]).tanh_()
        if self.mode == "update" and weights is not None:
            update = weights * update
        return torch.lerp(state, proposal.to(state.dtype), update.to(state.dtype))

    def _states(self, inputs: Tensor, state: Tensor, mask: Tensor | None) -> Tensor:
        """Return the states after every step ``[N, L, hidden]`` of an ordinary GRU; a missing step leaves the state unchanged."""
        states = [state[:, :0]]
        for position, step_inputs in enumerate(inputs.unbind()):
            next_state = self._step(step_inputs, state, None)
            state = next_state if mask is None else torch.where(mask[:, position, None, None], next_state, state)
            states.append(state)
        return torch.cat(states, dim=1)


def pack(mask: Tensor) -> Packed:
    """Compute the packed order of rows whose steps exist by ``mask`` ``[N, L]``.

    >>> pack(torch.tensor([[False, False, True], [True, False, True]]))
    Packed(rows=tensor([1, 0]), columns=tensor([[1, 0, 2],
            [0, 1, 2]]), counts=[0, 1, 2])
    """
    lengths = mask.sum(1)
    rows = lengths.argsort(descending=True, stable=True)
    columns = mask[rows].byte().argsort(dim=1, stable=True)
    needed = torch.arange(mask.shape[1], 0, -1, device=mask.device)  # minimum length of a row that has started by each position
    return Packed(rows, columns, (lengths >= needed.unsqueeze(1)).sum(1).tolist())
