import math

import pytest
import torch
from torch import Tensor

from gmmrec.nn.decoder.text import TextDecoder

V, IDS, VISUAL, T = 7, 4, 3, 5
TEXTS = torch.tensor([[2, 3, 4, 0, 0], [5, 2, 6, 3, 2], [0, 0, 0, 0, 0], [6, 0, 0, 0, 0], [1, 2, 3, 4, 0]], dtype=torch.int32)
CELLS = ["gru", "lstm"]


def build(cell: str = "gru") -> TextDecoder:
    torch.manual_seed(0)
    decoder = TextDecoder(V, IDS, VISUAL, word_dim=3, state_dim=6, context_dim=4, cell=cell).double()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.normal_(std=0.8)
    return decoder


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(len(TEXTS), width, generator=generator).double() for width in (IDS, VISUAL))  # type: ignore[return-value]


def step(decoder: TextDecoder, word: int, state: list[Tensor], ids: Tensor, visual: Tensor) -> tuple[list[Tensor], Tensor]:
    """Read one word by the formulas; return the next state and the logits of the next word."""
    w = {name: p.detach() for name, p in decoder.named_parameters()}
    gate = 1 / (1 + math.exp(-float(w["context.gate.weight"][0] @ state[0])))
    mixed = (1 - gate) * (w["context.ids.weight"] @ ids) + gate * (w["context.visual.weight"] @ visual) + w["context.bias"]
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
def test_losses_equal_the_formulas(cell) -> None:
    decoder, (ids, visual) = build(cell), inputs()
    expected = torch.zeros(len(TEXTS), T).double()
    for row, words in enumerate(TEXTS.tolist()):
        state, previous = first(decoder, ids[row]), 0
        for position, word in enumerate(words):
            if words[0] == 0 or (position > 0 and previous == 0):
                break
            state, logits = step(decoder, previous, state, ids[row], visual[row])
            expected[row, position] = -float(logits.log_softmax(0)[word])
            previous = word
    torch.testing.assert_close(decoder(ids, visual, TEXTS).detach(), expected)
    is_target = expected > 0
    assert is_target.sum(1).tolist() == [4, 5, 0, 2, 5]  # the words and the end, except for the text that fills its row


def test_empty_text_has_no_loss_and_no_gradient() -> None:
    decoder, (ids, visual) = build(), inputs()
    found = decoder(ids, visual, torch.zeros_like(TEXTS))
    assert found.tolist() == torch.zeros(len(TEXTS), T).tolist()
    assert decoder(ids[:0], visual[:0], TEXTS[:0]).shape == (0, T)
    alone, batched = decoder(ids[:1], visual[:1], TEXTS[:1]), decoder(ids, visual, TEXTS)[:1]
    torch.testing.assert_close(alone, batched)
    visual.requires_grad_()
    decoder(ids, visual, TEXTS).sum().backward()
    assert not bool(visual.grad[2].any())
    assert bool(visual.grad[[0, 1, 3, 4]].any(1).all())


@pytest.mark.parametrize("cell", CELLS)
def test_word_affects_only_its_own_and_later_losses(cell) -> None:
    decoder, (ids, visual) = build(cell), inputs()
    with torch.no_grad():
        previous = decoder(ids, visual, TEXTS)
        for position in range(T):
            changed = TEXTS.clone()
            changed[1, position] = 4
            after = decoder(ids, visual, changed)
            assert torch.equal(after[[0, 2, 3, 4]], previous[[0, 2, 3, 4]])
            torch.testing.assert_close(after[1, :position], previous[1, :position], rtol=0, atol=0)
            assert bool((after[1, position:] != previous[1, position:]).all())


def test_tokens_after_the_end_are_ignored() -> None:
    decoder, (ids, visual) = build(), inputs()
    with torch.no_grad():
        short, long = decoder(ids[:1], visual[:1], TEXTS[:1, :4]), decoder(ids[:1], visual[:1], TEXTS[:1])
        padded = torch.tensor([[2, 3, 0, 0, 0], [4, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
        garbage = torch.tensor([[2, 3, 0, 5, 6], [4, 0, 3, 0, 1], [0, 2, 5, 6, 1]])
        expected, found = (decoder(ids[:3], visual[:3], texts) for texts in (padded, garbage))
    torch.testing.assert_close(long[:, :4], short)
    assert long[0, 3] > 0  # the end
    assert long[0, 4] == 0
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert (found > 0).sum(1).tolist() == [3, 2, 0]


@pytest.mark.parametrize("cell", CELLS)
def test_closed_gate_hides_the_image(cell) -> None:
    decoder, (ids, visual) = build(cell), inputs()

    def loss(visual: Tensor) -> Tensor:
        return decoder(ids, visual, TEXTS).detach()

    assert not torch.allclose(loss(visual + 1), loss(visual))
    decoder.context.gate.register_forward_hook(lambda *_: torch.tensor(-1e4).double())
    torch.testing.assert_close(loss(visual + 1), loss(visual))


@pytest.mark.parametrize("cell", CELLS)
def test_generation_is_greedy_until_the_end(cell) -> None:
    decoder, (ids, visual) = build(cell), inputs()
    with torch.no_grad():
        decoder.output.bias[0] += 0.0 if cell == "gru" else 2.5  # so that some texts end earlier than others
    found = decoder.generate(ids, visual, 8, forbidden=[1])
    assert found.shape == (len(ids), 8)
    ends = []
    for row in range(len(ids)):
        state, word, text = first(decoder, ids[row]), 0, []
        for _ in range(8):
            state, logits = step(decoder, word, state, ids[row], visual[row])
            logits[1] = -math.inf
            word = int(logits.argmax())
            text.append(word)
            if word == 0:
                break
        assert found[row].tolist() == text + [0] * (8 - len(text))
        ends.append(len(text))
    assert min(ends) < 8
    assert len(set(ends)) > 1


def test_learns_the_texts_of_two_pairs() -> None:
    torch.manual_seed(0)
    decoder = TextDecoder(V, 2, 1, word_dim=4, state_dim=8, context_dim=4)
    ids, visual, texts = torch.eye(2), torch.ones(2, 1), torch.tensor([[2, 3, 0, 0], [4, 5, 6, 0]])
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        decoder(ids, visual, texts).sum().backward()
        optimizer.step()
    assert decoder.generate(ids, visual, 4).tolist() == texts.tolist()


def test_unknown_cell_is_rejected() -> None:
    with pytest.raises(ValueError, match="cell must be 'gru' or 'lstm', but is 'rnn'"):
        TextDecoder(V, IDS, VISUAL, cell="rnn")
