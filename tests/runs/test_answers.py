"""Answers of whole runs: people and items nothing is known of, some items only, wrongly typed ids, one user with every item."""

import numpy as np
import pandas as pd
import pytest

import gmmrec
from gmmrec.errors import UsageError
from gmmrec.testing import checkerboard, circle, with_outfits

QUICK = {"epochs": 2, "progress": False, "eval": {"bootstrap": 0}}


def log(users=12, items=20, each=8, seed=0):
    random = np.random.default_rng(seed)
    rows = [
        (f"u{u:02d}", f"i{i:02d}", 1_600_000_000 + u * 1000 + t * 10)
        for u in range(users)
        for t, i in enumerate(random.choice(items, each, replace=False))
    ]
    return pd.DataFrame(rows, columns=["user", "item", "timestamp"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder whose users.csv names two users without a history."""
    path, frame = tmp_path_factory.mktemp("data"), log(40, 30, 10, 5)
    frame.to_csv(path / "interactions.csv", index=False)
    pd.DataFrame({"user": [*sorted(frame.user.unique()), "new1", "new2"]}).to_csv(path / "users.csv", index=False)
    return path


@pytest.mark.parametrize("model", ["popularity", "ease", "graph-filter", "lightgcn", "bert4rec"])
def test_users_without_a_history_get_popular_items(folder, model):
    run = gmmrec.fit(folder, model, **QUICK, **({"dim": 8} if model in ("lightgcn", "bert4rec") else {}))
    frame = run.recommend(users=["new1", "new2"], k=5)
    first, second = (frame[frame.user_id == user] for user in ("new1", "new2"))
    counts = np.bincount(run.split.train.item, minlength=30)
    assert first.item_id.tolist() == second.item_id.tolist()
    assert first.score.tolist() == sorted(counts, reverse=True)[:5]
    assert set(frame.basis) == {"model" if model == "popularity" else "popularity"}


def test_the_best_of_some_items_and_the_score_of_a_pair():
    run = gmmrec.fit(log(), "ease", progress=False)
    assert set(run.recommend(users=["u01"], k=2, candidates=["i01", "i02", "i03"]).item_id) <= {"i01", "i02", "i03"}
    whole = run.recommend(users=["u01"], k=20)
    assert run.recommend(users=["u01"], k=20, exclude=["i05"]).item_id.tolist() == [i for i in whole.item_id if i != "i05"]
    pairs = run.score([("u01", item) for item in whole.item_id])
    np.testing.assert_allclose(pairs.score, whole.score, rtol=1e-6)
    pd.testing.assert_frame_equal(run.predict(["u01"], ["i01"]), run.score([("u01", "i01")]))
    with pytest.raises(UsageError, match="lists of one length, but hold 1 and 2 ids"):
        run.predict(["u01"], ["i01", "i02"])
    assert run.similar_items(["i01"], candidates=["i02", "i03"], exclude=["i03"]).similar_id.tolist() == ["i02"]


def test_a_user_with_every_item_is_left_out_of_training_with_a_warning(caplog):
    rows = [(f"u{u}", f"i{k}", "train") for u in range(6) for k in (u % 5, (u + 1) % 5)] + [
        ("all", f"i{k}", "train") for k in range(5)
    ]
    rows += [(user, item, part) for user in ("t1", "t2") for item, part in (("i0", "train"), ("i1", "valid"), ("i2", "test"))]
    frame = pd.DataFrame(rows, columns=["user", "item", "split"])
    run = gmmrec.fit(frame, "lightgcn", dim=4, **QUICK)
    assert "5 of the 19 training examples are left out: their users ('all') have all 5 items" in caplog.text
    assert run.recommend(["all"]).empty
    alone = pd.DataFrame(
        [*[("all", f"i{k}", "train") for k in range(5)], ("v", "i0", "valid"), ("t", "i1", "test")], columns=frame.columns
    )
    with pytest.raises(UsageError, match=r"any of the 1 users in training \('all'\): each has all 5 items"):
        gmmrec.fit(alone, "lightgcn", dim=4, **QUICK)


@pytest.mark.parametrize("user", ["abc", None, float("nan"), 1.5, 1.0, 2**70, True, "1"])
def test_wrongly_typed_ids_are_unknown(user):
    frame = log()
    run = gmmrec.fit(frame.assign(user=frame.user.str[1:].astype(int)), "popularity", progress=False)
    with pytest.raises(
        KeyError, match=r"unknown user id .+; (user ids are whole numbers, such as 0|the 12 known ids begin with 0, 1)"
    ):
        run.recommend(users=[user], k=1)
    with pytest.raises(KeyError, match="unknown user id"):
        run.explain(user, "i01")


def test_runs_that_fold_in_nobody_answer_by_similar_users(tmp_path):
    board = checkerboard(40, 30)[0]
    members = [gmmrec.fit(board, name, dim=8, **{**QUICK, "epochs": 30}) for name in ("vbpr", "mario")]
    histories = [[0, 2, 4, 6], [1, 3, 5, 7], []]
    for run in (*members, gmmrec.blend(members, weights=[1, 1]), gmmrec.rerank(*members, top=20)):
        frame = run.recommend(histories=histories, k=5)
        own = run is members[0] or run is members[1]
        assert frame.groupby("user_id").basis.first().tolist() == [*["similar users" if own else "model"] * 2, "popularity"]
        liked = frame[frame.basis != "popularity"].groupby("user_id").item_id.apply(lambda items: (items % 2).mean())
        assert liked["history-0"] < 0.3 < 0.7 < liked["history-1"]  # even items for those who like even ones
    run.save(tmp_path / "run")
    pd.testing.assert_frame_equal(gmmrec.load(tmp_path / "run").recommend(histories=histories, k=5), frame)
    pairs = run.score([("u3", 5), ("u3", 6), ("u0", 6)])
    whole = run.recommend(["u3"], k=30, exclude_seen=False).set_index("item_id").score
    np.testing.assert_allclose(pairs.score[:2], whole[[5, 6]], rtol=1e-5, atol=1e-6)


def test_models_of_other_queries_refuse_users(tmp_path):
    dressing = gmmrec.fit(with_outfits(checkerboard(12, 16)[0]), "pog", dim=8, hidden_dim=8, **QUICK)
    linking = gmmrec.fit(circle(), "mkgformer", dim=8, **QUICK)
    for run, remedy in ((dressing, "gmmrec complete"), (linking, "gmmrec link")):
        for ask in (run.recommend, lambda run=run: run.score([("u0", 0)]), lambda run=run: run.recommend(histories=[[], [0]])):
            with pytest.raises(UsageError, match=remedy):
                ask()
    for wrong in (
        {"items": 0},
        {"items": "0"},
        {"items": [0.0]},
        {"items": [True]},
        {"items": [0], "user": 3},
        {"items": [0], "k": "5"},
    ):
        with pytest.raises(UsageError):
            dressing.complete(**wrong)
    for wrong in ({"beam": 2.0}, {"beam": 10**9}, {"pool": "0"}, {"pool": [99]}, {"max_items": "4"}, {"one_per_category": 1}):
        with pytest.raises(UsageError):
            dressing.complete([0], **wrong)
    for wrong in (
        {"head": 1},
        {"head": None, "tail": True},
        {"relation": 3},
        {"k": 1.0},
        {"exclude_known": None},
        {"head": ["e1"]},
    ):
        with pytest.raises(UsageError):
            linking.link(**{"head": "e1", "relation": "next", **wrong})
    assert len(linking.link("e1", "next", k=2**70)) <= 12
