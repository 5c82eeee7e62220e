"""The recurrence follows the equations for every row and candidate."""

import math

import pytest
import torch
from torch import Tensor, nn

from gmmrec.nn.sequence import attentional_gru
from gmmrec.nn.sequence.attentional_gru import AttentionalGRU
from tests.nn.fusion.checks import assert_never_read, random, random_mask, softmax

N, L, C, D, H = 5, 6, 3, 4, 3
MODES = ("update", "input", "post")


def build(mode: str = "update", **settings) -> AttentionalGRU:
    torch.manual_seed(0)
    gru = AttentionalGRU(D, H, mode, **settings).double()
    for parameter in gru.parameters():
        parameter.data.mul_(2)
    return gru


def sample(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return tokens, candidates, and a mask with an empty row, a full row and gaps."""
    return random(N, L, D, seed=seed), random(N, C, D, seed=seed + 1), random_mask(N, L, seed=seed + 2)


def slow_step(gru: AttentionalGRU, h: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """Return update gate and proposal."""
    wz, wr, wg = gru.input.weight.split(H)
    bz, br, bg = gru.input.bias.split(H)
    uz, ur = gru.gates.weight.split(H)
    z, r = (1 / (1 + torch.exp(-(w @ h + u @ g + b))) for w, u, b in ((wz, uz, bz), (wr, ur, br)))
    return z, torch.tanh(wg @ h + gru.made.weight @ (r * g) + bg)


def slow_relevance(gru: AttentionalGRU, tokens: list[Tensor], c: Tensor) -> list[Tensor]:
    return softmax([h @ gru.relevance.weight.T @ c / math.sqrt(D) for h in tokens])


def slow(gru: AttentionalGRU, tokens: list[Tensor], c: Tensor) -> Tensor:
    """Compute the final state of one row, without its missing steps, for one candidate."""
    g, states = torch.zeros(H).double(), []
    shares = slow_relevance(gru, tokens, c) if gru.mode in ("update", "input") else [1.0] * len(tokens)
    for h, share in zip(tokens, shares, strict=True):
        z, proposal = slow_step(gru, share * h if gru.mode == "input" else h, g)
        z = share * z if gru.mode == "update" else z
        g = (1 - z) * g + z * proposal
        states.append(g)
    if gru.mode != "post":
        return g
    w = gru.logit.weight[0]
    shares = softmax([w @ torch.tanh(gru.key.weight @ g + gru.query.weight @ c + gru.key.bias) for g in states])
    return sum((share * g for share, g in zip(shares, states, strict=True)), torch.zeros(H).double())


@pytest.mark.parametrize("mode", [*MODES, "plain"])
def test_states_equal_the_equations_in_loops(mode) -> None:
    gru, (tokens, query, mask) = build(mode), sample()
    found = gru(tokens, query, mask).expand(-1, C, -1)
    expected = [[slow(gru, list(tokens[n][mask[n]]), query[n, c]) for c in range(C)] for n in range(N)]
    torch.testing.assert_close(found, torch.stack([torch.stack(row) for row in expected]))


@pytest.mark.parametrize("mode", MODES)
def test_weights_sum_to_one_and_missing_steps_have_none(mode) -> None:
    gru, (tokens, query, mask) = build(mode), sample()
    weights = gru.weights(gru.read(tokens, mask), query)
    assert weights.shape == (N, C, L)
    torch.testing.assert_close(weights.sum(2), mask.any(1, keepdim=True).double().expand(N, C))
    assert bool((weights.transpose(1, 2)[~mask] == 0).all())
    assert bool((weights.transpose(1, 2)[mask] > 0).all())


def test_weights_of_zero_keep_the_state_and_weights_of_one_make_an_ordinary_gru() -> None:
    gru, (tokens, _, mask) = build(), sample()
    start = random(N, C, H, seed=5)
    nothing = gru(tokens, mask=mask, weights=torch.zeros(N, C, L).double(), initial=start)
    assert torch.equal(nothing, start)
    everything = gru(tokens, mask=mask, weights=torch.ones(N, 1, L).double())
    torch.testing.assert_close(
        everything[:, 0], torch.stack([slow(build("plain"), list(tokens[n][mask[n]]), None) for n in range(N)])
    )
    torch.testing.assert_close(everything, build("plain")(tokens, mask=mask))


def test_ordinary_gru_equals_that_of_torch_without_resets() -> None:
    """Torch applies the reset gate after the product, and its update gate keeps what ours replaces: equal if nothing is reset."""
    gru, (tokens, _, _) = build(), sample()
    gru.input.bias.data[H : 2 * H] = 100.0  # r = 1
    other = nn.GRU(D, H, batch_first=True).double()
    order = torch.cat([torch.arange(H, 2 * H), torch.arange(H), torch.arange(2 * H, 3 * H)])  # torch: r, z, new
    sign = torch.ones(3 * H).double()
    sign[H : 2 * H] = -1
    with torch.no_grad():
        other.weight_ih_l0.copy_(sign[:, None] * gru.input.weight[order])
        other.bias_ih_l0.copy_(sign * gru.input.bias[order])
        other.weight_hh_l0.copy_(sign[:, None] * torch.cat([gru.gates.weight, gru.made.weight])[order])
        other.bias_hh_l0.zero_()
    found = gru(tokens, weights=torch.ones(N, 1, L).double())
    torch.testing.assert_close(found[:, 0], other(tokens)[1][0])


def test_every_state_lies_between_the_previous_one_and_the_proposal() -> None:
    gru, (tokens, query, _) = build(), sample()
    previous = torch.zeros(N, C, H).double()
    steps = gru.read(tokens)
    weights = gru.weights(steps, query)
    for position in range(L):
        after = gru(tokens[:, : position + 1], weights=weights[:, :, : position + 1])
        proposal = torch.stack(
            [torch.stack([slow_step(gru, tokens[n, position], previous[n, c])[1] for c in range(C)]) for n in range(N)]
        )
        least, most = torch.minimum(previous, proposal), torch.maximum(previous, proposal)
        assert bool(((after >= least - 1e-12) & (after <= most + 1e-12)).all())
        assert bool((after.abs() <= 1).all())
        previous = after
    torch.testing.assert_close(previous, gru(tokens, query))


@pytest.mark.parametrize("mode", [*MODES, "plain"])
def test_order_matters(mode) -> None:
    gru, (tokens, query, _) = build(mode), sample()
    assert bool(((gru(tokens.flip(1), query) - gru(tokens, query)).abs().amax(-1) > 1e-4).all())


@pytest.mark.parametrize("mode", MODES)
def test_candidates_are_independent(mode) -> None:
    gru, (tokens, query, mask) = build(mode), sample()
    whole = gru(tokens, query, mask)
    for c in range(C):
        torch.testing.assert_close(gru(tokens, query[:, [c]], mask)[:, 0], whole[:, c])


@pytest.mark.parametrize("mode", [*MODES, "plain"])
@pytest.mark.parametrize("attend", [True, False])
def test_missing_steps_are_never_read_and_leave_the_state_unchanged(mode, attend) -> None:
    gru, (tokens, query, mask) = build(mode, attend=attend), sample()
    assert_never_read(lambda x: gru(x, query, mask), tokens, mask, gru)
    assert bool((gru(tokens, query, mask)[0] == 0).all())  # no step exists
    wider = torch.cat([tokens, random(N, 2, D, seed=8)], dim=1), query, torch.cat([mask, torch.zeros(N, 2).bool()], dim=1)
    torch.testing.assert_close(gru(*wider), gru(tokens, query, mask))


@pytest.mark.parametrize("mode", [*MODES, "plain"])
def test_chunks_and_shared_candidates_do_not_change_the_output(mode, monkeypatch) -> None:
    gru, (tokens, query, mask) = build(mode), sample()
    whole = gru(tokens, query, mask)
    gradient = torch.autograd.grad(whole.square().sum(), gru.input.weight)[0]
    monkeypatch.setattr(attentional_gru, "CELLS", 1)
    monkeypatch.setattr(attentional_gru, "CACHED", 1)
    chunked = gru(tokens, query, mask)
    torch.testing.assert_close(chunked, whole)
    torch.testing.assert_close(torch.autograd.grad(chunked.square().sum(), gru.input.weight)[0], gradient)
    with torch.no_grad():
        torch.testing.assert_close(gru(tokens, query, mask), whole)
        torch.testing.assert_close(gru(tokens, query[:1], mask), gru(tokens, query[:1].expand(N, -1, -1), mask))


def test_without_attention_weights_are_uniform() -> None:
    gru, (tokens, query, mask) = build(attend=False), sample()
    shares = (mask.double() / mask.sum(1, keepdim=True).clamp(min=1)).unsqueeze(1)
    torch.testing.assert_close(gru(tokens, query, mask), gru(tokens, mask=mask, weights=shares))
    assert gru(tokens, query, mask).shape == (N, 1, H)


def test_missing_query_is_rejected() -> None:
    with pytest.raises(ValueError, match="an attentional GRU needs a query; pass candidate vectors"):
        build()(sample()[0])


def test_unknown_mode_is_rejected() -> None:
    with pytest.raises(ValueError, match="mode must be 'update', 'input', 'post' or 'plain', but is 'pre'"):
        AttentionalGRU(D, H, "pre")
