import pytest
import torch
from torch import Tensor

from gmmrec.data.ragged import RaggedSets
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.graph.fold_in import with_new_users
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.graph.sampling import sample_subgraph
from gmmrec.models.ease import EASE, EASEConfig
from gmmrec.models.ease_features import EASEFeatures, EASEFeaturesConfig
from gmmrec.nn import memory
from gmmrec.recommender import Recommender
from gmmrec.serving.service import Service
from gmmrec.tasks.query import UserQuery
from gmmrec.testing import I, U, checkerboard, score_all, toy_graph
from gmmrec.typing import USER_ITEM

MODELS = {"ease": (EASE, EASEConfig(reg=3.0)), "ease-features": (EASEFeatures, EASEFeaturesConfig(reg=3.0))}


def fitted(name: str = "ease", graph: MultimodalGraph | None = None) -> tuple[Recommender[UserQuery], MultimodalGraph]:
    graph = toy_graph() if graph is None else graph
    model_class, config = MODELS[name]
    model = model_class(graph.schema, config)
    return model.eval(), model.prepare(graph)


def dense(graph: MultimodalGraph) -> Tensor:
    matrix = torch.zeros(U, I, dtype=torch.float64)
    users, items = graph.edges(USER_ITEM).edge_index.as_tensor()
    matrix[users, items] = 1
    return matrix


def test_weights_are_ridge_regressions_of_every_item_on_the_others() -> None:
    model, graph = fitted()
    x = dense(graph)
    assert float(model.weights.diagonal().abs().max()) <= 1e-6
    for j in range(I):
        others = [i for i in range(I) if i != j]
        left = x[:, others].T @ x[:, others] + 3 * torch.eye(I - 1, dtype=torch.float64)
        expected = torch.linalg.solve(left, x[:, others].T @ x[:, j])
        torch.testing.assert_close(model.weights[others, j].double(), expected, atol=1e-6, rtol=1e-5)


def test_scores_are_histories_times_weights() -> None:
    model, graph = fitted()
    torch.testing.assert_close(score_all(model, graph), dense(graph).float() @ model.weights)


def test_user_without_history_changes_nothing() -> None:
    model, graph = fitted()
    wider = with_new_users(graph, RaggedSets(torch.tensor([0, 0]), torch.empty(0, dtype=torch.long)))
    other = EASE(wider.schema, model.config)
    other.prepare(wider)
    assert torch.equal(other.weights, model.weights)
    assert torch.equal(score_all(other, wider), score_all(model, graph))


@pytest.mark.parametrize("name", MODELS)
def test_folding_in_a_known_history_gives_identical_scores(name: str) -> None:
    model, graph = fitted(name)
    users, items = graph.edges(USER_ITEM).edge_index.as_tensor()
    histories = RaggedSets.from_pairs(users, items, U)
    encoded = model.encode(with_new_users(graph, histories))
    folded_in = model.score(encoded, UserQuery(U + torch.arange(U)), torch.arange(I))
    assert torch.equal(folded_in, score_all(model, graph))
    assert bool(folded_in.any())


def test_service_scores_histories_like_known_users_in_any_order() -> None:
    model, graph = fitted()
    users, items = graph.edges(USER_ITEM).edge_index.as_tensor()
    seen = RaggedSets.from_pairs(users, items, U)
    service = Service(model, graph, {"user": Vocabulary(range(U)), "item": Vocabulary(range(I))}, seen)
    history = items[users == 4].tolist()
    expected, folded_in = service.recommend([4], k=5), service.recommend(histories=[history[::-1]], k=5)
    assert expected["item_id"].tolist() == folded_in["item_id"].tolist()
    assert expected["score"].tolist() == folded_in["score"].tolist()
    assert len(service.similar_items([0], k=3)) == 3


def test_subgraph_has_the_weights_of_its_items() -> None:
    model, graph = fitted()
    part, _ = sample_subgraph(graph, {"user": torch.tensor([2])}, [-1], torch.Generator().manual_seed(0))
    rows = part.rows("item")
    assert 0 < len(rows) < I
    assert torch.equal(model.encode(part)["item"], model.weights[rows][:, rows])


def test_precision_changes_only_rounding() -> None:
    model, graph = fitted()
    single = EASE(graph.schema, EASEConfig(reg=3.0, precision="float32"))
    single.prepare(graph)
    torch.testing.assert_close(single.weights, model.weights, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_insufficient_memory_is_refused_in_advance(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = toy_graph()
    model_class, config = MODELS[name]
    model = model_class(graph.schema, config)
    monkeypatch.setattr(memory, "available_memory", lambda device: 2 * 8 * I * I - 1)
    with pytest.raises(ValueError, match=r"solving for 17 items needs 0.0 GiB .* set precision to float32"):
        model.prepare(graph)
    monkeypatch.setattr(memory, "available_memory", lambda device: 4 * I * I - 1)
    with pytest.raises(ValueError, match=r"a weight matrix of 17 items needs 0.0 GiB .* use a graph model"):
        model_class(graph.schema, config)


def test_weights_are_a_buffer_and_not_trained() -> None:
    model, _ = fitted()
    assert list(model.parameters()) == []
    assert list(model.state_dict()) == ["weights"]


def test_invalid_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="reg must be greater than 0"):
        EASEConfig(reg=0)
    with pytest.raises(ValueError, match="precision must be one of"):
        EASEConfig(precision="float16")  # type: ignore[arg-type]


def test_checkerboard_has_weights_within_colours_only() -> None:
    dataset, _ = checkerboard(U, I)
    model, _ = fitted(graph=toy_graph(dataset))
    other_colour = (torch.arange(I)[:, None] + torch.arange(I)) % 2 == 1
    assert float(model.weights[other_colour].abs().max()) < 1e-6
    assert float(model.weights[~other_colour].mean()) > 0.05
