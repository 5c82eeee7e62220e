"""Results: groups, tables, and the file."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch

from gmmrec.data.ragged import RaggedSets
from gmmrec.evaluation.evaluator import RANKING
from gmmrec.evaluation.kinds import load_results
from gmmrec.evaluation.results import SAMPLED, GroupValues, Results, fingerprint


@pytest.fixture
def results() -> Results:
    generator = torch.Generator().manual_seed(0)
    values = {"recall@5": torch.rand(40, generator=generator), "hit@5": torch.rand(40, generator=generator).round()}
    position = torch.arange(0, 40, 2)
    groups = {"cold items": GroupValues(position, {name: value[position] / 2 for name, value in values.items()})}
    query = torch.arange(100, 140)
    return Results(RANKING, values, query, query * 7, "train", groups, {"coverage@5": 0.25}, bootstrap=200, seed=3)


def test_means_and_intervals(results):
    assert results.mean()["recall@5"] == pytest.approx(results.values["recall@5"].mean().item())
    assert results.mean("cold items")["hit@5"] == pytest.approx(results.values["hit@5"][::2].mean().item() / 2)
    for group in ("all", "cold items"):
        for metric, (low, high) in results.intervals(group).items():
            assert low < results.mean(group)[metric] < high
    assert results.intervals() == results.intervals()
    with pytest.raises(KeyError, match="no group 'warm'; the groups are all, cold items"):
        results.mean("warm")
    with pytest.raises(KeyError, match="no group 'warm'"):
        results.intervals("warm")


def test_no_intervals_without_resamples(results):
    bare = Results(RANKING, results.values, results.query, results.relevant, "train", bootstrap=0)
    assert bare.intervals() == {}
    assert f"| {bare.mean()['recall@5']:.4f} |" in bare.to_markdown()
    assert bare.to_frame()["low"].isna().all()


def test_dictionary_is_json_and_complete(results):
    found = json.loads(json.dumps(results.to_dict()))
    assert found["masked"] == "train"
    assert found["num_queries"] == 40
    assert found["metrics"] == results.mean()
    assert found["intervals"]["hit@5"] == list(results.intervals()["hit@5"])
    assert found["groups"]["cold items"]["num_queries"] == 20
    assert found["catalogue"] == {"coverage@5": 0.25}


def test_frame_and_markdown(results):
    frame = results.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert frame[["group", "queries"]].value_counts().to_dict() == {("all", 40): 2, ("cold items", 20): 2}
    text = results.to_markdown()
    low, high = results.intervals()["recall@5"]
    assert f"| {results.mean()['recall@5']:.4f} ({low:.4f} to {high:.4f}) |" in text
    assert f"| cold items |      20 |   {results.mean('cold items')['recall@5']:.4f} |" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(line) for line in tables[:3]}) == 1
    assert "items known from train are not ranked" in text


def test_file_round_trip(results, tmp_path):
    results.save(tmp_path / "run")
    again = load_results(tmp_path / "run")
    assert again.to_dict() == results.to_dict()
    assert (again.bootstrap, again.seed) == (200, 3)
    for name in ("query", "relevant"):
        assert torch.equal(getattr(again, name), getattr(results, name))
    assert torch.equal(again.values["recall@5"], results.values["recall@5"])
    assert torch.equal(again.groups["cold items"].position, results.groups["cold items"].position)


def test_sampled_metrics_carry_a_warning_also_when_loaded(results, tmp_path):
    sampled = replace(results, sampled=100, sampled_by="popularity")
    sampled.save(tmp_path)
    for found in (sampled, load_results(tmp_path)):
        assert found.sampled == 100
        assert found.to_dict() == {**results.to_dict(), "sampled": 100, "sampled_by": "popularity", "warning": SAMPLED}
        assert f"\nRanked among 100 candidates sampled by popularity: {SAMPLED}.\n" in found.to_markdown()
    results.save(tmp_path)
    assert load_results(tmp_path).sampled == 0
    assert SAMPLED not in results.to_markdown()


def test_part_keeps_queries_and_values_aligned(results):
    part = results.part("cold items")
    assert part.query.tolist() == list(range(100, 140, 2))
    assert torch.equal(part.relevant, part.query * 7)
    assert part.mean() == results.mean("cold items")


def test_folder_without_values_is_refused(tmp_path):
    with pytest.raises(ValueError, match=f"has no {'results_ranking.safetensors'}; give the folder of a finished run"):
        load_results(tmp_path)
    (tmp_path / "results_ranking.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="is damaged or not results of gmmrec"):
        load_results(tmp_path)


def test_fingerprints_distinguish_sets():
    generator = torch.Generator().manual_seed(0)
    sets = RaggedSets.from_pairs(
        torch.arange(3000).repeat_interleave(4), torch.randint(50_000, (12_000,), generator=generator), 3000
    )
    found = fingerprint(sets)
    assert torch.unique(found).numel() == 3000
    order = torch.randperm(3000, generator=generator)
    assert torch.equal(fingerprint(sets.take(order)), found[order])
    swapped = fingerprint(RaggedSets(torch.tensor([0, 2, 4]), torch.tensor([1, 4, 2, 3])))  # equal sums
    assert swapped[0] != swapped[1]
