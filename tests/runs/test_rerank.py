import shutil
from dataclasses import replace

import pandas as pd
import pytest
import torch

import gmmrec
from gmmrec.data.interactions import Interactions
from gmmrec.data.split import Split, SplitConfig
from gmmrec.evaluation.compare import compare, read_runs
from gmmrec.testing import checkerboard


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base, toy = tmp_path_factory.mktemp("runs"), checkerboard(40, 30)[0]
    gmmrec.fit(toy, "popularity", out=base / "popularity")
    gmmrec.fit(toy, "mario", out=base / "mario", epochs=3, lr=0.02, dim=8, batch_size=64, progress=False)
    return base / "popularity", base / "mario"


def test_all_candidates_equal_the_slow_run_and_one_candidate_the_fast_one(folders):
    fast, slow = (gmmrec.load(folder) for folder in folders)
    everything, nothing = gmmrec.rerank(*folders, top=30), gmmrec.rerank(fast, slow, top=1)
    assert everything.results["test"].mean() == slow.evaluate("test").mean()
    ours, theirs = everything.recommend(k=30), slow.recommend(k=30)
    pd.testing.assert_frame_equal(ours[["user_id", "item_id", "rank"]], theirs[["user_id", "item_id", "rank"]])
    assert nothing.results["test"].mean() == fast.evaluate("test").mean()
    assert slow.evaluate("test").mean() != fast.evaluate("test").mean()


def test_the_folder_is_self_contained(folders, tmp_path):
    copies = [shutil.copytree(folder, tmp_path / folder.name) for folder in folders]
    made = gmmrec.rerank(*copies, top=8, out=tmp_path / "both")
    for copy in copies:
        shutil.rmtree(copy)
    again = gmmrec.load(tmp_path / "both")
    assert again.report["rerank"] == {"runs": [str(copy) for copy in copies], "models": ["popularity", "mario"], "top": 8}
    assert again.evaluate("test").mean() == made.results["test"].mean()
    pd.testing.assert_frame_equal(again.recommend(["u1", "u7"], k=5), made.recommend(["u1", "u7"], k=5))
    pd.testing.assert_frame_equal(again.similar_items([3], k=5), gmmrec.load(folders[1]).similar_items([3], k=5))
    stranger = again.recommend(histories=[[1, 3, 5]], k=5)
    assert set(stranger.item_id).isdisjoint([1, 3, 5])
    comparison = compare(read_runs([tmp_path / "both", *folders]), metric="recall@20")
    assert {row.run for row in comparison.rows} == {"both", "popularity", "mario"}


def test_a_context_model_ranks_without_a_context(tmp_path):
    toy = checkerboard(40, 30)[0]
    log = toy.interactions
    toy = replace(toy, interactions=Interactions(log.user, log.item, time=18_000 * torch.arange(len(log))))
    fast = gmmrec.fit(toy, "popularity")
    slow = gmmrec.fit(toy, "mmt-net", epochs=2, lr=0.02, dim=8, batch_size=64, progress=False)
    assert bool(slow.model.event_mean.any())
    made = gmmrec.rerank(fast, slow, top=30)
    ours, theirs = made.recommend(k=30), slow.recommend(k=30)
    pd.testing.assert_frame_equal(ours[["user_id", "item_id", "rank"]], theirs[["user_id", "item_id", "rank"]])
    made.save(tmp_path / "both")
    pd.testing.assert_frame_equal(gmmrec.load(tmp_path / "both").recommend(["u1"], k=5), made.recommend(["u1"], k=5))
    blended = gmmrec.blend([fast, slow], weights=[0, 1]).recommend(k=30)
    pd.testing.assert_frame_equal(blended[["user_id", "item_id", "rank"]], theirs[["user_id", "item_id", "rank"]])


def test_a_model_that_needs_more_than_a_user_is_refused(folders):
    toy = checkerboard(40, 30)[0]
    sequential = gmmrec.fit(toy, "marank", epochs=1, dim=8, progress=False)
    with pytest.raises(ValueError, match="a member must rank items for users, but marank answers HistoryQuery"):
        gmmrec.rerank(folders[0], sequential)


def test_runs_of_other_splits_and_impossible_numbers_are_refused(folders):
    fast, slow = (gmmrec.load(folder) for folder in folders)
    moved = Split(slow.split.train, slow.split.test, slow.split.valid)
    with pytest.raises(ValueError, match=r"^the fast run and the slow run cannot be combined: their valid parts differ; use"):
        gmmrec.rerank(fast, replace(slow, split=moved))
    other = replace(slow, split=moved, config=replace(slow.config, split=SplitConfig("leave_last_out")))
    message = r"parts differ \(split by 'random' \(valid 0.1, test 0.1, seed 0\) and 'leave_last_out'\)"
    with pytest.raises(ValueError, match=message):
        gmmrec.rerank(fast, other)
    with pytest.raises(ValueError, match="top must be greater than 0, but is 0"):
        gmmrec.rerank(fast, slow, top=0)
