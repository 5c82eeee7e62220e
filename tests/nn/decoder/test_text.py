import math

import pytest
import torch
from torch import Tensor

from gmmrec.nn.decoder.text import TextDecoder

V, IDS, SEEN, T = 7, 4, 3, 5
TEXTS = torch.tensor([[2, 3, 4, 0, 0], [5, 2, 6, 3, 2], [0, 0, 0, 0, 0], [6, 0, 0, 0, 0], [1, 2, 3, 4, 0]], dtype=torch.int32)
CELLS = ["gru", "lstm"]


def build(cell: str = "gru") -> TextDecoder:
    torch.manual_seed(0)
    decoder = TextDecoder(V, IDS, SEEN, word_dim=3, state_dim=6, context_dim=4, cell=cell).double()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.normal_(std=0.8)
    return decoder


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(len(TEXTS), width, generator=generator).double() for width in (IDS, SEEN))  # type: ignore[return-value]


def step(decoder: TextDecoder, word: int, state: list[Tensor], ids: Tensor, seen: Tensor) -> tuple[list[Tensor], Tensor]:
    """One word read by the formulas: the state after it, and the logits of the next."""
    w = {name: p.detach() for name, p in decoder.named_parameters()}
    gate = 1 / (1 + math.exp(-float(w["context.gate.weight"][0] @ state[0])))
    mixed = (1 - gate) * (w["context.ids.weight"] @ ids) + gate * (w["context.visual.weight"] @ seen) + w["context.bias"]
    x = torch.cat([w["words"][word], mixed.clamp(min=0)])
    inner, outer = w["cell.weight_ih"] @ x + w["cell.bias_ih"], w["cell.weight_hh"] @ state[0] + w["cell.bias_hh"]
    if len(state) == 1:
        (r_in, z_in, n_in), (r_out, z_out, n_out) = inner.chunk(3), outer.chunk(3)
        r, z = torch.sigmoid(r_in + r_out), torch.sigmoid(z_in + z_out)
        state = [(1 - z) * torch.tanh(n_in + r * n_out) + z * state[0]]
    else:
        i, f, g, o = (inner + outer).chunk(4)
        cell = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
        state = [torch.sigmoid(o) * torch.tanh(cell), cell]
    return state, w["output.weight"] @ state[0] + w["output.bias"]


def first(decoder: TextDecoder, ids: Tensor) -> list[Tensor]:
    state = torch.tanh(decoder.start.weight.detach() @ ids)
    return [state] * (2 if isinstance(decoder.cell, torch.nn.LSTMCell) else 1)


@pytest.mark.parametrize("cell", CELLS)
def test_every_word_costs_what_the_formulas_say(cell) -> None:
    decoder, (ids, seen) = build(cell), inputs()
    expected = torch.zeros(len(TEXTS), T).double()
    for row, words in enumerate(TEXTS.tolist()):
        state, before = first(decoder, ids[row]), 0
        for position, word in enumerate(words):
            if words[0] == 0 or (position > 0 and before == 0):
                break
            state, logits = step(decoder, before, state, ids[row], seen[row])
            expected[row, position] = -float(logits.log_softmax(0)[word])
            before = word
    torch.testing.assert_close(decoder(ids, seen, TEXTS).detach(), expected)
    asked = expected > 0
    assert asked.sum(1).tolist() == [4, 5, 0, 2, 5]  # the words and the end, but for the text that fills its row


def test_no_text_costs_nothing_and_learns_nothing() -> None:
    decoder, (ids, seen) = build(), inputs()
    found = decoder(ids, seen, torch.zeros_like(TEXTS))
    assert found.tolist() == torch.zeros(len(TEXTS), T).tolist()
    assert decoder(ids[:0], seen[:0], TEXTS[:0]).shape == (0, T)
    alone, beside = decoder(ids[:1], seen[:1], TEXTS[:1]), decoder(ids, seen, TEXTS)[:1]
    torch.testing.assert_close(alone, beside)
    seen.requires_grad_()
    decoder(ids, seen, TEXTS).sum().backward()
    assert not bool(seen.grad[2].any())
    assert bool(seen.grad[[0, 1, 3, 4]].any(1).all())


@pytest.mark.parametrize("cell", CELLS)
def test_a_word_matters_to_itself_and_to_what_follows_only(cell) -> None:
    decoder, (ids, seen) = build(cell), inputs()
    with torch.no_grad():
        before = decoder(ids, seen, TEXTS)
        for position in range(T):
            changed = TEXTS.clone()
            changed[1, position] = 4
            after = decoder(ids, seen, changed)
            assert torch.equal(after[[0, 2, 3, 4]], before[[0, 2, 3, 4]])
            torch.testing.assert_close(after[1, :position], before[1, :position], rtol=0, atol=0)
            assert bool((after[1, position:] != before[1, position:]).all())


def test_nothing_behind_the_end_counts() -> None:
    decoder, (ids, seen) = build(), inputs()
    with torch.no_grad():
        short, long = decoder(ids[:1], seen[:1], TEXTS[:1, :4]), decoder(ids[:1], seen[:1], TEXTS[:1])
        until = torch.tensor([[2, 3, 0, 0, 0], [4, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
        beyond = torch.tensor([[2, 3, 0, 5, 6], [4, 0, 3, 0, 1], [0, 2, 5, 6, 1]])
        quiet, loud = (decoder(ids[:3], seen[:3], texts) for texts in (until, beyond))
    torch.testing.assert_close(long[:, :4], short)
    assert long[0, 3] > 0  # the end
    assert long[0, 4] == 0
    torch.testing.assert_close(loud, quiet, rtol=0, atol=0)
    assert (loud > 0).sum(1).tolist() == [3, 2, 0]


@pytest.mark.parametrize("cell", CELLS)
def test_a_closed_gate_hides_the_picture_and_an_open_one_the_ids(cell) -> None:
    decoder, (ids, seen) = build(cell), inputs()

    def surprise(seen: Tensor) -> Tensor:
        return decoder(ids, seen, TEXTS).detach()

    assert not torch.allclose(surprise(seen + 1), surprise(seen))
    decoder.context.gate.register_forward_hook(lambda *_: torch.tensor(-1e4).double())
    torch.testing.assert_close(surprise(seen + 1), surprise(seen))


@pytest.mark.parametrize("cell", CELLS)
def test_says_the_likeliest_word_after_every_word_until_the_end(cell) -> None:
    decoder, (ids, seen) = build(cell), inputs()
    with torch.no_grad():
        decoder.output.bias[0] += 0.0 if cell == "gru" else 2.5  # so that some texts end sooner than others
    found = decoder.generate(ids, seen, 8, forbidden=[1])
    assert found.shape == (len(ids), 8)
    ends = []
    for row in range(len(ids)):
        state, word, said = first(decoder, ids[row]), 0, []
        for _ in range(8):
            state, logits = step(decoder, word, state, ids[row], seen[row])
            logits[1] = -math.inf
            word = int(logits.argmax())
            said.append(word)
            if word == 0:
                break
        assert found[row].tolist() == said + [0] * (8 - len(said))
        ends.append(len(said))
    assert min(ends) < 8
    assert len(set(ends)) > 1


def test_learns_what_two_people_say() -> None:
    torch.manual_seed(0)
    decoder = TextDecoder(V, 2, 1, word_dim=4, state_dim=8, context_dim=4)
    ids, seen, texts = torch.eye(2), torch.ones(2, 1), torch.tensor([[2, 3, 0, 0], [4, 5, 6, 0]])
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        decoder(ids, seen, texts).sum().backward()
        optimizer.step()
    assert decoder.generate(ids, seen, 4).tolist() == texts.tolist()


def test_an_unknown_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="cell must be 'gru' or 'lstm', but is 'rnn'"):
        TextDecoder(V, IDS, SEEN, cell="rnn")
