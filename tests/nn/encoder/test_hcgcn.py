import pytest
import torch
from torch import Tensor

from gmmrec.graph.edges import normalize
from gmmrec.nn.conv.light import LightPropagation
from gmmrec.nn.encoder.hcgcn import HCGCNEncoder
from gmmrec.nn.relations import Bipartite, Relation, UserItem

D = 4


def bipartite(matrix: Tensor) -> Bipartite:
    """Relations of a 0/1 matrix ``[U, I]``."""
    users, items = matrix.nonzero().T
    to_item, to_user = torch.stack([users, items]), torch.stack([items, users])
    return Bipartite(
        Relation(to_user, normalize(to_user, (matrix.shape[1], matrix.shape[0]))),
        Relation(to_item, normalize(to_item, (matrix.shape[0], matrix.shape[1]))),
        UserItem(matrix.sum(1), matrix.sum(0)),
    )


def drawn(num_users: int = 6, num_items: int = 8) -> Tensor:
    return (torch.rand(num_users, num_items, generator=torch.Generator().manual_seed(0)) < 0.5).float()


def vectors(num_users: int = 6, num_items: int = 8) -> UserItem:
    generator = torch.Generator().manual_seed(1)
    return UserItem(torch.randn(num_users, D, generator=generator), torch.randn(num_items, D, generator=generator))


def encoder(**settings: object) -> HCGCNEncoder:
    torch.manual_seed(2)
    return HCGCNEncoder(D, **{"num_clusters": 3, **settings})  # type: ignore[arg-type]


def agree(actual: UserItem, expected: UserItem) -> None:
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_layers", [0, 1, 2, 3])
@pytest.mark.parametrize("hard", [False, True])
def test_the_encoder_equals_dense_matrices(num_layers: int, hard: bool) -> None:
    matrix, x, model = drawn(), vectors(), encoder(num_layers=num_layers, hard=hard)
    whole = torch.zeros(14, 14, dtype=torch.float64)
    whole[:6, 6:], whole[6:, :6] = matrix.double(), matrix.double().T
    degree = whole.sum(1).clamp(min=1)
    e = torch.cat(x).double()
    q = (e @ model.assign.prototypes.detach().double().T / 0.5).softmax(1)
    q = torch.eye(3, dtype=torch.float64)[q.argmax(1)] if hard else q
    layers = [e]
    for layer in range(num_layers):
        if layer == 0:
            layers.append((whole / (degree[:, None] * degree).sqrt()) @ layers[-1])
            continue
        total = torch.zeros_like(e)
        for k in range(3):
            inside = whole * q[:, k, None] * q[:, k]
            root = (inside.sum(1) + 1e-7).sqrt()
            total += q[:, k, None] * ((inside / root[:, None] / root) @ layers[-1])
        layers.append(total)
    expected = torch.stack(layers).mean(0).float()
    agree(model(x, bipartite(matrix)), UserItem(expected[:6], expected[6:]))


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_one_cluster_is_lightgcn(num_layers: int) -> None:
    model = encoder(num_clusters=1, num_layers=num_layers)
    assert torch.equal(model.assignment(vectors()).user, torch.ones(6, 1))
    agree(model(vectors(), bipartite(drawn())), LightPropagation(num_layers)(vectors(), bipartite(drawn())))


def test_users_and_items_share_the_clusters() -> None:
    q = torch.cat(encoder().assignment(vectors()))
    assert q.shape == (6 + 8, 3)
    torch.testing.assert_close(q.sum(1), torch.ones(14))


def test_two_communities_in_hard_clusters_of_their_own_propagate_as_lightgcn() -> None:
    matrix = torch.block_diag(drawn(3, 4), drawn(3, 4))
    model = encoder(num_clusters=2, num_layers=3, hard=True)
    with torch.no_grad():
        model.assign.prototypes.copy_(torch.eye(2, D))
    user, item = torch.eye(2, D)[[0, 0, 0, 1, 1, 1]], torch.eye(2, D)[[0, 0, 0, 0, 1, 1, 1, 1]]
    x = UserItem(user + 0.1 * vectors().user, item + 0.1 * vectors().item)
    assert model.assignment(x).user.argmax(1).tolist() == [0, 0, 0, 1, 1, 1]
    agree(model(x, bipartite(matrix)), LightPropagation(3)(x, bipartite(matrix)))


def test_edges_between_clusters_are_used_at_the_first_hop_alone() -> None:
    matrix = torch.ones(1, 1)  # one user, one item, in different clusters
    x = UserItem(torch.tensor([[1.0, 0, 0, 0]]), torch.tensor([[0, 1.0, 0, 0]]))
    model = encoder(num_clusters=2, num_layers=2, hard=True)
    with torch.no_grad():
        model.assign.prototypes.copy_(torch.eye(2, D))
    agree(model(x, bipartite(matrix)), UserItem((x.user + x.item) / 3, (x.item + x.user) / 3))


def test_permuting_prototypes_changes_nothing() -> None:
    model, x, edges = encoder(num_layers=3), vectors(), bipartite(drawn())
    before = model(x, edges)
    with torch.no_grad():
        model.assign.prototypes.copy_(model.assign.prototypes[[2, 0, 1]])
    agree(model(x, edges), before)


def test_permuting_users_and_items_permutes_vectors() -> None:
    model, x = encoder(num_layers=3), vectors()
    user, item = torch.randperm(6, generator=torch.Generator().manual_seed(0)), torch.randperm(8)
    before = model(x, bipartite(drawn()))
    after = model(UserItem(x.user[user], x.item[item]), bipartite(drawn()[user][:, item]))
    agree(after, UserItem(before.user[user], before.item[item]))


def test_vectors_alone_reach_the_prototypes() -> None:
    model = encoder(num_layers=2)
    out = model(vectors(), bipartite(drawn()))
    (out.user @ out.item.T).square().sum().backward()
    assert model.assign.prototypes.grad is not None
    assert bool(model.assign.prototypes.grad.any())


def test_as_many_hops_as_layers_give_the_vectors_of_the_whole_graph() -> None:
    chain = torch.eye(9) + torch.diag(torch.ones(8), 1)  # user u has items u and u + 1: distances along a line
    x, model = vectors(9, 9), encoder(num_layers=3)
    whole = bipartite(chain)
    users, items = chain.nonzero().T
    for hops, is_enough in ((3, True), (2, False)):
        near = {"user": {4}, "item": set()}
        reached, kept = {"user": {4}, "item": set()}, {"user": set(), "item": set()}
        for _ in range(hops):  # edges into what was reached, as a sampler draws them
            new = {"user": set(), "item": set()}
            for e, (u, i) in enumerate(zip(users.tolist(), items.tolist(), strict=True)):
                if u in near["user"]:
                    kept["user"].add(e)
                    new["item"].add(i)
                if i in near["item"]:
                    kept["item"].add(e)
                    new["user"].add(u)
            near = {kind: new[kind] - reached[kind] for kind in new}
            reached = {kind: reached[kind] | new[kind] for kind in new}
        relations = [
            Relation(relation.edge_index[:, sorted(kept[kind])], relation.weight[sorted(kept[kind])])
            for kind, relation in (("user", whole.to_user), ("item", whole.to_item))
            if relation.weight is not None
        ]
        seed = model(x, Bipartite(*relations, whole.degree)).user[4]
        assert torch.allclose(seed, model(x, whole).user[4], atol=1e-6) is is_enough
