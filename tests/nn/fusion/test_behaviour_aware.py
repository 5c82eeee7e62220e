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
            present = [m for m in range(M) if mask[n, m]]
            powers = {m: torch.exp(logit.weight[0] @ torch.tanh(hidden.weight @ tokens[n, m] + hidden.bias)) for m in present}
            shares = {m: powers[m] / sum(powers.values()) for m in present}
            shared = sum((shares[m] * tokens[n, m] for m in present), torch.zeros(D).double())
            preferred = torch.zeros(D).double()
            for m in present:
                rows = slice(m * D, (m + 1) * D)
                preferred += torch.sigmoid(fusion.gates.weight[rows] @ query[n] + fusion.gates.bias[rows]) * (tokens[n, m] - shared)
            expected = shared + preferred / M if scale == "paper" else (shared + preferred) / (M + 1)
            torch.testing.assert_close(fused[n], expected)
            assert weights[n].tolist() == pytest.approx([float(shares.get(m, 0.0)) for m in range(M)])


@pytest.mark.parametrize(("scale", "factor"), [("paper", 1.0), ("code", 1 / (M + 1))])
def test_equal_tokens_have_no_specific_part(scale, factor) -> None:
    fusion, tokens, query = build(scale)
    torch.testing.assert_close(fusion(tokens[:, :1].expand(N, M, D), None, query), factor * tokens[:, 0])


def test_missing_query_is_rejected() -> None:
    fusion, tokens, _ = build()
    with pytest.raises(ValueError, match="behaviour-aware fusion needs a query"):
        fusion(tokens)


def test_unknown_scale_is_rejected() -> None:
    with pytest.raises(ValueError, match="scale must be 'paper' or 'code', but is 'notes'"):
        BehaviourAwareFusion(D, M, scale="notes")
