"""Intervals and tests against exact enumeration, theory and scipy."""

from itertools import product

import pytest
import torch
from scipy.stats import bootstrap, norm

from gmmrec.evaluation import significance
from gmmrec.evaluation.significance import bootstrap_intervals, holm, mean_intervals, sign_flip_test, wilcoxon_test


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_interval_agrees_with_scipy_and_theory():
    values = torch.rand(400, generator=seeded()).square()
    low, high = bootstrap_intervals({"a": values}, 20_000, seeded())["a"]
    peer = bootstrap((values.numpy(),), lambda x, axis: x.mean(axis), n_resamples=5000, method="percentile", rng=1)
    error = float(values.std() / 20)
    assert low == pytest.approx(peer.confidence_interval.low, abs=0.05 * error)
    assert high == pytest.approx(peer.confidence_interval.high, abs=0.05 * error)
    assert (high - low) / 2 == pytest.approx(norm.ppf(0.975) * error, rel=0.05)


def test_interval_of_a_constant_is_a_point_in_any_chunks(monkeypatch):
    assert bootstrap_intervals({"a": torch.full((7,), 0.25)}, 50, seeded())["a"] == (0.25, 0.25)
    values = {"a": torch.rand(31, generator=seeded(1)), "b": torch.rand(31, generator=seeded(2))}
    whole = bootstrap_intervals(values, 500, seeded())
    monkeypatch.setattr(significance, "CHUNK", 100)  # three resamples at a time
    assert bootstrap_intervals(values, 500, seeded())["a"] == pytest.approx(whole["a"], abs=1e-6)
    assert bootstrap_intervals({"a": values["a"]}, 500, seeded())["a"] == pytest.approx(whole["a"], abs=1e-6)


@pytest.mark.parametrize("kind", ["uniform", "rare", "steps", "errors"])
def test_closed_intervals_are_those_of_many_resamples(kind):
    draw = torch.rand(1500, generator=seeded(3))
    values = {
        "uniform": draw,
        "rare": (draw < 0.04).float(),
        "steps": (1 / (draw * 20).ceil()) * (draw > 0.5),
        "errors": torch.randn(1500, generator=seeded(4)).square(),
    }[kind]
    closed = mean_intervals({"a": values}, 0, seeded())["a"]  # 0 resamples: none is drawn
    resampled = bootstrap_intervals({"a": values}, 40_000, seeded())["a"]
    error = float(values.std() / 1500**0.5)
    assert closed == pytest.approx(resampled, abs=(0.07 if kind == "rare" else 0.03) * error)  # a rare 1 has steps of 0.13
    normal = [float(values.mean()) + sign * norm.ppf(0.975) * error for sign in (-1, 1)]
    assert kind in ("uniform", "steps") or abs(closed[0] - normal[0]) > 0.035 * error  # skewness matters


def test_few_values_are_resampled():
    values = {"few": torch.rand(999, generator=seeded())}
    assert mean_intervals(values, 200, seeded()) == bootstrap_intervals(values, 200, seeded())


def test_skewed_values_without_zeros_are_resampled():
    values = {"even": torch.rand(1500, generator=seeded()), "skewed": torch.rand(1500, generator=seeded()).pow(400) + 1e-3}
    found = mean_intervals(values, 200, seeded())
    assert found["skewed"] == bootstrap_intervals({"skewed": values["skewed"]}, 200, seeded())["skewed"]
    assert found["even"] != bootstrap_intervals(values, 200, seeded())["even"]


@pytest.mark.parametrize("nonzero", [1, 4, 15])
def test_of_skewed_values_those_that_are_not_zero_are_resampled(monkeypatch, nonzero):
    skewed = torch.zeros(5000)
    skewed[:nonzero] = torch.linspace(0.2, 1, nonzero)
    values = {"level": torch.full((5000,), 0.1), "skewed": skewed, "even": torch.arange(5000.0)}
    monkeypatch.setattr(significance, "CHUNK", 7000)
    found = mean_intervals(values, 40_000, seeded())
    assert list(found) == ["level", "skewed", "even"]
    error = float(skewed.double().std() / 5000**0.5)
    slow = bootstrap_intervals({"a": skewed}, 2_000, seeded())["a"]
    assert found["skewed"] == pytest.approx(slow, abs=0.25 * error)
    if nonzero == 1:  # a Poisson number of times with mean 1, 97.5 % of them at most 3
        assert found["skewed"] == pytest.approx((0.0, 0.2 * 3 / 5000))
    assert found["level"] == pytest.approx((0.1, 0.1))
    assert found["even"] == pytest.approx((2499.5 - 40.0, 2499.5 + 40.0), abs=0.1)


def test_sign_flips_agree_with_all_patterns():
    differences = torch.tensor([[0.5, 0.1], [0.0, -0.2], [0.25, 0.3], [-0.1, 0.0], [0.4, 0.1], [0.3, 0.2], [0.2, 0.0]]).double()
    signs = torch.tensor(list(product([-1.0, 1.0], repeat=7))).double()
    exact = ((signs @ differences).abs() >= differences.sum(0).abs() - 1e-12).double().mean(0)
    found = sign_flip_test(differences, 40_000, seeded())
    assert found == pytest.approx(exact.tolist(), abs=0.01)


def test_no_difference_is_not_significant():
    assert sign_flip_test(torch.zeros(5, 2), 100, seeded()) == [1.0, 1.0]
    assert wilcoxon_test(torch.zeros(5)) == 1.0
    assert wilcoxon_test(torch.tensor([0.5])) > 0.3


def test_p_values_are_uniform_under_the_null():
    differences = torch.randn(60, 400, generator=seeded(5)).double()
    p = torch.tensor(sign_flip_test(differences, 2000, seeded()))
    assert (p < 0.05).double().mean() == pytest.approx(0.05, abs=0.03)
    assert p.mean() == pytest.approx(0.5, abs=0.05)


def test_strong_difference_is_found():
    difference = torch.randn(200, generator=seeded(7)).double() + 1
    assert sign_flip_test(difference[:, None], 999, seeded()) == [1 / 1000]
    assert wilcoxon_test(difference) < 1e-10


def test_holm_by_hand():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
