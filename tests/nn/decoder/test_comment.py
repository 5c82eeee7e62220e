import math

import torch
from torch import Tensor
from torch.nn import functional as F

from gmmrec.nn.decoder.comment import CommentDecoder, Scene

V, D, A, T = 7, 4, 5, 5
TEXTS = torch.tensor([[2, 3, 4, 0, 0], [5, 2, 6, 3, 2], [0, 0, 0, 0, 0], [6, 0, 0, 0, 0], [1, 2, 3, 4, 0]], dtype=torch.int32)
MASKS = [
    torch.tensor([[1, 1, 1], [1, 0, 1], [1, 1, 1], [0, 0, 0], [0, 1, 0]]).bool(),
    torch.tensor([[1, 1], [1, 1], [1, 0], [0, 1], [1, 1]]).bool(),
]


def build() -> CommentDecoder:
    torch.manual_seed(0)
    decoder = CommentDecoder(V, D, A, word_dim=3, state_dim=6, hidden=5).double()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.normal_(std=0.8)
    return decoder


def scene() -> Scene:
    generator = torch.Generator().manual_seed(1)
    summary, *tokens = (torch.randn(len(TEXTS), *shape, generator=generator).double() for shape in ((A,), (3, D), (2, D)))
    return Scene(summary, tokens, MASKS)


def row(whole: Scene, position: int) -> Scene:
    part = slice(position, position + 1)
    return Scene(whole.summary[part], [x[part] for x in whole.tokens], [x[part] for x in whole.masks])


def step(decoder: CommentDecoder, word: int, state: Tensor, images: Scene) -> tuple[Tensor, Tensor]:
    """Read one word by the formulas; return the next state and the logits of the next word."""
    contexts, logits = [], []
    for s in range(2):
        rows = [n for n in range(images.tokens[s].shape[1]) if images.masks[s][0, n]]
        if not rows:
            continue
        f = images.tokens[s][0, rows]
        hidden = torch.tanh(f @ decoder.look.token[s].weight.T + decoder.look.state[s].weight @ state)
        z = (hidden @ decoder.look.logit[s].weight[0]).softmax(0) @ f
        contexts.append(z)
        logits.append(state @ decoder.look.source.weight.T @ z)
    context = torch.stack(logits).softmax(0) @ torch.stack(contexts)
    x, cell = torch.cat([decoder.words[word], context]), decoder.cell
    (r_in, z_in, n_in), (r_out, z_out, n_out) = (
        (cell.weight_ih @ x + cell.bias_ih).chunk(3),
        (cell.weight_hh @ state + cell.bias_hh).chunk(3),
    )
    r, z = torch.sigmoid(r_in + r_out), torch.sigmoid(z_in + z_out)
    state = (1 - z) * torch.tanh(n_in + r * n_out) + z * state
    return state, decoder.output.weight @ state + decoder.output.bias


@torch.no_grad()
def test_losses_equal_the_formulas() -> None:
    decoder, whole = build(), scene()
    expected = torch.zeros(len(TEXTS), T).double()
    for position, words in enumerate(TEXTS.tolist()):
        images, previous = row(whole, position), 0
        state = torch.tanh(decoder.start.weight @ images.summary[0] + decoder.start.bias)
        for n, word in enumerate(words):
            if words[0] == 0 or (n > 0 and previous == 0):
                break
            state, logits = step(decoder, previous, state, images)
            expected[position, n] = -float(logits.log_softmax(0)[word])
            previous = word
    torch.testing.assert_close(decoder(whole, TEXTS), expected)
    assert (expected > 0).sum(1).tolist() == [4, 5, 0, 2, 5]  # the words and the end, except for the text that fills its row


@torch.no_grad()
def test_generation_is_greedy_until_the_end() -> None:
    decoder, whole = build(), scene()
    decoder.output.bias[0] += 1.5
    found, ends = decoder.generate(whole, 6, forbidden=[1]), []
    for position in range(len(TEXTS)):
        images, word, text = row(whole, position), 0, []
        state = torch.tanh(decoder.start.weight @ images.summary[0] + decoder.start.bias)
        for _ in range(6):
            state, logits = step(decoder, word, state, images)
            logits[1] = -math.inf
            word = int(logits.argmax())
            text.append(word)
            if word == 0:
                break
        assert found[position].tolist() == text + [0] * (6 - len(text))
        ends.append(len(text))
    assert len(set(ends)) > 1


def test_distributions_of_words_sum_to_one() -> None:
    decoder, whole = build(), scene()
    (state,) = decoder.step(decoder.words[TEXTS[:, 0].long()], decoder.first(whole), decoder.parts(whole))
    probability = decoder.output(state).softmax(1)
    assert probability.shape == (len(TEXTS), V)
    torch.testing.assert_close(probability.sum(1), torch.ones(len(TEXTS)).double())
    for word in range(V):  # the loss of every word is its negative log probability
        texts = TEXTS[:1].clone()
        texts[0, 1] = word
        after = decoder(row(whole, 0), texts)[0, 1]
        (state,) = decoder.step(decoder.words[:1], decoder.first(row(whole, 0)), decoder.parts(row(whole, 0)))
        (state,) = decoder.step(decoder.words[2:3], [state], decoder.parts(row(whole, 0)))
        torch.testing.assert_close(after, -decoder.output(state).log_softmax(1)[0, word])


def test_attention_maps_sum_to_one_at_every_word() -> None:
    maps = build().image_attention(scene(), TEXTS)
    assert maps.shape == (len(TEXTS), T, 5)
    torch.testing.assert_close(maps.sum(2), torch.ones(len(TEXTS), T).double())
    exists = torch.cat(MASKS, 1)
    assert bool((maps.transpose(1, 2)[~exists] == 0).all())
    assert bool((maps.transpose(1, 2)[exists] > 0).all())


def test_padding_and_missing_texts_have_no_loss() -> None:
    decoder, whole = build(), scene()
    with torch.no_grad():
        wide = whole._replace(
            tokens=[F.pad(x, (0, 0, 0, 2), value=torch.nan) for x in whole.tokens], masks=[F.pad(x, (0, 2)) for x in whole.masks]
        )
        torch.testing.assert_close(decoder(wide, TEXTS), decoder(whole, TEXTS))
        torch.testing.assert_close(decoder(whole, F.pad(TEXTS, (0, 3)))[[0, 2, 3, 4], :T], decoder(whole, TEXTS)[[0, 2, 3, 4]])
        assert not bool(decoder(whole, F.pad(TEXTS, (0, 3)))[:, T + 1 :].any())
        garbage = TEXTS.clone()
        garbage[[0, 2, 3], -1] = 6
        torch.testing.assert_close(decoder(whole, garbage), decoder(whole, TEXTS), rtol=0, atol=0)
    found = decoder(whole, torch.zeros_like(TEXTS))
    assert found.tolist() == torch.zeros(len(TEXTS), T).tolist()


def test_word_affects_only_its_own_and_later_losses() -> None:
    decoder, whole = build(), scene()
    with torch.no_grad():
        before = decoder(whole, TEXTS)
        for position in range(T):
            changed = TEXTS.clone()
            changed[1, position] = 4
            after = decoder(whole, changed)
            assert torch.equal(after[[0, 2, 3, 4]], before[[0, 2, 3, 4]])
            torch.testing.assert_close(after[1, :position], before[1, :position], rtol=0, atol=0)
            assert bool((after[1, position:] != before[1, position:]).all())


@torch.no_grad()
def test_beam_scores_are_descending_and_equal_teacher_forcing() -> None:
    decoder, whole, length = build(), scene(), 4
    decoder.output.bias[0] -= 0.3
    found = decoder.search(whole, length, width=4)
    assert found.chosen.shape == (len(TEXTS), 4, length)
    assert bool((found.score.diff(dim=1) <= 0).all())
    lengths = found.lengths
    assert 0 < int((lengths < length).sum()) < lengths.numel()  # some texts end, some have the maximum length
    for position in range(4):
        text = found.chosen[:, position].clamp(min=0)
        loss = decoder(whole, text).sum(1)
        written = lengths[:, position] > 0  # a text without words has no loss
        torch.testing.assert_close(found.score[written, position], -loss[written])
        for n in range(len(TEXTS)):
            assert bool((text[n, : lengths[n, position]] > 0).all())
            assert not bool(text[n, lengths[n, position] :].any())


@torch.no_grad()
def test_beam_of_one_is_greedy_and_a_wide_one_finds_the_best() -> None:
    decoder, whole = build(), scene()
    decoder.output.bias[0] += 1.5
    for forbidden in ([], [1, 4]):
        one = decoder.search(whole, 6, width=1, forbidden=forbidden).chosen[:, 0].clamp(min=0)
        assert torch.equal(one, decoder.generate(whole, 6, forbidden=forbidden))
        assert not bool(torch.isin(one, torch.tensor(forbidden)).any())
    pairs = torch.cartesian_prod(torch.arange(1, V), torch.arange(V))  # all texts of one or two words
    for position in range(len(TEXTS)):
        images = row(whole, position)
        many = Scene(
            images.summary.expand(len(pairs), -1),
            [x.expand(len(pairs), -1, -1) for x in images.tokens],
            [x.expand(len(pairs), -1) for x in images.masks],
        )
        beams = decoder.search(images, 2, width=V * V)
        found = beams.chosen[0, beams.lengths[0] > 0][0].clamp(min=0)
        assert found.tolist() == pairs[decoder(many, pairs).sum(1).argmin()].tolist()


@torch.no_grad()
def test_search_is_deterministic() -> None:
    decoder, whole = build(), scene()
    first, second = (decoder.search(whole, 5) for _ in range(2))
    assert torch.equal(first.chosen, second.chosen)
    assert torch.equal(first.score, second.score)


def test_learns_the_comments_on_two_pairs() -> None:
    torch.manual_seed(0)
    decoder = CommentDecoder(V, 2, 2, word_dim=4, state_dim=8)
    masks = [torch.ones(2, 1, dtype=torch.bool)] * 2
    pairs, texts = (
        Scene(torch.zeros(2, 2), [torch.eye(2)[:, None], torch.ones(2, 1, 2)], masks),
        torch.tensor([[2, 3, 0, 0], [4, 5, 6, 0]]),
    )
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.05)
    for _ in range(80):
        optimizer.zero_grad()
        decoder(pairs, texts).sum().backward()
        optimizer.step()
    assert decoder.generate(pairs, 4).tolist() == texts.tolist()
