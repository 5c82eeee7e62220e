import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models import cmbf
from gmmrec.models.cmbf import CMBF, CMBFConfig
from gmmrec.nn.fusion.cross_modal import CrossModalFusion
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.testing import I, U, checkerboard, score_all, toy_graph, with_mask

D, P, HEADS = 8, 5, 2
FORMS = [
    {},
    {"residual_input": True},
    {"fusion": "concat"},
    {"num_layers": 2, "encoder_layers": 0},
    {"image": ("regions",), "encoder_layers": 2},
    {"image": ("image", "regions"), "unit_features": False},
]


def build(dataset: Dataset | None = None, **settings) -> tuple[CMBF, MultimodalGraph]:
    torch.manual_seed(0)
    graph = toy_graph(rich() if dataset is None else dataset)
    model = CMBF(graph.schema, CMBFConfig(**{"dim": D, "image_tokens": P, "hidden": (6,), "init_std": 0.5, **settings}))
    for name, p in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(p)  # otherwise the means of normalised tokens are all zero
    return model.eval(), graph


def rich() -> Dataset:
    """Return data with image, regions, text and age, some missing; item 3 has text only, item 6 an image only."""
    dataset, _ = checkerboard(U, I)
    generator = torch.Generator().manual_seed(5)
    has_region = torch.rand(I, 3, generator=generator) < 0.7
    has_region[3] = has_region[6] = False
    has_region[4], has_region[5] = torch.tensor([True, True, False]), torch.tensor([True, True, True])
    features = {
        **dataset.features,
        "regions": FeatureTable("regions", torch.randn(I, 3, 5, generator=generator), has_region),
        "age": FeatureTable("age", torch.rand(U, 2, generator=generator), torch.arange(U) % 5 > 0, "user"),
    }
    return with_mask(replace(dataset, features=features), "text", torch.tensor([6, 7]))


def only_images(*, regions: bool = False) -> Dataset:
    dataset, _ = checkerboard(U, I)
    values = torch.randn(I, 3, 4, generator=torch.Generator().manual_seed(0)) if regions else dataset.features["image"].values
    return replace(dataset, features={"image": FeatureTable("image", values)})


def batch() -> Batch[UserQuery]:
    generator = torch.Generator().manual_seed(0)
    user, positive = torch.randint(U, (9,), generator=generator), torch.randint(I, (9,), generator=generator)
    return Batch(UserQuery(user), positive, torch.randint(I, (9, 2), generator=generator))


def joined(model: CMBF, graph: MultimodalGraph, users: Tensor, items: Tensor) -> Tensor:
    """Return the input of the final MLP for all pairs ``[B, C, ...]``."""
    inputs: list[Tensor] = []
    handle = model.predict.register_forward_pre_hook(lambda _, args: inputs.append(args[0].detach()))
    with torch.no_grad():
        model.score(model.encode(graph), UserQuery(users), items)
    handle.remove()
    return torch.cat(inputs, dim=1)


# The equations for one pair, in float64, on present tokens only and so without masks


def attend(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    heads, maps = [], []
    for h in range(HEADS):
        part = slice(h * D // HEADS, (h + 1) * D // HEADS)
        maps.append(torch.softmax(query[:, part] @ key[:, part].T / math.sqrt(D / HEADS), dim=1))
        heads.append(maps[-1] @ value[:, part])
    return torch.cat(heads, 1), torch.stack(maps)


def slow_encoder(encoder, x: Tensor) -> Tensor:
    for layer in encoder.layers if len(x) else ():
        attention = layer.attention
        s = layer.norm(x + attention.output(attend(attention.query(x), attention.key(x), attention.value(x))[0]))
        x = layer.ffn_norm(s + layer.ffn[2](torch.nn.functional.gelu(layer.ffn[0](s))))
    return x


def slow_stream(stream, own: Tensor, other: Tensor) -> tuple[Tensor, Tensor | None]:
    if not len(own):
        return own, None
    weights, c = None, stream.cross.query(own)
    if len(other):
        messages, weights = attend(stream.cross.query(own), stream.cross.key(other), stream.cross.value(other))
        c = c + messages if stream.residual else messages
    e = stream.norm(c + attend(stream.own.query(c), stream.own.key(c), stream.own.value(c))[0])
    return stream.ffn_norm(e + stream.ffn[2](torch.relu(stream.ffn[0](e)))), weights


def slow(model: CMBF, graph: MultimodalGraph, user: int, item: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the logit, the MLP input, and the last layer's attention of fields to the image ``[H, T, P]``."""
    model = copy.deepcopy(model).double()

    def vectors(name: str, row: int) -> Tensor:
        table = graph.features[name]
        x = table.values[row].double().view(-1, table.dim)[table.mask[row].view(-1)]
        return x / x.norm(dim=1, keepdim=True) * math.sqrt(table.dim) if model.config.unit_features else x

    fields = [model.users[user : user + 1]]
    fields += [linear.project(vectors(name, user)) for name, linear in zip(model.fields["user"], model.project_user, strict=True)]
    fields += [model.items[item : item + 1]]
    fields += [linear.project(vectors(name, item)) for name, linear in zip(model.fields["item"], model.project_item, strict=True)]
    tokens = []
    for name, number, spread in zip(model.images, model.numbers, model.spread, strict=True):
        for x in vectors(name, item):
            parts = number.project(x)[:, None] * spread.directions
            tokens.append(parts if graph.features[name].values.dim() == 2 else parts.sum(0, keepdim=True))
    image = slow_encoder(model.image_encoder, torch.cat([torch.zeros(0, D).double(), *tokens]))
    text, weights = slow_encoder(model.text_encoder, torch.cat(fields)), None
    if model.fuse is not None:
        for left, right in zip(model.fuse.left, model.fuse.right, strict=True):
            (image, _), (text, weights) = slow_stream(left, image, text), slow_stream(right, text, image)
    parts = [image, *text.split([len(field) for field in fields])]
    h = torch.cat([part.mean(0) if len(part) else torch.zeros(D).double() for part in parts])
    out = h
    for layer in model.predict:
        out = layer(out)
    return out.squeeze().detach(), h.detach(), weights


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_scores_equal_the_formula_for_one_pair(settings) -> None:
    model, graph = build(**settings)
    scores = score_all(model, graph).double()
    for user, item in [(0, 0), (1, 3), (5, 6), (2, 7), (7, 4), (10, 5)]:
        torch.testing.assert_close(scores[user, item], slow(model, graph, user, item)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_loss_equals_the_formula(settings) -> None:
    model, graph = build(l2=0.3, **settings)
    steps, entropy, squares = batch(), [], 0.0
    for user, items in zip(steps.query.user.tolist(), steps.candidates.tolist(), strict=True):
        squares += float(model.users[user].detach().square().sum())
        for position, item in enumerate(items):
            click = torch.sigmoid(slow(model, graph, user, item)[0])
            entropy.append(-torch.log(click if position == 0 else 1 - click))
            squares += float(model.items[item].detach().square().sum())
    terms = model.loss(graph, steps)
    assert set(terms) == {"bce", "l2"}
    torch.testing.assert_close(terms["bce"].detach().double(), torch.stack(entropy).mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(float(terms["l2"].detach()), 0.3 * squares / 2 / 9, rtol=1e-4, atol=1e-5)


# Invariants; those of single layers are in tests/nn/fusion/test_cross_modal.py


def test_shapes() -> None:
    model, graph = build(image=("image", "regions"))
    users, items = torch.arange(4), torch.arange(7)
    assert joined(model, graph, users, items).shape == (4, 7, (1 + 4) * D)  # image; user, age, item, text
    encoded = model.encode(graph)
    assert encoded.image_tokens.values.shape == (I, P + 3, D)
    text = torch.cat([encoded.user_tokens.values[:4], encoded.item_tokens.values[:4]], 1)
    left, right = model.fuse.streams(encoded.image_tokens.values[:4], text)
    assert (left.shape, right.shape) == ((4, P + 3, D), (4, 2 + 2, D))


def test_attention_sums_to_one_and_is_0_for_missing_tokens() -> None:
    model, graph = build(image=("image", "regions"))
    users, items = torch.randint(U, (I,)), torch.arange(I)
    with torch.no_grad():
        weights = model.attention(model.encode(graph), UserQuery(users), items)
    assert {name: tuple(w.shape) for name, w in weights.items()} == {"image": (I,), "regions": (I, 3)}
    assert bool((weights["regions"][~graph.features["regions"].mask] == 0).all())
    assert bool((weights["image"][~graph.features["image"].mask] == 0).all())
    total = weights["image"] + weights["regions"].sum(1)
    expected = (graph.features["image"].present | graph.features["regions"].present).float()
    assert int(expected.sum()) == I - 1  # item 3
    torch.testing.assert_close(total, expected)


def test_attention_equals_the_formula() -> None:
    model, graph = build(image=("regions",), num_layers=2)
    with torch.no_grad():
        actual = model.attention(model.encode(graph), UserQuery(torch.tensor([1, 5])), torch.tensor([5, 4]))["regions"]
    expected = [slow(model, graph, user, item)[2].mean((0, 1)) for user, item in ((1, 5), (5, 4))]
    torch.testing.assert_close(actual[0].double(), expected[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(actual[1, :2].double(), expected[1], rtol=1e-4, atol=1e-6)
    assert float(actual[1, 2]) == 0


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_values_under_the_mask_change_nothing(settings) -> None:
    results = []
    for hidden in (0.0, 1000.0):
        model, graph = build(**settings)
        data = copy.copy(graph.data)
        for name, owner in graph.schema.feature_nodes.items():
            absent = ~data[owner][f"{name}_mask"]
            assert bool(absent.any())
            data[owner][name] = data[owner][name].masked_fill(absent.unsqueeze(-1), hidden)
        graph = MultimodalGraph(data, graph.schema)
        sum(model.loss(graph, batch()).values()).backward()
        results.append([joined(model, graph, torch.arange(U), torch.arange(I)), *(p.grad for p in model.parameters())])
    for zeros, large in zip(*results, strict=True):
        assert torch.equal(zeros, large)


@pytest.mark.parametrize(("fusion", "depends"), [("cross_modal", True), ("concat", False)])
def test_image_attends_to_text_only_in_cross_modal_layers(fusion, depends) -> None:
    model, graph = build(fusion=fusion)
    before = joined(model, graph, torch.arange(2), torch.tensor([0]))
    with torch.no_grad():
        model.users[0] += 1
    after = joined(model, graph, torch.arange(2), torch.tensor([0]))
    assert (before[0, 0, :D] != after[0, 0, :D]).any() == depends
    assert (before[0, 0, D:] != after[0, 0, D:]).any()
    assert torch.equal(before[1], after[1])


def test_swapping_streams_and_parameters_swaps_results() -> None:
    model, graph = build(num_layers=2)
    mirrored = CrossModalFusion(D, D, left_head_dim=D // 2, right_head_dim=D // 2, num_layers=2)
    names = {"left": "right", "right": "left"}
    mirrored.load_state_dict({names[k.split(".")[0]] + k[k.index(".") :]: v for k, v in model.fuse.state_dict().items()})
    encoded = model.encode(graph)
    image, text = encoded.image_tokens.values, encoded.item_tokens.values
    masks = encoded.image_tokens.present, encoded.item_tokens.present
    torch.testing.assert_close(mirrored.streams(text, image, *masks[::-1]), model.fuse.streams(image, text, *masks)[::-1])


def test_order_of_regions_does_not_matter() -> None:
    dataset, order = rich(), torch.tensor([2, 0, 1])
    regions = dataset.features["regions"]
    moved = FeatureTable("regions", regions.values[:, order], regions.mask[:, order])
    model, graph = build(dataset, image=("regions",))
    other, other_graph = build(replace(dataset, features={**dataset.features, "regions": moved}), image=("regions",))
    torch.testing.assert_close(score_all(other, other_graph), score_all(model, graph))
    query, items = UserQuery(torch.arange(I)), torch.arange(I)
    actual, expected = (m.attention(m.encode(g), query, items)["regions"] for m, g in ((other, other_graph), (model, graph)))
    torch.testing.assert_close(actual, expected[:, order])
    assert float((actual - expected).detach().abs().max()) > 1e-3


@pytest.mark.parametrize(("residual", "depends"), [(False, False), (True, True)])
def test_image_features_do_not_matter_beside_a_single_field(residual, depends) -> None:
    dataset = only_images()
    log = dataset.interactions
    dataset = replace(dataset, interactions=log.take(log.user != 4))  # user 4 has no ID: the item's ID is the only field
    images = []
    for shift in (0, 1):
        values = dataset.features["image"].values + shift * torch.rand(I, 6, generator=torch.Generator().manual_seed(1))
        model, graph = build(replace(dataset, features={"image": FeatureTable("image", values)}), residual_input=residual)
        images.append(joined(model, graph, torch.tensor([4, 5]), torch.tensor([2]))[:, 0, :D])
    assert torch.allclose(images[0][0], images[1][0], atol=1e-6) != depends
    assert not torch.allclose(images[0][1], images[1][1], atol=1e-3)  # beside two fields they do


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_items_without_image_use_text_only(settings) -> None:
    dataset = rich()
    for name in settings.get("image", ("image",)):
        dataset = with_mask(dataset, name, torch.arange(I))
    model, graph = build(dataset, **settings)
    inputs = joined(model, graph, torch.arange(U), torch.arange(I))
    assert bool((inputs[..., :D] == 0).all())
    assert bool((inputs[..., D : 2 * D] != 0).any())
    sum(model.loss(graph, batch()).values()).backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_all_modalities_missing_gives_no_nan(settings) -> None:
    dataset = rich()
    wide = {name: replace(t, values=t.values.repeat(*[1] * (t.values.dim() - 1), 300)) for name, t in dataset.features.items()}
    none = {name: replace(t, mask=torch.zeros_like(t.mask)) for name, t in wide.items()}
    none["image"] = replace(wide["image"], values=wide["image"].values * 0)  # a black image has norm 0
    model, graph = build(replace(dataset, features=none), **settings)
    data = copy.copy(graph.data)
    data["user"].n_id, data["item"].n_id = torch.full((U,), -1), torch.full((I,), -1)
    assert bool(score_all(model, MultimodalGraph(data, graph.schema)).isfinite().all())
    sum(model.loss(graph, batch()).values()).backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())


# Chunks, settings, other data


def test_chunks_change_neither_scores_nor_gradients(monkeypatch) -> None:
    results = []
    for cells in (2**24, 1):
        for name in ("CELLS", "CACHED", "ITEMS"):
            monkeypatch.setattr(cmbf, name, cells)
        model, graph = build()
        sum(model.loss(graph, batch()).values()).backward()
        results.append([score_all(model, graph), *(p.grad for p in model.parameters())])
    for whole, chunked in zip(*results, strict=True):
        torch.testing.assert_close(chunked, whole)


def test_pairs_of_all_candidates_are_never_materialised(monkeypatch) -> None:
    model, graph = build()
    monkeypatch.setattr(cmbf, "CACHED", 4 * U * (2 + 5 + P) * 4 * D)  # 2 tokens of a user, 5 of an item, 5 of an image
    widths: list[int] = []
    model.predict.register_forward_pre_hook(lambda _, args: widths.append(args[0].shape[1]))
    score_all(model, graph)
    assert widths == [4, 4, 4, 4, 1]


def test_ablation_has_no_cross_modal_parameters() -> None:
    model, graph = build(fusion="concat")
    assert not any(name.startswith("fuse") for name, _ in model.named_parameters())
    with pytest.raises(ValueError, match="no cross-modal attention to show; train it with fusion 'cross_modal'"):
        model.attention(model.encode(graph), UserQuery(torch.tensor([0])), torch.tensor([0]))


def test_single_vector_image_has_one_attention_weight() -> None:
    model, graph = build()
    weights = model.attention(model.encode(graph), UserQuery(torch.arange(3)), torch.tensor([0, 3, 1]))
    torch.testing.assert_close(weights, {"image": torch.tensor([1.0, 0.0, 1.0])})


def test_ids_without_interactions_are_masked() -> None:
    dataset = rich()
    log = dataset.interactions
    model, graph = build(replace(dataset, interactions=log.take((log.user != 4) & (log.item != 2))))
    before = score_all(model, graph)
    with torch.no_grad():
        model.users[4] += 1
        model.items[2] += 1
    torch.testing.assert_close(score_all(model, graph), before)
    with torch.no_grad():
        model.users[5] += 1
    assert not torch.allclose(score_all(model, graph)[5], before[5])


def test_first_modality_is_the_image_by_default() -> None:
    model, _ = build()
    assert model.images == ("image",)
    assert model.fields == {"user": ("age",), "item": ("text", "regions")}


def test_item_vectors_are_means_of_fields_and_images() -> None:
    model, graph = build(only_images(regions=True))
    encoded = model.encode(graph)
    assert encoded["user"].shape == (U, D)
    torch.testing.assert_close(encoded["item"], torch.cat([model.items, encoded.image_tokens.values.mean(1)], 1))


def test_lists_from_a_file_become_tuples() -> None:
    config = CMBFConfig(image=["image"], hidden=[8])
    assert (config.image, config.hidden) == (("image",), (8,))


def test_output_is_linear_without_hidden_layers() -> None:
    model, graph = build(hidden=())
    torch.testing.assert_close(
        score_all(model, graph), model.predict[0](joined(model, graph, torch.arange(U), torch.arange(I))).squeeze(-1).detach()
    )


def test_missing_features_are_refused() -> None:
    with pytest.raises(ValueError, match="CMBF needs at least one modality of the items"):
        build(replace(only_images(), features={}))


def test_unknown_image_modality_is_refused() -> None:
    with pytest.raises(ValueError, match="image names 'photo', but the item modalities are image, text, regions"):
        build(image=("photo",))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fusion": "mean"}, "fusion must be one of 'cross_modal', 'concat'"),
        ({"dim": 9}, "num_heads must divide the width 9, but is 2"),
        ({"num_layers": 0}, "num_layers must be greater than 0"),
        ({"hidden": (8, 0)}, r"hidden\[1\] must be greater than 0"),
        ({"dropout": 1.0}, "dropout must be at least 0 and less than 1"),
        ({"l2": -1.0}, "l2 must be 0 or more"),
    ],
    ids=str,
)
def test_invalid_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        CMBFConfig(**settings)
