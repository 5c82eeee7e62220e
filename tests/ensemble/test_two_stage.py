import pytest
import torch

import gmmrec.ensemble.two_stage
from gmmrec.data.ragged import RaggedSets
from gmmrec.ensemble.blend import Blend
from gmmrec.ensemble.graphs import merge
from gmmrec.ensemble.member import Member
from gmmrec.ensemble.two_stage import TwoStage, TwoStageConfig, stack_scores
from gmmrec.graph.fold_in import with_new_users
from gmmrec.models.freedom import FREEDOM, FREEDOMConfig
from gmmrec.models.lightgcn import LightGCN, LightGCNConfig
from gmmrec.models.mario import MARIO, MARIOConfig
from gmmrec.models.popularity import Popularity
from gmmrec.runs.checkpoint import load_model, save_model
from gmmrec.tasks.query import UserQuery
from gmmrec.testing import I, U, checkerboard, score_all, toy_graph, training_batch
from gmmrec.typing import ITEM_USER

INF = torch.inf


def trained(model_class, config, seed):
    torch.manual_seed(seed)
    graph = toy_graph()
    model = model_class(graph.schema, config).eval()
    with torch.no_grad():
        return model, model.prepare(graph)


@pytest.fixture(scope="module")
def pair():
    return trained(FREEDOM, FREEDOMConfig(dim=4, knn=2), 1), trained(MARIO, MARIOConfig(dim=8), 2)


def staged(pair, top):
    (fast, fast_graph), (slow, slow_graph) = pair
    graph = merge([fast_graph, slow_graph])
    return TwoStage.of(fast, slow, graph.schema, top), graph


def seen_of(graph):
    seen = torch.zeros(graph.num_nodes("user"), I, dtype=torch.bool)
    item, user = graph.edges(ITEM_USER).edge_index.as_tensor()
    seen[user, item] = True
    return seen


def order(scores, *, unseen_of=None):
    """Return the rows of one user's items, best first."""
    ranked = scores.argsort(descending=True, stable=True).tolist()
    return [item for item in ranked if unseen_of is None or not unseen_of[item]]


@pytest.mark.parametrize("top", [1, 3, 6])
def test_the_best_of_the_fast_model_in_the_order_of_the_slow_one_then_all_others(pair, top):
    model, graph = staged(pair, top)
    (fast, fast_graph), (slow, slow_graph) = pair
    found, first, second, seen = score_all(model, graph), score_all(fast, fast_graph), score_all(slow, slow_graph), seen_of(graph)
    for user in range(U):
        candidates = order(first[user], unseen_of=seen[user])[:top]
        expected = sorted(candidates, key=lambda item: -float(second[user, item]))
        expected += [item for item in order(first[user]) if item not in candidates]
        assert order(found[user]) == expected
        torch.testing.assert_close(found[user, candidates], second[user, candidates])  # they keep the slow model's scores


def test_with_the_whole_catalogue_as_candidates_it_ranks_as_the_slow_model(pair):
    (slow, slow_graph), seen = pair[1], seen_of(pair[1][1])
    alone = score_all(slow, slow_graph)
    for top in (I, 10 * I):
        model, graph = staged(pair, top)
        found = score_all(model, graph)
        torch.testing.assert_close(found[~seen], alone[~seen])
        for user in range(U):
            assert order(found[user], unseen_of=seen[user]) == order(alone[user], unseen_of=seen[user])


def test_what_the_user_knows_takes_no_place_among_the_candidates(pair):
    model, graph = staged(pair, 2)
    encoded, query = model.encode(graph), UserQuery(torch.arange(U))
    _, rows, chosen = model.shortlist(encoded, query)
    assert bool(chosen.all())
    assert not bool(seen_of(graph).gather(1, rows).any())


def test_a_score_does_not_depend_on_candidates_or_blocks(pair, monkeypatch):
    model, graph = staged(pair, 4)
    whole, encoded = score_all(model, graph), model.encode(graph)
    monkeypatch.setattr(gmmrec.ensemble.two_stage, "CELLS", 3 * I)  # three users at a time
    torch.testing.assert_close(score_all(model, graph), whole)
    rows = torch.tensor([5, 0, 16])
    torch.testing.assert_close(model.score(encoded, UserQuery(torch.arange(U)), rows), whole[:, rows])
    own = torch.stack([torch.randperm(I)[:3] for _ in range(U)])
    torch.testing.assert_close(model.score(encoded, UserQuery(torch.arange(U)), own), whole.gather(1, own))


def test_scores_by_hand():
    scores = torch.tensor([[4.0, 3.0, 2.0, 1.0, -INF], [1.0, 1.0, 1.0, 1.0, 1.0]])
    better, rows = torch.tensor([[-5.0, 7.0], [0.0, -INF]]), torch.tensor([[1, 0], [4, 2]])
    found = stack_scores(scores, better, rows, torch.ones(2, 2, dtype=torch.bool))
    # lowest candidate -5, so a step of 10: the best other (2) at -5 - 5, the last one (1) at -5 - 15; second row: 0 - 2 / 2
    assert found.tolist() == [[7.0, -5.0, -10.0, -20.0, -INF], [-1.0, -1.0, -INF, -1.0, 0.0]]


def test_positions_outside_the_mask_are_ignored():
    scores = torch.tensor([[3.0, -INF, 1.0]])
    found = stack_scores(scores, torch.tensor([[9.0, 8.0]]), torch.tensor([[2, 1]]), torch.tensor([[True, False]]))
    assert found.tolist() == [[0.0, -INF, 9.0]]  # a step of 18, half of it below 9


def test_what_either_model_rules_out_stays_out(pair, monkeypatch):
    model, graph = staged(pair, 6)
    fast_score, slow_score = FREEDOM.score, MARIO.score
    monkeypatch.setattr(FREEDOM, "score", lambda *a: fast_score(*a).index_fill(1, torch.tensor([5]), -INF))
    out = score_all(model, graph) == -INF
    assert bool(out[:, 5].all())
    assert int(out.sum()) == U
    monkeypatch.setattr(MARIO, "score", lambda *a: slow_score(*a).masked_fill(a[3] == 8, -INF))
    _, rows, chosen = model.shortlist(model.encode(graph), UserQuery(torch.arange(U)))
    asked = ((rows == 8) & chosen).any(1)
    assert 0 < int(asked.sum()) < U
    assert torch.equal((score_all(model, graph) == -INF)[:, 8], asked)
    monkeypatch.setattr(MARIO, "score", lambda *a: torch.full_like(slow_score(*a), -INF))
    left = score_all(model, graph) > -INF
    assert torch.equal(left.sum(1), I - 1 - chosen.sum(1))  # all others remain


def test_nan_is_passed_on(pair, monkeypatch):
    model, graph = staged(pair, 3)
    score = MARIO.score
    monkeypatch.setattr(MARIO, "score", lambda *a: score(*a) * torch.nan)
    assert bool(score_all(model, graph).isnan().any(1).all())


def test_new_users_are_ranked_by_their_histories(pair):
    model, graph = staged(pair, 3)
    history = [0, 2, 4]
    wider = with_new_users(graph, RaggedSets.from_pairs(torch.zeros(3, dtype=torch.long), torch.tensor(history), 1))
    encoded, query = model.encode(wider), UserQuery(torch.tensor([U]))
    scores, rows, chosen = model.shortlist(encoded, query)
    expected = [item for item in order(scores[0]) if item not in history][:3]
    assert (rows[0].tolist(), chosen.tolist()) == (expected, [[True] * 3])
    slow, slow_graph = pair[1]  # MARIO folds in no new users
    seen, sets = seen_of(slow_graph).float(), torch.zeros(I)
    sets[history] = 1.0
    cosine = (seen @ sets) / (seen.sum(1) * len(history)).sqrt()
    near, users = cosine.topk(20)
    expected_scores = (near / near.sum()) @ slow.score(slow.encode(slow_graph), UserQuery(users), rows[0])
    torch.testing.assert_close(model.score(encoded, query, rows)[0], expected_scores)


def test_it_is_rebuilt_from_one_file(pair, tmp_path):
    model, graph = staged(pair, 4)
    save_model(model, tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    assert isinstance(again, TwoStage)
    assert (again.config.top, again.schema) == (4, model.schema)
    assert torch.equal(score_all(again, graph), score_all(model, graph))


def test_its_own_graph_is_that_of_both(pair):
    model, graph = staged(pair, 4)
    with torch.no_grad():
        prepared = model.prepare(toy_graph())
    assert set(prepared.schema.relations) == set(graph.schema.relations)
    assert torch.equal(score_all(model, prepared), score_all(model, graph))


def test_nothing_is_trained(pair):
    model, graph = staged(pair, 4)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.loss(graph, training_batch(checkerboard(U, I)[0].interactions, torch.Generator().manual_seed(0))) == {}


def test_impossible_settings_are_refused(pair):
    parts = [Member.of(model) for model, _ in pair]
    with pytest.raises(ValueError, match="top must be greater than 0, but is 0"):
        TwoStageConfig(*parts, top=0)
    (model, graph), _ = trained(Popularity, Popularity.config_class(), 0), pair
    blend = Blend.of([model], graph.schema, [1.0])
    with pytest.raises(ValueError, match="a Blend cannot be a member"):
        TwoStage.of(blend, model, graph.schema)
    inner, merged = staged(pair, 4)
    with pytest.raises(ValueError, match="a TwoStage cannot be a member"):
        TwoStage.of(model, inner, merged.schema)


def test_equal_models_give_back_their_ranking():
    both = trained(LightGCN, LightGCNConfig(dim=4), 3)
    model, graph = staged((both, both), 5)
    alone, found, seen = score_all(*both), score_all(model, graph), seen_of(graph)
    assert all(order(found[u], unseen_of=seen[u]) == order(alone[u], unseen_of=seen[u]) for u in range(U))
