"""NOVA-BERT against a reference implementation; its attention is tested in ``tests/nn/sequence/test_non_invasive.py``."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.nova_bert import NOVABERT, NOVABERTConfig
from gmmrec.nn.attention import MultiHeadAttention
from gmmrec.tasks.query import Batch, HistoryQuery
from gmmrec.testing import I, U, checkerboard, score_all, toy_graph, with_mask

D = 8
ALL = torch.arange(I)
MASK = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]]).bool()
ITEMS = torch.tensor([[5, 3, 8, 2], [0, 0, 7, 3], [9, 9, 9, 11]])  # the image of item 3 is missing
QUERY = HistoryQuery(torch.arange(3), ITEMS, MASK)
POSITIVE = torch.tensor([14, 6, 13])
HIDDEN = torch.tensor([[0, 0, 1, 0, 1], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]).bool()
BATCH = Batch(QUERY, POSITIVE, torch.zeros(3, 1, dtype=torch.long))
FORMS = [
    {"fusor": "add"},
    {"fusor": "concat"},
    {"fusor": "gate"},
    {"fusor": "gate", "gate": "sigmoid"},
    {"fusor": "add", "invasive": True},
    {"fusor": "gate", "invasive": True},
]


def build(dataset: Dataset | None = None, **settings) -> tuple[NOVABERT, MultimodalGraph]:
    torch.manual_seed(0)
    graph = toy_graph(dataset)
    model = NOVABERT(graph.schema, NOVABERTConfig(**{"dim": D, "init_std": 0.5, **settings})).eval()
    torch.nn.init.normal_(model.bias)
    return model, graph


def with_features(change: Tensor | None = None) -> Dataset:
    """The checkerboard, with other images and texts for the items in ``change``."""
    dataset, _ = checkerboard(U, I)
    if change is None:
        return dataset
    features = {}
    for name, table in dataset.features.items():
        values = table.values.clone()
        values[change] = torch.rand(len(change), table.dim, generator=torch.Generator().manual_seed(7)) - 0.5
        features[name] = FeatureTable(name, values, table.mask)
    return replace(dataset, features=features)


def slow_inputs(model: NOVABERT, graph: MultimodalGraph, items: list[int], hidden: list[bool]) -> tuple[Tensor, Tensor, Tensor]:
    """Return IDs, side information and its mask, position by position, for one sequence without padding."""
    ids, sides, present = [], [], []
    for position, (item, hide) in enumerate(zip(items, hidden, strict=True)):
        ids.append(model.norms[0](model.hidden[0] if hide else model.items[item]))
        side, mask = [], []
        for m, name in enumerate(model.names, 1):
            table = graph.features[name]
            features = table.values[item] / table.values[item].norm().clamp(min=1e-12)
            side.append(model.norms[m](model.hidden[m] if hide else model.encoders[m - 1].project(features)))
            mask.append(hide or bool(table.mask[item]))
        side.append(model.norms[-1](model.positions.table[len(items) - 1 - position]))
        sides.append(torch.stack(side))
        present.append(torch.tensor([*mask, True]))
    return torch.stack(ids), torch.stack(sides), torch.stack(present)


def slow_states(model: NOVABERT, graph: MultimodalGraph, items: list[int], hidden: list[bool]) -> Tensor:
    ids, sides, present = (x.unsqueeze(0) for x in slow_inputs(model, graph, items, hidden))
    if model.config.invasive:
        return model.transformer(model.fused_norm(model.fuse(sides, present, ids)))[0]
    return model.transformer(ids, sides, present=present)[0]


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_scores_match_the_reference(settings) -> None:
    model, graph = build(**settings)
    expected = []
    for items, mask in zip(ITEMS, MASK, strict=True):
        history = items[mask].tolist()
        states = slow_states(model, graph, [*history, 0], [False] * len(history) + [True])
        expected.append(model.head(states[-1]) @ model.items.t() + model.bias)
    torch.testing.assert_close(model.score(model.encode(graph), QUERY, ALL), torch.stack(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_loss_and_gradients_match_the_reference(settings) -> None:
    model, graph = build(**settings)
    model.masker = lambda mask: HIDDEN
    states, labels = [], []
    for items, mask, positive, hidden in zip(ITEMS, MASK, POSITIVE, HIDDEN, strict=True):
        sequence = [*items[mask].tolist(), int(positive)]
        masked = hidden[-len(sequence) :]
        states.append(slow_states(model, graph, sequence, masked.tolist())[masked])
        labels.append(torch.tensor(sequence)[masked])
    expected = F.cross_entropy(model.head(torch.cat(states)) @ model.items.t() + model.bias, torch.cat(labels))
    loss = model.loss(graph, BATCH)["cloze"]
    torch.testing.assert_close(loss, expected)
    leaves = list(model.parameters())
    for one, other in zip(torch.autograd.grad(loss, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def targets(model: NOVABERT, graph: MultimodalGraph, batch: Batch[HistoryQuery]) -> Tensor:
    """Return the head's output at masked positions, of which logits are products."""
    model.masker = lambda mask: HIDDEN
    outputs = []
    hook = model.head.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    model.loss(graph, batch)
    hook.remove()
    return outputs[0]


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_masked_position_leaks_neither_the_item_nor_its_features(settings) -> None:
    model, graph = build(with_features(), **settings)
    expected = targets(model, graph, BATCH)
    masked_items = torch.cat([ITEMS, POSITIVE[:, None]], 1)[HIDDEN]
    visible = torch.tensor([i for i in range(I) if i not in masked_items])
    assert torch.equal(targets(model, toy_graph(with_features(masked_items[masked_items != 3])), BATCH), expected)
    assert not torch.allclose(targets(model, toy_graph(with_features(visible)), BATCH), expected)
    other = Batch(QUERY, (POSITIVE + 1) % I, BATCH.negative)
    assert torch.equal(targets(model, graph, other)[HIDDEN.nonzero()[:, 1] == 4], expected[HIDDEN.nonzero()[:, 1] == 4])


@pytest.mark.parametrize("fusor", ["add", "concat", "gate"])
def test_with_zero_queries_features_matter_only_if_invasive(fusor) -> None:
    for invasive in (False, True):
        model, graph = build(fusor=fusor, invasive=invasive)
        for module in model.modules():
            if isinstance(module, MultiHeadAttention):
                torch.nn.init.zeros_(module.query.weight)
                torch.nn.init.zeros_(module.query.bias)
        other = toy_graph(with_features(ALL))
        same = torch.equal(*(model.score(model.encode(g), QUERY, ALL) for g in (graph, other)))
        assert same is not invasive


def test_missing_modality_is_left_out_of_the_fusion() -> None:
    model, graph = build(fusor="add")
    sequence = model._with_mask_token(model.encode(graph), ITEMS, MASK)
    assert sequence.present is not None
    assert sequence.present[0].tolist() == [[True] * 3, [False, True, True], [True] * 3, [True] * 3, [True] * 3]
    complete = model._with_mask_token(model.encode(graph), torch.where(ITEMS == 3, 4, ITEMS), MASK)
    assert complete.present is None


@pytest.mark.parametrize("settings", FORMS, ids=str)
@pytest.mark.parametrize("names", [(), ("audio",), ("audio", "image", "text", "video")], ids=len)
def test_any_modalities_are_accepted(names, settings) -> None:
    generator = torch.Generator().manual_seed(0)
    features = {name: FeatureTable(name, torch.rand(I, 3, generator=generator)) for name in names}
    model, graph = build(replace(with_features(), features=features), **settings)
    assert model.encode(graph).item_sides.shape == (I, len(names), D)
    assert bool(torch.isfinite(score_all(model, graph)).all())
    assert bool(torch.isfinite(model.loss(graph, BATCH)["cloze"]))


def test_fully_missing_modality_equals_no_modality() -> None:
    dataset = with_mask(with_mask(with_features(), "image", ALL), "text", ALL)
    model, graph = build(dataset, fusor="add")
    bare, bare_graph = build(replace(dataset, features={}), fusor="add")
    state = {name: value for name, value in model.state_dict().items() if not name.startswith(("encoders", "norms"))}
    state["hidden"] = state["hidden"][:1]
    norms = {
        f"norms.{new}.{kind}": model.state_dict()[f"norms.{old}.{kind}"]
        for new, old in ((0, 0), (1, 3))
        for kind in ("weight", "bias")
    }
    bare.load_state_dict({**state, **norms})
    query = replace(QUERY, items=ITEMS)
    with torch.no_grad():
        for m in (1, 2):  # disable the mask vectors of modalities
            model.norms[m].weight.zero_()
            model.norms[m].bias.zero_()
        torch.testing.assert_close(
            model.score(model.encode(graph), query, ALL), bare.score(bare.encode(bare_graph), query, ALL), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("invasive", [False, True])
def test_attention_returns_weights_of_the_masked_position(invasive) -> None:
    model, graph = build(invasive=invasive, max_length=3)
    attention = model.attention(model.encode(graph), QUERY, POSITIVE)
    assert attention["user:history"].shape == (3, 3)
    torch.testing.assert_close(attention["user:history"].sum(1) + attention["user:hidden"], torch.ones(3))
    assert torch.equal(attention["user:history_items"], ITEMS.masked_fill(~MASK, -1)[:, 1:])
    assert bool((attention["user:history"][~MASK[:, 1:]] == 0).all())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fusor": "mean"}, "fusor must be one of 'add', 'concat', 'gate'"),
        ({"gate": "tanh"}, "gate must be one of 'softmax', 'sigmoid'"),
        ({"mask_prob": 0.0}, "mask_prob must be greater than 0"),
        ({"last_copy": 1.1}, "last_copy must lie between 0 and 1"),
    ],
    ids=str,
)
def test_invalid_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        NOVABERTConfig(**settings)
