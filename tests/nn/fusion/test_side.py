import pytest
import torch
from torch import Tensor

from gmmrec.nn.attention import attend
from gmmrec.nn.fusion.side import SideFusion
from tests.nn.fusion.checks import assert_never_read, assert_same, random, random_mask, softmax

N, M, D = 6, 3, 4
FORMS = [("add", "softmax"), ("concat", "softmax"), ("gate", "softmax"), ("gate", "sigmoid")]


@pytest.fixture(params=FORMS, ids="-".join)
def fusion(request) -> SideFusion:
    torch.manual_seed(0)
    form, gate = request.param
    return SideFusion(D, M, form=form, gate=gate).double()


def slow(fusion: SideFusion, side: Tensor, mask: Tensor | None, ids: Tensor) -> Tensor:
    rows, parameters = [], dict(fusion.named_parameters())
    for n in range(N):
        f = {0: ids[n], **{1 + m: side[n, m] for m in range(M) if mask is None or mask[n, m]}}
        if "fuse.project.weight" in parameters:
            weight = parameters["fuse.project.weight"]
            rows.append(parameters["fuse.project.bias"] + sum(weight[:, i * D : (i + 1) * D] @ x for i, x in f.items()))
            continue
        gates = dict.fromkeys(f, 1.0)
        if parameters:
            logits = [parameters["fuse.logits.0.weight"][0] @ x for x in f.values()]
            shares = softmax(logits) if fusion.fuse.gate == "softmax" else [torch.sigmoid(logit) for logit in logits]
            gates = dict(zip(f, shares, strict=True))
        rows.append(sum(gates[i] * x for i, x in f.items()))
    return torch.stack(rows)


@pytest.mark.parametrize("masked", [False, True])
def test_equals_the_formula_in_loops(fusion, masked) -> None:
    mask = random_mask(N, M) if masked else None
    side, ids = random(N, M, D).requires_grad_(), random(N, D, seed=1).requires_grad_()
    assert_same(fusion(side, mask, ids), slow(fusion, side, mask, ids), fusion, side, ids)


def test_masked_values_are_never_read(fusion) -> None:
    mask, ids = random_mask(N, M), random(N, D, seed=1)
    assert_never_read(lambda x: fusion(x, mask, ids), random(N, M, D), mask, fusion)


def heads(fusion: SideFusion, side: Tensor, ids: Tensor, *, zero_query: bool = False) -> tuple[Tensor, Tensor]:
    """Attend with queries and keys computed from IDs and side information, and values from IDs only."""
    w_q, w_k, w_v = (random(D, D, seed=10 + i) for i in range(3))
    out = fusion(side, None, ids)
    return attend(out @ (w_q * (not zero_query)), out @ w_k, ids @ w_v, return_weights=True)


def test_side_information_affects_the_weights_only(fusion) -> None:
    ids, side, other = random(N, D), random(N, M, D, seed=1).requires_grad_(), random(N, M, D, seed=2)
    # a single token returns its value
    assert torch.equal(heads(fusion, side[:1], ids[:1])[0], heads(fusion, other[:1], ids[:1])[0])
    uniform, weights = heads(fusion, side, ids, zero_query=True)
    torch.testing.assert_close(weights, torch.full((1, N, N), 1 / N).double())
    assert torch.equal(uniform, heads(fusion, other, ids, zero_query=True)[0])
    out, weights = heads(fusion, side, ids)
    assert bool(torch.autograd.grad(weights[0, 0, 0], side, retain_graph=True)[0].any())
    factor = random(N, D, seed=5)
    (total,) = torch.autograd.grad((out * factor).sum(), side, retain_graph=True)
    (via_weights,) = torch.autograd.grad((weights[0] @ (ids @ random(D, D, seed=12)) * factor).sum(), side)  # values held fixed
    torch.testing.assert_close(total, via_weights)


def test_attention_rows_sum_to_one_and_the_shape_is_that_of_the_ids(fusion) -> None:
    out, weights = heads(fusion, random(2, N, M, D), random(2, N, D, seed=1))
    assert out.shape == (2, N, D)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 1, N).double())


def test_id_is_unchanged_without_side_information() -> None:
    ids = random(N, D)
    assert torch.equal(SideFusion(D, 0, form="add")(random(N, 0, D), None, ids), ids)
    for form in ("add", "gate"):
        nothing = SideFusion(D, M, form=form).double()(random(N, M, D), torch.zeros(N, M, dtype=torch.bool), ids)
        torch.testing.assert_close(nothing, ids)


def test_order_of_items_with_equal_side_information_does_not_matter(fusion) -> None:
    ids, side, order = random(N, D), random(M, D, seed=1).expand(N, M, D), torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(heads(fusion, side, ids[order])[0], heads(fusion, side, ids)[0][order])


def test_zero_logits_give_uniform_gates() -> None:
    side, ids = random(2, N, M, D), random(2, N, D, seed=1)
    all_tokens = torch.cat([ids.unsqueeze(2), side], 2)
    for gate, factor in (("softmax", 1 / (M + 1)), ("sigmoid", 0.5)):
        fusion = SideFusion(D, M, gate=gate).double()
        weights = fusion(side, None, ids, return_weights=True)[1]
        assert weights.shape == (2, N, 1 + M)
        if gate == "softmax":
            torch.testing.assert_close(weights.sum(-1), torch.ones(2, N).double())
        for parameter in fusion.parameters():
            parameter.data.zero_()
        torch.testing.assert_close(fusion(side, None, ids), factor * all_tokens.sum(2))


def test_invalid_arguments_are_rejected() -> None:
    with pytest.raises(ValueError, match="side fusion needs a query"):
        SideFusion(D, M)(random(N, M, D))
    with pytest.raises(ValueError, match="form must be 'add', 'concat' or 'gate', but is 'max'"):
        SideFusion(D, M, form="max")
