import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.mgcn import MGCN, MGCNConfig, item_view
from gmmrec.nn.loss import bpr, info_nce
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.testing import I, U, checkerboard, permuted, score_all, toy_graph, with_mask
from gmmrec.typing import USER_ITEM

NAMES = ("image", "text")


def complete() -> Dataset:
    """The checkerboard without a missing image."""
    dataset, _ = checkerboard(U, I)
    values = torch.rand(I, 6, generator=torch.Generator().manual_seed(0))
    return replace(dataset, features={**dataset.features, "image": FeatureTable("image", values)})


def partial() -> Dataset:
    """The complete data set with items that lack one modality, and one that lacks both."""
    return with_mask(with_mask(complete(), "image", torch.tensor([2, 5])), "text", torch.tensor([5, 7]))


def build(dataset: Dataset | None = None, **settings) -> tuple[MGCN, MultimodalGraph]:
    torch.manual_seed(0)
    graph = toy_graph(complete() if dataset is None else dataset)
    model = MGCN(graph.schema, MGCNConfig(**{"dim": 8, "knn": 4, "init_std": 0.5, **settings}))
    with torch.no_grad():
        return model, model.prepare(graph)


def batch() -> Batch[UserQuery]:
    """Forty triples with repeated users and items."""
    generator = torch.Generator().manual_seed(0)
    user, items = torch.randint(U, (40,), generator=generator), torch.randint(I, (40, 3), generator=generator)
    return Batch(UserQuery(user), items[:, 0], items[:, 1:])


def interactions(graph: MultimodalGraph) -> Tensor:
    """Normalised interaction matrix R_hat ``[U, I]`` in float64."""
    matrix = torch.zeros(U, I, dtype=torch.float64)
    user, item = graph.edges(USER_ITEM).edge_index.as_tensor()
    matrix[user, item] = 1
    return matrix.sum(1, keepdim=True).clamp(min=1).rsqrt() * matrix * matrix.sum(0).clamp(min=1).rsqrt()


def similar(table: FeatureTable, k: int) -> Tensor:
    """Normalised cosine k-NN graph, ``[item, neighbour]`` in float64, by definition."""
    matrix, present = torch.zeros(I, I, dtype=torch.float64), table.present.nonzero().flatten().tolist()
    for i in present:
        cosine = {j: float(torch.cosine_similarity(table.values[i].double(), table.values[j].double(), dim=0)) for j in present}
        for j in sorted(present, key=lambda j: (j != i, -cosine[j]))[:k]:
            matrix[i, j] = cosine[j]
    root = torch.where(matrix.sum(1) > 0, matrix.sum(1), 1.0).rsqrt()
    return root[:, None] * matrix * root


def slow_views(model: MGCN, graph: MultimodalGraph) -> tuple[Tensor, Tensor, Tensor]:
    """Compute X ``[U + I, D]``, Q ``[U + I, M, D]`` and M ``[U + I, D]``, dense and in float64."""
    w = {name: weight.detach().double() for name, weight in model.named_parameters()}
    dim, r = model.config.dim, interactions(graph)
    adjacency = torch.zeros(U + I, U + I, dtype=torch.float64)
    adjacency[:U, U:], adjacency[U:, :U] = r, r.T
    layer = total = torch.cat([w["users"], w["items"]])
    for _ in range(model.config.num_layers):
        layer = adjacency @ layer
        total = total + layer
    x = total / (model.config.num_layers + 1)
    content, has = [], []
    for m, name in enumerate(NAMES):
        table, prefix = graph.features[name], f"purify.{m}."
        c = table.values.double() @ w[prefix + "project.weight"].T + w[prefix + "project.bias"]
        p = w["items"] * torch.sigmoid(c @ w[prefix + "gate.weight"].T + w[prefix + "gate.bias"])
        q = torch.where(table.present[:, None], p, 0.0)
        for _ in range(model.config.item_layers):
            q = similar(table, model.config.knn) @ q
        content.append(torch.cat([r @ q, q]))
        has.append(torch.cat([(r * table.present).sum(1) > 0, table.present]))
    modal = torch.zeros(U + I, dim, dtype=torch.float64)
    for n in range(U + I):
        present = [m for m in range(2) if has[m][n]]
        weight = {}
        for m in present:
            hidden = torch.tanh(w["fuse.share.logits.0.0.weight"] @ content[m][n] + w["fuse.share.logits.0.0.bias"])
            weight[m] = torch.exp(w["fuse.share.logits.0.2.weight"][0] @ hidden)
        shared = sum((weight[m] / sum(weight.values()) * content[m][n] for m in present), torch.zeros(dim).double())
        preferred = torch.zeros(dim).double()
        for m in present:
            rows = slice(m * dim, (m + 1) * dim)
            gate = torch.sigmoid(w["fuse.gates.weight"][rows] @ x[n] + w["fuse.gates.bias"][rows])
            preferred += gate * (content[m][n] - shared)
        modal[n] = shared + preferred / 2 if model.config.fuse == "paper" else (shared + preferred) / 3
    return x, torch.stack(content, 1), modal


# Invariants


def test_purifier_with_zero_gate_logits_halves_the_embedding() -> None:
    model, graph = build()
    table, purify = graph.features["image"], model.purify[0]
    gate = purify(torch.ones(I, 8), table.pooled)
    assert bool(((gate > 0) & (gate < 1)).all())
    with torch.no_grad():
        purify.gate.weight.zero_()
        purify.gate.bias.zero_()
    assert torch.equal(purify(model.items, table.pooled), model.items / 2)


def test_missing_modality_is_purified_to_zeros() -> None:
    model, graph = build(partial(), item_layers=0)
    items = model.views(graph)[1]
    assert not bool(items.content[[2, 5], 0].any())
    assert not bool(items.content[[5, 7], 1].any())
    assert bool(items.content[[2, 7], [1, 0]].any(1).all())


def test_shared_weights_sum_to_one_and_weighted_specific_vectors_to_zero() -> None:
    model, graph = build()
    for view in model.views(graph):
        shared, share = model.fuse.share(view.content, return_weights=True)
        torch.testing.assert_close(share.sum(1), torch.ones(len(share)))
        specific = view.content - shared[:, None]
        torch.testing.assert_close((share[..., None] * specific).sum(1), torch.zeros(len(share), 8), atol=1e-6, rtol=0)


def test_user_content_is_the_sum_over_their_items() -> None:
    model, graph = build()
    users, items = model.views(graph)
    for m in range(2):
        expected = interactions(graph) @ items.content[:, m].double()
        torch.testing.assert_close(users.content[:, m].double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("data", [complete, partial])
def test_user_without_interactions_has_zero_fused_content(data) -> None:
    dataset = data()
    known = dataset.interactions
    model, graph = build(replace(dataset, interactions=known.take(torch.nonzero(known.user != 3).flatten())))
    with torch.no_grad():
        users, _ = model.views(graph)
        assert not bool(model.fused(users)[3].any())
        torch.testing.assert_close(model.encode(graph)["user"][3], model.users[3] / 3)  # the mean of three layers, two of them zero


@pytest.mark.parametrize(("fuse", "factor"), [("paper", 1.0), ("code", 1 / 3)])
def test_identical_modalities_have_no_specific_vectors(fuse, factor) -> None:
    dataset = complete()
    twice = {name: FeatureTable(name, dataset.features["text"].values) for name in NAMES}
    model, graph = build(replace(dataset, features=twice), fuse=fuse)
    model.purify[1].load_state_dict(model.purify[0].state_dict())
    for view in model.views(graph):
        torch.testing.assert_close(model.fused(view), factor * view.content[:, 0])


def test_vectors_are_the_sum_of_behaviour_and_fused_content() -> None:
    model, graph = build()
    encoded = model.encode(graph)
    for vectors, view in zip((encoded["user"], encoded["item"]), model.views(graph), strict=True):
        torch.testing.assert_close(vectors, view.behaviour + model.fused(view))


def test_zero_contrast_weight_leaves_no_gradient() -> None:
    gradients = []
    for weight in (0.0, 1.0):
        model, graph = build(contrast_weight=weight)
        terms = model.loss(graph, batch())
        assert ("contrast" in terms) == (weight > 0)
        (terms["bpr"] + terms["l2"] if weight else sum(terms.values())).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_contrast_of_identical_rows_is_ln_b_and_never_negative() -> None:
    same = torch.ones(6, 3)
    assert float(info_nce(same, 2 * same, 0.2)) == pytest.approx(math.log(6))
    model, graph = build(contrast_weight=1.0)
    assert float(model.loss(graph, batch())["contrast"].detach()) > 0
    alone = Batch(UserQuery(torch.tensor([4])), torch.tensor([6]), torch.tensor([[1]]))
    assert float(model.loss(graph, alone)["contrast"].detach()) == pytest.approx(0, abs=1e-5)  # no other rows in the softmax


def test_contrast_gradients_reach_fused_content_and_behaviour() -> None:
    model, graph = build(contrast_weight=1.0, num_layers=0)  # user embeddings then affect X alone, and projections M alone
    model.loss(graph, batch())["contrast"].backward()
    assert bool(model.users.grad.any())
    assert all(bool(purify.project.weight.grad.any()) for purify in model.purify)


def test_item_graphs_are_frozen_with_k_edges_per_item() -> None:
    dataset = complete()
    _, graph = build(dataset)
    for name in NAMES:
        edge_index, weight = graph.edges(item_view(name))
        assert edge_index.shape[1] == I * 4
        assert not weight.requires_grad
        assert bool((weight > 0).all())
        dense = torch.zeros(I, I, dtype=torch.float64)
        source, target = edge_index.as_tensor()
        dense[target, source] = weight.double()
        assert bool((dense.sum(1) > 0).all())
        torch.testing.assert_close(dense, similar(dataset.features[name], 4), rtol=1e-5, atol=1e-6)


def test_negative_similarities_give_no_edges() -> None:
    dataset = complete()
    values = torch.randn(I, 2, generator=torch.Generator().manual_seed(0))
    _, graph = build(replace(dataset, features={"image": FeatureTable("image", values)}), knn=I)
    edge_index, weight = graph.edges(item_view("image"))
    source, target = edge_index.as_tensor()
    cosine = torch.cosine_similarity(values[source], values[target], dim=1)
    assert bool((cosine > 0).all())
    assert bool((weight > 0).all())
    assert len(weight) == int((torch.cosine_similarity(values[:, None], values[None], dim=-1) > 0).sum())


def test_permuting_permutes_scores() -> None:
    generator = torch.Generator().manual_seed(2)
    user, item = torch.randperm(U, generator=generator), torch.randperm(I, generator=generator)
    model, graph = build()
    other, other_graph = build(permuted(complete(), user, item))
    with torch.no_grad():
        other.users[user], other.items[item] = model.users, model.items
    torch.testing.assert_close(score_all(other, other_graph)[user][:, item], score_all(model, graph), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("fuse", "factor"), [("paper", 1.0), ("code", 1 / 2)])
def test_single_modality_has_weight_one_and_no_specific_vector(fuse, factor) -> None:
    dataset = complete()
    model, graph = build(replace(dataset, features={"text": dataset.features["text"]}), fuse=fuse)
    for view in model.views(graph):
        fused, share = model.fuse(view.content, None, view.behaviour, return_weights=True)
        assert torch.equal(share, torch.ones_like(share))
        torch.testing.assert_close(fused, factor * view.content[:, 0])


# The whole model, missing modalities, the loss, settings


@pytest.mark.parametrize("fuse", ["paper", "code"])
@pytest.mark.parametrize("data", [complete, partial])
def test_vectors_match_the_dense_reference(data, fuse) -> None:
    model, graph = build(data(), fuse=fuse, item_layers=2)
    x, q, modal = slow_views(model, graph)
    with torch.no_grad():
        users, items = model.views(graph)
        encoded = model.encode(graph)
    for fast, slow in (
        (torch.cat([users.behaviour, items.behaviour]), x),
        (torch.cat([users.content, items.content]), q),
        (torch.cat([encoded["user"], encoded["item"]]), x + modal),
    ):
        torch.testing.assert_close(fast.double(), slow, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("data", [complete, partial])
def test_views_of_selected_nodes_are_rows_of_all_views(data) -> None:
    model, graph = build(data())
    rows = (torch.tensor([7, 0, 3]), torch.tensor([5, 2]))
    for selected, whole, index in zip(model.views(graph, *rows), model.views(graph), rows, strict=True):
        torch.testing.assert_close(selected.behaviour, whole.behaviour[index])
        torch.testing.assert_close(selected.content, whole.content[index])
        assert selected.mask is whole.mask is None or torch.equal(selected.mask, whole.mask[index])


def test_modality_missing_in_all_items_of_a_user_has_zero_weight() -> None:
    dataset = complete()
    taken = dataset.interactions.item[dataset.interactions.user == 6]
    model, graph = build(with_mask(dataset, "image", taken))
    users, _ = model.views(graph)
    assert users.mask[6].tolist() == [False, True]
    _, share = model.fuse(users.content, users.mask, users.behaviour, return_weights=True)
    assert share[6].tolist() == [0, 1]


@pytest.mark.parametrize("deduplicate", [False, True])
@pytest.mark.parametrize("data", [complete, partial])
def test_loss_matches_the_reference(data, deduplicate) -> None:
    model, graph = build(data(), contrast_weight=0.5, l2=0.3, deduplicate=deduplicate)
    triples = batch()
    x, _, modal = slow_views(model, graph)
    z = x + modal
    user, positive, negative = triples.query.user, U + triples.positive, U + triples.negative
    scores = torch.einsum("bd,bkd->bk", z[user], z[torch.cat([positive[:, None], negative], 1)])
    contrast = 0.0
    for nodes in (user, positive):
        nodes = nodes.unique() if deduplicate else nodes
        cosine = torch.cosine_similarity(modal[nodes][:, None], x[nodes][None], dim=-1) / 0.2
        contrast += float(-cosine.log_softmax(1).diagonal().mean())
    squares = z[user].square().sum() + z[positive].square().sum() + z[negative].square().sum()
    expected = {
        "bpr": float(bpr(scores[:, :1], scores[:, 1:])),
        "contrast": 0.5 * contrast,
        "l2": float(0.3 * squares / (2 * len(triples))),
    }
    assert {name: float(term.detach()) for name, term in model.loss(graph, triples).items()} == pytest.approx(expected, rel=1e-4)


def test_missing_features_raise_an_error_with_a_remedy() -> None:
    with pytest.raises(ValueError, match="MGCN needs at least one modality of the items, but the data set has none"):
        build(replace(complete(), features={}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "temperature must be greater than 0"),
        ({"fuse": "mean"}, "fuse must be one of 'paper', 'code', but is 'mean'"),
        ({"knn": 0}, "knn must be greater than 0"),
        ({"contrast_weight": -1.0}, "contrast_weight must be 0 or more"),
    ],
    ids=str,
)
def test_invalid_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        MGCNConfig(**settings)
