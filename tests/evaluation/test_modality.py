import pytest
import torch
from torch import Tensor

from gmmrec.data.features import FeatureTable
from gmmrec.evaluation import modality
from gmmrec.evaluation.modality import average_difference

N, D = 31, 5


def features(seed: int = 0) -> Tensor:
    return torch.randn(N, D, generator=torch.Generator().manual_seed(seed))


def slow(vectors: Tensor, table: FeatureTable) -> float:
    rows = table.present.nonzero().flatten().tolist()
    e, f = vectors.double(), table.pooled.double()
    cos = torch.nn.functional.cosine_similarity
    return sum(float((cos(f[j], f[k], dim=0) - cos(e[j], e[k], dim=0)).abs()) for j in rows for k in rows if j != k) / (
        len(rows) * (len(rows) - 1)
    )


def test_equals_the_mean_over_all_pairs(monkeypatch) -> None:
    mask = torch.ones(N, dtype=torch.bool)
    mask[[3, 8]] = False
    table, vectors = FeatureTable("image", features(), mask), features(1)[:, :3]
    assert average_difference(vectors, table) == pytest.approx(slow(vectors, table), rel=1e-5)
    monkeypatch.setattr(modality, "BLOCK", 40)
    assert average_difference(vectors, table) == pytest.approx(slow(vectors, table), rel=1e-5)


@pytest.mark.parametrize("num_pairs", [None, 100])
def test_scaled_and_rotated_features_are_preserved(num_pairs) -> None:
    table = FeatureTable("image", features())
    rotation = torch.linalg.qr(features(2)[:D]).Q
    for vectors in (3.7 * table.values, table.values @ rotation, table.values * torch.rand(N, 1) + 1e-3 * table.values):
        assert average_difference(vectors, table, num_pairs=num_pairs) == pytest.approx(0, abs=1e-6)
    assert average_difference(features(1), table, num_pairs=num_pairs) > 0.1


def test_is_at_most_two() -> None:
    plus, minus = torch.tensor([[1.0], [1.0]]), torch.tensor([[1.0], [-1.0]])
    assert average_difference(plus, FeatureTable("image", minus)) == 2
    for seed in range(5):
        assert 0 <= average_difference(features(seed), FeatureTable("image", features(seed + 1))) <= 2


def test_random_pairs_estimate_the_mean(monkeypatch) -> None:
    monkeypatch.setattr(modality, "BLOCK", 1000)  # many chunks
    table, vectors = FeatureTable("image", features()), features(1)
    estimate = average_difference(vectors, table, num_pairs=20_000, generator=torch.Generator().manual_seed(0))
    assert estimate == pytest.approx(slow(vectors, table), rel=0.02)


def test_random_pairs_are_of_different_items() -> None:
    plus, minus = torch.tensor([[1.0], [1.0]]), torch.tensor([[1.0], [-1.0]])
    assert average_difference(plus, FeatureTable("image", minus), num_pairs=50) == 2


def test_bad_input_is_refused() -> None:
    table = FeatureTable("image", features())
    with pytest.raises(ValueError, match="30 vectors for 31 rows of 'image'"):
        average_difference(features()[:30], table)
    with pytest.raises(ValueError, match="two items with 'image', but found 0"):
        average_difference(features(), FeatureTable("image", features(), torch.zeros(N, dtype=torch.bool)))
    with pytest.raises(ValueError, match="num_pairs must be at least 1"):
        average_difference(features(), table, num_pairs=0)
