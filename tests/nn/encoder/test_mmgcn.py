import pytest
import torch
from torch.nn import functional as F

from gmmrec.nn.encoder.mmgcn import MMGCNEncoder
from gmmrec.nn.relations import Bipartite, Relation, UserItem

U, I, D = 7, 5, 4  # noqa: E741
TO_ITEM = torch.tensor([[0, 1, 1, 2, 3, 4, 5, 6, 6], [0, 0, 1, 2, 2, 3, 3, 3, 0]])  # item 4 has no user
EDGES = Bipartite(
    Relation(TO_ITEM.flip(0)),
    Relation(TO_ITEM),
    UserItem(torch.bincount(TO_ITEM[0], minlength=U).float(), torch.bincount(TO_ITEM[1], minlength=I).float()),
)


def draw(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def build(feature_dim=6, **settings):
    torch.manual_seed(0)
    return MMGCNEncoder(U, feature_dim, D, **settings).double()


def inputs(encoder, feature_dim=6, seed=0):
    present = torch.tensor([True, True, False, True, True])
    ids = UserItem(draw(U, D, seed=seed + 1), draw(I, D, seed=seed + 2))
    return encoder.preference, draw(I, feature_dim, seed=seed) * present[:, None], present, ids, EDGES


def slow(encoder, aggr, combine, args):
    """Equations 2 to 7, node by node, on one graph of users and items."""
    preference, features, present, ids, _ = args
    if isinstance(encoder.latent, torch.nn.Linear):
        features = features @ encoder.latent.weight.t() + encoder.latent.bias
    items = [row / row.norm() if there else torch.zeros_like(row) for row, there in zip(features, present, strict=True)]
    x = [row / row.norm() for row in preference] + items
    own_ids = torch.cat([ids.user, ids.item])
    around = [[U + i for u, i in TO_ITEM.t().tolist() if u == v] for v in range(U)]
    around += [[u for u, i in TO_ITEM.t().tolist() if i == v] for v in range(I)]
    for layer in encoder.layers:
        w1, w2, w3 = layer.conv.lin.weight, layer.own.weight, layer.mix.weight
        new = []
        for v, near in enumerate(around):
            said = torch.stack([w1 @ x[j] for j in near]) if near else torch.zeros(1, len(w1), dtype=torch.float64)
            h = F.leaky_relu(said.mean(0) if aggr == "mean" else said.amax(0))
            own = F.leaky_relu(w2 @ x[v]) + own_ids[v]
            new.append(F.leaky_relu(w3 @ h + own if combine == "add" else w3 @ torch.cat([h, own])))
        x = new
    x = torch.stack(x)
    return UserItem(x[:U], x[U:])


@pytest.mark.parametrize("modality_dim", [3, 9])  # projected, and as they are
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize(("aggr", "combine"), [("mean", "add"), ("mean", "concat"), ("max", "add")])
def test_equals_the_slow_equations(modality_dim, num_layers, aggr, combine):
    encoder = build(modality_dim=modality_dim, num_layers=num_layers, aggr=aggr, combine=combine)
    args = inputs(encoder)
    expected = slow(encoder, aggr, combine, args)
    out = encoder(*args)
    weights = [draw(U, D, seed=8), draw(I, D, seed=9)]
    for ours, theirs in zip(out, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    sums = [sum((w * x).sum() for w, x in zip(weights, pair, strict=True)) for pair in (out, expected)]
    for ours, theirs in zip(*(torch.autograd.grad(s, list(encoder.parameters())) for s in sums), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_shapes_and_widths_of_one_branch():
    encoder = build(modality_dim=3)
    assert encoder.preference.shape == (U, 3)
    assert [tuple(x.shape) for x in encoder(*inputs(encoder))] == [(U, D), (I, D)]
    assert build(modality_dim=6).preference.shape == (U, 6)  # no wider than it: as they are
    assert isinstance(build(modality_dim=6).latent, torch.nn.Identity)


def test_concatenation_widens_the_mixing_matrix_by_the_ids():
    for combine, extra in (("add", 0), ("concat", D)):
        first, second = build(modality_dim=6, combine=combine).layers
        assert tuple(first.conv.lin.weight.shape) == (6, 6)
        assert tuple(first.mix.weight.shape) == (D, 6 + extra)
        assert tuple(second.mix.weight.shape) == (D, D + extra)


@pytest.mark.parametrize("num_layers", [1, 2, 4])
def test_as_many_layers_run_as_are_asked_for(num_layers):
    encoder, ran = build(num_layers=num_layers), []
    for layer in encoder.layers:
        layer.register_forward_hook(lambda *_: ran.append(1))
    encoder(*inputs(encoder))
    assert len(ran) == num_layers


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("combine", ["add", "concat"])
def test_some_users_are_rows_of_all_with_the_same_gradients(num_layers, combine):
    encoder = build(num_layers=num_layers, combine=combine)
    args, users = inputs(encoder), torch.tensor([5, 0, 5, 3])
    whole, part = encoder(*args), encoder(*args, users)
    torch.testing.assert_close(part.user, whole.user[users])
    torch.testing.assert_close(part.item, whole.item)
    upstream = draw(4, D)
    for ours, theirs in zip(
        torch.autograd.grad((part.user * upstream).sum() + part.item.sum(), list(encoder.parameters())),
        torch.autograd.grad((whole.user[users] * upstream).sum() + whole.item.sum(), list(encoder.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_a_missing_feature_is_not_read():
    encoder = build(modality_dim=3)
    args = inputs(encoder)
    hidden = args[1].clone()
    hidden[2] = 1000.0
    for ours, theirs in zip(encoder(*args), encoder(args[0], hidden, *args[2:]), strict=True):
        assert torch.equal(ours, theirs)


def test_an_unknown_combination_is_refused():
    with pytest.raises(ValueError, match="combine must be 'add' or 'concat', but is 'False'"):
        build(combine="False")
