import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gmmrec.data.dataset import Dataset
from gmmrec.graph.item_graph import item_graph
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.ease import EASE, EASEConfig
from gmmrec.models.ease_features import EASEFeatures, EASEFeaturesConfig
from gmmrec.testing import I, U, checkerboard, permuted, score_all, toy_graph, with_mask
from gmmrec.typing import USER_ITEM

FORMS = ("cease", "add_ease", "l3ae", "knn")


def fit(graph: MultimodalGraph | None = None, **settings: Any) -> EASEFeatures:
    graph = toy_graph() if graph is None else graph
    model = EASEFeatures(graph.schema, EASEFeaturesConfig(**{"reg": 3.0, "feature_reg": 0.5, **settings}))
    model.prepare(graph)
    return model


def ease(graph: MultimodalGraph | None = None, reg: float = 3.0) -> Tensor:
    graph = toy_graph() if graph is None else graph
    model = EASE(graph.schema, EASEConfig(reg=reg))
    model.prepare(graph)
    return model.weights


def features(graph: MultimodalGraph) -> Tensor:
    """Compute F slowly: both modalities concatenated with uniform weights ``[I, 6 + 4]``."""
    columns = []
    for name in ("image", "text"):
        table = graph.features[name]
        rows = table.present.nonzero().flatten()
        block = torch.zeros(I, table.dim, dtype=torch.float64)
        mean = table.values[rows].double().mean(0)
        for i in rows.tolist():
            centred = table.values[i].double() - mean
            block[i] = centred / centred.norm() * 0.5**0.5
        columns.append(block)
    return torch.cat(columns, 1)


def closed_form(gram: Tensor, reg: float) -> Tensor:
    inverse = torch.linalg.inv(gram + reg * torch.eye(I, dtype=torch.float64))
    return torch.eye(I, dtype=torch.float64) - inverse / inverse.diagonal()


def interactions(graph: MultimodalGraph) -> Tensor:
    matrix = torch.zeros(U, I, dtype=torch.float64)
    users, items = graph.edges(USER_ITEM).edge_index.as_tensor()
    matrix[users, items] = 1
    return matrix


def without(dataset: Dataset, rows: Tensor) -> MultimodalGraph:
    for name in dataset.features:
        dataset = with_mask(dataset, name, rows)
    return toy_graph(dataset)


def assert_close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual.double(), expected.double(), atol=1e-6, rtol=1e-5)


def test_cease_is_ease_of_stacked_interactions_and_features() -> None:
    graph = toy_graph()
    stacked = torch.cat([interactions(graph), 10**0.5 * features(graph).T])
    assert_close(fit(graph, feature_weight=10.0).weights, closed_form(stacked.T @ stacked, 3.0))


def test_add_ease_averages_both_solutions() -> None:
    graph, x, f = toy_graph(), interactions(toy_graph()), features(toy_graph())
    expected = 0.3 * closed_form(x.T @ x, 3.0) + 0.7 * closed_form(f @ f.T, 0.5)
    assert_close(fit(graph, form="add_ease", share=0.3).weights, expected)


def test_l3ae_is_regularised_towards_the_feature_solution() -> None:
    graph, x, f = toy_graph(), interactions(toy_graph()), features(toy_graph())
    prior = closed_form(f @ f.T, 0.5)
    weights = fit(graph, form="l3ae").weights.double().requires_grad_()
    objective = (x - x @ weights).square().sum() + 3 * (weights - prior).square().sum()
    objective.backward()
    gradient = weights.grad
    assert gradient is not None
    off_diagonal = gradient.clone().fill_diagonal_(0.0)
    assert float(off_diagonal.abs().max()) < 1e-4 < float(gradient.abs().max())  # a minimum under the zero diagonal


def test_knn_adds_the_neighbours_of_every_item() -> None:
    graph = toy_graph()
    (source, target), edge_weight = item_graph(graph, {"image": 0.5, "text": 0.5}, 4, weighting="cosine", alone="nothing")
    expected = ease(graph).double()
    for neighbour, item, weight in zip(source.tolist(), target.tolist(), edge_weight.tolist(), strict=True):
        if neighbour != item:
            expected[neighbour, item] += 2 * weight
    assert_close(fit(graph, form="knn", knn=4, knn_weight=2.0).weights, expected)


@pytest.mark.parametrize("form", FORMS)
def test_diagonal_is_zero(form: str) -> None:
    assert not bool(fit(form=form).weights.diagonal().any())


@pytest.mark.parametrize(
    "settings",
    [{"form": "cease", "feature_weight": 0.0}, {"form": "add_ease", "share": 1.0}, {"form": "knn", "knn_weight": 0.0}],
    ids=lambda settings: settings["form"],
)
def test_every_form_without_features_is_ease(settings: dict[str, Any]) -> None:
    assert torch.equal(fit(**settings).weights, ease())


def test_l3ae_tends_to_ease_with_uninformative_features() -> None:  # S tends to 0
    assert_close(fit(form="l3ae", feature_reg=1e12).weights, ease())


def test_l3ae_tends_to_the_feature_solution_with_strong_regularisation() -> None:
    f = features(toy_graph())
    torch.testing.assert_close(
        fit(form="l3ae", reg=1e8).weights.double(), closed_form(f @ f.T, 0.5).fill_diagonal_(0.0), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("form", FORMS)
def test_permuting_items_permutes_weights(form: str) -> None:
    item = torch.randperm(I, generator=torch.Generator().manual_seed(0))
    dataset, _ = checkerboard(U, I)
    other = fit(toy_graph(permuted(dataset, torch.arange(U), item)), form=form, knn=4)
    assert_close(other.weights[item][:, item], fit(toy_graph(dataset), form=form, knn=4).weights)


@pytest.mark.parametrize("form", FORMS)
def test_masked_values_do_not_affect_scores(form: str) -> None:
    graph = without(checkerboard(U, I)[0], torch.tensor([2, 8]))
    data = copy.copy(graph.data)
    for name in ("image", "text"):
        data["item"][name] = data["item"][name].masked_fill(~data["item"][f"{name}_mask"][:, None], 1000.0)
    assert torch.equal(fit(MultimodalGraph(data, graph.schema), form=form).weights, fit(graph, form=form).weights)


@pytest.mark.parametrize("form", ["cease", "l3ae", "knn"])
def test_all_items_masked_gives_ease(form: str) -> None:
    assert_close(fit(without(checkerboard(U, I)[0], torch.arange(I)), form=form).weights, ease())


def test_modality_weights_select_and_are_normalised() -> None:
    graph = toy_graph()
    dataset, _ = checkerboard(U, I)
    alone = toy_graph(replace(dataset, features={"text": dataset.features["text"]}))
    assert torch.equal(fit(graph, modality_weights={"text": 7.0}).weights, fit(alone).weights)


def test_centering_is_optional() -> None:
    assert not torch.allclose(fit(center=False).weights, fit(center=True).weights)


def test_forms_have_different_scores() -> None:
    graph = toy_graph()
    scores = [score_all(fit(graph, form=form), graph) for form in FORMS]
    assert all(not torch.allclose(a, b) for n, a in enumerate(scores) for b in scores[:n])


def test_invalid_settings_and_data_are_refused() -> None:
    with pytest.raises(ValueError, match="form must be one of"):
        EASEFeaturesConfig(form="fease")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="modality_weights must hold a number greater than 0"):
        EASEFeaturesConfig(modality_weights={"text": 0.0})
    bare = toy_graph(replace(checkerboard(U, I)[0], features={}))
    with pytest.raises(ValueError, match="features of at least one modality"):
        EASEFeatures(bare.schema)
