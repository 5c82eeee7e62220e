import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gmmrec.nn.fusion.cross_modal import CrossModalFusion, ScalarTokens

N, P, T, DX, DY, H = 4, 3, 5, 4, 6, 2
DL, DR = 6, 4  # widths of the streams
X_MASK = torch.tensor([[1, 1, 1], [0, 1, 1], [1, 1, 0], [0, 0, 0]]).bool()
Y_MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [0, 1, 0, 0, 1]]).bool()
FORMS = [
    {},
    {"residual": True},
    {"num_layers": 2},
    {"num_layers": 2, "ffn_mult": 1, "left_groups": (1, 2), "right_groups": (1, 1, 3)},
]


def build(**settings) -> CrossModalFusion:
    torch.manual_seed(0)
    fusion = CrossModalFusion(DX, DY, heads=H, left_head_dim=DL // H, right_head_dim=DR // H, **settings).double()
    for name, p in fusion.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(p)  # else the means of normalised tokens are all zero
    return fusion


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(N, P, DX, generator=generator).double(), torch.randn(N, T, DY, generator=generator).double()


def slow_attention(attention, own: list[Tensor], other: list[Tensor]) -> tuple[list[Tensor], dict[tuple[int, int, int], Tensor]]:
    width = attention.query.out_features // H
    messages, weights = [], {}
    for q, x in enumerate(own):
        parts = []
        for h in range(H):
            rows = slice(h * width, (h + 1) * width)
            query, key, value = (layer.weight[rows] for layer in (attention.query, attention.key, attention.value))
            chances = [torch.exp((query @ x) @ (key @ y) / width**0.5) for y in other]
            shares = [c / sum(chances) for c in chances]
            weights |= {(h, q, t): share for t, share in enumerate(shares)}
            parts.append(sum((s * (value @ y) for s, y in zip(shares, other, strict=True)), torch.zeros(width).double()))
        messages.append(torch.cat(parts))
    return messages, weights


def slow_stream(stream, own: list[Tensor], other: list[Tensor]) -> tuple[list[Tensor], dict[tuple[int, int, int], Tensor]]:
    context, weights = slow_attention(stream.cross, own, other)
    if stream.residual or not other:
        context = [c + stream.cross.query.weight @ x for c, x in zip(context, own, strict=True)]
    among, _ = slow_attention(stream.own, context, context)
    out = []
    for c, d in zip(context, among, strict=True):
        e = F.layer_norm(c + d, c.shape, stream.norm.weight, stream.norm.bias)
        inner = F.relu(stream.ffn[0].weight @ e + stream.ffn[0].bias)
        wide = e + stream.ffn[2].weight @ inner + stream.ffn[2].bias
        out.append(F.layer_norm(wide, c.shape, stream.ffn_norm.weight, stream.ffn_norm.bias))
    return out, weights


def slow(fusion: CrossModalFusion, x: Tensor, y: Tensor) -> Tensor:
    results = []
    for n in range(N):
        positions = [[t for t in range(m.shape[1]) if m[n, t]] for m in (X_MASK, Y_MASK)]
        left, right = ([tokens[n, t] for t in there] for tokens, there in zip((x, y), positions, strict=True))
        for of_left, of_right in zip(fusion.left, fusion.right, strict=True):
            left, right = slow_stream(of_left, left, right)[0], slow_stream(of_right, right, left)[0]
        parts = []
        for tokens, there, groups, count, width in (
            (left, positions[0], fusion.left_groups, P, DL),
            (right, positions[1], fusion.right_groups, T, DR),
        ):
            start = 0
            for size in groups or (count,):
                group = [token for token, t in zip(tokens, there, strict=True) if start <= t < start + size]
                parts.append(sum(group) / len(group) if group else torch.zeros(width).double())
                start += size
        results.append(torch.cat(parts))
    return torch.stack(results)


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_equals_the_formula_in_values_and_gradients(settings) -> None:
    fusion = build(**settings)
    x, y = (t.requires_grad_() for t in inputs())
    fused, expected = fusion(x, y, X_MASK, Y_MASK), slow(fusion, x, y)
    torch.testing.assert_close(fused, expected)
    wanted = [x, y, *fusion.parameters()]
    factor = torch.randn(fused.shape, generator=torch.Generator().manual_seed(2)).double()
    found = torch.autograd.grad((fused * factor).sum(), wanted, allow_unused=True)
    for f, e in zip(found, torch.autograd.grad((expected * factor).sum(), wanted, allow_unused=True), strict=True):
        torch.testing.assert_close(f, e)


def test_a_case_by_hand() -> None:
    fusion = CrossModalFusion(1, 1, heads=1, left_head_dim=2, right_head_dim=2)
    for stream in (*fusion.left, *fusion.right):
        for weight in (stream.cross.query.weight, stream.cross.key.weight, stream.own.value.weight, stream.ffn[2].weight):
            torch.nn.init.zeros_(weight)  # every weight is equal, and self-attention and the feed-forward layer add nothing
        torch.nn.init.zeros_(stream.ffn[2].bias)
        stream.cross.value.weight.data = torch.tensor([[1.0], [3.0]])
    fused, weights = fusion(torch.tensor([[[5.0], [7.0]]]), torch.tensor([[[1.0], [2.0], [6.0]]]), return_weights=True)
    # the left stream reads 3 (1, 3), the right one 6 (1, 3); both are normalised to (-1, 1)
    assert fused.flatten().tolist() == pytest.approx([-1, 1, -1, 1], abs=1e-5)
    assert weights.left_cross.flatten().tolist() == pytest.approx([1 / 3] * 6)
    assert weights.right_cross.flatten().tolist() == [0.5] * 6


def test_shapes_of_streams_and_width_of_the_result() -> None:
    x, y = inputs()
    fusion = build(right_groups=(1, 1, 3), num_layers=2)  # two fields and a text of three words
    left, right = fusion.streams(x, y, X_MASK, Y_MASK)
    assert (left.shape, right.shape) == ((N, P, DL), (N, T, DR))
    fused = fusion(x, y, X_MASK, Y_MASK)
    assert fused.shape == (N, fusion.out_dim)
    assert fusion.out_dim == DL + (2 + 1) * DR
    torch.testing.assert_close(fused[:, DL : DL + DR], right[:, 0])  # a field is kept as it is
    torch.testing.assert_close(fused[1, -DR:], (right[1, 2] + right[1, 3]) / 2)


def test_weights_sum_to_one_and_missing_tokens_are_nobodys_keys() -> None:
    x, y = inputs()
    weights = build(num_layers=2)(x, y, X_MASK, Y_MASK, return_weights=True)[1]
    expected = {"left_cross": (P, Y_MASK), "left_self": (P, X_MASK), "right_cross": (T, X_MASK), "right_self": (T, Y_MASK)}
    for name, (queries, keys) in expected.items():
        found = getattr(weights, name)
        assert found.shape == (N, 2, H, queries, keys.shape[1])
        assert bool((found >= 0).all())
        torch.testing.assert_close(found.sum(-1), keys.any(1).double()[:, None, None, None].expand(found.shape[:-1]))
        assert bool((found.movedim(-1, 1)[~keys] == 0).all())


def test_weights_are_those_of_the_formula() -> None:
    fusion = build()
    x, y = inputs()
    found = fusion(x, y, X_MASK, return_weights=True)[1].left_cross
    expected = slow_attention(fusion.left[0].cross, list(x[0]), list(y[0]))[1]
    for (h, q, t), share in expected.items():
        torch.testing.assert_close(found[0, 0, h, q, t], share)


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_values_under_masks_are_never_read(settings) -> None:
    fusion = build(**settings)
    results = []
    for hidden in (0.0, torch.nan):
        x, y = (t.masked_fill(~m.unsqueeze(-1), hidden).requires_grad_() for t, m in zip(inputs(), (X_MASK, Y_MASK), strict=True))
        fusion.zero_grad()
        fused = fusion(x, y, X_MASK, Y_MASK)
        fused.square().sum().backward()
        streams = fusion.streams(x, y, X_MASK, Y_MASK)
        results.append([fused.detach(), *(s.detach() for s in streams), x.grad, y.grad, *(p.grad for p in fusion.parameters())])
    for calm, wild in zip(*results, strict=True):
        assert torch.equal(calm, wild)
        assert not bool(calm.isnan().any())


def test_the_left_stream_reads_the_right_one_only_in_layers() -> None:
    x, y = inputs()
    for layers, differs in ((1, True), (0, False)):
        fusion = build(num_layers=layers)
        before, after = fusion(x, y)[:, :DX], fusion(x, y + 1)[:, :DX]
        assert bool((before != after).any()) == differs
    torch.testing.assert_close(fusion(x, y, X_MASK)[1], torch.cat([(x[1, 1] + x[1, 2]) / 2, y[1].mean(0)]))


@pytest.mark.parametrize("side", [0, 1])
def test_both_streams_read_what_the_other_was_before_the_layer(side) -> None:
    fusion = build(num_layers=2)
    x, y = inputs()
    before = fusion.streams(x, y)
    torch.nn.init.normal_((fusion.left, fusion.right)[side][1].norm.weight)  # one stream's last layer
    after = fusion.streams(x, y)
    torch.testing.assert_close(after[1 - side], before[1 - side])
    assert not torch.allclose(after[side], before[side])


def test_exchanging_inputs_and_parameters_exchanges_streams() -> None:
    fusion = build(num_layers=2)
    mirrored = CrossModalFusion(DY, DX, heads=H, left_head_dim=DR // H, right_head_dim=DL // H, num_layers=2).double()
    names = {"left": "right", "right": "left"}
    state = fusion.state_dict()
    mirrored.load_state_dict({names[key.split(".")[0]] + key[key.index(".") :]: value for key, value in state.items()})
    x, y = inputs()
    torch.testing.assert_close(mirrored.streams(y, x, Y_MASK, X_MASK), fusion.streams(x, y, X_MASK, Y_MASK)[::-1])


def test_permuting_tokens_permutes_the_stream_and_leaves_its_mean() -> None:
    fusion = build(num_layers=2)
    x, y = inputs()
    order = torch.tensor([2, 0, 1])
    left, right = fusion.streams(x, y, X_MASK, Y_MASK)
    moved = fusion.streams(x[:, order], y, X_MASK[:, order], Y_MASK)
    torch.testing.assert_close(moved, (left[:, order], right))
    torch.testing.assert_close(fusion(x[:, order], y, X_MASK[:, order], Y_MASK), fusion(x, y, X_MASK, Y_MASK))


def test_a_single_token_is_all_that_is_read_of_the_other_side() -> None:
    x, y = inputs()
    for settings, depends in (({}, False), ({"residual": True}, True)):
        fusion = build(**settings)
        messages, _ = fusion.left[0].cross(x, y[:, :1], None, weights := [])
        torch.testing.assert_close(messages, (y[:, :1] @ fusion.left[0].cross.value.weight.T).expand(N, P, DL))
        assert bool((weights[0] == 1).all())
        here, there = fusion(x, y[:, :1])[:, :DL], fusion(x + torch.randn_like(x), y[:, :1])[:, :DL]
        assert torch.allclose(here, there) != depends


def test_where_a_modality_is_missing_only_the_other_is_left() -> None:
    fusion = build(num_layers=2)
    x, y = inputs()
    fused = fusion(x, y, X_MASK, Y_MASK)
    assert bool(fused.isfinite().all())
    assert bool((fused[2, DL:] == 0).all())  # no right tokens
    assert bool((fused[3, :DL] == 0).all())  # no left ones
    assert not torch.allclose(fused[2, :DL], fusion(-x, y, X_MASK, Y_MASK)[2, :DL])  # still of its own tokens
    empty = torch.zeros(N, 0, DY).double()
    torch.testing.assert_close(fusion(x, empty, None, torch.zeros(N, 0).bool())[0, :DL], fusion(x, y, None, Y_MASK & False)[0, :DL])
    nothing = fusion(x, y, X_MASK & False, Y_MASK & False)
    assert bool((nothing == 0).all())


def test_full_masks_are_no_masks_and_leading_axes_are_free() -> None:
    fusion = build()
    x, y = inputs()
    torch.testing.assert_close(fusion(x, y, X_MASK | True, Y_MASK | True), fusion(x, y))
    torch.testing.assert_close(
        fusion(*(t.unflatten(0, (2, 2)) for t in (x, y, X_MASK, Y_MASK))).flatten(0, 1), fusion(x, y, X_MASK, Y_MASK)
    )


@pytest.mark.parametrize("settings", [{}, {"residual": True}, {"num_layers": 0}], ids=str)
def test_leading_axes_are_broadcast(settings) -> None:
    fusion = build(**settings)
    x, y = inputs()
    pairs = fusion(x, y[:, None], X_MASK, Y_MASK[:, None])
    assert pairs.shape == (N, N, fusion.out_dim)
    for n in range(N):
        torch.testing.assert_close(pairs[n], fusion(x, y[n].expand_as(y), X_MASK, Y_MASK[n].expand_as(Y_MASK)))


def test_the_fused_kernel_gives_what_weights_give() -> None:
    fusion = build(num_layers=2)
    parts = (*inputs(), X_MASK, Y_MASK)
    torch.testing.assert_close(fusion(*parts), fusion(*parts, return_weights=True)[0])


def test_dropout_acts_in_training_alone() -> None:
    x, y = inputs()
    for settings in ({"dropout": 0.5}, {"attention_dropout": 0.5}):
        fusion = build(**settings)
        assert not torch.equal(fusion(x, y), fusion(x, y))
        torch.testing.assert_close(fusion.eval()(x, y), build().eval()(x, y))


def test_scalar_tokens_are_projected_numbers_times_directions() -> None:
    torch.manual_seed(0)
    spread = ScalarTokens(3, 5, 2).double()
    x = torch.randn(4, 3).double()
    tokens = spread(x)
    assert tokens.shape == (4, 5, 2)
    for n in range(4):
        for p in range(5):
            number = spread.scale.weight[p] @ x[n] + spread.scale.bias[p]
            torch.testing.assert_close(tokens[n, p], number * spread.directions[p])


def test_tokens_of_a_vector_together_are_their_sum() -> None:
    torch.manual_seed(0)
    for in_dim, x in ((3, torch.randn(4, 3)), (None, torch.randn(4, 5))):
        spread = ScalarTokens(in_dim, 5, 2)
        torch.testing.assert_close(spread.together(x), spread(x).sum(-2))
    torch.testing.assert_close(spread(x), x.unsqueeze(-1) * spread.directions)


def test_groups_must_be_of_all_tokens() -> None:
    with pytest.raises(ValueError, match=r"groups \(1, 1\) are of 2 tokens, but there are 3"):
        build(left_groups=(1, 1))(*inputs())


def test_without_layers_there_are_no_weights() -> None:
    with pytest.raises(ValueError, match="num_layers=0 has no attention"):
        build(num_layers=0)(*inputs(), return_weights=True)
