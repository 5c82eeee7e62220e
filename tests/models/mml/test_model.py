import copy
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

import gmmrec
from gmmrec.data.features import FeatureTable
from gmmrec.data.interactions import Interactions
from gmmrec.data.split import Split
from gmmrec.graph.build import build_graph
from gmmrec.models.mml.config import MMLConfig
from gmmrec.models.mml.model import INTERACTION, MML, nearest_known
from gmmrec.tasks.query import Batch, HistoryQuery
from gmmrec.testing import checkerboard

U, I, D = 12, 10, 8  # noqa: E741
SETTINGS = {"dim": D, "max_length": 6, "num_layers": 1, "dropout": 0.0, "inner_lr": 0.1, "adapt_lr": 0.1, "inner_steps": 2}
NEW = 7  # the cold item


def setting(*, zero_features=False, changed=None, **settings):
    """Build a model with random weights and its graph; item 7 is cold."""
    dataset, _ = checkerboard(U, I)
    dataset = replace(dataset, interactions=dataset.interactions.take((dataset.interactions.item != NEW).nonzero().flatten()))
    if zero_features:
        tables = {name: FeatureTable(name, torch.zeros_like(table.values)) for name, table in dataset.features.items()}
        dataset = replace(dataset, features=tables)
    if changed is not None:  # an item with other features
        tables = {name: FeatureTable(name, table.values.clone(), table.mask) for name, table in dataset.features.items()}
        for table in tables.values():
            table.values[changed] = table.values[changed].flip(0)
        dataset = replace(dataset, features=tables)
    log = dataset.interactions
    empty = log.take(torch.arange(0))
    graph = build_graph(dataset, Split(log, empty, empty))
    torch.manual_seed(0)
    model = MML(graph.schema, MMLConfig(**{**SETTINGS, **settings})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
        return model, model.prepare(graph), log


def make_query(*histories):
    length = max(map(len, histories))
    items = torch.tensor([[0] * (length - len(h)) + list(h) for h in histories])
    mask = torch.tensor([[False] * (length - len(h)) + [True] * len(h) for h in histories])
    return HistoryQuery(torch.arange(len(histories)), items, mask)


def make_batch(*histories, positive, negative):
    return Batch(make_query(*histories), torch.tensor(positive), torch.tensor(negative))


def gradients(model, graph, batch, terms=None):
    model.zero_grad()
    loss = model.loss(graph, batch)
    sum(value for name, value in loss.items() if terms is None or name.startswith(terms)).backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


def assert_same(one, other):
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-3, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


BATCH = make_batch([0, 2, 4, 6], [1, 3, 5], positive=[8, 9], negative=[[1, 3], [2, 4]])


def test_scoring_and_loss_leave_meta_weights_unchanged():
    model, graph, _ = setting()
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        encoded = model.encode(graph)
        tables = {name: value.clone() for name, value in encoded.items()}
        adapted = model.score(encoded, BATCH.query, torch.arange(I))
        model.config = replace(model.config, adapt_steps=0)
        plain = model.score(encoded, BATCH.query, torch.arange(I))
    model.loss(graph, BATCH)["bpr_image"].backward()
    assert not torch.allclose(adapted, plain)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(torch.equal(tables[name], value) for name, value in encoded.items())  # tables are slow weights, shared by users


@pytest.mark.parametrize("idle", [{"inner_lr": 0.0}, {"inner_steps": 0}, {"inner_lr": 0.0, "first_order": False}, {"meta": False}])
def test_outer_gradient_without_inner_steps_is_the_ordinary_one(idle):
    model, graph, _ = setting(bias_scale=0.5, **idle)
    actual = gradients(model, graph, BATCH, "bpr")
    model.zero_grad()
    slow_bpr(model, graph, [([0, 2, 4, 6], 8, [1, 3]), ([1, 3, 5], 9, [2, 4])]).backward()
    assert_same(actual, {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()})
    adapting, _, _ = setting(bias_scale=0.5)
    assert not torch.allclose(gradients(adapting, graph, BATCH, "bpr")["items"], actual["items"], rtol=1e-3)


def slow_bpr(model, graph, users):
    """Compute the learners' losses without adaptation, user by user: history, positive and negatives."""
    features, present = ([getattr(graph.features[name], kind) for name in model.names] for kind in ("unit", "present"))
    side = sum(torch.where(p[:, None], x @ w.T, 0.0) for x, p, w in zip(features, present, model.side, strict=True))
    side = side + model.side_offset  # every item has a text
    tables = [model.items, *(project(x) for project, x in zip(model.project, features, strict=True))]
    total = 0.0
    for m, (table, exists) in enumerate(zip(tables, [torch.ones(I, dtype=torch.bool), *present], strict=True)):
        for history, positive, negatives in users:
            bias = model.config.bias_scale * side[history] @ side[history].T if m == 0 else None
            tokens, mask = torch.where(exists[:, None], table, 0.0)[history], exists[history]
            state = model.learners[m].transformer(tokens[None], mask[None], bias=None if bias is None else bias[None])[0, -1]
            present_negatives = [i for i in negatives if exists[i]]
            total = total - F.logsigmoid((table[positive] - table[present_negatives]) @ state).mean() / len(users)
    return total


def test_second_order_gradient_matches_finite_differences_and_differs_from_first_order():
    model, graph, _ = setting(first_order=False, inner_lr=0.5)
    first_order, _, _ = setting(first_order=True, inner_lr=0.5)
    exact, first = (
        {name: g for name, g in gradients(m, graph, BATCH, "bpr").items() if name.startswith("learners")}
        for m in (model, first_order)
    )
    norm = torch.stack([g.square().sum() for g in exact.values()]).sum().sqrt()
    direction, losses, step = {name: g / norm for name, g in exact.items()}, [], 0.01
    for sign in (1, -1):
        moved = copy.deepcopy(model)
        with torch.no_grad():
            for name, unit in direction.items():
                moved.get_parameter(name).add_(sign * step * unit)
            losses.append(sum(value for name, value in moved.loss(graph, BATCH).items() if name.startswith("bpr")))
    slope = (losses[0] - losses[1]) / (2 * step)
    torch.testing.assert_close(slope, norm, rtol=1e-3, atol=0.0)
    assert abs(sum((first[name] * unit).sum() for name, unit in direction.items()) / slope - 1) > 0.05


@pytest.mark.parametrize("first_order", [True, False])
def test_outer_gradient_is_the_mean_over_tasks_in_any_order(first_order):
    model, graph, _ = setting(first_order=first_order, replace_prob=0.0)
    one = make_batch([0, 2, 4, 6], positive=[8], negative=[[1, 3]])
    other = make_batch([1, 3, 5], positive=[9], negative=[[2, 4]])
    swapped = make_batch([1, 3, 5], [0, 2, 4, 6], positive=[9, 8], negative=[[2, 4], [1, 3]])
    together = gradients(model, graph, BATCH)
    alone = [gradients(model, graph, batch) for batch in (one, other)]
    assert_same(together, {name: (alone[0][name] + alone[1][name]) / 2 for name in together})
    assert_same(together, gradients(model, graph, swapped))


def test_learner_weights_sum_to_one_and_are_uniform_without_attention():
    for settings in ({}, {"fusion": "mean"}):
        model, graph, _ = setting(**settings)
        with torch.no_grad():
            weights = model.attention(model.encode(graph), BATCH.query, BATCH.positive)
        assert list(weights) == [INTERACTION, "image", "text"]
        torch.testing.assert_close(sum(weights.values()), torch.ones(2))
        if settings:
            torch.testing.assert_close(weights["text"], torch.full((2,), 1 / 3))
        else:
            assert bool((torch.stack(list(weights.values())) > 0).all())


def test_scores_are_learner_scores_standardised_over_trained_items():
    model, graph, log = setting()
    with torch.no_grad():
        encoded = model.encode(graph)
        scores = model.score(encoded, BATCH.query, torch.arange(I))
        weights = list(model.attention(encoded, BATCH.query, BATCH.positive).values())
        vectors, present, _ = model._items(graph)
        vectors[NEW, 0] = model._generate(graph, torch.tensor([NEW]))[0][0]
        query_vectors, _ = model._query_vectors(encoded, BATCH.query)
        known = torch.bincount(log.item, minlength=I) > 0
        expected = torch.zeros(2, I)
        for m in range(3):
            state = query_vectors.unflatten(1, (3, D))[:, m]  # up to a positive factor
            row = 5 * state @ vectors[:, m].T + 2  # scores are invariant to scale and shift
            reference = row[:, known & present[:, m]]
            z = (row - reference.mean(1, keepdim=True)) / reference.std(1, keepdim=True, correction=0)
            expected += weights[m][:, None] * z.masked_fill(~present[:, m], 0.0)
    assert not bool(present[3, 1])  # without an image, it scores the mean in that learner
    torch.testing.assert_close(scores, expected, rtol=1e-3, atol=1e-4)


def test_learner_states_are_independent_of_later_items():
    model, graph, _ = setting(bias_scale=5.0, adapt_steps=0)
    with torch.no_grad():
        encoded = model.encode(graph)
        items, mean = model._items(graph), encoded.mean
        for m in range(3):
            states = []
            for history in ([0, 2, 4, 6, 8], [0, 2, 4, 9, 1]):
                position, mask = torch.tensor([history]), torch.ones(1, 5, dtype=torch.bool)
                episode = model._episode(m, items, mean[m], position, position, mask)
                states.append(model._states(m, encoded, episode, mask, 0, 0.0))
            torch.testing.assert_close(states[0][:, :3], states[1][:, :3])
            assert not torch.allclose(states[0][:, 3:], states[1][:, 3:])


def test_zero_features_give_a_main_learner_without_bias():
    for zero, same in ((True, True), (False, False)):
        model, graph, _ = setting(zero_features=zero, bias_scale=5.0, unit_features=False)
        plain, _, _ = setting(zero_features=zero, bias_scale=0.0, unit_features=False)
        plain.load_state_dict(model.state_dict(), strict=False)
        states = []
        for m in (model, plain):
            with torch.no_grad():
                encoded, position = m.encode(graph), torch.tensor([[0, 2, 4, 6, 8]])
                mask = torch.ones_like(position, dtype=torch.bool)
                items = m._items(graph)
                episode = m._episode(0, items, encoded.mean[0], position, position, mask)
                states.append(m._states(0, encoded, episode, mask, 2, 0.1))
        assert torch.allclose(*states, atol=1e-5) is same


def test_only_cold_items_get_generated_vectors():
    model, graph, _ = setting()
    plain, _, _ = setting(generator=False)
    plain.load_state_dict(model.state_dict(), strict=False)
    with torch.no_grad():
        tables = []
        for m in (model, plain):
            encoded = m.encode(graph)
            tables.append(encoded["item"][:, :D] + encoded.mean[0])
        generated, exists = model._generate(graph, torch.tensor([NEW]))
    changed = ~torch.isclose(*tables).all(1)
    assert changed.nonzero().flatten().tolist() == [NEW]
    assert bool(exists)
    torch.testing.assert_close(tables[0][NEW], generated[0])
    torch.testing.assert_close(tables[1], model.items.detach())
    for name in ("image", "text"):
        source, target = graph.edges(nearest_known(name)).edge_index.as_tensor()
        assert NEW not in source.tolist()
        assert bool((source != target).all())
        assert bool((torch.bincount(target)[graph.features[name].present] == 5).all())


def test_generator_loss_requires_replacement_and_trains_only_the_generator():
    model, graph, _ = setting(replace_prob=0.0)
    assert "generator" not in model.loss(graph, BATCH)
    model, graph, _ = setting(replace_prob=0.5)
    moved = gradients(model, graph, BATCH, "generator")
    assert {name.split(".")[0] for name, value in moved.items() if bool(value.any())} == {"generate"}
    with torch.no_grad():
        model.fuse.layers[-1].bias.fill_(1.0)  # otherwise all logits may be 0
    fused = gradients(model, graph, BATCH, "fusion")
    assert {name.split(".")[0] for name, value in fused.items() if bool(value.any())} == {"fuse"}


@pytest.mark.parametrize(
    ("stage", "terms", "parts"),
    [
        ("learners", ["bpr_interaction", "bpr_image", "bpr_text"], {"items", "project", "side", "side_offset", "learners"}),
        ("generator", ["generator"], {"generate"}),
        ("fusion", ["fusion"], {"fuse"}),
    ],
)
def test_stage_loss_equals_its_term_of_the_joint_loss(stage, terms, parts):
    model, graph, _ = setting(stage=stage, inner_steps=1, adapt_steps=1, num_queries=1)
    assert {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad} == parts
    joint, _, _ = setting(inner_steps=1, adapt_steps=1, num_queries=1)
    torch.manual_seed(0)
    alone = model.loss(graph, BATCH)
    torch.manual_seed(0)
    together = joint.loss(graph, BATCH)
    assert list(alone) == terms
    for name in terms:
        torch.testing.assert_close(alone[name], together[name])


def test_fusion_stage_trains_on_scores_of_learners_in_evaluation_mode():
    model, graph, _ = setting(stage="fusion", dropout=0.5)
    with torch.no_grad():
        scores = model.score(model.encode(graph), BATCH.query, torch.arange(I))
        loss = model.train().loss(graph, BATCH)["fusion"]
    torch.testing.assert_close(loss, F.cross_entropy(scores, BATCH.positive))
    assert model.fuse.training
    assert setting(stage="learners")[0].train().learners[1].training


def test_each_stage_trains_only_its_own_modules(tmp_path):
    dataset, _ = checkerboard(U, I)
    quick = {
        **SETTINGS,
        "epochs": 2,
        "lr": 0.05,
        "replace_prob": 0.5,
        "inner_steps": 1,
        "adapt_steps": 1,
        "split": {"valid": 0.2, "test": 0.2},
    }
    before, moved = None, {}
    for stage, module in (("learners", None), ("generator", "generate"), ("fusion", "fuse")):
        start = {} if before is None else {"init_from": tmp_path / before}
        gmmrec.fit(dataset, "mml", stage=stage, out=tmp_path / stage, **start, **quick)
        after = gmmrec.load(tmp_path / stage).model.state_dict()
        if before is not None:
            earlier = gmmrec.load(tmp_path / before).model.state_dict()
            moved[module] = {name.split(".")[0] for name in after if not torch.equal(after[name], earlier[name])}
        before = stage
    assert moved == {"generate": {"generate"}, "fuse": {"fuse"}}


def test_stage_starts_from_the_weights_of_the_previous_one():
    source, _, _ = setting(stage="learners")
    model = MML(source.schema, MMLConfig(**SETTINGS, stage="generator"))
    assert not torch.equal(model.items, source.items)
    assert model.start_from(source)
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in model.state_dict().items())
    assert not model.items.requires_grad
    with pytest.raises(ValueError, match="the run of init_from has other items, features, sizes or modules"):
        MML(source.schema, MMLConfig(**{**SETTINGS, "dim": 4})).start_from(source)
    assert not model.start_from(gmmrec.MODELS["bm3"](source.schema))


def test_learners_are_trained_independently():
    model, graph, _ = setting()
    for m, name in enumerate((INTERACTION, "image", "text")):
        moved = {key for key, value in gradients(model, graph, BATCH, f"bpr_{name}").items() if bool(value.any())}
        prefix = f"learners.{m}."
        assert any(key.startswith(prefix) for key in moved)
        assert not any(key.startswith("learners.") and not key.startswith(prefix) for key in moved)


def test_features_of_trained_items_affect_scores_of_others_and_cold_ones_do_not():
    others = torch.tensor([i for i in range(I) if i not in (8, NEW)])
    scores = []
    for changed in (None, NEW, 8):  # neither item is in the histories
        model, graph, _ = setting(changed=changed)
        with torch.no_grad():
            scores.append(model.score(model.encode(graph), BATCH.query, torch.arange(I)))
    assert torch.equal(scores[0][:, others], scores[1][:, others])
    assert not torch.allclose(scores[0][:, NEW], scores[1][:, NEW])
    assert not torch.allclose(scores[0][:, others], scores[2][:, others])  # through the mean and covariance of items


def test_learner_without_items_of_the_history_has_weight_zero():
    model, graph, _ = setting()
    with torch.no_grad():
        encoded = model.encode(graph)
        weights = model.attention(encoded, make_query([3], [3, 3]), torch.tensor([0, 0]))
        scores = model.score(encoded, make_query([3]), torch.arange(I))
    assert weights["image"].tolist() == [0, 0]
    torch.testing.assert_close(weights["text"] + weights[INTERACTION], torch.ones(2))
    assert bool(torch.isfinite(scores).all())


def test_queries_are_at_most_half_of_a_task():
    mask = make_query([0] * 6, [0] * 3, [0]).mask
    for num_queries, expected in ((1, [1, 1, 1]), (2, [2, 2, 1]), (10, [3, 2, 1])):
        model, graph, _ = setting(num_queries=num_queries)
        assert model._num_queries(mask).flatten().tolist() == expected
    one, many = (setting(num_queries=n, meta=False, replace_prob=0.0)[0] for n in (1, 2))
    last = make_batch([0, 2], [2, 4], positive=[4, 6], negative=[[1], [1]])
    torch.testing.assert_close(
        one.loss(graph, last)["bpr_text"], many.loss(graph, last)["bpr_text"]
    )  # at most one of two is a query
    long = make_batch([0, 2, 4, 6], positive=[8], negative=[[1]])
    assert not torch.allclose(one.loss(graph, long)["bpr_text"], many.loss(graph, long)["bpr_text"])


def test_long_histories_are_truncated():
    model, graph, _ = setting()
    with torch.no_grad():
        encoded = model.encode(graph)
        long, cut = (model.score(encoded, make_query(h), torch.arange(I)) for h in ([9, 8, 1, 3, 5, 2, 4, 6], [1, 3, 5, 2, 4, 6]))
    torch.testing.assert_close(long, cut)


def test_detached_bias_and_invalid_settings():
    model, graph, _ = setting(detach_bias=True)
    assert not any(bool(g.any()) for name, g in gradients(model, graph, BATCH).items() if name.startswith("side"))
    with pytest.raises(ValueError, match="fusion must be one of 'attention', 'mean', but is 'sum'"):
        MMLConfig(fusion="sum")
    with pytest.raises(ValueError, match="num_queries must be greater than 0, but is 0"):
        MMLConfig(num_queries=0)
    with pytest.raises(ValueError, match="stage 'generator' needs generator: true and a replace_prob above 0"):
        MMLConfig(stage="generator", generator=False)
    with pytest.raises(ValueError, match="fusion 'mean' has nothing to learn in stage 'fusion'"):
        MMLConfig(stage="fusion", fusion="mean")
    with pytest.raises(ValueError, match="MML needs at least one modality of the items"):
        MML(replace(graph.schema, feature_dims={}, feature_nodes={}))


def test_single_trained_item_gives_finite_scores():
    dataset, _ = checkerboard(U, I)
    log = Interactions(torch.tensor([0, 1]), torch.tensor([2, 2]))
    graph = build_graph(dataset, Split(log, log, log))
    model = MML(graph.schema, MMLConfig(**SETTINGS)).eval()
    with torch.no_grad():
        graph = model.prepare(graph)
        assert bool(torch.isfinite(model.score(model.encode(graph), make_query([2, 0, 5]), torch.arange(I))).all())
