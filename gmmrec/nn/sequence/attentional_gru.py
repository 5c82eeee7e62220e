"""A recurrence over what was done, in which every step counts as much as it matters to the item in question."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.nn.additive import additive_logits
from gmmrec.nn.chunks import in_chunks
from gmmrec.nn.fusion.mean import uniform_weights
from gmmrec.nn.masked import hide_missing, masked_softmax

CELLS = 2**24
"""Numbers a chunk of candidates may hold at once: 64 MB."""

CACHED = 2**19
"""The same on a CPU without gradients: 2 MB, so that a state stays in the cache from step to step."""

Mode = Literal["update", "input", "post", "plain"]


class Packed(NamedTuple):
    """Rows of a batch, longest first, and in each the steps that exist, pushed to the end: what is not there costs nothing."""

    rows: Tensor
    """``[N]``: which row stands where."""
    columns: Tensor
    """``[N, L]``: which step of that row stands where."""
    counts: list[int]
    """How many rows have begun by each of the L places."""


class Steps(NamedTuple):
    """A sequence as an :class:`AttentionalGRU` has read it: all that does not depend on candidates."""

    tokens: Tensor
    """``[N, L, dim]``, zeros where there is none."""
    mask: Tensor | None
    """``[N, L]``; None where all are there."""
    initial: Tensor
    """States before the first step ``[N, 1 or C, hidden]``."""
    inputs: Tensor
    """What every step brings to the gates ``[L, N, 3 hidden]``, in the order of ``packed``, without bias."""
    packed: Packed | None
    """None where nothing is missing, and for ``post``."""
    keys: Tensor | None
    """What relevance is computed from ``[N, L, ...]``."""
    states: Tensor | None
    """States after every step of an ordinary GRU ``[N, L, hidden]``, for ``post``."""

    @property
    def shape(self) -> torch.Size:
        """N and L."""
        return self.tokens.shape[:2]


class AttentionalGRU(nn.Module):
    r"""A gated recurrence whose update gate is scaled by the attention of a candidate to each step.

    .. math::
        \alpha_l = \mathrm{softmax}_l (\mathbf{h}_l^\top \mathbf{W}_a \mathbf{c} / \sqrt{D}), \qquad
        (\mathbf{z}_l, \mathbf{r}_l) = \sigma(\mathbf{W}_{zr} [\mathbf{h}_l \| \mathbf{g}_{l-1}] + \mathbf{b}_{zr}), \qquad
        \tilde{\mathbf{g}}_l = \tanh(\mathbf{W}_g [\mathbf{h}_l \| \mathbf{r}_l \odot \mathbf{g}_{l-1}] + \mathbf{b}_g), \qquad
        \mathbf{g}_l = (1 - \alpha_l \mathbf{z}_l) \odot \mathbf{g}_{l-1} + \alpha_l \mathbf{z}_l \odot \tilde{\mathbf{g}}_l

    Source: the GRU with attentional update gate of DIEN (Zhou et al., AAAI 2019), section 3.3, with the gated unit of Cho et al.
    (EMNLP 2014). VLSNR (Han et al., 2022) names an attentional GRU, and this is our reading of it; ``input`` and ``post`` are two
    others.

    Every candidate has a recurrence of its own: a step costs :math:`6 H^2` operations for every row and candidate. What the steps
    bring to the gates, :math:`\mathbf{W} \mathbf{h}_l`, is the same for all candidates, and one matrix product for all steps. The
    loop is over steps, for all rows and candidates of a chunk together, and a row takes part from its first step on. With ``post``
    and ``plain``, or without attention, there is one recurrence a row.

    Args:
        dim: Width of tokens and queries.
        hidden: Width of a state, H.
        mode: ``update`` as above; ``input``: an ordinary GRU reads scaled tokens :math:`\alpha_l \mathbf{h}_l`; ``post``: the
            states of an ordinary GRU are summed up by additive attention,
            :math:`\mathrm{softmax}_l (\mathbf{w}^\top \tanh(\mathbf{W}_k \mathbf{g}_l + \mathbf{W}_q \mathbf{c} + \mathbf{b}))`;
            ``plain``: the last state of an ordinary GRU, without attention.
        attend: False gives every step the same share in place of attention.

    Shapes:
        - **input:** tokens ``[N, L, dim]``, query ``[N, C, dim]``, or ``[1, C, dim]`` for candidates that all rows share, mask
          ``[N, L]``, weights ``[N, C or 1, L]``, initial ``[N, C or 1, hidden]``
        - **output:** ``[N, C, hidden]``, with C = 1 where nothing depends on candidates. Steps that are missing leave the state as
          it is, so a row without any keeps the initial one (zeros where not given; with ``post`` zeros in any case)

    >>> gru = AttentionalGRU(16, 8)
    >>> clicks, candidates = torch.randn(4, 10, 16), torch.randn(1, 300, 16)
    >>> gru(clicks, candidates).shape
    torch.Size([4, 300, 8])
    """

    def __init__(self, dim: int, hidden: int, mode: Mode = "update", *, attend: bool = True) -> None:
        super().__init__()
        if mode not in ("update", "input", "post", "plain"):
            raise ValueError(f"mode must be 'update', 'input', 'post' or 'plain', but is {mode!r}")
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
        """What has become of every row for each candidate, in chunks of candidates.

        Args:
            tokens: The steps, oldest first.
            query: The candidates.
            mask: Which steps exist; None: all.
            weights: Taken in place of attention.
            initial: States before the first step.

        Raises:
            ValueError: There is neither a query nor weights, and the mode asks for one.
        """
        steps = self.read(tokens, mask, initial)
        return self.follow(steps, query) if weights is None else self._follow(steps, weights)

    def read(self, tokens: Tensor, mask: Tensor | None = None, initial: Tensor | None = None) -> Steps:
        """All that does not depend on candidates; arguments as in :meth:`forward`."""
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
        """What has become of the rows for each candidate, ``[N, C, hidden]``."""
        if self.mode == "plain":
            return self._follow(steps, None)
        if self.mode == "post" and self.attend and query is not None:
            shared = len(query) == 1 and not torch.is_grad_enabled()
            step = self._chunk(steps, steps.shape[1] * (1 if shared else self.hidden))
            return in_chunks(lambda part: self._follow(steps, self.weights(steps, query[:, part])), query.shape[1], step)
        return self._follow(steps, self.weights(steps, query))

    def weights(self, steps: Steps, query: Tensor | None = None) -> Tensor:
        """How much every step matters to each candidate ``[N, C, L]``; without attention equal shares ``[N, 1, L]``.

        Raises:
            ValueError: There is no query.
        """
        if not self.attend or steps.keys is None:
            return uniform_weights(steps.tokens, steps.mask).unsqueeze(1)
        if query is None:
            raise ValueError("an attentional GRU needs a query, the candidates; give their vectors [N, C, dim], or weights")
        if self.mode != "post":
            logits = query @ steps.keys.mT / query.shape[-1] ** 0.5
        elif len(query) == 1 and not torch.is_grad_enabled():
            pairs = additive_logits(steps.keys.flatten(0, 1), self.query(query[0]), self.logit.weight[0])
            logits = pairs.unflatten(0, steps.shape).mT
        else:
            logits = torch.tanh(steps.keys.unsqueeze(1) + self.query(query).unsqueeze(2)) @ self.logit.weight[0]
        return masked_softmax(logits, None if steps.mask is None else steps.mask.unsqueeze(1))

    def _follow(self, steps: Steps, weights: Tensor | None) -> Tensor:
        """With what every step matters to the candidates ``[N, C or 1, L]``."""
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
        """How many candidates to take at once, if each needs so many numbers of a row."""
        room = CELLS if torch.is_grad_enabled() or steps.tokens.device.type != "cpu" else CACHED
        return room // max(1, steps.shape[0] * cells)

    def _run(self, inputs: Tensor, initial: Tensor, weights: Tensor | None, counts: list[int]) -> Tensor:
        """The last states ``[N, C, hidden]`` of packed rows, of which ``counts[l]`` have begun by step l."""
        state, shares = initial[:0], [None] * len(counts) if weights is None else weights.unbind(2)
        positions = zip(inputs.unbind(), shares, counts, strict=True)  # unbound: the derivative of each is of its own size
        for brought, share, count in positions:
            if count > len(state):
                state = torch.cat([state, initial[len(state) : count]])
            if count:
                state = self._step(brought[:count], state, None if share is None else share[:count])
        return torch.cat([state, initial[len(state) :]])

    def _step(self, inputs: Tensor, state: Tensor, weights: Tensor | None) -> Tensor:
        """From states ``[n, C, hidden]`` to the next, with what the step brings ``[n, 3 hidden]`` and its weights ``[n, C]``."""
        inputs, bias = inputs.unsqueeze(1), self.input.bias
        if weights is not None:
            weights = weights.unsqueeze(-1)
        inputs = weights * inputs + bias if self.mode == "input" and weights is not None else inputs + bias
        gates = F.linear(state, self.gates.weight).add_(inputs[..., : 2 * self.hidden]).sigmoid_()
        update, reset = gates.chunk(2, dim=-1)
        made = F.linear(reset * state, self.made.weight).add_(inputs[..., 2 * self.hidden :]).tanh_()
        if self.mode == "update" and weights is not None:
            update = weights * update
        return torch.lerp(state, made.to(state.dtype), update.to(state.dtype))

    def _states(self, inputs: Tensor, state: Tensor, mask: Tensor | None) -> Tensor:
        """States after every step ``[N, L, hidden]`` of an ordinary GRU; one that is missing leaves the state as it is."""
        states = [state[:, :0]]
        for position, brought in enumerate(inputs.unbind()):
            after = self._step(brought, state, None)
            state = after if mask is None else torch.where(mask[:, position, None, None], after, state)
            states.append(state)
        return torch.cat(states, dim=1)


def pack(mask: Tensor) -> Packed:
    """How rows with the steps ``[N, L]`` that exist are to be put in order.

    >>> pack(torch.tensor([[False, False, True], [True, False, True]]))
    Packed(rows=tensor([1, 0]), columns=tensor([[1, 0, 2],
            [0, 1, 2]]), counts=[0, 1, 2])
    """
    lengths = mask.sum(1)
    rows = lengths.argsort(descending=True, stable=True)
    columns = mask[rows].byte().argsort(dim=1, stable=True)
    needed = torch.arange(mask.shape[1], 0, -1, device=mask.device)  # a row of this length has begun by each place
    return Packed(rows, columns, (lengths >= needed.unsqueeze(1)).sum(1).tolist())
