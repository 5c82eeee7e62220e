from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.bm3 import BM3, BM3Config
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.testing import I, U, checkerboard, permuted, score_all, toy_graph, with_mask
from gmmrec.typing import USER_ITEM


def complete() -> Dataset:
    """Return the checkerboard with all images present."""
    dataset, _ = checkerboard(U, I)
    values = torch.rand(I, 6, generator=torch.Generator().manual_seed(0))
    return replace(dataset, features={**dataset.features, "image": FeatureTable("image", values)})


def build(dataset: Dataset | None = None, **settings) -> tuple[BM3, MultimodalGraph]:
    torch.manual_seed(0)
    graph = toy_graph(complete() if dataset is None else dataset)
    return BM3(graph.schema, BM3Config(**{"dim": 8, "dropout": 0.0, "init_std": 0.3, **settings})), graph


def batch(items: list[int] | None = None) -> Batch[UserQuery]:
    """Return 40 pairs, in which users and items repeat."""
    generator = torch.Generator().manual_seed(0)
    candidates = torch.arange(I) if items is None else torch.tensor(items)
    user, position = torch.randint(U, (40,), generator=generator), torch.randint(len(candidates), (40,), generator=generator)
    return Batch(UserQuery(user), candidates[position], torch.randint(I, (40, 1), generator=generator))


def make_predictor_the_identity(model: BM3) -> None:
    with torch.no_grad():
        model.predict.weight.copy_(torch.eye(8))
        model.predict.bias.zero_()


def slow_loss(model: BM3, graph: MultimodalGraph, triples: Batch[UserQuery]) -> dict[str, float]:
    """Compute the terms in float64 with a dense adjacency, pair by pair and without dropout."""
    w = {name: weight.detach().double() for name, weight in model.named_parameters()}
    adjacency = torch.zeros(U + I, U + I, dtype=torch.float64)
    user, item = graph.edges(USER_ITEM).edge_index.as_tensor()
    adjacency[user, U + item] = adjacency[U + item, user] = 1
    root = adjacency.sum(1).clamp(min=1).rsqrt()
    adjacency = root[:, None] * adjacency * root
    layer = start = total = torch.cat([w["users"], w["items"]])
    for _ in range(model.config.num_layers):
        layer = adjacency @ layer
        total = total + layer
    mean = total / (model.config.num_layers + 1)
    users, items = mean[:U], mean[U:] + start[U:]

    def predict(x: Tensor) -> Tensor:
        return w["predict.weight"] @ x + w["predict.bias"]

    def distance(x: Tensor, y: Tensor) -> float:
        return float(1 - x @ y / (x.norm() * y.norm()))

    terms = {"rec_user": 0.0, "rec_item": 0.0, "align": 0.0, "mask": 0.0}
    for u, i in zip(triples.query.user.tolist(), triples.positive.tolist(), strict=True):
        terms["rec_user"] += distance(predict(users[u]), items[i])
        terms["rec_item"] += distance(predict(items[i]), users[u])
        for m, name in enumerate(("image", "text")):
            table = graph.features[name]
            if table.present[i]:
                feature = w[f"project.{m}.weight"] @ table.values[i].double() + w[f"project.{m}.bias"]
                terms["align"] += model.config.modality_weight * distance(predict(feature), items[i])
                terms["mask"] += model.config.modality_weight * distance(predict(feature), feature)
    terms = {name: value / len(triples) for name, value in terms.items()}
    return {**terms, "norm": float(model.config.norm_weight * (users.norm() + items.norm()) / I)}


# Invariants


def test_loss_ignores_negatives() -> None:
    model, graph = build()
    pairs = batch()
    expected = model.loss(graph, pairs)
    for negative in (pairs.negative.flip(0), pairs.negative[:, :0]):
        actual = model.loss(graph, replace(pairs, negative=negative))
        assert {name: float(term.detach()) for name, term in actual.items()} == {
            name: float(term.detach()) for name, term in expected.items()
        }


def test_distances_lie_between_0_and_2() -> None:
    model, graph = build(modality_weight=1.0, num_layers=0)
    make_predictor_the_identity(model)
    with torch.no_grad():
        model.users[:] = -model.items[0]
        model.items[:] = model.items[0]
    terms = model.loss(graph, batch())
    assert float(terms["rec_user"].detach()) == pytest.approx(2)  # opposite vectors: the maximum
    assert float(terms["rec_item"].detach()) == pytest.approx(2)
    with torch.no_grad():
        model.users.neg_()
    assert float(model.loss(graph, batch())["rec_user"].detach()) == pytest.approx(0, abs=1e-6)


def test_mask_term_is_0_without_dropout_and_with_the_identity_as_predictor() -> None:
    model, graph = build(dropout=0.0)
    make_predictor_the_identity(model)
    assert float(model.loss(graph, batch())["mask"].detach()) == pytest.approx(0, abs=1e-6)
    with torch.no_grad():  # and so is the distance of parallel user and item vectors
        model.propagate.num_layers = 0
        model.users[:], model.items[:] = model.items[0] * 2, model.items[0]
    assert float(model.loss(graph, batch())["rec_item"].detach()) == pytest.approx(0, abs=1e-6)


def test_targets_have_no_gradient() -> None:
    model, graph = build(num_layers=0)
    tables = [model.users, model.items]
    users, items = torch.autograd.grad(model.loss(graph, batch())["rec_user"], tables, materialize_grads=True)
    assert bool(users.any())
    assert not bool(items.any())
    users, items = torch.autograd.grad(model.loss(graph, batch())["rec_item"], tables, materialize_grads=True)
    assert not bool(users.any())
    assert bool(items.any())


def test_rec_user_reaches_items_through_propagation_only() -> None:
    model, graph = build(num_layers=1)
    pairs = batch()
    model.loss(graph, pairs)["rec_user"].backward()
    user, item = graph.edges(USER_ITEM).edge_index.as_tensor()
    reached = torch.zeros(I, dtype=torch.bool)
    reached[item[torch.isin(user, pairs.query.user)]] = True
    assert torch.equal(model.items.grad.any(1), reached)


def test_alignment_moves_modalities_and_not_items() -> None:
    model, graph = build(dropout=0.3)
    model.loss(graph, batch())["align"].backward()
    assert bool(model.project[0].weight.grad.any())
    assert model.items.grad is None
    assert model.users.grad is None


def test_one_predictor_is_shared() -> None:
    model, _ = build()
    square = [name for name, weight in model.named_parameters() if weight.shape == (8, 8)]
    assert square == ["predict.weight"]
    assert [name for name, _ in model.named_parameters() if "predict" in name] == ["predict.weight", "predict.bias"]


def test_scores_are_inner_products_of_predictions() -> None:
    model, graph = build()
    h = model.propagated(graph)
    expected = (model.predict(h.user) @ model.predict(h.item).T).detach()
    torch.testing.assert_close(score_all(model, graph), expected)
    plain = (h.user @ h.item.T).detach()
    assert not torch.allclose(expected, plain, atol=0.1)
    make_predictor_the_identity(model)
    torch.testing.assert_close(score_all(model, graph), plain)


def test_modality_weight_0_omits_projections() -> None:
    model, graph = build(modality_weight=0.0)
    assert [name for name, _ in model.named_parameters()] == ["users", "items", "predict.weight", "predict.bias"]
    assert set(model.loss(graph, batch())) == {"rec_user", "rec_item", "norm"}
    bare = replace(complete(), features={})
    assert set(build(bare, modality_weight=0.0)[0].state_dict()) == set(model.state_dict())


def test_missing_modality_drops_its_two_terms_only() -> None:
    pairs = batch()
    terms = {}
    for name, dataset in {"whole": complete(), "without": with_mask(complete(), "image", torch.arange(I))}.items():
        model, graph = build(dataset)
        terms[name] = model.loss(graph, pairs)
    text = build(replace(complete(), features={"text": complete().features["text"]}))
    text[0].load_state_dict({k.replace("project.1", "project.0"): v for k, v in model.state_dict().items() if "project.0" not in k})
    alone = text[0].loss(text[1], pairs)
    for name in ("rec_user", "rec_item", "norm"):
        torch.testing.assert_close(terms["without"][name], terms["whole"][name])
    for name in ("align", "mask"):
        torch.testing.assert_close(terms["without"][name], alone[name])
        assert float(terms["whole"][name].detach()) > float(terms["without"][name].detach())


def test_items_without_a_modality_do_not_change_terms_of_others() -> None:
    rows = torch.tensor([2, 5])
    model, graph = build(with_mask(complete(), "image", rows))
    expected = slow_loss(model, graph, batch())
    assert {name: float(term.detach()) for name, term in model.loss(graph, batch()).items()} == pytest.approx(expected, rel=1e-4)
    model.loss(graph, batch([2, 5]))["align"].backward()
    assert not bool(model.project[0].weight.grad.any())
    assert bool(model.project[1].weight.grad.any())


def test_scores_are_deterministic_and_the_loss_is_not() -> None:
    model, graph = build(dropout=0.5)
    model.eval()
    assert torch.equal(score_all(model, graph), score_all(model, graph))
    first, second = (float(model.loss(graph, batch())["rec_user"].detach()) for _ in range(2))
    assert first != second


@pytest.mark.parametrize("num_layers", [0, 1, 2])
def test_item_vectors_are_propagated_plus_id_embeddings(num_layers: int) -> None:
    model, graph = build(num_layers=num_layers)
    h, x = model.propagated(graph), model.propagate((model.users, model.items), graph.bipartite)
    torch.testing.assert_close(h.item - x.item, model.items.detach(), rtol=1e-5, atol=1e-6)
    assert torch.equal(h.user, x.user)


def test_loss_is_independent_of_target_norms() -> None:
    model, graph = build(num_layers=0, norm_weight=0.0)
    pairs = batch()
    expected = model.loss(graph, pairs)
    target = model._target
    model._target = lambda h: 7.5 * target(h)
    actual = model.loss(graph, pairs)
    for name, term in expected.items():
        torch.testing.assert_close(actual[name], term)


def test_permutation_permutes_scores_and_keeps_the_loss() -> None:
    generator = torch.Generator().manual_seed(2)
    user, item = torch.randperm(U, generator=generator), torch.randperm(I, generator=generator)
    model, graph = build()
    other, other_graph = build(permuted(complete(), user, item))
    with torch.no_grad():
        other.users[user], other.items[item] = model.users, model.items
    torch.testing.assert_close(score_all(other, other_graph)[user][:, item], score_all(model, graph), rtol=1e-4, atol=1e-5)
    pairs = batch()
    actual = other.loss(other_graph, Batch(UserQuery(user[pairs.query.user]), item[pairs.positive], item[pairs.negative]))
    for name, term in model.loss(graph, pairs).items():
        torch.testing.assert_close(actual[name], term, rtol=1e-4, atol=1e-5)


# The whole loss, dropout, settings


@pytest.mark.parametrize("num_layers", [0, 1, 2])
def test_loss_equals_the_slow_version(num_layers: int) -> None:
    model, graph = build(num_layers=num_layers, modality_weight=1.5, norm_weight=0.7)
    actual = {name: float(term.detach()) for name, term in model.loss(graph, batch()).items()}
    assert actual == pytest.approx(slow_loss(model, graph, batch()), rel=1e-4)


def test_target_dropout_zeroes_a_fraction_and_rescales_the_rest() -> None:
    model, _ = build(dropout=0.25)
    target = model._target(torch.ones(400, 100, requires_grad=True))
    assert not target.requires_grad
    assert float((target == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert set(target.unique().tolist()) == {0.0, torch.tensor(4 / 3).item()}


def test_nodes_have_one_dropout_mask_per_step(monkeypatch) -> None:
    model, graph = build(dropout=0.5)
    rows = []
    monkeypatch.setattr(model, "_target", lambda h: rows.append(len(h)) or F.dropout(h.detach(), 0.5))
    pairs = batch()
    model.loss(graph, pairs)
    users, items = len(pairs.query.user.unique()), len(pairs.positive.unique())
    assert rows == [users, items, items, items]


def test_missing_features_are_refused() -> None:
    with pytest.raises(ValueError, match="BM3 needs at least one modality of the items, but the data set has none"):
        build(replace(complete(), features={}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dropout": 1.0}, "dropout must be at least 0 and less than 1, but is 1.0"),
        ({"modality_weight": -1.0}, "modality_weight must be 0 or more"),
        ({"dim": 0}, "dim must be greater than 0"),
    ],
    ids=str,
)
def test_invalid_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        BM3Config(**settings)
