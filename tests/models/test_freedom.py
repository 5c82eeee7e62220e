import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gmmrec.config import read_settings
from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.data.interactions import Interactions
from gmmrec.graph.item_graph import item_graph
from gmmrec.graph.multimodal import MultimodalGraph, sort_edges
from gmmrec.models.freedom import FREEDOM, FROZEN, FREEDOMConfig
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.testing import I, U, checkerboard, permuted, score_all, toy_graph, with_mask
from gmmrec.typing import ITEM_USER, USER_ITEM


def complete(seed: int = 0) -> Dataset:
    """Return the checkerboard with all images present."""
    dataset, _ = checkerboard(U, I, seed=seed)
    values = torch.rand(I, 6, generator=torch.Generator().manual_seed(seed))
    return replace(dataset, features={**dataset.features, "image": FeatureTable("image", values)})


def build(dataset: Dataset, **settings) -> tuple[FREEDOM, MultimodalGraph]:
    torch.manual_seed(0)
    graph = toy_graph(dataset)
    model = FREEDOM(graph.schema, FREEDOMConfig(**{"dim": 8, "knn": 4, **settings}))
    with torch.no_grad():
        return model, model.prepare(graph)


def dense(graph: MultimodalGraph) -> Tensor:
    """Return the frozen graph as a float64 matrix ``[target, source]``."""
    edge_index, weight = graph.edges(FROZEN)
    matrix = torch.zeros(I, I, dtype=torch.float64)
    source, target = edge_index.as_tensor()
    matrix[target, source] = weight.double()
    return matrix


def neighbours(table: FeatureTable, k: int) -> Tensor:
    """Compute k-NN slowly, self included: 0/1 float64 matrix ``[target, source]``, 0 in rows and columns of absent items."""
    matrix = torch.zeros(I, I, dtype=torch.float64)
    rows = table.present.nonzero().flatten().tolist()
    for i in rows:
        cosine = [float(torch.cosine_similarity(table.values[i], table.values[j], dim=0)) for j in rows]
        order = sorted(range(len(rows)), key=lambda c: (rows[c] != i, -cosine[c]))
        matrix[i, [rows[c] for c in order[:k]]] = 1
    return matrix


def batch(generator: torch.Generator | None = None) -> Batch[UserQuery]:
    generator = generator or torch.Generator().manual_seed(0)
    user, positive = torch.randint(U, (9,), generator=generator), torch.randint(I, (9,), generator=generator)
    return Batch(UserQuery(user), positive, torch.randint(I, (9, 2), generator=generator))


# Invariants


@pytest.mark.parametrize("modality", ["image", "text"])
def test_single_modality_gives_every_item_k_edges_of_weight_one_kth(modality: str) -> None:
    _, graph = build(complete(), modality_weights={modality: 1.0})
    edge_index, weight = graph.edges(FROZEN)
    assert edge_index.shape[1] == I * 4
    assert weight.tolist() == pytest.approx([1 / 4] * (I * 4))
    assert not weight.requires_grad
    matrix = dense(graph)
    assert bool((matrix.diagonal() > 0).all())
    assert bool(((matrix > 0).sum(1) == 4).all())


@pytest.mark.parametrize("image_weight", [0.0, 0.1, 0.5, 1.0])
def test_rows_of_the_mixture_sum_to_one(image_weight: float) -> None:
    _, graph = build(complete(), modality_weights={"image": image_weight, "text": 1 - image_weight})
    matrix = dense(graph)
    torch.testing.assert_close(matrix.sum(1), torch.ones(I, dtype=torch.float64))
    assert bool((matrix.diagonal() > 0).all())
    assert not graph.edges(FROZEN).weight.requires_grad


def test_mixture_equals_the_dense_formula() -> None:
    dataset = complete()
    _, graph = build(dataset)
    expected = (0.1 * neighbours(dataset.features["image"], 4) + 0.9 * neighbours(dataset.features["text"], 4)) / 4
    torch.testing.assert_close(dense(graph), expected, atol=1e-7, rtol=1e-6)


def test_pruned_graph_has_the_expected_size_and_is_resampled() -> None:
    model, graph = build(complete(), edge_dropout=0.8)
    generator = torch.Generator().manual_seed(0)
    whole = {tuple(pair) for pair in graph.edges(USER_ITEM).edge_index.t().tolist()}
    drawn = []
    for _ in range(2):
        pruned = model.begin_epoch(graph, generator)
        pairs = [tuple(pair) for pair in pruned.edges(USER_ITEM).edge_index.t().tolist()]
        back = [(user, item) for item, user in pruned.edges(ITEM_USER).edge_index.t().tolist()]
        assert len(set(pairs)) == len(pairs) == math.floor(len(whole) / 5)
        assert set(pairs) == set(back) <= whole
        drawn.append(set(pairs))
    assert drawn[0] != drawn[1]


def test_degrees_are_those_of_the_pruned_graph() -> None:
    model, graph = build(complete(), edge_dropout=0.5)
    pruned = model.begin_epoch(graph, torch.Generator().manual_seed(0))
    for edge_type in (USER_ITEM, ITEM_USER):
        edge_index, weight = pruned.edges(edge_type)
        source, target = edge_index.as_tensor()
        expected = (torch.bincount(source)[source] * torch.bincount(target)[target]).float().rsqrt()
        torch.testing.assert_close(weight, expected)


def test_edge_dropout_of_08_keeps_2_of_10_edges() -> None:
    dataset = complete()
    model, graph = build(replace(dataset, interactions=dataset.interactions.take(torch.arange(10))))
    assert model.begin_epoch(graph, torch.Generator().manual_seed(0)).edges(USER_ITEM).edge_index.shape[1] == 2


def test_edge_dropout_0_returns_the_whole_graph() -> None:
    model, graph = build(complete(), edge_dropout=0.0)
    assert model.begin_epoch(graph, torch.Generator()) is graph


def test_edges_between_hubs_are_pruned_more_often() -> None:
    hub_items, hub_users = torch.arange(1, 9), torch.arange(1, 9)
    hub = torch.zeros(8, dtype=torch.long)
    user = torch.cat([torch.tensor([0, 22]), hub, hub_users])
    item = torch.cat([torch.tensor([0, 16]), hub_items, hub])  # (0, 0) connects two hubs, (22, 16) two nodes of degree 1
    model, graph = build(replace(complete(), interactions=Interactions(user, item)), edge_dropout=0.5)
    generator = torch.Generator().manual_seed(0)
    counts = {(0, 0): 0, (22, 16): 0}
    for _ in range(200):
        pruned = {tuple(pair) for pair in model.begin_epoch(graph, generator).edges(USER_ITEM).edge_index.t().tolist()}
        for pair in counts:
            counts[pair] += pair in pruned
    assert counts[22, 16] > 2 * counts[0, 0]
    assert counts[0, 0] > 0


def test_evaluation_is_deterministic_and_uses_every_interaction() -> None:
    dataset = complete()
    model, graph = build(dataset)
    model.begin_epoch(graph, torch.Generator().manual_seed(0))
    edges = sum(graph.edges(kind).edge_index.shape[1] for kind in (USER_ITEM, ITEM_USER))
    assert edges == 2 * len(dataset.interactions)
    assert torch.equal(score_all(model, graph), score_all(model, graph))


def test_items_are_smoothed_over_neighbours_of_both_modalities() -> None:
    dataset = complete()
    model, graph = build(dataset, num_layers=0)  # so that the backbone is the ID embedding
    with torch.no_grad():
        smoothed = model.encode(graph)["item"] - model.items
    expected = torch.zeros(I, 8)
    for name, weight in (("image", 0.1), ("text", 0.9)):
        near = neighbours(dataset.features[name], 4) > 0
        for i in range(I):
            expected[i] += weight * model.items.detach()[near[i]].mean(0)
    torch.testing.assert_close(smoothed, expected)


def test_features_act_through_the_graph_alone_without_the_auxiliary_term() -> None:
    model, graph = build(complete(), aux_weight=0.0)
    data = graph.data.clone()
    for name in ("image", "text"):
        data["item"][name] = torch.rand_like(data["item"][name])
    perturbed = MultimodalGraph(data, graph.schema)
    assert set(model.loss(graph, batch())) == {"bpr"}
    assert [name for name, _ in model.named_parameters()] == ["users", "items"]  # no untrained projections
    assert torch.equal(score_all(model, graph), score_all(model, perturbed))


def auxiliary(model: FREEDOM, graph: MultimodalGraph) -> tuple[float, dict[str, Tensor | None]]:
    model.zero_grad()
    terms = model.loss(graph, batch())
    term = terms["bpr_image"] + terms["bpr_text"]
    term.backward()
    return float(term.detach()), {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


def test_auxiliary_term_trains_projections_and_users() -> None:
    model, graph = build(complete(), aux_weight=1.0)
    _, gradients = auxiliary(model, graph)
    for name in ("users", "project.0.weight", "project.1.weight"):
        assert bool(gradients[name].any())


def test_auxiliary_term_bypasses_the_frozen_graph() -> None:
    model, graph = build(complete(), aux_weight=1.0)
    edge_index, weight = graph.edges(FROZEN)
    perturbed = graph.with_edges(FROZEN, edge_index, torch.rand_like(weight))
    value, gradients = auxiliary(model, graph)
    other_value, other_gradients = auxiliary(model, perturbed)
    assert value == other_value
    for name, gradient in gradients.items():
        assert torch.equal(gradient, other_gradients[name])
    assert not torch.equal(score_all(model, graph), score_all(model, perturbed))


def test_auxiliary_term_reaches_items_through_user_neighbours_only() -> None:
    model, graph = build(complete(), aux_weight=1.0)
    assert bool(auxiliary(model, graph)[1]["items"].any())
    model, graph = build(complete(), aux_weight=1.0, num_layers=0)
    assert auxiliary(model, graph)[1]["items"] is None


@pytest.mark.parametrize("modality", ["image", "text"])
def test_single_modality_is_sufficient(modality: str) -> None:
    dataset = complete()
    dataset = replace(dataset, features={modality: dataset.features[modality]})
    model, graph = build(dataset)
    torch.testing.assert_close(dense(graph), neighbours(dataset.features[modality], 4) / 4, atol=1e-7, rtol=1e-6)
    assert set(model.loss(graph, batch())) == {"bpr", f"bpr_{modality}"}


def test_permutation_permutes_scores() -> None:
    dataset, generator = complete(), torch.Generator().manual_seed(2)
    user, item = torch.randperm(U, generator=generator), torch.randperm(I, generator=generator)
    model, graph = build(dataset)
    other, other_graph = build(permuted(dataset, user, item))
    with torch.no_grad():
        other.users[user], other.items[item] = model.users, model.items
    torch.testing.assert_close(score_all(other, other_graph)[user][:, item], score_all(model, graph))


# The whole model, missing modalities, settings


def test_vectors_equal_the_dense_formula() -> None:
    model, graph = build(complete(), item_layers=2)
    adjacency = torch.zeros(U + I, U + I, dtype=torch.float64)
    user, item = graph.edges(USER_ITEM).edge_index.as_tensor()
    adjacency[user, U + item] = adjacency[U + item, user] = 1
    root = adjacency.sum(1).clamp(min=1).rsqrt()
    normalised = root[:, None] * adjacency * root
    start = torch.cat([model.users, model.items]).detach().double()
    mean = (start + normalised @ start + normalised @ normalised @ start) / 3
    frozen = dense(graph)
    with torch.no_grad():
        encoded = model.encode(graph)
    torch.testing.assert_close(encoded["user"].double(), mean[:U], rtol=1e-5, atol=1e-6)
    expected = mean[U:] + frozen @ frozen @ model.items.detach().double()
    torch.testing.assert_close(encoded["item"].double(), expected, rtol=1e-5, atol=1e-6)


def test_l2_term_is_half_the_squared_l2_norm_of_the_batch() -> None:
    model, graph = build(complete(), aux_weight=0.0, l2=0.5)
    triples = batch()
    users, items = model.users.detach(), model.items.detach()
    squares = sum(float(users[u] @ users[u]) for u in triples.query.user.tolist())
    squares += sum(float(items[i] @ items[i]) for i in triples.candidates.flatten().tolist())
    assert model.loss(graph, triples)["l2"].item() == pytest.approx(0.5 * squares / (2 * len(triples)), rel=1e-5)


def test_loss_is_bpr_on_scores_and_on_every_projected_modality() -> None:
    model, graph = build(complete(), aux_weight=0.01)
    triples = batch()
    terms = model.loss(graph, triples)
    vectors = {name: table.detach() for name, table in model.encode(graph).items()}
    item_vectors = {"bpr": (1.0, vectors["item"])}
    for name, project in zip(("image", "text"), model.project, strict=True):
        item_vectors[f"bpr_{name}"] = (0.01, project(graph.features[name].values).detach())
    assert set(terms) == set(item_vectors)
    for name, (factor, items) in item_vectors.items():
        slow = [
            math.log(1 + math.exp(-float(vectors["user"][u] @ (items[p] - items[n]))))
            for u, p, row in zip(triples.query.user, triples.positive, triples.negative, strict=True)
            for n in row
        ]
        assert float(terms[name].detach()) == pytest.approx(factor * sum(slow) / len(slow), rel=1e-5)


def test_missing_modality_is_replaced_by_the_others() -> None:
    dataset = with_mask(with_mask(complete(), "image", torch.tensor([2, 5])), "text", torch.tensor([5, 7]))
    _, graph = build(dataset)
    image, text = (neighbours(dataset.features[name], 4) / 4 for name in ("image", "text"))
    expected = 0.1 * image + 0.9 * text
    expected[2], expected[7] = text[2], image[7]
    expected[5, 5] = 1  # no features: its only neighbour is itself
    torch.testing.assert_close(dense(graph), expected, atol=1e-7, rtol=1e-6)


def test_pairs_with_a_missing_modality_are_excluded_from_its_term() -> None:
    dataset = with_mask(complete(), "image", torch.tensor([2]))
    model, graph = build(dataset, aux_weight=1.0)
    user = UserQuery(torch.tensor([0, 1, 2]))
    mixed = model.loss(graph, Batch(user, torch.tensor([2, 3, 4]), torch.tensor([[5, 6], [2, 7], [8, 9]])))
    pairs = Batch(UserQuery(torch.tensor([1, 2, 2])), torch.tensor([3, 4, 4]), torch.tensor([[7], [8], [9]]))
    torch.testing.assert_close(mixed["bpr_image"], model.loss(graph, pairs)["bpr_image"])
    none = model.loss(graph, Batch(user, torch.tensor([2, 2, 2]), torch.tensor([[5], [6], [7]])))
    assert float(none["bpr_image"].detach()) == 0


def test_cosine_weights_are_normalised_by_in_degree() -> None:
    dataset = complete()
    _, graph = build(dataset, knn_weighting="cosine", modality_weights={"image": 1})
    values = torch.nn.functional.normalize(dataset.features["image"].values.double(), dim=1)
    similar = neighbours(dataset.features["image"], 4) * (values @ values.T)
    root = similar.sum(1).rsqrt()
    torch.testing.assert_close(dense(graph), root[:, None] * similar * root, atol=1e-6, rtol=1e-5)


def test_token_features_are_averaged() -> None:
    dataset = complete()
    values = torch.rand(I, 3, 6, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(I, 3, dtype=torch.bool)
    mask[4, 1:] = False
    regions = FeatureTable("image", values, mask)
    mean = torch.stack([v[m].mean(0) for v, m in zip(values, mask, strict=True)])
    model, graph = build(replace(dataset, features={"image": regions}))
    flat_model, flat_graph = build(replace(dataset, features={"image": FeatureTable("image", mean)}))
    torch.testing.assert_close(dense(graph), dense(flat_graph))
    torch.testing.assert_close(model.loss(graph, batch())["bpr_image"], flat_model.loss(flat_graph, batch())["bpr_image"])


def test_modality_weights_are_uniform_without_a_default() -> None:
    dataset = complete()
    audio = FeatureTable("audio", dataset.features["text"].values)
    model, _ = build(replace(dataset, features={"image": dataset.features["image"], "audio": audio}))
    assert model.shares == {"image": 0.5, "audio": 0.5}


def test_missing_features_are_refused() -> None:
    with pytest.raises(ValueError, match="needs features of at least one modality of the items"):
        build(replace(complete(), features={}))


def test_weight_of_an_unknown_modality_is_refused() -> None:
    with pytest.raises(ValueError, match="modality_weights name 'audio', but the modalities of the items are 'image', 'text'"):
        build(complete(), modality_weights={"image": 1.0, "audio": 1.0})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"edge_dropout": 1.0}, "edge_dropout must be at least 0 and less than 1, but is 1.0"),
        ({"knn": 0}, "knn must be greater than 0"),
        ({"knn_degrees": "outgoing"}, "knn_degrees must be one of 'incoming', 'both_ends'"),
        ({"knn_weighting": "linear"}, "knn_weighting must be one of 'binary', 'cosine'"),
        ({"modality_weights": {"image": -1.0}}, "'image'.* must be 0 or more"),
        ({"modality_weights": {"image": 0.0}}, "modality_weights must hold a number greater than 0"),
    ],
    ids=str,
)
def test_invalid_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        FREEDOMConfig(**settings)


def test_modality_weights_are_read_from_files_and_flags() -> None:
    values = {"model": {"modality_weights": {"image": 0.2, "text": 0.8}}}
    assert read_settings({"model": FREEDOMConfig}, values)["model"] == FREEDOMConfig(modality_weights={"image": 0.2, "text": 0.8})
    flags = ["--model.modality_weights", '{"text": 1.0}']
    assert read_settings({"model": FREEDOMConfig}, {}, flags)["model"].modality_weights == {"text": 1.0}


def test_edge_weights_can_be_normalised_by_both_ends() -> None:
    dataset, _ = checkerboard(U, I)
    model, graph = build(dataset, knn_degrees="both_ends")
    expected = item_graph(graph, model.shares, 4, degrees="both_ends")
    (actual_index, actual), (edge_index, weight) = graph.edges(FROZEN), sort_edges(*expected, (I, I))
    assert torch.equal(actual_index.as_tensor(), edge_index.as_tensor())
    torch.testing.assert_close(actual, weight)
    assert not torch.allclose(actual, build(dataset)[1].edges(FROZEN).weight)
