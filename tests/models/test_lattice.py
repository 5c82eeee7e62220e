import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.data.split import Split
from gmmrec.graph.latent import LATENT, initial, learned
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.graph.sampling import sample_subgraph
from gmmrec.models.lattice import LATTICE, LATTICEConfig
from gmmrec.nn.conv.learned_graph import LearnedItemGraph
from gmmrec.tasks.collaborative import CollaborativeTask
from gmmrec.tasks.inputs import TaskInputs
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.testing import I, U, checkerboard, permuted, score_all, toy_graph, with_mask
from gmmrec.training.trainer import TrainConfig, Trainer
from gmmrec.typing import USER_ITEM


def complete() -> Dataset:
    """The checkerboard with two complete modalities of different widths."""
    dataset, _ = checkerboard(U, I)
    generator = torch.Generator().manual_seed(0)
    tables = [FeatureTable(n, torch.randn(I, d, generator=generator)) for n, d in (("image", 6), ("text", 4))]
    return replace(dataset, features={table.name: table for table in tables})


def build(dataset: Dataset, **settings) -> tuple[LATTICE, MultimodalGraph]:
    torch.manual_seed(0)
    graph = toy_graph(dataset)
    model = LATTICE(graph.schema, LATTICEConfig(**{"dim": 8, "modality_dim": 5, "knn": 4, **settings}))
    with torch.no_grad():
        return model, model.prepare(graph)


def batch() -> Batch[UserQuery]:
    generator = torch.Generator().manual_seed(0)
    user, positive = torch.randint(U, (9,), generator=generator), torch.randint(I, (9,), generator=generator)
    return Batch(UserQuery(user), positive, torch.randint(I, (9, 2), generator=generator))


def perturb(model: LATTICE) -> None:
    """As if it had been trained."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))


def matrix(graph: MultimodalGraph, edge_type) -> Tensor:
    """Edges as a float64 matrix ``[target, source]``; ones where they have no weight."""
    edge_index, weight = graph.edges(edge_type)
    source, target = edge_index.as_tensor()
    dense = torch.zeros(I, I, dtype=torch.float64)
    dense[target, source] = 1.0 if weight is None else weight.double()
    return dense


def top_k(vectors: Tensor, k: int, present: Tensor) -> Tensor:
    """Slow k-NN by cosine, self included, weights kept where they are greater than 0: ``[target, source]``."""
    unit = vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-12)
    cosine = unit @ unit.t()
    dense, rows = torch.zeros_like(cosine), present.nonzero().flatten().tolist()
    for i in rows:
        order = sorted(rows, key=lambda j: (j != i, -float(cosine[i, j])))[:k]
        dense[i, order] = cosine[i, order].clamp(min=0)
    return dense


def normalised(dense: Tensor) -> Tensor:
    """``D^-1/2 S D^-1/2`` with row sums at both ends."""
    root = dense.sum(1).rsqrt()
    return root[:, None] * dense * root


def slow_item_graph(model: LATTICE, dataset: Dataset, lam: float) -> Tensor:
    """The mixture of section 3 on dense matrices; every item has every modality."""
    a = torch.softmax(model.latent.modality_logits.detach().double(), 0)
    frozen, mined = torch.zeros(I, I, dtype=torch.float64), torch.zeros(I, I, dtype=torch.float64)
    for m, table in enumerate(dataset.features.values()):
        frozen += a[m] * normalised(top_k(table.values.double(), 4, table.present))
        if lam < 1:
            project = model.latent.mine[m].project
            vectors = table.values.double() @ project.weight.detach().double().t() + project.bias.detach().double()
            mined += a[m] * top_k(vectors, 4, table.present)
    return lam * frozen + ((1 - lam) * normalised(mined) if lam < 1 else 0)


def encoded(model: LATTICE, graph: MultimodalGraph) -> dict[str, Tensor]:
    with torch.no_grad():
        return model.eval().encode(graph)


# Invariants; those of single layers are in tests/nn


def test_every_row_has_k_entries_with_itself_at_one_before_normalisation() -> None:
    _, graph = build(complete())
    for name in ("image", "text"):
        pairs = matrix(graph, learned(name))
        assert bool((pairs.sum(1) == 4).all())
        assert bool((pairs.diagonal() == 1).all())
    dataset = complete()
    for name, table in dataset.features.items():
        raw = top_k(table.values.double(), 4, table.present)
        torch.testing.assert_close(raw.diagonal(), torch.ones(I, dtype=torch.float64))
        torch.testing.assert_close(matrix(graph, initial(name)), normalised(raw), rtol=1e-5, atol=1e-6)


def test_modality_weights_are_positive_sum_to_one_and_begin_equal() -> None:
    model, graph = build(complete())
    torch.testing.assert_close(model.latent._shares(graph), torch.full((I, 2), 0.5))
    perturb(model)
    shares = model.latent._shares(graph)
    assert bool((shares > 0).all())
    torch.testing.assert_close(shares.sum(1), torch.ones(I))
    torch.testing.assert_close(shares, model.latent.modality_logits.softmax(0).expand(I, 2))


def test_without_a_learned_part_there_is_no_projection() -> None:
    dataset = complete()
    model, graph = build(dataset, lam=1.0)
    assert {name for name, _ in model.named_parameters()} == {"users", "items", "latent.modality_logits"}
    assert learned("image") not in graph.schema.relations
    torch.testing.assert_close(matrix(graph, LATENT), slow_item_graph(model, dataset, 1.0), rtol=1e-5, atol=1e-6)


def test_with_the_learned_part_alone_the_initial_graph_has_no_say() -> None:
    model, graph = build(complete(), lam=0.0)
    edge_index, weight = graph.edges(initial("image"))
    changed = graph.with_edges(initial("image"), edge_index.as_tensor().clone(), 7 * weight)
    changed.data.latent_mixed_with = None  # to be mined anew
    assert torch.equal(matrix(model.begin_epoch(changed, torch.Generator()), LATENT), matrix(graph, LATENT))


def test_what_items_have_beyond_the_backbone_has_length_one() -> None:
    model, graph = build(complete(), num_layers=0)  # then the backbone is the embedding itself
    torch.testing.assert_close((encoded(model, graph)["item"] - model.items.detach()).norm(dim=1), torch.ones(I))
    model, graph = build(complete())
    backbone = model.propagate(type(graph.bipartite.degree)(model.users, model.items), graph.bipartite).item.detach()
    torch.testing.assert_close((encoded(model, graph)["item"] - backbone).norm(dim=1), torch.ones(I))


def test_the_projections_have_a_gradient_in_the_first_step_of_an_epoch_alone() -> None:
    model, graph = build(complete())
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    names = ["latent.modality_logits", *(f"latent.mine.{m}.project.{part}" for m in range(2) for part in ("weight", "bias"))]
    for _ in range(2):
        epoch_graph = model.begin_epoch(graph, torch.Generator())
        for step in range(3):
            optimizer.zero_grad(set_to_none=True)
            torch.stack(list(model.loss(epoch_graph, batch()).values())).sum().backward()
            parameters = dict(model.named_parameters())
            for name in names:
                gradient = parameters[name].grad
                assert bool(gradient.any()) if step == 0 else gradient is None
            assert bool(parameters["items"].grad.any())
            optimizer.step()


@pytest.mark.parametrize("modality", ["image", "text"])
def test_a_modality_that_no_item_has_is_as_if_it_were_not_there(modality: str) -> None:
    dataset = complete()
    other = {"image": "text", "text": "image"}[modality]
    alone, alone_graph = build(replace(dataset, features={modality: dataset.features[modality]}))
    model, graph = build(with_mask(dataset, other, torch.arange(I)))
    with torch.no_grad():
        position = model.latent.modalities.index(modality)
        model.users.copy_(alone.users)
        model.items.copy_(alone.items)
        model.latent.mine[position].load_state_dict(alone.latent.mine[0].state_dict())
        model.latent.modality_logits.copy_(torch.tensor([0.3, -2.0]))
    torch.testing.assert_close(score_all(model.eval(), graph), score_all(alone.eval(), alone_graph))
    assert alone.latent._shares(alone_graph).unique().tolist() == [1.0]


@pytest.mark.parametrize("lam", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("item_layers", [0, 1, 2])
def test_vectors_equal_the_dense_formula(lam: float, item_layers: int) -> None:
    dataset = complete()
    model, graph = build(dataset, lam=lam, item_layers=item_layers)
    perturb(model)
    adjacency = torch.eye(U + I, dtype=torch.float64)
    user, item = graph.edges(USER_ITEM).edge_index.as_tensor()
    adjacency[user, U + item] = adjacency[U + item, user] = 1
    step = adjacency / adjacency.sum(1, keepdim=True)
    start = torch.cat([model.users, model.items]).detach().double()
    mean = (start + step @ start + step @ step @ start) / 3
    smoothed = torch.linalg.matrix_power(slow_item_graph(model, dataset, lam), item_layers) @ start[U:]
    found = encoded(model, graph)
    torch.testing.assert_close(found["user"].double(), mean[:U], rtol=1e-5, atol=1e-5)
    expected = mean[U:] + smoothed / smoothed.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found["item"].double(), expected, rtol=1e-5, atol=1e-5)


def test_permuting_permutes_scores() -> None:
    dataset, generator = complete(), torch.Generator().manual_seed(2)
    user, item = torch.randperm(U, generator=generator), torch.randperm(I, generator=generator)
    model, graph = build(dataset)
    other, other_graph = build(permuted(dataset, user, item))
    with torch.no_grad():
        other.users[user], other.items[item] = model.users, model.items
    torch.testing.assert_close(score_all(other.eval(), other_graph)[user][:, item], score_all(model.eval(), graph))


# When the graph is mined


def test_a_step_with_gradients_sees_the_same_graph_as_one_without() -> None:
    model, graph = build(complete())
    model.train()
    with torch.no_grad():
        first = model.encode(graph)
        model.latent.modality_logits.add_(1e-30)
        model.latent.mine[0].project.bias[0] += 1.0  # now the graph is that of other weights, and stays
        later = model.encode(graph)
    torch.testing.assert_close(first, later)
    assert not torch.allclose(encoded(model, graph)["item"], later["item"])


def test_the_gradient_is_that_of_the_dense_formula() -> None:
    dataset = complete()
    model, graph = build(dataset, lam=0.5)
    model.train()
    upstream = torch.randn(I, 8)
    project, a = model.latent.mine[0].project, model.latent.modality_logits.softmax(0)
    loss = (model.encode(graph)["item"] * upstream).sum()
    ours = torch.autograd.grad(loss, [project.weight, model.latent.modality_logits])
    frozen, mined = torch.zeros(I, I), torch.zeros(I, I)
    for m, (name, table) in enumerate(dataset.features.items()):
        unit = torch.nn.functional.normalize(model.latent.mine[m].project(table.values), dim=1)
        mined = mined + a[m] * matrix(graph, learned(name)).float() * (unit @ unit.t()).clamp(min=0)
        frozen = frozen + a[m] * matrix(graph, initial(name)).float()
    smoothed = (0.5 * frozen + 0.5 * normalised(mined)) @ model.items
    expected = (smoothed / smoothed.norm(dim=1, keepdim=True) * upstream).sum()
    for mine, right in zip(ours, torch.autograd.grad(expected, [project.weight, model.latent.modality_logits]), strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-3, atol=1e-5)


def test_in_evaluation_the_graph_is_that_of_the_weights_and_searched_once(monkeypatch) -> None:
    model, graph = build(complete())
    perturb(model)
    searches = []
    search = LearnedItemGraph.search
    monkeypatch.setattr(LearnedItemGraph, "search", lambda self, *tables: searches.append(1) or search(self, *tables))
    first = encoded(model, graph)
    assert torch.equal(encoded(model, graph)["item"], first["item"])
    assert model.begin_epoch(graph, torch.Generator()).data.latent_mixed_with is not None
    assert len(searches) == 2  # once for either modality
    rebuilt, other_graph = build(complete())
    rebuilt.load_state_dict(model.state_dict())
    assert torch.equal(encoded(rebuilt, other_graph)["item"], first["item"])
    assert len(searches) == 2 + 4  # a graph of its own: prepared with the initial weights, then with the loaded ones
    perturb(model)
    assert not torch.allclose(encoded(model, graph)["item"], first["item"])


def test_a_subgraph_of_the_epoch_learns_as_the_whole_graph_does() -> None:
    model, graph = build(complete())
    perturb(model)
    model.train()
    graph = model.begin_epoch(graph, torch.Generator())
    triples = batch()
    seeds = {"user": triples.query.user, "item": triples.candidates.flatten()}
    part, positions = sample_subgraph(graph, seeds, [-1] * 4, torch.Generator().manual_seed(0))
    items = positions["item"].view(9, 3)
    inside = Batch(UserQuery(positions["user"]), items[:, 0], items[:, 1:])
    gradients = []
    for seen, asked in ((graph, triples), (part, inside)):
        terms = model.loss(seen, asked)
        gradients.append(torch.autograd.grad(terms["bpr"] + terms["l2"], list(model.parameters())))
    for whole, sampled in zip(*gradients, strict=True):
        torch.testing.assert_close(sampled, whole, rtol=1e-4, atol=1e-6)


def test_a_run_that_is_resumed_ends_where_one_in_one_go_does(tmp_path) -> None:
    dataset = complete()
    nothing = dataset.interactions.take(torch.arange(0))
    task = CollaborativeTask(TaskInputs(Split(dataset.interactions, nothing, nothing), U, I))
    ends = []
    for name, stops in (("once", (4,)), ("twice", (2, 4))):
        for number, epochs in enumerate(stops):
            model, graph = build(dataset)
            trainer = Trainer(TrainConfig(epochs=epochs, lr=0.05, accelerator="cpu", progress=False))
            generator = torch.Generator().manual_seed(0)
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            trainer.fit(model, graph, task.batches, None, generator=generator, run_dir=folder, resume=number > 0)
        ends.append(score_all(model, graph))
    assert torch.equal(*ends)


# Missing modalities, loss, settings


def test_items_that_lack_a_modality_rely_on_the_others() -> None:
    dataset = with_mask(with_mask(complete(), "image", torch.tensor([2, 5])), "text", torch.tensor([5, 7]))
    _, graph = build(dataset, lam=1.0)
    tables = dataset.features.values()
    image, text = (top_k(t.values.double(), 4, t.present) for t in tables)
    image[5, 5] = text[5, 5] = 1
    root = [dense.sum(1).clamp(min=1e-12).rsqrt() for dense in (image, text)]
    image, text = (r[:, None] * dense * r for r, dense in zip(root, (image, text), strict=True))
    expected = (image + text) / 2
    expected[2], expected[7] = text[2], image[7]
    expected[5] = torch.eye(I, dtype=torch.float64)[5]  # no modality at all: its own only neighbour
    torch.testing.assert_close(matrix(graph, LATENT), expected, rtol=1e-5, atol=1e-6)
    assert matrix(build(dataset, lam=0.0)[1], LATENT)[5].tolist() == pytest.approx(expected[5].tolist(), abs=1e-6)


def test_the_loss_is_bpr_and_the_l2_norm_of_final_vectors() -> None:
    model, graph = build(complete(), l2=0.5)
    triples = batch()
    terms = {name: float(term.detach()) for name, term in model.loss(graph, triples).items()}
    vectors = encoded(model, graph)
    users, items = vectors["user"][triples.query.user], vectors["item"][triples.candidates]
    slow = [math.log(1 + math.exp(float(u @ (row[k] - row[0])))) for u, row in zip(users, items, strict=True) for k in (1, 2)]
    assert terms["bpr"] == pytest.approx(sum(slow) / len(slow), rel=1e-5)
    assert terms["l2"] == pytest.approx(0.5 * float(users.square().sum() + items.square().sum()) / (2 * 9), rel=1e-5)
    assert set(build(complete(), l2=0.0)[0].loss(graph, triples)) == {"bpr"}


def test_without_features_the_remedy_is_named() -> None:
    with pytest.raises(ValueError, match="needs at least one modality of the items"):
        build(replace(complete(), features={}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"knn": 0}, "knn must be greater than 0"),
        ({"lam": 1.5}, "lam must lie between 0 and 1"),
        ({"item_layers": -1}, "item_layers must be 0 or more"),
        ({"knn_backend": "magic"}, "knn_backend must be one of"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        LATTICEConfig(**settings)
