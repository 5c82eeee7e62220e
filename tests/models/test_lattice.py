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
    """Return the checkerboard with two complete modalities of different widths."""
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
    """Move all parameters, as training would."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))


def matrix(graph: MultimodalGraph, edge_type) -> Tensor:
    """Return edges as a float64 matrix ``[target, source]``, with ones for unweighted edges."""
    edge_index, weight = graph.edges(edge_type)
    source, target = edge_index.as_tensor()
    dense = torch.zeros(I, I, dtype=torch.float64)
    dense[target, source] = 1.0 if weight is None else weight.double()
    return dense


def top_k(vectors: Tensor, k: int, present: Tensor) -> Tensor:
    """Compute cosine k-NN slowly, self included, with similarities clipped at 0: ``[target, source]``."""
    unit = vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-12)
    cosine = unit @ unit.t()
    dense, rows = torch.zeros_like(cosine), present.nonzero().flatten().tolist()
    for i in rows:
        order = sorted(rows, key=lambda j: (j != i, -float(cosine[i, j])))[:k]
        dense[i, order] = cosine[i, order].clamp(min=0)
    return dense


def normalised(dense: Tensor) -> Tensor:
    """Return ``D^-1/2 S D^-1/2`` with row sums as degrees."""
    root = dense.sum(1).rsqrt()
    return root[:, None] * dense * root


def slow_item_graph(model: LATTICE, dataset: Dataset, lam: float) -> Tensor:
    """Compute the mixture of section 3 with dense matrices; all modalities are present."""
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


def test_rows_have_k_entries_with_the_diagonal_1_before_normalisation() -> None:
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


def test_modality_weights_are_a_softmax_and_start_uniform() -> None:
    model, graph = build(complete())
    torch.testing.assert_close(model.latent._shares(graph), torch.full((I, 2), 0.5))
    perturb(model)
    shares = model.latent._shares(graph)
    assert bool((shares > 0).all())
    torch.testing.assert_close(shares.sum(1), torch.ones(I))
    torch.testing.assert_close(shares, model.latent.modality_logits.softmax(0).expand(I, 2))


def test_lam_1_has_no_projections() -> None:
    dataset = complete()
    model, graph = build(dataset, lam=1.0)
    assert {name for name, _ in model.named_parameters()} == {"users", "items", "latent.modality_logits"}
    assert learned("image") not in graph.schema.relations
    torch.testing.assert_close(matrix(graph, LATENT), slow_item_graph(model, dataset, 1.0), rtol=1e-5, atol=1e-6)


def test_lam_0_ignores_the_initial_graph() -> None:
    model, graph = build(complete(), lam=0.0)
    edge_index, weight = graph.edges(initial("image"))
    changed = graph.with_edges(initial("image"), edge_index.as_tensor().clone(), 7 * weight)
    changed.data.latent_mixed_with = None  # forces mining
    assert torch.equal(matrix(model.begin_epoch(changed, torch.Generator()), LATENT), matrix(graph, LATENT))


def test_smoothed_item_vectors_have_unit_length() -> None:
    model, graph = build(complete(), num_layers=0)  # so that the backbone is the ID embedding
    torch.testing.assert_close((encoded(model, graph)["item"] - model.items.detach()).norm(dim=1), torch.ones(I))
    model, graph = build(complete())
    backbone = model.propagate(type(graph.bipartite.degree)(model.users, model.items), graph.bipartite).item.detach()
    torch.testing.assert_close((encoded(model, graph)["item"] - backbone).norm(dim=1), torch.ones(I))


def test_projections_have_gradients_in_the_first_step_of_an_epoch_only() -> None:
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
def test_modality_missing_everywhere_has_no_effect(modality: str) -> None:
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


def test_permutation_permutes_scores() -> None:
    dataset, generator = complete(), torch.Generator().manual_seed(2)
    user, item = torch.randperm(U, generator=generator), torch.randperm(I, generator=generator)
    model, graph = build(dataset)
    other, other_graph = build(permuted(dataset, user, item))
    with torch.no_grad():
        other.users[user], other.items[item] = model.users, model.items
    torch.testing.assert_close(score_all(other.eval(), other_graph)[user][:, item], score_all(model.eval(), graph))


# Mining


def test_steps_with_and_without_gradients_use_the_same_graph() -> None:
    model, graph = build(complete())
    model.train()
    with torch.no_grad():
        first = model.encode(graph)
        model.latent.modality_logits.add_(1e-30)
        model.latent.mine[0].project.bias[0] += 1.0  # the weights have changed, the graph stays fixed
        later = model.encode(graph)
    torch.testing.assert_close(first, later)
    assert not torch.allclose(encoded(model, graph)["item"], later["item"])


def test_gradients_equal_the_dense_formula() -> None:
    dataset = complete()
    model, graph = build(dataset, lam=0.5)
    model.train()
    upstream = torch.randn(I, 8)
    project, a = model.latent.mine[0].project, model.latent.modality_logits.softmax(0)
    loss = (model.encode(graph)["item"] * upstream).sum()
    gradients = torch.autograd.grad(loss, [project.weight, model.latent.modality_logits])
    frozen, mined = torch.zeros(I, I), torch.zeros(I, I)
    for m, (name, table) in enumerate(dataset.features.items()):
        unit = torch.nn.functional.normalize(model.latent.mine[m].project(table.values), dim=1)
        mined = mined + a[m] * matrix(graph, learned(name)).float() * (unit @ unit.t()).clamp(min=0)
        frozen = frozen + a[m] * matrix(graph, initial(name)).float()
    smoothed = (0.5 * frozen + 0.5 * normalised(mined)) @ model.items
    expected = (smoothed / smoothed.norm(dim=1, keepdim=True) * upstream).sum()
    references = torch.autograd.grad(expected, [project.weight, model.latent.modality_logits])
    for gradient, reference in zip(gradients, references, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-3, atol=1e-5)


def test_evaluation_mines_the_graph_of_the_current_weights_once(monkeypatch) -> None:
    model, graph = build(complete())
    perturb(model)
    searches = []
    search = LearnedItemGraph.search
    monkeypatch.setattr(LearnedItemGraph, "search", lambda self, *tables: searches.append(1) or search(self, *tables))
    first = encoded(model, graph)
    assert torch.equal(encoded(model, graph)["item"], first["item"])
    assert model.begin_epoch(graph, torch.Generator()).data.latent_mixed_with is not None
    assert len(searches) == 2  # once per modality
    rebuilt, other_graph = build(complete())
    rebuilt.load_state_dict(model.state_dict())
    assert torch.equal(encoded(rebuilt, other_graph)["item"], first["item"])
    assert len(searches) == 2 + 4  # another graph: searched with the initial weights, then with the loaded ones
    perturb(model)
    assert not torch.allclose(encoded(model, graph)["item"], first["item"])


def test_gradients_on_a_subgraph_equal_the_whole_graph() -> None:
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
    for each_graph, each_batch in ((graph, triples), (part, inside)):
        terms = model.loss(each_graph, each_batch)
        gradients.append(torch.autograd.grad(terms["bpr"] + terms["l2"], list(model.parameters())))
    for whole, sampled in zip(*gradients, strict=True):
        torch.testing.assert_close(sampled, whole, rtol=1e-4, atol=1e-6)


def test_resumed_run_equals_uninterrupted_run(tmp_path) -> None:
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


def test_missing_modality_is_replaced_by_the_others() -> None:
    dataset = with_mask(with_mask(complete(), "image", torch.tensor([2, 5])), "text", torch.tensor([5, 7]))
    _, graph = build(dataset, lam=1.0)
    tables = dataset.features.values()
    image, text = (top_k(t.values.double(), 4, t.present) for t in tables)
    image[5, 5] = text[5, 5] = 1
    root = [dense.sum(1).clamp(min=1e-12).rsqrt() for dense in (image, text)]
    image, text = (r[:, None] * dense * r for r, dense in zip(root, (image, text), strict=True))
    expected = (image + text) / 2
    expected[2], expected[7] = text[2], image[7]
    expected[5] = torch.eye(I, dtype=torch.float64)[5]  # no features: its only neighbour is itself
    torch.testing.assert_close(matrix(graph, LATENT), expected, rtol=1e-5, atol=1e-6)
    assert matrix(build(dataset, lam=0.0)[1], LATENT)[5].tolist() == pytest.approx(expected[5].tolist(), abs=1e-6)


def test_loss_is_bpr_and_the_squared_l2_norm_of_final_vectors() -> None:
    model, graph = build(complete(), l2=0.5)
    triples = batch()
    terms = {name: float(term.detach()) for name, term in model.loss(graph, triples).items()}
    vectors = encoded(model, graph)
    users, items = vectors["user"][triples.query.user], vectors["item"][triples.candidates]
    slow = [math.log(1 + math.exp(float(u @ (row[k] - row[0])))) for u, row in zip(users, items, strict=True) for k in (1, 2)]
    assert terms["bpr"] == pytest.approx(sum(slow) / len(slow), rel=1e-5)
    assert terms["l2"] == pytest.approx(0.5 * float(users.square().sum() + items.square().sum()) / (2 * 9), rel=1e-5)
    assert set(build(complete(), l2=0.0)[0].loss(graph, triples)) == {"bpr"}


def test_missing_features_are_refused() -> None:
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
def test_invalid_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        LATTICEConfig(**settings)
