import math

import pytest
import torch

from gmmrec.nn.fusion.by_name import FUSIONS


@pytest.mark.parametrize("name", FUSIONS)
@pytest.mark.parametrize("dim", [3, 8])
def test_every_fusion_returns_one_vector_of_any_width(name: str, dim: int) -> None:
    torch.manual_seed(0)
    fused = FUSIONS[name](dim, 2)(torch.randn(5, 2, dim), None, torch.randn(5, dim))
    assert fused.shape == (5, dim)
    assert bool(fused.isfinite().all())


def test_heads_of_the_transformer_divide_the_width() -> None:
    for dim in (3, 4, 12, 64):
        heads = [module.num_heads for module in FUSIONS["vision_language"](dim, 2).modules() if hasattr(module, "num_heads")]
        assert heads
        assert set(heads) == {math.gcd(dim, 8)}


def test_unknown_fusion_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"^unknown fusion 'self_atention'; the nearest known name is 'self_attention'$"):
        FUSIONS["self_atention"](4, 2)
