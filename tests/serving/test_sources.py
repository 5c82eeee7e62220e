import torch

from gmmrec.data.ragged import RaggedLists
from gmmrec.recommender import encode
from gmmrec.serving.sources import MODEL, POPULARITY, SIMILAR_USERS, readable, sources_of_new_users
from gmmrec.tasks.query import UserQuery
from gmmrec.testing import I, U, toy_graph
from tests.serving.test_known import BARE, COLD_ITEM, built, cold_board

HISTORIES = RaggedLists.from_sequences([torch.tensor([0, 2]), torch.tensor([], dtype=torch.long), torch.tensor([1])])


def bases(name):
    model, graph = built(name, toy_graph(cold_board()))
    with torch.no_grad():
        found = list(sources_of_new_users(model, graph, lambda: encode(model, graph), HISTORIES, lambda rows, _: UserQuery(rows)))
        for positions, source in found:
            query = source.query(torch.arange(len(positions)))
            assert bool(torch.isfinite(source.scorer.score(source.encoded, query, torch.arange(I))).all())
    return {source.basis: positions.tolist() for positions, source in found}, found


def test_histories_are_read_by_the_model_or_by_similar_users_and_their_lack_means_popularity():
    assert bases("lightgcn")[0] == {MODEL: [0, 2], POPULARITY: [1]}
    found, sources = bases("vbpr")
    assert found == {SIMILAR_USERS: [0, 2], POPULARITY: [1]}
    assert sources[0][1].query(torch.tensor([1])).user.tolist() == [U + 1]
    assert bases("popularity")[0] == {MODEL: [0, 1, 2]}


def test_popularity_counts_training_interactions():
    source = {s.basis: s for _, s in bases("ease")[1]}[POPULARITY]
    scores = source.scorer.score(source.encoded, source.query(torch.tensor([0])), torch.arange(I))
    log = cold_board().interactions
    assert torch.equal(scores[0], torch.bincount(log.item, minlength=I).float())


def test_items_that_tell_nothing_of_a_new_user():
    model, graph = built("freedom", toy_graph(cold_board()))
    known = torch.arange(I) != BARE
    assert torch.equal(readable(model, graph, known), known)
    model, graph = built("vbpr", toy_graph(cold_board()))  # only shared items make users similar
    assert torch.nonzero(~readable(model, graph, known)).flatten().tolist() == [COLD_ITEM, BARE]
