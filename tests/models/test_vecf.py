"""VECF against a reference implementation; its layers are tested in tests/nn (fusion/test_region.py, decoder/test_text.py)."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import gmmrec.models.vecf as module
from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.data.reviews import Reviews
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.vecf import VECF, VECFConfig
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.testing import I, U, checkerboard, score_all, toy_graph
from tests.memory import Largest
from tests.models.slow_vecf import BARE, WORDS, D, R, build, data, region_table, slow

FORMS = [
    {},
    {"attention": "additive", "merge": "add", "predictor": "dot"},
    {"merge": "concat", "predictor": "fm"},
    {"merge": "concat", "predictor": "dot", "attention": "mean"},
    {"attention": "mean", "scale": 0.3, "num_layers": 2, "hidden": 5},
    {"image": False},
    {"image": False, "merge": "concat", "predictor": "fm"},
    {"regions": "image", "predictor": "dot"},
]
ATTENTION_WEIGHTS = ("query.weight", "key.weight", "logit.weight")  # W_u, W_f, w_o


def batch(dataset: Dataset | None = None) -> Batch[UserQuery]:
    """Nine interactions with two negatives each, and their reviews."""
    dataset, generator = dataset or data(), torch.Generator().manual_seed(0)
    rows = torch.randperm(len(dataset.interactions), generator=generator)[:9]
    log = dataset.interactions.take(rows)
    text = None if dataset.reviews is None else dataset.reviews.at(log.review)
    return Batch(UserQuery(log.user), log.item, torch.randint(I, (9, 2), generator=generator), text=text)


def pairs() -> tuple[UserQuery, Tensor]:
    user, item = torch.cartesian_prod(torch.arange(U), torch.arange(I)).unbind(1)
    return UserQuery(user), item


def weights_of(model: VECF, graph: MultimodalGraph) -> Tensor:
    """Return the weights of all regions ``[U, I, R]``."""
    query, items = pairs()
    with torch.no_grad():
        actual = model.attention(model.encode(graph), query, items)
    return torch.cat([value.view(len(items), -1) for value in actual.values()], 1).view(U, I, -1)


def review_loss(model: VECF, graph: MultimodalGraph, triples: Batch[UserQuery]) -> float:
    return float(model.loss(graph, triples)["review"].detach())


# Invariants


@pytest.mark.parametrize("attention", ["product", "additive", "mean"])
def test_weights_sum_to_one_over_present_regions(attention) -> None:
    model, graph = build(attention=attention)
    weights, mask = weights_of(model, graph), graph.features["regions"].mask
    assert weights.unflatten(-1, (2, 2)).shape == (U, I, 2, 2)
    assert bool((weights >= 0).all())
    assert bool((weights[:, ~mask] == 0).all())
    torch.testing.assert_close(weights.sum(2), mask.any(1).float().expand(U, I))


@pytest.mark.parametrize("attention", ["product", "additive"])
def test_identical_regions_have_uniform_weights_and_equal_the_image(attention) -> None:
    table = region_table()
    model, graph = build(data(FeatureTable("regions", table.values[:, :1].expand(-1, R, -1).clone())), attention=attention)
    torch.testing.assert_close(weights_of(model, graph), torch.full((U, I, R), 1 / R))
    users, items = torch.arange(4), torch.tensor([0, 3, 9, 16])
    with torch.no_grad():
        known = model._items(graph)
        _, image = model._view(model.users[users], known, items)
    torch.testing.assert_close(image, known.regions[items, 0])


def test_weights_depend_on_the_user_unless_the_query_matrix_is_zero() -> None:
    model, graph = build()
    weights = weights_of(model, graph)[:, 0]
    assert bool(((weights[1:] - weights[0]).abs().amax(1) > 1e-4).all())
    torch.nn.init.zeros_(model.attend.query.weight)
    torch.testing.assert_close(weights_of(model, graph)[:, 0], torch.full((U, R), 1 / R))


@pytest.mark.parametrize(
    "settings", [{}, {"attention": "additive", "merge": "add"}, {"merge": "concat", "predictor": "fm"}], ids=str
)
def test_permuting_regions_permutes_weights_and_nothing_else(settings) -> None:
    model, graph = build(**settings)
    table, order = region_table(), torch.tensor([2, 0, 3, 1])
    other = toy_graph(data(FeatureTable("regions", table.values[:, order], table.mask[:, order])))
    torch.testing.assert_close(weights_of(model, other), weights_of(model, graph)[:, :, order])
    torch.testing.assert_close(score_all(model, other), score_all(model, graph))
    assert review_loss(model, other, batch()) == pytest.approx(review_loss(model, graph, batch()), rel=1e-5)


@pytest.mark.parametrize("settings", FORMS[:5], ids=str)
def test_missing_regions_change_nothing(settings) -> None:
    model, graph = build(**settings)
    table = region_table()
    values = torch.cat([table.values.masked_fill(~table.mask.unsqueeze(-1), 9.0), torch.full((I, 2, 5), 9.0)], 1)
    padded = toy_graph(data(FeatureTable("regions", values, F.pad(table.mask, (0, 2))))).data
    padded["item"]["regions"] = values  # written after the table was validated
    other = MultimodalGraph(padded, graph.schema)
    torch.testing.assert_close(score_all(model, other), score_all(model, graph))
    torch.testing.assert_close(weights_of(model, other)[:, :, :R], weights_of(model, graph))
    assert review_loss(model, other, batch()) == pytest.approx(review_loss(model, graph, batch()), rel=1e-5)


def test_zero_embedding_gives_a_zero_product() -> None:
    model, graph = build(predictor="dot")
    with torch.no_grad():
        model.items[4] = 0
        encoded = model.encode(graph)
    assert not bool(encoded.known.merged[4].any())
    assert bool(encoded.known.merged[3].any())
    assert not bool(score_all(model, graph)[:, 4].any())


@pytest.mark.parametrize("predictor", ["mlp", "dot", "fm"])
def test_without_image_scores_are_independent_of_images(predictor) -> None:
    model, graph = build(image=False, predictor=predictor)
    table = region_table()
    other = toy_graph(data(FeatureTable("regions", table.values + torch.randn_like(table.values), table.mask)))
    assert torch.equal(score_all(model, other), score_all(model, graph))
    assert not torch.allclose(weights_of(model, other), weights_of(model, graph))  # reviews still use the attention
    assert review_loss(model, other, batch()) != review_loss(model, graph, batch())
    terms = model.loss(graph, batch())
    terms["bce"].backward()
    assert all(parameter.grad is None for parameter in (*model.attend.parameters(), *model.encoders.parameters()))
    seeing, _ = build(predictor=predictor)
    assert not torch.allclose(score_all(seeing, other), score_all(seeing, graph))


def test_review_term_is_the_loss_of_written_reviews() -> None:
    model, graph = build(review_weight=0.5)
    triples = batch()
    assert 0 < int(triples.text.any(1).sum()) < 9
    assert review_loss(model, graph, replace(triples, text=torch.zeros_like(triples.text))) == 0
    assert "review" not in model.loss(graph, replace(triples, text=None))
    padded = replace(triples, text=F.pad(triples.text[:, :4], (0, 6)))
    assert review_loss(model, graph, padded) == pytest.approx(
        review_loss(model, graph, replace(triples, text=F.pad(triples.text[:, :4], (0, 1)))), rel=1e-6
    )
    total = 0.0
    for row in triples.text.any(1).nonzero().flatten().tolist():
        user, item = int(triples.query.user[row]), int(triples.positive[row])
        image = slow(model, graph, user, item)[2].float()[None]
        ids = torch.cat([model.users[user], model.items[item]])[None]
        total += float(model.write(ids, image, triples.text[row : row + 1]).detach().sum())
    assert review_loss(model, graph, triples) == pytest.approx(
        0.5 * total / 27, rel=1e-4
    )  # 27 pairs, as in the mean of the scores' loss


@pytest.mark.parametrize("image", [True, False])
def test_review_loss_trains_the_attention(image) -> None:
    model, graph = build(image=image)
    model.loss(graph, batch())["review"].backward()
    assert all(bool(model.attend.get_parameter(name).grad.any()) for name in ATTENTION_WEIGHTS)
    assert all(bool(parameter.grad.any()) for parameter in model.write.parameters())


def test_zero_review_weight_removes_the_decoder() -> None:
    model, graph = build(review_weight=0.0)
    assert model.write is None
    terms = model.loss(graph, batch())
    assert list(terms) == ["bce", "l2"]
    terms["bce"].backward()
    assert all(bool(model.attend.get_parameter(name).grad.any()) for name in ATTENTION_WEIGHTS)


def test_closed_gate_hides_the_image_from_the_words() -> None:
    model, graph = build()
    gates = []
    model.write.context.gate.register_forward_hook(lambda *call: gates.append(call[-1].sigmoid()))
    before = review_loss(model, graph, batch())
    assert all(bool(((gate > 0) & (gate < 1)).all()) for gate in gates)
    table = region_table()
    other = toy_graph(data(FeatureTable("regions", table.values.flip(0), table.mask)))
    assert review_loss(model, other, batch()) != before
    model.write.context.gate.register_forward_hook(lambda *_: torch.tensor(-1e4))
    assert review_loss(model, other, batch()) == review_loss(model, graph, batch())


# The whole model


@pytest.mark.parametrize("cells", [1, 2**22])
@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_scores_and_weights_match_the_dense_reference(settings, cells, monkeypatch) -> None:
    monkeypatch.setattr(module, "CELLS", cells)
    model, graph = build(**settings)
    scores, weights = score_all(model, graph), weights_of(model, graph)
    for user, item in [(0, 0), (1, 3), (2, BARE), (7, 11), (22, 16)]:
        y, al, _ = slow(model, graph, user, item)
        assert float(scores[user, item]) == pytest.approx(y, abs=2e-5)
        assert weights[user, item].tolist() == pytest.approx(al, abs=1e-5)


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_vectors_of_all_pairs_are_never_materialised(settings, monkeypatch) -> None:
    monkeypatch.setattr(module, "CELLS", 1)
    model, graph = build(**{"hidden": D, **settings})
    with Largest() as largest:
        score_all(model, graph)
    assert largest.numel < U * I * D


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_score_loss_and_l2_term_match_the_dense_reference(settings) -> None:
    model, graph = build(**settings, l2=0.3)
    triples = batch()
    terms = []
    for user, items in zip(triples.query.user.tolist(), triples.candidates.tolist(), strict=True):
        for position, item in enumerate(items):
            y = slow(model, graph, user, item)[0]
            terms.append(math.log1p(math.exp(-y if position == 0 else y)))
    squares = sum(float(v.detach().square().sum()) for v in (model.users, model.items))
    actual = {name: float(term.detach()) for name, term in model.loss(graph, triples).items() if name != "review"}
    assert actual == pytest.approx({"bce": sum(terms) / 27, "l2": 0.3 * squares / 2}, rel=1e-4)


def test_modalities_of_one_token_serve_as_regions() -> None:
    dataset, _ = checkerboard(U, I)
    model, graph = build(dataset)
    assert model.names == ("image", "text")
    with torch.no_grad():
        actual = model.attention(model.encode(graph), UserQuery(torch.tensor([0, 1])), torch.tensor([0, 3]))
    assert {name: tuple(value.shape) for name, value in actual.items()} == {"image": (2,), "text": (2,)}
    assert actual["image"][1] == 0  # item 3 has no image
    torch.testing.assert_close(actual["image"] + actual["text"], torch.ones(2))
    for user, item in [(0, 0), (1, 3)]:
        assert float(score_all(model, graph)[user, item]) == pytest.approx(slow(model, graph, user, item)[0], abs=2e-5)


def test_item_without_interactions_has_a_zero_embedding() -> None:
    dataset = data()
    model, graph = build(replace(dataset, interactions=dataset.interactions.take(dataset.interactions.item != 4)), merge="add")
    before = score_all(model, graph)[:, 4]
    with torch.no_grad():
        model.items[4] = 9.0
    assert torch.equal(score_all(model, graph)[:, 4], before)
    assert float(before.std()) > 0  # the image still contributes


def test_rare_words_map_to_the_unknown_word() -> None:
    model, graph = build(vocabulary=6)
    triples = batch()
    assert model.write.words.shape[0] == model.write.output.out_features == 6
    rare = triples.text >= 6
    assert bool(rare.any())
    unknown = replace(triples, text=triples.text.masked_fill(rare, 1))
    assert review_loss(model, graph, triples) == review_loss(model, graph, unknown)
    assert build(vocabulary=99)[0].write.output.out_features == WORDS


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_trained_model_generates_the_users_reviews(cell) -> None:
    dataset = data()
    parity = torch.arange(U) % 2
    tokens = torch.tensor([[2, 3, 4, 0], [5, 6, 0, 0]], dtype=torch.int32)  # reviews of even and of odd users
    log = dataset.interactions
    dataset = replace(dataset, interactions=replace(log, review=parity[log.user]), reviews=Reviews(tokens, tuple("_?abcde")))
    model, graph = build(dataset, cell=cell, review_weight=1.0, init_std=0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        triples = Batch(UserQuery(log.user), log.item, (log.item[:, None] + 1) % I, text=tokens[parity[log.user]])
        torch.stack(list(model.loss(graph, triples).values())).sum().backward()
        optimizer.step()
    with torch.no_grad():
        reviews = model.comment(model.encode(graph), UserQuery(torch.tensor([0, 8, 9])), torch.tensor([2, 6, BARE]), max_words=5)
    assert reviews.tolist() == [[2, 3, 4, 0, 0], [2, 3, 4, 0, 0], [5, 6, 0, 0, 0]]


def test_unknown_word_is_never_generated() -> None:
    model, graph = build()
    with torch.no_grad():
        model.write.output.bias[1] = 99.0
        reviews = model.comment(model.encode(graph), UserQuery(torch.arange(U)), torch.zeros(U, dtype=torch.int64))
    assert reviews.shape == (U, 20)
    assert not bool((reviews == 1).any())


def test_switches_remove_their_parameters() -> None:
    def names(**settings) -> set[str]:
        return {name.split(".")[0] for name, _ in build(**settings)[0].named_parameters()}

    whole = names()
    assert whole == {"users", "items", "encoders", "attend", "merge", "predict", "write"}
    assert whole - names(attention="mean") == {"attend"}
    assert whole - names(image=False) == {"merge"}
    assert whole - names(review_weight=0.0) == {"write"}
    assert whole - names(image=False, review_weight=0.0) == {"merge", "write", "attend", "encoders"}
    assert whole - names(predictor="dot") == {"predict"}
    with torch.no_grad():
        model, graph = build()
        assert model.encode(graph).known.regions is not None
        assert build(review_weight=0.0)[0].encode(graph).known.regions is None  # kept for the review decoder only


def test_invalid_use_is_refused() -> None:
    with pytest.raises(ValueError, match="VECF needs at least one modality of the items"):
        build(replace(data(), features={}))
    model, graph = build(replace(data(reviews=False), features={}), image=False)
    assert bool(torch.isfinite(score_all(model, graph)).all())
    query, items = UserQuery(torch.tensor([0])), torch.tensor([0])
    with pytest.raises(ValueError, match="there is no attention over regions; set image to true"):
        model.attention(model.encode(graph), query, items)
    with pytest.raises(ValueError, match="VECF has no review decoder; train it on data with reviews"):
        model.comment(model.encode(graph), query, items)
    with pytest.raises(ValueError, match="the items have no modality 'region'; choose one of image, text, regions"):
        build(regions="region")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention": "max"}, "attention must be one of 'product', 'additive', 'mean'"),
        ({"merge": "max"}, "merge must be one of 'mul', 'add', 'concat'"),
        ({"predictor": "bpr"}, "predictor must be one of 'mlp', 'dot', 'fm'"),
        ({"cell": "rnn"}, "cell must be one of 'gru', 'lstm'"),
        ({"num_layers": 0}, "num_layers must be greater than 0"),
        ({"review_weight": -1.0}, "review_weight must be 0 or more"),
        ({"vocabulary": 1}, "vocabulary must be at least 2"),
        ({"merge": "concat", "dim": 1}, "halves dim, so dim must be at least 2"),
    ],
    ids=str,
)
def test_invalid_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        VECFConfig(**settings)
