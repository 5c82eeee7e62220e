import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.vbpr import VBPR, VBPRConfig
from gmmrec.nn.loss import bpr
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.testing import I, U, checkerboard, permuted, score_all, toy_graph, with_mask


def build(dataset: Dataset | None = None, **settings) -> tuple[VBPR, MultimodalGraph]:
    torch.manual_seed(0)
    graph = toy_graph(dataset)
    model = VBPR(
        graph.schema, VBPRConfig(**{"dim": 5, "content_dim": 3, "l2": 0.0, "l2_content": 0.0, "init_std": 0.3, **settings})
    )
    with torch.no_grad():  # nonzero biases
        for offsets in (model.offsets, *model.feature_offsets):
            offsets.normal_()
    return model, graph


def batch(items: list[int] | None = None) -> Batch[UserQuery]:
    """Nine triples, with items drawn from ``items``."""
    generator = torch.Generator().manual_seed(0)
    pool = torch.arange(I) if items is None else torch.tensor(items)
    user, position = torch.randint(U, (9,), generator=generator), torch.randint(len(pool), (9, 3), generator=generator)
    return Batch(UserQuery(user), pool[position[:, 0]], pool[position[:, 1:]])


def slow_scores(model: VBPR, graph: MultimodalGraph) -> Tensor:
    """Compute the score of every pair in float64, term by term."""
    weights = {name: weight.detach().double() for name, weight in model.named_parameters()}
    scores = torch.zeros(U, I, dtype=torch.float64)
    width = model.config.content_dim
    for u in range(U):
        for i in range(I):
            scores[u, i] = weights["offsets"][i, 0] + weights["users"][u] @ weights["items"][i]
            for m, name in enumerate(("image", "text")):
                table = graph.features[name]
                if not table.mask[i]:
                    continue
                f = table.values[i].double()
                columns = slice(m * width, (m + 1) * width) if model.config.features == "by_modality" else slice(None)
                scores[u, i] += weights["tastes"][u, columns] @ (weights[f"embed.{m}"] @ f) + weights[f"feature_offsets.{m}"][0] @ f
    return scores


# Invariants


def test_zero_content_weights_give_matrix_factorisation() -> None:
    model, graph = build()
    with torch.no_grad():
        for weight in (*model.embed, *model.feature_offsets):
            weight.zero_()
    torch.testing.assert_close(score_all(model, graph), (model.users @ model.items.T + model.offsets.T).detach())


@pytest.mark.parametrize("features", ["by_modality", "concatenated"])
def test_score_is_the_inner_product_of_extended_vectors(features: str) -> None:
    model, graph = build(features=features)
    with torch.no_grad():
        encoded = model.encode(graph)
    torch.testing.assert_close((encoded["user"] @ encoded["item"].T).double(), slow_scores(model, graph), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(score_all(model, graph), encoded["user"] @ encoded["item"].T)
    assert torch.equal(encoded["user"][:, -2:], torch.ones(U, 2))
    assert torch.equal(encoded["item"][:, :5], model.items)
    assert torch.equal(encoded["item"][:, -2:-1], model.offsets)
    assert encoded["item"].shape[1] == 5 + 2 + (6 if features == "by_modality" else 3)


def test_projection_gradients_come_from_items_in_the_batch_only() -> None:
    chosen = [0, 2, 5, 7]
    others = torch.tensor([i for i in range(I) if i not in chosen])
    dataset, _ = checkerboard(U, I)
    image = dataset.features["image"]
    moved = FeatureTable("image", image.values.index_add(0, others, torch.ones(len(others), 6)), image.mask)
    gradients = []
    for data in (dataset, replace(dataset, features={**dataset.features, "image": moved})):
        model, graph = build(data)
        model.loss(graph, batch(chosen))["bpr"].backward()
        gradients.append([weight.grad.clone() for weight in (*model.embed, *model.feature_offsets)])
    for one, other in zip(*gradients, strict=True):
        assert bool(one.any())
        assert torch.equal(one, other)


def test_item_without_features_has_only_factors_and_bias_and_no_content_gradient() -> None:
    bare = [1, 4, 6]
    dataset, _ = checkerboard(U, I)
    for name in ("image", "text"):
        dataset = with_mask(dataset, name, torch.tensor(bare))
    model, graph = build(dataset)
    torch.testing.assert_close(score_all(model, graph)[:, bare], (model.users @ model.items.T + model.offsets.T).detach()[:, bare])
    model.loss(graph, batch(bare))["bpr"].backward()
    assert not any(bool(weight.grad.any()) for weight in (*model.embed, *model.feature_offsets, model.tastes))
    assert bool(model.items.grad.any())


@pytest.mark.parametrize("features", ["by_modality", "concatenated"])
def test_permuting_permutes_scores(features: str) -> None:
    generator = torch.Generator().manual_seed(2)
    user, item = torch.randperm(U, generator=generator), torch.randperm(I, generator=generator)
    dataset, _ = checkerboard(U, I)
    model, graph = build(dataset, features=features)
    other, other_graph = build(permuted(dataset, user, item), features=features)
    with torch.no_grad():
        for target, source in zip(other.parameters(), model.parameters(), strict=True):
            target.copy_(source)
        other.users[user], other.tastes[user] = model.users, model.tastes
        other.items[item], other.offsets[item] = model.items, model.offsets
    torch.testing.assert_close(score_all(other, other_graph)[user][:, item], score_all(model, graph))


def test_equal_scores_cost_ln_2() -> None:
    model, graph = build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert float(model.loss(graph, batch())["bpr"].detach()) == pytest.approx(math.log(2))


def test_item_without_interactions_is_scored_by_content_alone() -> None:
    dataset, _ = checkerboard(U, I)
    known = dataset.interactions
    model, graph = build(replace(dataset, interactions=known.take(torch.nonzero(known.item != 4).flatten())))
    before = score_all(model, graph)
    assert bool(torch.isfinite(before).all())
    with torch.no_grad():
        model.items[4], model.offsets[4] = 100.0, 100.0
    assert torch.equal(score_all(model, graph), before)
    content = sum(
        model.tastes[:, 3 * m : 3 * m + 3] @ (model.embed[m] @ f) + model.feature_offsets[m][0] @ f
        for m, f in enumerate(graph.features[name].values[4] for name in ("image", "text"))
    )
    torch.testing.assert_close(before[:, 4], content.detach())


# The loss, variants, settings


def test_loss_is_bpr_on_scores() -> None:
    model, graph = build()
    triples, scores = batch(), score_all(model, graph)
    user = triples.query.user
    expected = bpr(scores[user, triples.positive][:, None], scores[user[:, None], triples.negative])
    torch.testing.assert_close(model.loss(graph, triples)["bpr"].detach(), expected)


@pytest.mark.parametrize("features", ["by_modality", "concatenated"])
def test_loss_gradients_match_those_of_the_score(features: str) -> None:
    model, graph = build(features=features)
    triples = batch()
    model.loss(graph, triples)["bpr"].backward()
    actual = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    scores = model.score(model.encode(graph), triples.query, triples.candidates)
    bpr(scores[:, :1], scores[:, 1:]).backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(actual[name], weight.grad)


def test_l2_terms_are_half_squared_l2_norms() -> None:
    model, graph = build(l2=0.5, l2_content=0.25)
    triples = batch()
    terms = model.loss(graph, triples)
    rows = [(table, triples.query.user) for table in (model.users, model.tastes)]
    rows += [(table, triples.candidates) for table in (model.items, model.offsets)]
    squares = sum(float(table.detach()[index].square().sum()) for table, index in rows)
    assert float(terms["l2"].detach()) == pytest.approx(0.5 * squares / (2 * len(triples)), rel=1e-5)
    squares = sum(float(weight.detach().square().sum()) for weight in (*model.embed, *model.feature_offsets))
    assert float(terms["l2_content"].detach()) == pytest.approx(0.25 * squares / 2, rel=1e-5)


def test_concatenated_features_have_one_projection() -> None:
    model, graph = build(features="concatenated")
    projection, features = (
        torch.cat(list(model.embed), dim=1),
        torch.cat([graph.features[n].pooled for n in ("image", "text")], dim=1),
    )
    with torch.no_grad():
        torch.testing.assert_close(model.encode(graph)["item"][:, 5:8], features @ projection.T)
    assert model.tastes.shape == (U, 3)


def test_variants_coincide_with_one_modality() -> None:
    dataset, _ = checkerboard(U, I)
    dataset = replace(dataset, features={"text": dataset.features["text"]})
    scores = [score_all(*build(dataset, features=variant)) for variant in ("by_modality", "concatenated")]
    assert torch.equal(*scores)


def test_missing_features_raise_an_error_with_a_remedy() -> None:
    with pytest.raises(ValueError, match="VBPR needs at least one modality of the items, but the data set has none"):
        build(replace(checkerboard(U, I)[0], features={}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"content_dim": 0}, "content_dim must be greater than 0"),
        ({"features": "summed"}, "features must be one of 'by_modality', 'concatenated', but is 'summed'"),
        ({"l2_content": -1.0}, "l2_content must be 0 or more"),
    ],
    ids=str,
)
def test_invalid_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        VBPRConfig(**settings)
