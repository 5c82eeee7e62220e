import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gmmrec.data.dataset import Dataset
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.hcgcn import CONTENT, HCGCN, HCGCNConfig
from gmmrec.models.lightgcn import LightGCN, LightGCNConfig
from gmmrec.nn.clustering import cut_loss
from gmmrec.nn.normalize import unit_rows
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.testing import I, U, checkerboard, permuted, score_all, toy_graph, with_mask
from gmmrec.typing import USER_ITEM

K = 3


def build(dataset: Dataset | None = None, **settings: Any) -> tuple[HCGCN, MultimodalGraph]:
    graph = toy_graph(dataset)
    torch.manual_seed(0)
    config = HCGCNConfig(**{"dim": 8, "knn": 4, "num_clusters": K, "item_clusters": K, "init_std": 0.5, **settings})
    model = HCGCN(graph.schema, config)
    with torch.no_grad():
        return model, model.prepare(graph)


def batch() -> Batch[UserQuery]:
    generator = torch.Generator().manual_seed(0)
    user, positive = torch.randint(U, (9,), generator=generator), torch.randint(I, (9,), generator=generator)
    return Batch(UserQuery(user), positive, torch.randint(I, (9, 2), generator=generator))


def clustered(whole: Tensor, q: Tensor, x: Tensor) -> Tensor:
    """Compute one convolution inside clusters with dense matrices ``[target, source]`` and row sums as degrees."""
    total = torch.zeros_like(x)
    for k in range(q.shape[1]):
        inside = whole * q[:, k, None] * q[:, k]
        root = (inside.sum(1) + 1e-7).sqrt()
        total += q[:, k, None] * ((inside / root[:, None] / root) @ x)
    return total


def cluster_loss(a: Tensor, q: Tensor) -> Tensor:
    cut = -torch.trace(q.T @ a @ q) / torch.trace(q.T @ torch.diag(a.sum(1)) @ q)
    overlap = q.T @ q
    return cut + torch.linalg.matrix_norm(overlap / torch.linalg.matrix_norm(overlap) - torch.eye(K).double() / K**0.5)


def slow(model: HCGCN, graph: MultimodalGraph) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Compute vectors of users and items and the loss in float64, with dense matrices and loops."""
    weights = {name: value.detach().double() for name, value in model.state_dict().items()}
    a = torch.zeros(U + I, U + I, dtype=torch.float64)
    users, items = graph.edges(USER_ITEM).edge_index.as_tensor()
    a[users, U + items] = a[U + items, users] = 1
    degree = a.sum(1)
    a_hat = torch.where(a > 0, a / (degree[:, None] * degree).sqrt(), 0.0)
    source, target = graph.edges(CONTENT).edge_index.as_tensor()
    s = torch.zeros(I, I, dtype=torch.float64)
    s[target, source] = graph.edges(CONTENT).weight.double()

    content, alpha, tokens = torch.zeros(I, 8).double(), torch.zeros(I, 2).double(), torch.zeros(I, 2, 8).double()
    for i in range(I):
        logits = []
        for m, name in enumerate(("image", "text")):
            x = graph.features[name].values[i].double()
            tokens[i, m] = weights[f"project.{m}.weight"] @ x + weights[f"project.{m}.bias"]
            hidden = torch.tanh(weights["attend.0.weight"] @ tokens[i, m] + weights["attend.0.bias"])
            present = bool(graph.features[name].present[i])
            logits.append((weights["attend.2.weight"][0] @ hidden).exp() if present else torch.zeros(()).double())
        if sum(logits) > 0:
            alpha[i] = torch.stack(logits) / sum(logits)
        content[i] = alpha[i] @ tokens[i]

    e0 = torch.cat([weights["users"], weights["items"]])
    q_ui = (e0 @ weights["encoder.assign.prototypes"].T / 0.5).softmax(1)
    q_ii = (content @ weights["assign.prototypes"].T / 0.5).softmax(1)
    e1 = a_hat @ e0
    e = (e0 + e1 + clustered(a, q_ui, e1)) / 3
    h = (clustered(s, q_ii, weights["items"]) + s @ weights["items"]) / 2
    item = e[U:] + h / h.norm(dim=1, keepdim=True)
    user = e[:U]

    b = batch()
    positive = (user[b.query.user] * item[b.positive]).sum(1, keepdim=True)
    negative = (user[b.query.user][:, None] * item[b.negative]).sum(2)
    squares = weights["users"][b.query.user].square().sum() + weights["items"][b.candidates].square().sum()
    cosine = torch.cosine_similarity(tokens, item[:, None], dim=2)
    return (
        user,
        item,
        {
            "bpr": -torch.sigmoid(positive - negative).log().mean(),
            "l2": 1e-4 * squares / (2 * len(b)),
            "cluster": 0.1 * cluster_loss(a_hat, q_ui),
            "item_cluster": 0.1 * cluster_loss(s, q_ii),
            "modal": 0.01 * (alpha * (1 - cosine)).sum(1).mean(),
        },
    )


def test_vectors_and_losses_equal_the_dense_formula() -> None:
    model, graph = build()  # image 3 is missing
    for p in model.project:
        torch.nn.init.normal_(p.bias)
    user, item, terms = slow(model, graph)
    encoded = model.encode(graph)
    torch.testing.assert_close(encoded["user"].double(), user, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoded["item"].double(), item, atol=1e-5, rtol=1e-4)
    actual = model.loss(graph, batch())
    assert set(actual) == set(terms)
    for name, term in terms.items():
        torch.testing.assert_close(actual[name].double(), term, atol=1e-6, rtol=1e-4, msg=name)


def test_users_and_items_share_clusters_and_items_have_content_clusters() -> None:
    model, graph = build()
    e = model._encode(graph)
    q = torch.cat(e.clusters)
    assert q.shape == (U + I, K)
    assert e.item_clusters.shape == (I, K)
    for assignment in (q, e.item_clusters):
        torch.testing.assert_close(assignment.sum(1), torch.ones(len(assignment)))
        assert bool(((assignment > 0) & (assignment < 1)).all())


def test_single_clusters_give_lightgcn_plus_smoothed_items() -> None:
    model, graph = build(num_clusters=1, item_clusters=1, num_layers=3, knn_weighting="binary")
    plain = LightGCN(graph.schema, LightGCNConfig(dim=8, num_layers=3))
    plain.users, plain.items = model.users, model.items
    expected, actual = plain.encode(graph), model.encode(graph)
    torch.testing.assert_close(actual["user"], expected["user"], atol=1e-6, rtol=1e-5)
    source, target = graph.edges(CONTENT).edge_index.as_tensor()
    s = torch.zeros(I, I)
    s[target, source] = graph.edges(CONTENT).weight
    torch.testing.assert_close(actual["item"], expected["item"] + unit_rows(s @ model.items), atol=1e-5, rtol=1e-4)
    terms = model.loss(graph, batch())
    assert terms["cluster"].item() == pytest.approx(-0.1)
    assert terms["item_cluster"].item() == pytest.approx(-0.1)


def test_checkerboard_colours_are_perfect_hard_clusters() -> None:
    model, graph = build(num_clusters=2, hard=True)
    colours = torch.eye(2, 8)
    with torch.no_grad():
        model.encoder.assign.prototypes.copy_(colours)
        model.users.copy_(colours[torch.arange(U) % 2])
        model.items.copy_(colours[torch.arange(I) % 2])
        e, edges = model._encode(graph), graph.bipartite
    cut = cut_loss((edges.to_user, e.clusters.item, e.clusters.user), (edges.to_item, e.clusters.user, e.clusters.item))
    assert float(cut) == pytest.approx(-1)
    alone, _ = build(num_clusters=1)
    alone.load_state_dict({n: v[:1] if n == "encoder.assign.prototypes" else v for n, v in model.state_dict().items()})
    torch.testing.assert_close(e.nodes.user, alone.encode(graph)["user"])


def test_permuting_prototypes_changes_neither_scores_nor_losses() -> None:
    model, graph = build()
    scores, terms = score_all(model, graph), model.loss(graph, batch())
    with torch.no_grad():
        for assign in (model.encoder.assign, model.assign):
            assign.prototypes.copy_(assign.prototypes[[2, 0, 1]])
    torch.testing.assert_close(score_all(model, graph), scores)
    torch.testing.assert_close(model.loss(graph, batch()), terms)


def test_permuting_users_and_items_permutes_scores() -> None:
    user, item = torch.randperm(U, generator=torch.Generator().manual_seed(0)), torch.randperm(I)
    dataset, _ = checkerboard(U, I)
    (model, graph), (other, other_graph) = build(dataset), build(permuted(dataset, user, item))
    weights = {n: v.clone() for n, v in model.state_dict().items()}
    weights["users"][user], weights["items"][item] = model.users.detach(), model.items.detach()
    other.load_state_dict(weights)
    torch.testing.assert_close(score_all(other, other_graph)[user][:, item], score_all(model, graph))


def gradients_of(term: str, **settings: Any) -> dict[str, bool]:
    model, graph = build(**settings)
    model.loss(graph, batch())[term].backward()
    return {name: p.grad is not None and bool(p.grad.any()) for name, p in model.named_parameters()}


def test_clustering_reaches_prototypes_embeddings_and_content() -> None:
    reached = gradients_of("cluster")
    assert reached["encoder.assign.prototypes"] and reached["users"] and reached["items"]  # noqa: PT018
    reached = gradients_of("item_cluster")
    assert reached["assign.prototypes"] and reached["project.0.weight"] and reached["attend.0.weight"]  # noqa: PT018


def test_bpr_reaches_both_kinds_of_prototypes() -> None:
    reached = gradients_of("bpr")
    assert reached["encoder.assign.prototypes"] and reached["assign.prototypes"]  # noqa: PT018


def test_modality_constraint_never_moves_behaviour() -> None:
    reached = gradients_of("modal")
    assert {name for name, is_reached in reached.items() if is_reached} == {
        *(f"project.{m}.{kind}" for m in (0, 1) for kind in ("weight", "bias")),
        *("attend.0.weight", "attend.0.bias", "attend.2.weight"),
    }


def test_importances_sum_to_one_over_present_modalities() -> None:
    model, graph = build(with_mask(checkerboard(U, I)[0], "text", torch.tensor([5])))
    alpha = model.content(graph).weights.detach()
    torch.testing.assert_close(alpha.sum(1), torch.ones(I))
    assert alpha[3].tolist() == [0, 1]  # no image
    assert alpha[5].tolist() == [1, 0]  # no text
    assert bool((alpha[0] > 0).all())


def test_zero_features_have_uniform_importances() -> None:
    model, graph = build()
    data = copy.copy(graph.data)
    for name in ("image", "text"):
        data["item"][name] = torch.zeros_like(data["item"][name])
        data["item"][f"{name}_mask"] = torch.ones(I, dtype=torch.bool)
    alpha = model.content(MultimodalGraph(data, graph.schema)).weights
    assert torch.equal(alpha, torch.full((I, 2), 0.5))


def test_items_without_features_have_no_content_and_no_neighbours() -> None:
    dataset, _ = checkerboard(U, I)
    for name in dataset.features:
        dataset = with_mask(dataset, name, torch.tensor([6]))
    model, graph = build(dataset)
    assert not bool(model.content(graph).fused[6].any())
    torch.testing.assert_close(model._encode(graph).item_clusters[6], torch.full((K,), 1 / K))
    assert 6 not in graph.edges(CONTENT).edge_index.as_tensor()


def test_hard_clusters_and_sharpening_loss_train() -> None:
    for settings in ({"hard": True}, {"clustering": "sharpen"}):
        model, graph = build(**settings)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        losses = []
        for _ in range(20):
            optimizer.zero_grad()
            loss = torch.stack(list(model.loss(graph, batch()).values())).sum()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < losses[0] - 0.1


def test_terms_with_weight_0_are_omitted() -> None:
    model, graph = build(cluster_weight=0.0, item_cluster_weight=0.0, modal_weight=0.0)
    assert set(model.loss(graph, batch())) == {"bpr", "l2"}


def test_invalid_settings_and_data_are_refused() -> None:
    for name in ("dim", "num_clusters", "item_clusters", "knn", "temperature"):
        with pytest.raises(ValueError, match=f"{name} must be greater than 0"):
            HCGCNConfig(**{name: 0})
    with pytest.raises(ValueError, match="clustering must be one of"):
        HCGCNConfig(clustering="kmeans")  # type: ignore[arg-type]
    bare = toy_graph(replace(checkerboard(U, I)[0], features={}))
    with pytest.raises(ValueError, match="features of at least one modality"):
        HCGCN(bare.schema)
