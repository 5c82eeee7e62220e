"""LightGCN against powers of the dense adjacency, and its invariants."""

import math

import pytest
import torch

from gmmrec.data.dataset import Dataset
from gmmrec.data.interactions import Interactions
from gmmrec.data.split import Split
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.graph.build import build_graph
from gmmrec.models.lightgcn import LightGCN, LightGCNConfig
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.typing import ITEM_USER, USER_ITEM

U, I = 9, 7  # noqa: E741


def graph_of(user, item, num_users=U, num_items=I):
    log = Interactions(torch.as_tensor(user), torch.as_tensor(item))
    vocabularies = {"user": Vocabulary(range(num_users), name="user"), "item": Vocabulary(range(num_items))}
    nothing = log.take(torch.zeros(0, dtype=torch.long))
    return build_graph(Dataset("toy", vocabularies, log), Split(log, nothing, nothing))


def random_pairs(num_users=U, num_items=I, size=20, *, seed=0):
    """Return random pairs without the last user and the last item."""
    pairs = torch.randperm((num_users - 1) * (num_items - 1), generator=torch.Generator().manual_seed(seed))[:size]
    return pairs // (num_items - 1), pairs % (num_items - 1)


def model_of(graph, *, seed=0, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LightGCN(graph.schema, LightGCNConfig(**{"dim": 5, **settings}))


def dense_adjacency(user, item, num_users=U, num_items=I):
    """Compute the normalised adjacency matrix of all nodes, users first."""
    a = torch.zeros(num_users + num_items, num_users + num_items, dtype=torch.float64)
    a[user, num_users + item] = a[num_users + item, user] = 1.0
    scale = torch.diag(torch.where(a.sum(0) > 0, a.sum(0), 1.0).rsqrt())
    return scale @ a @ scale


def encode(model, graph):
    encoded = model.encode(graph)
    return torch.cat([encoded["user"], encoded["item"]])


def layer_0(model):
    return torch.cat([model.users, model.items])


def test_edge_weights_are_the_normalised_adjacency():
    pairs = random_pairs()
    graph = graph_of(*pairs)
    a = torch.zeros(U + I, U + I, dtype=torch.float64)
    for edge_type, source_offset, target_offset in ((USER_ITEM, 0, U), (ITEM_USER, U, 0)):
        edge_index, weight = graph.edges(edge_type)
        source, target = edge_index.as_tensor()
        a[target + target_offset, source + source_offset] = weight.double()
    assert torch.equal(a, a.t())
    assert not a.diagonal().any()
    assert not a[:U, :U].any()
    assert not a[U:, U:].any()
    assert float(torch.linalg.eigvalsh(a).abs().max()) <= 1 + 1e-6
    assert torch.allclose(a, dense_adjacency(*pairs), atol=1e-6)


@pytest.mark.parametrize("num_layers", [0, 1, 2, 4])
def test_vectors_equal_dense_matrix_powers(num_layers):
    pairs = random_pairs()
    graph = graph_of(*pairs)
    model = model_of(graph, num_layers=num_layers)
    a, e = dense_adjacency(*pairs), layer_0(model).double()
    expected = sum(torch.linalg.matrix_power(a, k) @ e for k in range(num_layers + 1)) / (num_layers + 1)
    assert torch.allclose(encode(model, graph).double(), expected, atol=1e-6)


def test_embeddings_are_the_only_parameters():
    model = model_of(graph_of(*random_pairs()), dim=5)
    assert sum(p.numel() for p in model.parameters()) == (U + I) * 5


def test_encoding_is_linear():
    graph = graph_of(*random_pairs())
    models = [model_of(graph, seed=seed) for seed in range(3)]
    with torch.no_grad():
        for mixed, one, other in zip(*(model.parameters() for model in models), strict=True):
            mixed.copy_(2 * one - 3 * other)
    mixed, one, other = (encode(model, graph) for model in models)
    assert torch.allclose(mixed, 2 * one - 3 * other, atol=1e-5)


def test_permuting_nodes_permutes_vectors():
    user, item = random_pairs()
    generator = torch.Generator().manual_seed(1)
    new_user, new_item = torch.randperm(U, generator=generator), torch.randperm(I, generator=generator)  # old row -> new row
    order = torch.randperm(len(user), generator=generator)
    graph, permuted = graph_of(user, item), graph_of(new_user[user][order], new_item[item][order])
    model, other = model_of(graph), model_of(permuted)
    with torch.no_grad():
        other.users.copy_(model.users[new_user.argsort()])
        other.items.copy_(model.items[new_item.argsort()])
    before, after = model.encode(graph), other.encode(permuted)
    assert torch.allclose(after["user"][new_user], before["user"], atol=1e-6)
    assert torch.allclose(after["item"][new_item], before["item"], atol=1e-6)


def test_isolated_nodes_keep_their_scaled_embedding():
    graph = graph_of(*random_pairs())
    model = model_of(graph, num_layers=3)
    encoded = model.encode(graph)
    assert torch.allclose(encoded["user"][U - 1], model.users[U - 1] / 4)
    assert torch.allclose(encoded["item"][I - 1], model.items[I - 1] / 4)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_gradients_reach_num_layers_hops(num_layers):
    """Check the path u0 - i0 - u1 - i1 - u2 - i2 - u3, with query u0, positive i0 and an isolated negative i6."""
    graph = graph_of([0, 1, 1, 2, 2, 3], [0, 0, 1, 1, 2, 2])
    model = model_of(graph, num_layers=num_layers)
    terms = model.loss(graph, Batch(UserQuery(torch.tensor([0])), torch.tensor([0]), torch.tensor([[6]])))

    def rows(term):
        grads = torch.autograd.grad(term, (model.users, model.items), retain_graph=True)
        return [set(torch.nonzero(g.abs().sum(1)).flatten().tolist()) for g in grads]

    assert rows(terms["l2"]) == [{0}, {0, 6}]
    users, items = rows(terms["bpr"])  # within K hops of u0 or of i0
    assert users == {1: {0, 1}, 2: {0, 1}, 3: {0, 1, 2}}[num_layers]
    assert items == {1: {0, 6}, 2: {0, 1, 6}, 3: {0, 1, 6}}[num_layers]


def test_loss_of_equal_scores_is_log_2_and_falls_in_training():
    user, item = random_pairs(50, 40, 300)
    graph = graph_of(user, item, 50, 40)
    model = model_of(graph, dim=16, l2=0.0)
    negative = torch.randint(40, (300, 1), generator=torch.Generator().manual_seed(0))
    batch = Batch(UserQuery(user), item, negative)
    zeros = model_of(graph, l2=0.0)
    with torch.no_grad():
        zeros.users.zero_()
        zeros.items.zero_()
    assert float(zeros.loss(graph, batch)["bpr"].detach()) == pytest.approx(math.log(2), abs=1e-6)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        loss = sum(model.loss(graph, batch).values())
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.3


def test_l2_covers_the_batch():
    graph = graph_of(*random_pairs())
    model = model_of(graph, l2=0.5)
    user, positive, negative = torch.tensor([1, 1]), torch.tensor([2, 3]), torch.tensor([[4], [0]])
    rows = torch.cat([model.users[user], model.items[positive], model.items[negative[:, 0]]]).detach()
    term = model.loss(graph, Batch(UserQuery(user), positive, negative))["l2"]
    assert float(term.detach()) == pytest.approx(0.5 * float(rows.square().sum()) / (2 * 2), rel=1e-5)


@pytest.mark.parametrize(("setting", "field"), [({"dim": 0}, "dim"), ({"num_layers": -1}, "num_layers"), ({"l2": -1.0}, "l2")])
def test_invalid_settings_are_refused(setting, field):
    with pytest.raises(ValueError, match=field):
        LightGCNConfig(**setting)
