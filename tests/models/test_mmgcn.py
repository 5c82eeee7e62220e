import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.mmgcn import MMGCN, MMGCNConfig
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.testing import I, U, checkerboard, permuted, score_all, toy_graph, train, with_mask


def complete(num_modalities: int = 2) -> Dataset:
    """The checkerboard with one to three complete modalities of different widths."""
    dataset, _ = checkerboard(U, I)
    generator = torch.Generator().manual_seed(0)
    tables = {n: FeatureTable(n, torch.randn(I, d, generator=generator)) for n, d in (("image", 6), ("text", 4), ("audio", 9))}
    return replace(dataset, features=dict(list(tables.items())[:num_modalities]))


def build(dataset: Dataset, **settings) -> tuple[MMGCN, MultimodalGraph]:
    torch.manual_seed(0)
    graph = toy_graph(dataset)
    return MMGCN(graph.schema, MMGCNConfig(**{"dim": 8, "modality_dim": 5, **settings})), graph


def batch() -> Batch[UserQuery]:
    generator = torch.Generator().manual_seed(0)
    user, positive = torch.randint(U, (9,), generator=generator), torch.randint(I, (9,), generator=generator)
    return Batch(UserQuery(user), positive, torch.randint(I, (9, 2), generator=generator))


def outputs(model: MMGCN, graph: MultimodalGraph) -> list[tuple[Tensor, Tensor]]:
    """Capture the output of every branch with hooks."""
    captured: list[tuple[Tensor, Tensor]] = []
    hooks = [branch.register_forward_hook(lambda _, __, out: captured.append(out)) for branch in model.branches]
    with torch.no_grad():
        model.encode(graph)
    for hook in hooks:
        hook.remove()
    return captured


# Invariants; those of a single branch are in tests/nn


@pytest.mark.parametrize("num_modalities", [1, 2, 3])
def test_shapes_with_one_to_three_modalities_of_different_widths(num_modalities: int) -> None:
    model, graph = build(complete(num_modalities))
    assert [[tuple(x.shape) for x in pair] for pair in outputs(model, graph)] == [[(U, 8), (I, 8)]] * num_modalities
    encoded = model.encode(graph)
    assert (tuple(encoded["user"].shape), tuple(encoded["item"].shape)) == ((U, 8), (I, 8))
    assert tuple(score_all(model, graph).shape) == (U, I)


def test_ids_and_preferences_are_trained() -> None:
    model, graph = build(complete(3))
    tables = {"users", "items", *(f"branches.{m}.preference" for m in range(3))}
    parameters = dict(model.named_parameters())
    assert tables <= set(parameters)
    torch.stack(list(model.loss(graph, batch()).values())).sum().backward()
    assert all(bool(p.grad.any()) for p in parameters.values())


def test_combine_and_num_layers_take_effect() -> None:
    for combine, width in (("add", 5), ("concat", 13)):
        model, _ = build(complete(1), combine=combine, num_layers=3)
        assert tuple(model.branches[0].layers[0].mix.weight.shape) == (8, width)
        assert len(model.branches[0].layers) == 3


def test_branches_are_independent_of_features_of_other_modalities() -> None:
    dataset = complete()
    model, graph = build(dataset)
    other = replace(dataset, features={**dataset.features, "text": FeatureTable("text", torch.randn(I, 4))})
    (image, text), (same_image, other_text) = outputs(model, graph), outputs(model, toy_graph(other))
    assert torch.equal(image[0], same_image[0])
    assert torch.equal(image[1], same_image[1])
    assert not torch.equal(text[0], other_text[0])


def test_id_gradient_is_the_sum_over_branches() -> None:
    model, graph = build(complete(3))
    weight = torch.randn(U, 8)

    def gradient(only: int | None) -> Tensor:
        hooks = [
            branch.register_forward_hook(lambda _, __, out: type(out)(*(x * 0 for x in out)))
            for m, branch in enumerate(model.branches)
            if only not in (None, m)
        ]
        (grad,) = torch.autograd.grad((model.encode(graph)["user"] * weight).sum(), [model.users])
        for hook in hooks:
            hook.remove()
        return grad

    torch.testing.assert_close(gradient(0) + gradient(1) + gradient(2), gradient(None))


def test_permuting_permutes_scores() -> None:
    dataset, generator = complete(), torch.Generator().manual_seed(2)
    user, item = torch.randperm(U, generator=generator), torch.randperm(I, generator=generator)
    model, graph = build(dataset)
    other, other_graph = build(permuted(dataset, user, item))
    with torch.no_grad():
        other.users[user], other.items[item] = model.users, model.items
        for branch, other_branch in zip(model.branches, other.branches, strict=True):
            other_branch.preference[user] = branch.preference
    torch.testing.assert_close(score_all(other, other_graph)[user][:, item], score_all(model, graph))


def test_single_modality_is_the_output_of_its_branch() -> None:
    model, graph = build(complete(1))
    ((users, items),) = outputs(model, graph)
    encoded = model.encode(graph)
    torch.testing.assert_close(encoded["user"], users)
    torch.testing.assert_close(encoded["item"], items)


@pytest.mark.parametrize("num_modalities", [1, 2, 3])
def test_mean_fusion_scores_are_sum_fusion_scores_over_m_squared(num_modalities: int) -> None:
    dataset = with_mask(complete(num_modalities), "image", torch.tensor([1, 2]))
    (mean, graph), (total, _) = build(dataset), build(dataset, fusion="sum")
    torch.testing.assert_close(score_all(mean, graph), score_all(total, graph) / num_modalities**2)


def test_equal_scores_cost_ln_2_and_a_toy_graph_is_overfitted() -> None:
    dataset = complete()
    model, graph = build(dataset, l2=0.0)
    with torch.no_grad():
        model.items.zero_()
        for branch in model.branches:
            for layer in branch.layers:
                layer.mix.weight.zero_()
                layer.own.weight.zero_()
    assert float(model.loss(graph, batch())["bpr"].detach()) == pytest.approx(math.log(2))
    model, graph = build(dataset, l2=0.0)
    losses = train(model, graph, dataset.interactions, epochs=60)
    assert losses[-1] < losses[0] / 4


# The rest


def test_missing_modality_is_left_out_of_the_fusion() -> None:
    dataset = with_mask(with_mask(complete(), "image", torch.tensor([2, 5])), "text", torch.tensor([5]))
    model, graph = build(dataset)
    image, text = outputs(model, graph)
    items = model.encode(graph)["item"]
    torch.testing.assert_close(items[2], text[1][2])
    torch.testing.assert_close(items[5], (image[1][5] + text[1][5]) / 2)  # without any modality, the mean of all branches
    torch.testing.assert_close(items[7], (image[1][7] + text[1][7]) / 2)


def test_loss_is_bpr_on_scores_and_the_mean_square_of_the_tables() -> None:
    model, graph = build(complete(), l2=0.3)
    triples = batch()
    terms = {name: float(term.detach()) for name, term in model.loss(graph, triples).items()}
    scores, user = score_all(model, graph), triples.query.user
    slow = [
        math.log(1 + math.exp(float(scores[u, n] - scores[u, p])))
        for u, p, row in zip(user, triples.positive, triples.negative, strict=True)
        for n in row
    ]
    assert terms["bpr"] == pytest.approx(sum(slow) / len(slow), rel=1e-5)
    tables = [model.users[user], model.items[triples.candidates], *(branch.preference[user] for branch in model.branches)]
    tables = [table.detach() for table in tables]
    assert terms["l2"] == pytest.approx(0.3 * sum(float((t * t).mean()) for t in tables), rel=1e-5)
    assert set(build(complete(), l2=0.0)[0].loss(graph, triples)) == {"bpr"}


def test_missing_features_raise_an_error_with_a_remedy() -> None:
    with pytest.raises(ValueError, match="MMGCN needs at least one modality of the items"):
        build(replace(complete(), features={}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_layers": 0}, "num_layers must be greater than 0"),
        ({"aggr": "sum"}, "aggr must be one of 'mean', 'max'"),
        ({"combine": "False"}, "combine must be one of 'add', 'concat'"),
        ({"fusion": "concat"}, "fusion must be one of 'mean', 'sum'"),
        ({"l2": -1.0}, "l2 must be 0 or more"),
    ],
    ids=str,
)
def test_invalid_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        MMGCNConfig(**settings)
