"""MGAT against a dense implementation of its equations, and its invariants."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.data.interactions import Interactions
from gmmrec.data.split import Split
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.graph.build import build_graph
from gmmrec.graph.sampling import sample_subgraph
from gmmrec.models.mgat import MGAT, MGATConfig
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.typing import USER_ITEM

U, I = 11, 8  # noqa: E741
SMALL = MGATConfig(dim=6, modality_dim=5, num_layers=2)


def dataset(num_users=U, num_items=I, *, modalities=("image", "text"), size=24, seed=0):
    """Random interactions; the last user and the last item have none. Item 2 lacks its image, item 3 both modalities."""
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.randperm((num_users - 1) * (num_items - 1), generator=generator)[:size]
    mask = {"image": torch.ones(num_items, dtype=torch.bool), "text": torch.ones(num_items, dtype=torch.bool)}
    mask["image"][2] = mask["image"][3] = mask["text"][3] = False
    dims = {"image": 7, "text": 4}
    return Dataset(
        "toy",
        {"user": Vocabulary(range(num_users), name="user"), "item": Vocabulary(range(num_items))},
        Interactions(pairs // (num_items - 1), pairs % (num_items - 1)),
        {name: FeatureTable(name, torch.randn(num_items, dims[name], generator=generator), mask[name]) for name in modalities},
    )


def graph_of(data):
    empty = data.interactions.take(torch.zeros(0, dtype=torch.long))
    return build_graph(data, Split(data.interactions, empty, empty))


def model_of(graph, config=SMALL, *, seed=0, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MGAT(graph.schema, replace(config, **settings))


def batch_of(data, *, seed=0):
    negative = torch.randint(data.num_items, (len(data.interactions), 2), generator=torch.Generator().manual_seed(seed))
    return Batch(UserQuery(data.interactions.user), data.interactions.item, negative)


def all_pairs(graph):
    return torch.arange(graph.num_nodes("user")), torch.arange(graph.num_nodes("item"))


def dense_branches(model, graph):
    """Evaluate the paper's equations on one matrix of all nodes, users first, in float64; one matrix per modality."""
    num_users, num_items = graph.num_nodes("user"), graph.num_nodes("item")
    parameters = {name: value.detach().double() for name, value in model.named_parameters()}
    user, item = graph.edges(USER_ITEM).edge_index.as_tensor()
    adjacency = torch.zeros(num_users + num_items, num_users + num_items, dtype=torch.float64)
    adjacency[user, num_users + item] = adjacency[num_users + item, user] = 1.0
    degree = adjacency.sum(0)
    ids = torch.cat([parameters["users"], parameters["items"]])
    results = []
    for m, name in enumerate(graph.schema.modalities()):
        p = {key.removeprefix(f"branches.{m}."): value for key, value in parameters.items()}
        table = graph.features[name]
        z = torch.tanh(table.values.double() @ p["latent.weight"].t() + p["latent.bias"])
        z[~table.mask] = 0
        x = torch.cat([p["preference"], z])
        x = x / x.norm(dim=1, keepdim=True).clamp(min=1e-12)
        layers = []
        for k in range(model.config.num_layers):
            y = x @ p[f"layers.{k}.conv.weight"]
            s = y @ F.leaky_relu(y).t()  # [target, source]
            g = torch.sigmoid(s / degree.clamp(min=1).sqrt()) if model.config.gate == "inner_product" else 1.0
            a = (s * g).masked_fill(adjacency == 0, -torch.inf).softmax(1).nan_to_num(0.0)
            h = a @ y + p[f"layers.{k}.conv.bias"]
            h = F.leaky_relu(h / h.norm(dim=1, keepdim=True))
            state = F.leaky_relu(x @ p[f"layers.{k}.own.weight"].t() + p[f"layers.{k}.own.bias"]) + ids
            x = F.leaky_relu(h @ p[f"layers.{k}.neighbours.weight"].t() + p[f"layers.{k}.neighbours.bias"] + state)
            layers.append(x)
        results.append(torch.cat(layers, 1) if model.config.combine == "concat" else x)
    return results


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("combine", ["concat", "last"])
@pytest.mark.parametrize("gate", ["inner_product", "none"])
def test_matches_the_dense_reference(num_layers, combine, gate):
    graph = graph_of(dataset())
    model = model_of(graph, num_layers=num_layers, combine=combine, gate=gate)
    image, text = dense_branches(model, graph)
    expected = (image + text) / 2
    expected[U + 2] = text[U + 2]  # item 2 has no image
    encoded = model.encode(graph)
    assert torch.allclose(encoded["user"].double(), expected[:U], atol=1e-5)
    assert torch.allclose(encoded["item"].double(), expected[U:], atol=1e-5)


@pytest.mark.parametrize(("num_layers", "combine", "width"), [(1, "concat", 64), (3, "concat", 192), (3, "last", 64)])
def test_shapes(num_layers, combine, width):
    graph = graph_of(dataset())
    model = model_of(graph, MGATConfig(), num_layers=num_layers, combine=combine)
    encoded = model.encode(graph)
    assert {name: tuple(x.shape) for name, x in encoded.items()} == {"user": (U, width), "item": (I, width)}
    users, items = all_pairs(graph)
    assert model.score(encoded, UserQuery(users), items).shape == (U, I)
    assert model.score(encoded, UserQuery(users), items.expand(U, I)).shape == (U, I)


def test_scores_are_equivariant_to_node_relabelling():
    data = dataset()
    graph = graph_of(data)
    generator = torch.Generator().manual_seed(1)
    new_user, new_item = torch.randperm(U, generator=generator), torch.randperm(I, generator=generator)  # old row -> new row
    old_user, old_item = new_user.argsort(), new_item.argsort()
    order = torch.randperm(len(data.interactions), generator=generator)
    log = Interactions(new_user[data.interactions.user][order], new_item[data.interactions.item][order])
    features = {n: FeatureTable(n, t.values[old_item], t.mask[old_item]) for n, t in data.features.items()}
    renamed = graph_of(replace(data, interactions=log, features=features))
    model, twin = model_of(graph), model_of(graph)
    with torch.no_grad():
        for name, table in twin.named_parameters():
            if name in ("users", "items") or name.endswith("preference"):
                table.copy_(table[old_item if name == "items" else old_user])
    before, after = model.encode(graph), twin.encode(renamed)
    assert torch.allclose(after["user"][new_user], before["user"], atol=1e-5)
    assert torch.allclose(after["item"][new_item], before["item"], atol=1e-5)


def test_branch_gradients_reach_shared_ids_and_own_preferences_only():
    graph = graph_of(dataset())
    model = model_of(graph, num_layers=1)
    for index, (name, share) in enumerate(model._shares(graph).items()):
        model.zero_grad()
        (share.user.sum() + share.item.square().sum()).backward(retain_graph=True)
        assert model.users.grad.abs().sum(1).min() > 0, name
        for other, branch in enumerate(model.branches):
            reached = branch.preference.grad is not None and bool(branch.preference.grad.any())
            assert reached == (other == index)


def test_mean_is_over_the_remaining_modalities():
    data = dataset()
    both, text_only = graph_of(data), graph_of(replace(data, features={"text": data.features["text"]}))
    model, smaller = model_of(both), model_of(text_only)
    weights = {k: v for k, v in model.state_dict().items() if not k.startswith("branches.0.")}
    smaller.load_state_dict({k.replace("branches.1.", "branches.0."): v for k, v in weights.items()})
    expected = dense_branches(model, both)[1]
    encoded = smaller.encode(text_only)
    assert torch.allclose(encoded["user"].double(), expected[:U], atol=1e-5)
    assert torch.allclose(encoded["item"].double(), expected[U:], atol=1e-5)


def test_loss_of_equal_scores():
    data = dataset()
    graph = graph_of(data)
    for base, expected in (("e", math.log(2)), ("2", 1.0)):
        model = model_of(graph, loss_base=base, l2=0.0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        terms = model.loss(graph, batch_of(data))
        assert set(terms) == {"bpr"}
        assert float(terms["bpr"].detach()) == pytest.approx(expected, abs=1e-6)


def test_loss_decreases_on_a_toy_graph():
    data = dataset(50, 80, size=400)
    graph = graph_of(data)
    model = model_of(graph, MGATConfig(dim=16, modality_dim=16))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for step in range(50):
        optimizer.zero_grad()
        terms = model.loss(graph, batch_of(data, seed=step))
        sum(terms.values()).backward()
        optimizer.step()
        losses.append(float(terms["bpr"].detach()))
    assert losses[0] == pytest.approx(math.log(2), abs=0.05)
    assert losses[-1] < 0.35


def test_l2_is_half_the_squared_l2_norm_of_all_parameters():
    data = dataset()
    graph = graph_of(data)
    model = model_of(graph, l2=0.01)
    expected = 0.005 * sum(float(p.detach().square().sum()) for p in model.parameters())
    assert float(model.loss(graph, batch_of(data))["l2"].detach()) == pytest.approx(expected, rel=1e-5)


def test_item_without_any_modality_is_the_mean_of_all_branches():
    graph = graph_of(dataset())
    model = model_of(graph)
    expected = sum(dense_branches(model, graph))[U + 3] / 2
    encoded = model.encode(graph)["item"][3]
    assert torch.allclose(encoded.double(), expected, atol=1e-5)
    (gradient,) = torch.autograd.grad(encoded.sum(), model.items)
    assert gradient[3].abs().min() > 0


def test_gradients_are_finite_and_reach_every_parameter():
    data = dataset()
    graph = graph_of(data)
    model = model_of(graph, l2=0.0)
    sum(model.loss(graph, batch_of(data)).values()).backward()
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_missing_values_are_not_read():
    data = dataset()
    graph = graph_of(data)
    poisoned = {}
    for name, table in data.features.items():
        values = table.values.clone()
        values[~table.mask] = 99.0
        poisoned[name] = FeatureTable(name, values, table.mask)
    other = graph_of(replace(data, features=poisoned))
    model = model_of(graph)
    assert torch.equal(model.encode(graph)["item"], model.encode(other)["item"])


def test_present_tokens_are_averaged():
    data = dataset(modalities=("text",))
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randn(I, 3, 4, generator=generator)
    mask = torch.rand(I, 3, generator=generator) < 0.6
    mask[0], mask[1] = True, False
    means = torch.stack([t[m].mean(0) if m.any() else torch.zeros(4) for t, m in zip(tokens, mask, strict=True)])
    with_tokens = graph_of(replace(data, features={"text": FeatureTable("text", tokens, mask)}))
    with_means = graph_of(replace(data, features={"text": FeatureTable("text", means, mask.any(1))}))
    model = model_of(with_tokens)
    assert torch.allclose(model.encode(with_tokens)["item"], model.encode(with_means)["item"], atol=1e-6)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_modality_scores_sum_to_the_score(num_layers):
    graph = graph_of(dataset())
    model = model_of(graph, num_layers=num_layers)
    users, items = all_pairs(graph)
    whole = model.score(model.encode(graph), UserQuery(users), items)
    shares = model.modality_scores(graph, users, items)
    assert set(shares) == {"image", "text"}
    assert torch.allclose(shares["image"] + shares["text"], whole, atol=1e-6)
    assert not shares["image"][:, 2].any()  # a missing image contributes nothing
    image = dense_branches(model, graph)[0][U:]
    user = model.encode(graph)["user"].double()
    assert torch.allclose(shares["image"][:, 5].double(), user @ image[5] / 2, atol=1e-5)
    each = model.modality_scores(graph, users[:2], torch.tensor([[4, 5, 6], [5, 2, 0]]))
    assert torch.allclose(each["text"][1], shares["text"][1, [5, 2, 0]], atol=1e-6)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_seed_vectors_in_a_subgraph_match_those_of_the_whole_graph(num_layers):
    graph = graph_of(dataset(60, 40, size=110))
    model = model_of(graph, num_layers=num_layers)
    seeds = {"user": torch.tensor([5, 3, 11, 59]), "item": torch.tensor([7, 2, 3, 39])}
    part, positions = sample_subgraph(graph, seeds, [-1] * num_layers, torch.Generator().manual_seed(0))
    assert part.num_nodes("user") < 60
    whole, encoded = model.encode(graph), model.encode(part)
    for node_type, rows in seeds.items():
        assert torch.allclose(encoded[node_type][positions[node_type]], whole[node_type][rows], atol=1e-6)


def test_missing_features_raise_an_error_with_a_remedy():
    with pytest.raises(ValueError, match="MGAT needs at least one modality of the items, but the data set has none; add"):
        MGAT(graph_of(dataset(modalities=())).schema)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"dim": 0}, "dim must be greater than 0, but is 0"),
        ({"modality_dim": -1}, "modality_dim must be greater"),
        ({"num_layers": 0}, "num_layers must be greater"),
        ({"l2": -1.0}, "l2 must be 0 or more"),
        ({"gate": "shut"}, "gate must be one of 'inner_product', 'none', but is 'shut'"),
        ({"combine": "sum"}, "combine must be one of"),
        ({"loss_base": "10"}, "loss_base must be one of"),
    ],
)
def test_invalid_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        MGATConfig(**setting)
