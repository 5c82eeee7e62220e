from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import gmmrec
from gmmrec.abilities import ReadsHistories
from gmmrec.data.ragged import RaggedLists, RaggedSets
from gmmrec.data.split import Split
from gmmrec.errors import UsageError
from gmmrec.graph.build import build_graph
from gmmrec.models import MODELS
from gmmrec.models.lightgcn import LightGCN, LightGCNConfig
from gmmrec.models.popularity import Popularity, PopularityConfig
from gmmrec.recommender import Encoded, Recommender
from gmmrec.serving.service import Service, _nearest
from gmmrec.tasks.query import HistoryQuery
from gmmrec.testing import checkerboard


@pytest.fixture(scope="module")
def service():
    dataset, _ = checkerboard()
    log = dataset.interactions
    graph = build_graph(dataset, Split(log, log.take(torch.arange(0)), log.take(torch.arange(0))))
    torch.manual_seed(0)
    model = LightGCN(graph.schema, LightGCNConfig(dim=8, num_layers=2))
    seen = RaggedSets.from_pairs(log.user, log.item, dataset.num_users)
    return Service(model, graph, dataset.vocabularies, seen, [f"title {i}" for i in range(dataset.num_items)])


def dense_scores(service):
    with torch.no_grad():
        encoded = service.model.encode(service.graph)
    return encoded["user"] @ encoded["item"].t()


def test_recommendations_are_the_best_unseen_items(service):
    frame = service.recommend(["u3", "u0"], k=4)
    scores = dense_scores(service)
    for name, row in (("u3", 3), ("u0", 0)):
        known = set(service.seen.values[service.seen.indptr[row] : service.seen.indptr[row + 1]].tolist())
        best = [i for i in scores[row].argsort(descending=True).tolist() if i not in known][:4]
        mine = frame[frame.user_id == name]
        assert mine.item_id.tolist() == best
        assert mine["rank"].tolist() == [1, 2, 3, 4]
        assert mine.score.tolist() == pytest.approx(scores[row, best].tolist(), abs=1e-6)
        assert mine.title.tolist() == [f"title {i}" for i in best]
    assert frame.user_id.tolist() == ["u3"] * 4 + ["u0"] * 4


def test_seen_items_can_be_included_and_all_users_are_the_default(service):
    frame = service.recommend(k=16, exclude_seen=False)
    assert len(frame) == 24 * 16
    assert frame.groupby("user_id").item_id.nunique().eq(16).all()
    assert len(service.recommend(["u0"], k=100)) == 16 - int(service.seen.counts[0])


def test_a_new_user_is_scored_by_messages_of_their_history(service):
    frame = service.recommend(histories=[[0, 2, 4], [1]], k=16, exclude_seen=False)
    assert frame.user_id.unique().tolist() == ["history-0", "history-1"]
    with torch.no_grad():
        weights = service.model.items
        items = service.model.encode(service.graph)["item"]
    # Two layers, a user without a vector of their own: (0 + A e0 + A e1) / 3 with 1 / sqrt(3 deg_i) on every edge.
    degree = service.graph.degree("item")
    users_to_items = torch.zeros(16, 24)
    log = service.seen
    users_to_items[log.values, log.groups] = (degree[log.values] * service.graph.degree("user")[log.groups]).rsqrt()
    layer_1 = users_to_items @ service.model.users
    history = torch.tensor([0, 2, 4])
    edge = (3 * degree[history]).rsqrt()[:, None]
    vector = ((edge * weights[history]).sum(0) + (edge * layer_1[history]).sum(0)) / 3
    expected = items @ vector
    mine = frame[frame.user_id == "history-0"].set_index("item_id").score
    assert mine.loc[list(range(16))].tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    fresh = service.recommend(histories=[[0, 2, 4]], k=16)
    assert not set(fresh.item_id) & {0, 2, 4}


def test_histories_are_cut_where_the_model_declares_a_length(service):
    class Whole(Recommender[HistoryQuery, PopularityConfig]):
        encode, score, loss = Popularity.encode, Popularity.score, Popularity.loss

    class Cut(Whole, ReadsHistories):
        history_length = 2

    for kind, widths in ((Whole, (int(service.seen.counts.max()), 3)), (Cut, (2, 2))):
        model, vocabularies = kind(service.graph.schema, PopularityConfig()), {"user": service.users, "item": service.items}
        own = Service(model, service.graph, vocabularies, service.seen)
        known, new = own.query(torch.arange(24)), own.query(torch.arange(1), RaggedLists.from_sequences([torch.tensor([4, 1, 2])]))
        assert (known.items.shape[1], new.items.shape[1]) == widths
        assert new.items[0, -2:].tolist() == [1, 2]


def test_a_model_without_vectors_of_items_compares_none(service):
    own = Service(service.model, service.graph, {"user": service.users, "item": service.items}, service.seen)
    own.__dict__["encoded"] = Encoded({"entity": torch.ones(3, 2)})
    with pytest.raises(ValueError, match="LightGCN encodes no items to compare; take a run of a model that ranks items"):
        own.similar_items([5])


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model.query_type is HistoryQuery])
def test_models_of_histories_recommend_to_new_users(name, tmp_path):
    settings = {"dim": 8, "max_length": 4, "epochs": 1, "progress": False, "eval": {"bootstrap": 0}}
    settings |= {"adapt_steps": 1, "inner_steps": 1} if name == "mml" else {}  # slow otherwise
    run = gmmrec.fit(checkerboard(12, 30)[0], name, out=tmp_path, **settings)
    people = [[0, 2, 4], [7], [9, 1, 13, 3, 5, 21, 17]]
    frame = run.recommend(histories=people, k=6)
    assert np.isfinite(frame.score).all()
    pd.testing.assert_frame_equal(gmmrec.load(tmp_path).recommend(histories=people, k=6), frame)
    everything = run.recommend(histories=people, k=30, exclude_seen=False)
    cut = run.recommend(histories=[person[-4:] for person in people], k=30, exclude_seen=False)
    pd.testing.assert_frame_equal(cut, everything)
    for number, person in enumerate(people):
        mine, alone = frame[frame.user_id == f"history-{number}"], run.recommend(histories=[person], k=6)
        assert mine["rank"].tolist() == [1, 2, 3, 4, 5, 6]
        assert not set(mine.item_id) & set(person)
        assert set(everything.item_id[everything.user_id == f"history-{number}"]) == set(range(30))
        assert alone.item_id.tolist() == mine.item_id.tolist()
        np.testing.assert_allclose(alone.score, mine.score, rtol=1e-4, atol=1e-6)


def test_similar_items_are_the_nearest_by_cosine(service):
    frame = service.similar_items([5], k=3)
    vectors = torch.nn.functional.normalize(service.encoded["item"], dim=1)
    cosine = vectors @ vectors[5]
    cosine[5] = -2
    best = cosine.argsort(descending=True)[:3].tolist()
    assert frame.item_id.tolist() == [5, 5, 5]
    assert frame.similar_id.tolist() == best
    assert frame.score.tolist() == pytest.approx(cosine[best].tolist(), abs=1e-6)


def test_bad_input_is_refused(service):
    with pytest.raises(KeyError, match="unknown user id 'nobody'"):
        service.recommend(["nobody"])
    with pytest.raises(KeyError, match="unknown item id 99"):
        service.similar_items([99])
    with pytest.raises(ValueError, match="k must be at least 1, but is 0"):
        service.recommend(["u0"], k=0)
    with pytest.raises(ValueError, match="not both"):
        service.recommend(["u0"], histories=[[1]])


def test_frames_are_plain(service):
    frame = service.recommend(["u0"], k=2)
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == ["user_id", "item_id", "score", "rank", "basis", "title"]


def test_users_are_ranked_in_chunks_and_every_pair_is_scored_once(service, monkeypatch):
    import gmmrec.serving.service as module

    whole, history = service.recommend(k=5), [[n % 16, (n + 3) % 16] for n in range(9)]
    people = service.recommend(histories=history, k=5)
    sizes, score = [], service.model.score

    def counted(encoded, query, candidates):
        sizes.append(len(query) * candidates.shape[-1])
        return score(encoded, query, candidates)

    monkeypatch.setattr(module, "CHUNK", 8)
    monkeypatch.setattr(service.model, "score", counted)
    pd.testing.assert_frame_equal(service.recommend(k=5), whole)
    assert sum(sizes) == 24 * 16
    assert max(sizes) == 8 * 16
    pd.testing.assert_frame_equal(service.recommend(histories=history, k=5), people)
    assert service.recommend([], k=5).empty


def test_only_candidates_are_scored_and_ranked(service, monkeypatch):
    whole = service.recommend(["u3", "u0"], k=16)
    scored, score = set(), service.model.score

    def counted(encoded, query, candidates):
        scored.update(candidates.flatten().tolist())
        return score(encoded, query, candidates)

    monkeypatch.setattr(service.model, "score", counted)
    some = service.recommend(["u3", "u0"], k=3, candidates=[9, 1, 4, 12, 6, 9])
    assert scored == {1, 4, 6, 9, 12}
    for name in ("u3", "u0"):
        expected = whole[(whole.user_id == name) & whole.item_id.isin([9, 1, 4, 12, 6])].head(3)
        mine = some[some.user_id == name]
        assert mine.item_id.tolist() == expected.item_id.tolist()
        np.testing.assert_allclose(mine.score, expected.score, atol=1e-6)
        assert mine["rank"].tolist() == list(range(1, len(expected) + 1))
    without = service.recommend(["u3"], k=16, exclude=[9, 1])
    assert without.item_id.tolist() == [i for i in whole[whole.user_id == "u3"].item_id if i not in (9, 1)]
    both = service.recommend(["u3"], k=16, candidates=[9, 1, 4], exclude=[9], exclude_seen=False)
    assert set(both.item_id) == {1, 4}
    seen = service.items.ids(service.seen.take(torch.tensor([3])).values)
    assert service.recommend(["u3"], candidates=seen).empty
    assert service.recommend(histories=[[0, 2]], k=9, candidates=[0, 4, 5]).item_id.isin([4, 5]).all()


def test_similar_items_among_some(service):
    whole = service.similar_items([5], k=15)
    some = service.similar_items([5], k=15, candidates=[5, 3, 7, 8], exclude=[8])
    expected = whole[whole.similar_id.isin([3, 7])]
    assert some.similar_id.tolist() == expected.similar_id.tolist()
    np.testing.assert_allclose(some.score, expected.score, atol=1e-6)
    assert service.similar_items([5], candidates=[5]).empty


def test_pairs_get_the_scores_of_lists_and_no_others_are_scored(service, monkeypatch):
    import gmmrec.serving.service as module

    scores, scored, score = dense_scores(service), set(), service.model.score

    def counted(encoded, query, candidates):
        scored.update(candidates.flatten().tolist())
        return score(encoded, query, candidates)

    monkeypatch.setattr(service.model, "score", counted)
    pairs = [("u3", 7), ("u0", 2), ("u3", 0), ("u9", 5), ("u3", 7)]
    for limit in (module.CELLS, 1):
        monkeypatch.setattr(module, "CELLS", limit)
        frame = service.score(pairs)
        assert list(frame.columns) == ["user_id", "item_id", "score", "basis", "title"]
        assert list(zip(frame.user_id, frame.item_id, strict=True)) == pairs
        assert frame.score.tolist() == pytest.approx([float(scores[int(u[1:]), i]) for u, i in pairs], abs=1e-6)
        assert frame.title.tolist() == [f"title {i}" for _, i in pairs]
        assert scored == {7, 2, 0, 5}  # 0 also pads the lists of a chunk
    table = pd.DataFrame({"item_id": [2, 7], "user_id": ["u0", "u3"], "note": ["a", "b"]}, index=[8, 9])
    assert service.score(table).score.tolist() == pytest.approx([float(scores[0, 2]), float(scores[3, 7])], abs=1e-6)
    assert service.score([]).empty


def test_unknown_ids_are_skipped_on_request(service, caplog):
    expected = service.recommend(["u0", "u3"], k=2)
    pd.testing.assert_frame_equal(service.recommend(["u0", "no", "u3", 7], k=2, unknown="skip"), expected)
    assert service.recommend(["no"], unknown="skip").empty
    frame = service.score([("u0", 1), ("no", 1), ("u1", 99), ("u2", 3)], unknown="skip")
    assert list(zip(frame.user_id, frame.item_id, strict=True)) == [("u0", 1), ("u2", 3)]
    assert service.similar_items([99, 4], k=1, unknown="skip").item_id.tolist() == [4]
    known, skipped = (service.recommend(histories=h, k=2, unknown="skip") for h in ([[0, 2], [4]], [[0, 99, 2], [4, -1]]))
    pd.testing.assert_frame_equal(known, skipped)
    assert service.recommend(["u0"], k=16, candidates=[1, 99], unknown="skip").item_id.tolist() == [1]
    assert "unknown user ids 'no', 7; user ids are text, such as 'u0'; left out of the answer" in caplog.messages


def test_wrongly_typed_arguments_are_refused_in_one_sentence(service):
    asking = [
        lambda: service.recommend("u0"),
        lambda: service.recommend(1),
        lambda: service.recommend(True),
        lambda: service.recommend([None]),
        lambda: service.recommend([["u0"]]),
        lambda: service.recommend({"u0": 1}),
        lambda: service.recommend(["u0"], k="5"),
        lambda: service.recommend(["u0"], k=2.0),
        lambda: service.recommend(["u0"], k=True),
        lambda: service.recommend(["u0"], exclude_seen="no"),
        lambda: service.recommend(["u0"], candidates=3),
        lambda: service.recommend(["u0"], candidates=["3"]),
        lambda: service.recommend(["u0"], candidates=[]),
        lambda: service.recommend(["u0"], exclude="3"),
        lambda: service.recommend(["u0"], exclude=range(16)),
        lambda: service.recommend(["u0"], unknown="drop"),
        lambda: service.recommend(histories=[1, 2]),
        lambda: service.recommend(histories="ab"),
        lambda: service.recommend(histories=[[1.0]]),
        lambda: service.recommend(histories=[[True]]),
        lambda: service.recommend(histories=[None]),
        lambda: service.similar_items(5),
        lambda: service.similar_items("5"),
        lambda: service.similar_items([5.0]),
        lambda: service.similar_items([5], k=None),
        lambda: service.similar_items([5], candidates=None, exclude=[2**70]),
        lambda: service.score("ab"),
        lambda: service.score([("u0", 1.0)]),
        lambda: service.score([("u0",)]),
    ]
    for ask in asking:
        with pytest.raises(UsageError) as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_lists_longer_than_the_catalogue_are_as_long_as_it(service):
    assert len(service.recommend(["u0"], k=2**70, exclude_seen=False)) == 16
    assert len(service.similar_items([5], k=10**9)) == 15


@pytest.fixture(scope="module")
def cold():
    """Service on data in which user u5 has later interactions only, u6 none at all, item 3 none, and item 4 later ones only."""
    dataset = replace(checkerboard()[0], features={})
    log = dataset.interactions
    later = (log.user == 5) | (log.item == 4)
    keep = (log.user != 6) & (log.item != 3)
    train, test = log.take(keep & ~later), log.take(keep & later)
    graph = build_graph(dataset, Split(train, test.take(torch.arange(0)), test))
    torch.manual_seed(0)
    model = LightGCN(graph.schema, LightGCNConfig(dim=8, num_layers=2)).eval()
    whole = log.take(keep)
    seen = RaggedSets.from_pairs(whole.user, whole.item, dataset.num_users)
    return Service(model, graph, dataset.vocabularies, seen, log=whole)


def test_users_that_training_has_not_seen(cold):
    frame = cold.recommend(k=14, exclude_seen=False)
    basis = frame.groupby("user_id").basis.first()
    assert basis["u6"] == "popularity"
    assert set(basis.drop("u6")) == {"model"}
    popular = frame[frame.user_id == "u6"]
    degree = cold.graph.degree("item")
    assert popular.score.tolist() == sorted(degree[degree > 0].tolist(), reverse=True)
    history = cold.items.ids(cold.seen.take(torch.tensor([5])).values)
    later = frame[frame.user_id == "u5"].drop(columns="user_id").reset_index(drop=True)
    new = cold.recommend(histories=[history, []], k=14, exclude_seen=False)
    pd.testing.assert_frame_equal(new[new.user_id == "history-0"].drop(columns="user_id").reset_index(drop=True), later)
    assert new[new.user_id == "history-1"].item_id.tolist() == popular.item_id.tolist()
    pairs = cold.score([("u6", 0), ("u5", 0), ("u1", 0)])
    assert pairs.basis.tolist() == ["popularity", "model", "model"]
    assert pairs.score[0] == degree[0]
    assert pairs.score[1] == pytest.approx(float(later.score[later.item_id == 0].iloc[0]), abs=1e-6)


def test_items_that_training_has_not_seen(cold, caplog):
    assert set(cold.recommend(k=99, exclude_seen=False).item_id) == set(range(16)) - {3, 4}
    assert set(cold.recommend(histories=[[3, 4]], k=99).basis) == {"popularity"}  # as if there were no history
    pairs = cold.score([("u1", 3), ("u1", 0), ("u6", 4)])
    assert pairs.score.isna().tolist() == [True, False, True]
    assert pairs.basis.tolist() == ["unknown item", "model", "unknown item"]
    with pytest.raises(KeyError, match="the model knows nothing of item 3: no training interaction, no feature it reads, so none"):
        cold.similar_items([0, 3])
    assert cold.similar_items([0, 3], k=20, unknown="skip").similar_id.tolist() == cold.similar_items([0], k=20).similar_id.tolist()
    assert not set(cold.similar_items([0], k=20).similar_id) & {3, 4}
    with pytest.raises(UsageError, match="no item is left to choose from"):
        cold.recommend(candidates=[3])
    caplog.clear()
    assert cold.recommend(["u1"], candidates=[3, 0, 4], exclude_seen=False).item_id.tolist() == [0]
    assert caplog.messages == [
        "the model knows nothing of items 3, 4: no training interaction, no feature it reads; never recommended"
    ]


@pytest.mark.parametrize("asked", [1, 2, 9])
def test_identical_items_are_equally_similar(asked):
    vectors = torch.nn.functional.normalize(torch.randn(1, 64, generator=torch.Generator().manual_seed(0)).repeat(7051, 1))
    order = torch.arange(7051).flip(0)
    scores, similar = _nearest(vectors, torch.arange(asked), torch.arange(7051), 7050, order)
    assert scores.unique().numel() == 1
    assert similar[0].tolist() == list(range(7050, 0, -1))
