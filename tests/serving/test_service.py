import numpy as np
import pandas as pd
import pytest
import torch

import gmmrec
from gmmrec.abilities import ReadsHistories
from gmmrec.data.ragged import RaggedSets
from gmmrec.data.split import Split
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


def test_new_users_of_a_model_that_cannot_tell_them_apart_are_warned_of(service, caplog):
    service.recommend(histories=[[0]], k=3)
    assert caplog.messages == []
    model = Popularity(service.graph.schema, PopularityConfig())
    vocabularies = {"user": service.users, "item": service.items}
    Service(model, service.graph, vocabularies, service.seen).recommend(histories=[[0]], k=3)
    (message,) = caplog.messages
    assert message == "Popularity does not declare that it folds in new users: they may all get the same list"


def test_histories_are_cut_where_the_model_declares_a_length(service):
    class Whole(Recommender[HistoryQuery, PopularityConfig]):
        encode, score, loss = Popularity.encode, Popularity.score, Popularity.loss

    class Cut(Whole, ReadsHistories):
        history_length = 2

    for kind, widths in ((Whole, (int(service.seen.counts.max()), 3)), (Cut, (2, 2))):
        model, vocabularies = kind(service.graph.schema, PopularityConfig()), {"user": service.users, "item": service.items}
        own = Service(model, service.graph, vocabularies, service.seen)
        known, new = own.query(torch.arange(24)), own.query(torch.arange(1), [[4, 1, 2]])
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
    with pytest.raises(ValueError, match="at least one item id"):
        service.recommend(histories=[[]])


def test_frames_are_plain(service):
    frame = service.recommend(["u0"], k=2)
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == ["user_id", "item_id", "score", "rank", "title"]


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


@pytest.mark.parametrize("asked", [1, 2, 9])
def test_identical_items_are_equally_similar(asked):
    vectors = torch.nn.functional.normalize(torch.randn(1, 64, generator=torch.Generator().manual_seed(0)).repeat(7051, 1))
    order = torch.arange(7051).flip(0)
    scores, similar = _nearest(vectors, torch.arange(asked), 7050, order)
    assert scores.unique().numel() == 1
    assert similar[0].tolist() == list(range(7050, 0, -1))
