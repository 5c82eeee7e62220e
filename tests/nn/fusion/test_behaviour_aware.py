import pytest
import torch

from gmmrec.nn.fusion.behaviour_aware import BehaviourAwareFusion

N, M, D = 5, 3, 4


def build(scale: str = "code") -> tuple[BehaviourAwareFusion, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return BehaviourAwareFusion(D, M, scale=scale).double(), torch.randn(N, M, D).double(), torch.randn(N, D).double()


@pytest.mark.parametrize("scale", ["paper", "code"])
def test_equals_the_dense_formula(scale) -> None:
    fusion, tokens, query = build(scale)
    mask = torch.rand(N, M) < 0.7
    mask[0], mask[1] = False, True
    hidden, _, logit = fusion.share.logits[0]
    with torch.no_grad():
        fused, weights = fusion(tokens.masked_fill(~mask[..., None], 99.0), mask, query, return_weights=True)
        for n in range(N):
            there = [m for m in range(M) if mask[n, m]]
            chance = {m: torch.exp(logit.weight[0] @ torch.tanh(hidden.weight @ tokens[n, m] + hidden.bias)) for m in there}
            share = {m: chance[m] / sum(chance.values()) for m in there}
            shared = sum((share[m] * tokens[n, m] for m in there), torch.zeros(D).double())
            preferred = torch.zeros(D).double()
            for m in there:
                rows = slice(m * D, (m + 1) * D)
                preferred += torch.sigmoid(fusion.gates.weight[rows] @ query[n] + fusion.gates.bias[rows]) * (tokens[n, m] - shared)
            expected = shared + preferred / M if scale == "paper" else (shared + preferred) / (M + 1)
            torch.testing.assert_close(fused[n], expected)
            assert weights[n].tolist() == pytest.approx([float(share.get(m, 0.0)) for m in range(M)])


@pytest.mark.parametrize(("scale", "factor"), [("paper", 1.0), ("code", 1 / (M + 1))])
def test_the_same_token_thrice_has_nothing_specific(scale, factor) -> None:
    fusion, tokens, query = build(scale)
    torch.testing.assert_close(fusion(tokens[:, :1].expand(N, M, D), None, query), factor * tokens[:, 0])


def test_without_a_query_the_remedy_is_named() -> None:
    fusion, tokens, _ = build()
    with pytest.raises(ValueError, match="behaviour-aware fusion needs a query"):
        fusion(tokens)


def test_an_unknown_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="scale must be 'paper' or 'code', but is 'notes'"):
        BehaviourAwareFusion(D, M, scale="notes")
