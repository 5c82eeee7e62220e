"""Comparison of runs: pairing, refusals, seeds, folders."""

from dataclasses import replace
from statistics import stdev

import pytest
import torch
import yaml

from gmmrec.evaluation.compare import align, compare, read_runs
from gmmrec.evaluation.evaluator import RANKING
from gmmrec.evaluation.results import SAMPLED, GroupValues, Results

NUM_USERS = 120


def run_of(quality: float, *, seed: int = 0, users: torch.Tensor | None = None, masked: str = "train") -> Results:
    """Values around ``quality`` that depend on the user's row, in the order of ``users``."""
    table = torch.rand(NUM_USERS, generator=torch.Generator().manual_seed(1)) * 0.2 + quality
    table += 0.01 * torch.randn(NUM_USERS, generator=torch.Generator().manual_seed(seed))
    users = torch.arange(NUM_USERS) if users is None else users
    return Results(RANKING, {"ndcg@20": table[users], "recall@20": 2 * table[users]}, users, users * 31 + 5, masked)


def test_best_comes_first_and_differences_are_paired():
    comparison = compare({"weak": run_of(0.3, seed=1), "best": run_of(0.4, seed=2), "good": run_of(0.399, seed=3)})
    assert [row.run for row in comparison.rows] == ["best", "good", "weak"]
    best, _, weak = comparison.rows
    assert comparison.reference == "best"
    assert best.p is None
    expected = run_of(0.3, seed=1).values["ndcg@20"].mean() - run_of(0.4, seed=2).values["ndcg@20"].mean()
    assert weak.difference == pytest.approx(expected.item(), abs=1e-6)
    assert weak.low < weak.difference < weak.high < 0
    assert weak.high - weak.low < 0.02  # unpaired, variation between users alone would make it 0.03
    assert weak.p == pytest.approx(1 / 10_001)
    assert weak.p_holm == pytest.approx(2 / 10_001)
    assert weak.p_wilcoxon < 1e-10
    assert comparison.left_out == 0
    assert comparison.note == "ndcg@20 over 120 users, differences to best, paired by user."


def test_reference_and_metric_can_be_chosen():
    comparison = compare({"a": run_of(0.4), "b": run_of(0.3)}, reference="b", metric="recall@20")
    assert comparison.rows[0].run == "a"
    assert comparison.rows[0].difference == pytest.approx(0.2, abs=1e-6)
    assert comparison.rows[1].p is None
    assert "| a | 1 |" in comparison.to_markdown()
    assert "| b | 1 |" in comparison.to_markdown()
    assert comparison.to_frame()["run"].tolist() == ["a", "b"]
    with pytest.raises(KeyError, match="no run 'c' to compare with; the runs are a, b"):
        compare({"a": run_of(0.4), "b": run_of(0.3)}, reference="c")


def test_only_common_users_count_in_any_order():
    shuffled = torch.randperm(NUM_USERS, generator=torch.Generator().manual_seed(4))
    a, b = run_of(0.4, users=shuffled[:100]), run_of(0.3, users=shuffled.flip(0)[:90])
    positions = align([("a", a), ("b", b)])
    assert torch.equal(a.query[positions[0]], b.query[positions[1]])
    comparison = compare({"a": a, "b": b})
    assert comparison.num_users == 70
    assert comparison.left_out == 50
    assert comparison.rows[1].difference == pytest.approx(-0.1, abs=1e-6)  # same seed: the same for every user
    assert "50 missing from some run are left out" in comparison.note


def test_group_is_compared_by_its_own_users():
    position = torch.arange(10, 30)
    runs = {
        name: replace(run, groups={"cold items": GroupValues(position, {"ndcg@20": run.values["ndcg@20"][position] * 0 + value})})
        for name, run, value in (("a", run_of(0.4), 0.1), ("b", run_of(0.3), 0.2))
    }
    comparison = compare(runs, group="cold items")
    assert comparison.num_users == 20
    assert comparison.rows[0].run == "b"
    assert comparison.rows[1].difference == pytest.approx(-0.1)


def test_seeds_are_averaged_by_user():
    seeds = [run_of(0.4, seed=seed) for seed in (1, 2, 3)]
    comparison = compare({"model": seeds, "other": run_of(0.1)})
    assert comparison.rows[0].seeds == 3
    assert comparison.rows[0].mean == pytest.approx(sum(run.mean()["ndcg@20"] for run in seeds) / 3)


def test_the_deviation_between_seeds_is_shown_with_the_mean():
    """A difference may be significant over users but not over seeds: the table shows both."""
    seeds = [run_of(0.4, seed=seed) for seed in (1, 2, 3)]
    comparison = compare({"model": seeds, "other": run_of(0.1)})
    deviation = stdev(run.mean()["ndcg@20"] for run in seeds)
    assert [row.deviation for row in comparison.rows] == [pytest.approx(deviation), None]
    assert f"| model | 3 | {comparison.rows[0].mean:.4f} ± {deviation:.4f} |" in comparison.to_markdown()
    assert "deviation between seeds, which intervals and p-values do not cover" in comparison.note
    assert "seeds" not in compare({"model": seeds[0], "other": run_of(0.1)}).note


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (run_of(0.3, masked="train+valid"), "a and b cannot be compared: .* evaluate both with the same mask"),
        (replace(run_of(0.3), relevant=torch.zeros(NUM_USERS).long()), "120 of their 120 common users have different test items"),
        (replace(run_of(0.3), query=torch.arange(NUM_USERS) + 500), "no test user in common"),
        (replace(run_of(0.3), query=torch.arange(NUM_USERS) // 2), "b has several queries for some users"),
        (replace(run_of(0.3), sampled=100), "the first ranked all candidates, the second 100 candidates sampled uniformly; "),
        (replace(run_of(0.3), values={"mrr@5": torch.zeros(NUM_USERS)}), "run b has no values of 'ndcg@20'; it has mrr@5"),
    ],
)
def test_incomparable_runs_are_refused(other, message):
    with pytest.raises(ValueError, match=message):
        compare({"a": run_of(0.4), "b": other})


def test_different_samples_are_not_compared():
    uniform = replace(run_of(0.4), sampled=100)
    popular = replace(run_of(0.3), sampled=100, sampled_by="popularity")
    with pytest.raises(
        ValueError, match="first ranked 100 candidates sampled uniformly, the second 100 candidates sampled by popularity"
    ):
        compare({"a": uniform, "b": popular})


def test_a_comparison_of_sampled_rankings_warns():
    runs = {"a": run_of(0.4), "b": run_of(0.3)}
    sampled = compare({name: replace(run, sampled=100) for name, run in runs.items()}, group="all")
    said = f"Ranked among 100 candidates sampled uniformly: {SAMPLED}."
    assert sampled.note == f"{compare(runs).note} {said}"
    assert said in sampled.to_dict()["note"]
    assert said in sampled.to_markdown()


def test_a_single_run_is_refused():
    with pytest.raises(ValueError, match="at least two different runs, but got 1"):
        compare({"a": run_of(0.4)})


def write(folder, model, seed, quality):
    run_of(quality, seed=seed).save(folder)
    config = {"model_name": model, "seed": seed, "run": {"seed": seed}, "split": {"seed": 0}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def test_run_folders_are_grouped_by_settings_without_the_seed(tmp_path):
    for model, seed, quality in (("x", 0, 0.4), ("x", 1, 0.4), ("y", 0, 0.3), ("y", 1, 0.3)):
        write(tmp_path / f"{model}{seed}", model, seed, quality)
    folders = [tmp_path / name for name in ("x0", "y0", "x1", "y1")]
    assert {name: len(found) for name, found in read_runs(folders).items()} == {"x0": 1, "y0": 1, "x1": 1, "y1": 1}
    assert {name: len(found) for name, found in read_runs(folders, group_seeds=True).items()} == {"x0": 2, "y0": 2}


def test_folders_of_equal_name_keep_their_path_and_repeated_folders_are_refused(tmp_path):
    for parent in ("one", "two"):
        write(tmp_path / parent / "run", parent, 0, 0.3)
    folders = [tmp_path / "one" / "run", tmp_path / "two" / "run"]
    assert set(read_runs(folders)) == {str(folder) for folder in folders}
    with pytest.raises(ValueError, match="given twice"):
        read_runs([folders[0], folders[0] / ".." / "run"])
