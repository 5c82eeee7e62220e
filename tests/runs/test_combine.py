import shutil
from dataclasses import replace

import pandas as pd
import pytest
import torch

import gmmrec
from gmmrec.data.split import Split
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.ensemble.blend import Blend
from gmmrec.evaluation.compare import compare, read_runs
from gmmrec.runs import combine
from gmmrec.runs.combine import alike
from gmmrec.tasks.query import UserQuery
from gmmrec.testing import checkerboard

QUICK = {"epochs": 3, "lr": 0.02, "dim": 8, "batch_size": 64, "progress": False}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base, toy = tmp_path_factory.mktemp("runs"), checkerboard(40, 30)[0]
    for name, settings in {"lightgcn": QUICK, "freedom": QUICK, "popularity": {}}.items():
        gmmrec.fit(toy, name, out=base / name, **settings)
    return [base / name for name in ("lightgcn", "freedom", "popularity")]


def test_a_blend_of_one_run_is_that_run(folders):
    for folder in folders:
        alone, run = gmmrec.blend([folder]), gmmrec.load(folder)
        assert alone.report["blend"]["weights"] == [1.0]
        assert alone.results["test"].mean() == pytest.approx(run.evaluate("test").mean())
        ours, theirs = alone.recommend(k=30), run.recommend(k=30)
        pd.testing.assert_frame_equal(ours[["user_id", "item_id", "rank"]], theirs[["user_id", "item_id", "rank"]])


@pytest.mark.parametrize("scale", ["standard", "ranks"])
def test_the_weights_are_the_best_on_the_validation_part(folders, scale):
    found = gmmrec.blend(folders, metric="ndcg@10", scale=scale)
    assert found.report["blend"]["val/ndcg@10"] == pytest.approx(found.results["valid"].mean()["ndcg@10"], abs=1e-6)
    assert sum(found.config.model.weights) == pytest.approx(1)
    for weights in ([1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [2, 1, 0]):
        other = gmmrec.blend(folders, scale=scale, weights=weights)
        assert other.results["valid"].mean()["ndcg@10"] <= found.report["blend"]["val/ndcg@10"] + 1e-6
        assert not any(name.startswith("val/") for name in other.report["blend"])  # nothing was searched
        assert other.config.model.weights == tuple(weight / sum(weights) for weight in weights)


def test_seeds_of_one_setting_share_a_weight_evenly(folders):
    toy = checkerboard(40, 30)[0]
    again = gmmrec.fit(toy, "lightgcn", seed=1, **QUICK)
    wider = gmmrec.fit(toy, "lightgcn", **{**QUICK, "dim": 12})
    first, popular = gmmrec.load(folders[0]), gmmrec.load(folders[2])
    assert alike([first, wider, popular, gmmrec.load(folders[0])]) == [[0, 3], [1], [2]]
    in_memory = gmmrec.fit(toy, "lightgcn", **QUICK)
    found = gmmrec.blend([in_memory, wider, again], metric="ndcg@10")
    one, other, two = found.config.model.weights
    assert one == two
    assert one + other + two == pytest.approx(1)
    assert found.report["blend"]["val/ndcg@10"] == pytest.approx(found.results["valid"].mean()["ndcg@10"], abs=1e-6)


def test_members_of_a_group_divide_its_weight(folders, monkeypatch):
    monkeypatch.setattr(combine, "search_weights", lambda *arguments: ((0.6, 0.4), 0.5))
    run = gmmrec.load(folders[0])
    whole = Blend.of([run.model] * 3, run.graph.schema, [1.0] * 3, "standard")
    weights, value = combine.choose_weights(whole, run, "recall@20", [[0, 2], [1]])
    assert weights == pytest.approx((0.3, 0.4, 0.3))
    assert value == 0.5


def test_the_test_part_does_not_affect_the_weights(folders):
    runs = [gmmrec.load(folder) for folder in folders[:2]]
    expected = gmmrec.blend(runs).config.model.weights

    def resplit(run, **parts):
        return replace(run, split=Split(**{**vars(run.split), **parts}))

    test = runs[0].split.test
    other = replace(test, item=(test.item + 1) % 30)
    assert gmmrec.blend([resplit(run, test=other) for run in runs]).config.model.weights == expected
    best = [run.model.score(run.model.encode(run.graph), UserQuery(torch.arange(40)), torch.arange(30)) for run in runs]
    for position in range(2):  # where the validation part holds the favourites of one run, that run decides
        graph = runs[0].graph
        seen = torch.zeros(40, 30, dtype=torch.bool)
        seen[tuple(graph.edges(("user", "interacts", "item")).edge_index.as_tensor())] = True
        favourite = best[position].detach().masked_fill(seen, -torch.inf).topk(3).indices
        valid = type(test)(torch.arange(40).repeat_interleave(3), favourite.flatten())
        weights = gmmrec.blend([resplit(run, valid=valid) for run in runs], metric="recall@5").config.model.weights
        assert weights[position] >= 0.5


def test_the_folder_is_self_contained(folders, tmp_path):
    copies = [shutil.copytree(folder, tmp_path / folder.name) for folder in folders]
    blended = gmmrec.blend(copies, out=tmp_path / "blend", weights=[0.5, 0.3, 0.2])
    for copy in copies:
        shutil.rmtree(copy)
    again = gmmrec.load(tmp_path / "blend")
    assert isinstance(again.model, Blend)
    assert again.evaluate("test").mean() == blended.results["test"].mean()
    pd.testing.assert_frame_equal(again.recommend(["u1", "u7"], k=5), blended.recommend(["u1", "u7"], k=5))
    pd.testing.assert_frame_equal(again.similar_items([3], k=5), blended.similar_items([3], k=5))
    stranger = again.recommend(histories=[[1, 3, 5]], k=5)
    assert set(stranger.item_id).isdisjoint([1, 3, 5])
    assert stranger.score.std() > 0
    assert not [path for path in (tmp_path / "blend").iterdir() if path.suffix in (".pt", ".pkl", ".pickle")]
    comparison = compare(read_runs([tmp_path / "blend", *folders]), metric="recall@20")
    assert {row.run for row in comparison.rows} == {"blend", "lightgcn", "freedom", "popularity"}


def test_runs_of_other_data_or_splits_are_refused(folders):
    run, other = gmmrec.load(folders[0]), gmmrec.load(folders[1])
    renamed = {**other.vocabularies, "item": Vocabulary([f"i{n}" for n in range(30)])}
    with pytest.raises(ValueError, match=r"^run 1 and run 2 cannot be combined: their item ids differ; use runs on the same"):
        gmmrec.blend([run, replace(other, vocabularies=renamed)])
    moved = Split(other.split.train, other.split.test, other.split.valid)
    with pytest.raises(ValueError, match="cannot be combined: their valid parts differ"):
        gmmrec.blend([folders[0], replace(other, split=moved)])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metric": "auc"}, "a metric is written NAME@K"),
        ({"scale": "none"}, "scale must be one of 'standard', 'ranks'"),
        ({"weights": [1.0]}, "weights must be 2 numbers, one per run, none below 0 and not all 0, but are 1.0"),
        ({"weights": [0.0, 0.0]}, "but are 0.0, 0.0"),
        ({"weights": [2.0, -1.0]}, "but are 2.0, -1.0"),
    ],
    ids=str,
)
def test_wrong_settings_are_refused_by_name(folders, settings, message):
    with pytest.raises(ValueError, match=message):
        gmmrec.blend(folders[:2], **settings)


def test_an_empty_blend_is_refused():
    with pytest.raises(ValueError, match="no run to blend"):
        gmmrec.blend([])
