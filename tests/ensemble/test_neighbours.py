from types import SimpleNamespace

import pytest
import torch

from gmmrec.data.ragged import RaggedSets
from gmmrec.ensemble import neighbours as module
from gmmrec.ensemble.blend import Blend
from gmmrec.ensemble.graphs import merge
from gmmrec.ensemble.neighbours import NeighbourUsers, folds_in_users, score_with_neighbours
from gmmrec.graph.fold_in import with_new_users
from gmmrec.models import MODELS
from gmmrec.models.graph_fusion import GraphFusion, GraphFusionConfig
from gmmrec.models.lightgcn import LightGCN, LightGCNConfig
from gmmrec.models.vbpr import VBPR, VBPRConfig
from gmmrec.recommender import encode
from gmmrec.tasks.query import UserQuery
from gmmrec.testing import I, U, toy_graph
from gmmrec.typing import ITEM_USER

HISTORIES = RaggedSets(torch.tensor([0, 3, 4]), torch.tensor([0, 2, 5, 1]))
ITEMS = torch.arange(I)


@pytest.fixture(scope="module")
def vbpr():
    graph = toy_graph()
    torch.manual_seed(0)
    return VBPR(graph.schema, VBPRConfig(dim=4, content_dim=4)).eval(), graph


def slow(model, graph, count=20):
    """Return the scores of two new users, one user and one neighbour at a time."""
    item, user = graph.edges(ITEM_USER).edge_index.as_tensor()
    sets = [set(item[user == u].tolist()) for u in range(U)]
    with torch.no_grad():
        everybody = model.score(encode(model, graph), UserQuery(torch.arange(U)), ITEMS)
    found = []
    for number in range(len(HISTORIES)):
        history = set(HISTORIES.take(torch.tensor([number])).values.tolist())
        cosine = [len(history & own) / (len(history) * len(own)) ** 0.5 for own in sets]
        near = sorted(range(U), key=lambda u: (-cosine[u], u))[:count]
        found.append(sum(cosine[u] * everybody[u] for u in near) / sum(cosine[u] for u in near))
    return torch.stack(found)


@pytest.mark.parametrize("cells", [module.CELLS, 40])
def test_new_users_are_scored_as_the_nearest_trained_users(vbpr, cells, monkeypatch):
    monkeypatch.setattr(module, "CELLS", cells)
    model, graph = vbpr
    neighbours = NeighbourUsers.of(graph, HISTORIES, U)
    assert neighbours.shares.sum(1).tolist() == pytest.approx([1.0, 1.0])
    query, expected = UserQuery(torch.tensor([U + 1, 3, U])), slow(model, graph)
    with torch.no_grad():
        encoded = encode(model, graph)
        known = model.score(encoded, UserQuery(torch.tensor([3])), ITEMS)
        found = score_with_neighbours(model, encoded, query, ITEMS, neighbours)
        torch.testing.assert_close(found, torch.stack([expected[1], known[0], expected[0]]))
        columns = torch.tensor([[1, 5, 7], [0, 3, 4], [16, 2, 8]])
        own = score_with_neighbours(model, encoded, query, columns, neighbours)
        torch.testing.assert_close(own, found.gather(1, columns))


def test_a_history_that_nobody_shares_has_no_neighbours(vbpr):
    _, graph = vbpr
    nothing = RaggedSets(torch.tensor([0, 0]), torch.empty(0, dtype=torch.long))
    assert NeighbourUsers.of(graph, nothing, U).shares.abs().sum() == 0
    assert NeighbourUsers.of(graph, RaggedSets(torch.tensor([0]), nothing.values), U).rows.shape == (0, 20)


def test_an_item_that_a_neighbour_never_gets_stays_out():
    def score(encoded, query, candidates):
        found = torch.ones(len(query), candidates.shape[-1])
        return found.masked_fill((candidates == 4) & (query.user[:, None] % 2 == 0), -torch.inf)

    own = SimpleNamespace(score=score, query_type=UserQuery)
    rows, shares = torch.tensor([[2, 1], [3, 5]]), torch.full((2, 2), 0.5)
    for candidates in (ITEMS, ITEMS.expand(2, -1)):
        found = module._mean_score(own, None, rows, shares, candidates)
        assert torch.equal(found == -torch.inf, torch.stack([ITEMS == 4, ITEMS < 0]))
        assert torch.equal(found[found > -torch.inf], torch.ones(2 * I - 1))


def test_models_say_whether_they_fold_in():
    graph = toy_graph()
    folding = {
        name for name, kind in MODELS.items() if name not in NOT_BUILT and folds_in_users(kind(graph.schema, kind.config_class()))
    }
    assert set(MODELS) - NOT_BUILT - folding == {"cmbf", "mario", "saers", "uvcan", "vbpr", "vecf"}
    fixed = GraphFusion(graph.schema, GraphFusionConfig(ids="mf", content={"text": "linear"}))
    assert not folds_in_users(fixed)


NOT_BUILT = {"mkgformer", "nor", "nrpa", "pog"}
"""Models that need other data."""


def test_a_member_of_a_blend_that_folds_in_nobody_takes_the_neighbours(vbpr):
    model, graph = vbpr
    torch.manual_seed(1)
    light = LightGCN(graph.schema, LightGCNConfig(dim=4)).eval()
    both = merge([graph, graph])
    new = with_new_users(both, HISTORIES)
    query = UserQuery(torch.tensor([U, U + 1]))
    for members, weights in (((model, light), [1.0, 0.0]), ((light, model), [0.0, 1.0])):
        blend = Blend.of(members, both.schema, weights)
        with torch.no_grad():
            found = blend.score(blend.encode(new), query, ITEMS)
        expected = slow(model, graph)
        expected = (expected - expected.mean(1, keepdim=True)) / expected.std(1, correction=0, keepdim=True)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        assert blend.encode(both).neighbours is None
