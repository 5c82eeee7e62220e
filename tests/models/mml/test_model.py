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
NEW = 7  # the item that nobody has taken


def setting(*, zero_features=False, changed=None, **settings):
    """A model whose tables say something, and its graph; nobody has taken item 7."""
    dataset, _ = checkerboard(U, I)
    dataset = replace(dataset, interactions=dataset.interactions.take((dataset.interactions.item != NEW).nonzero().flatten()))
    if zero_features:
        tables = {name: FeatureTable(name, torch.zeros_like(table.values)) for name, table in dataset.features.items()}
        dataset = replace(dataset, features=tables)
    if changed is not None:  # an item that looks and reads otherwise
        tables = {name: FeatureTable(name, table.values.clone(), table.mask) for name, table in dataset.features.items()}
        for table in tables.values():
            table.values[changed] = table.values[changed].flip(0)
        dataset = replace(dataset, features=tables)
    log = dataset.interactions
    nothing = log.take(torch.arange(0))
    graph = build_graph(dataset, Split(log, nothing, nothing))
    torch.manual_seed(0)
    model = MML(graph.schema, MMLConfig(**{**SETTINGS, **settings})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
        return model, model.prepare(graph), log


def question(*histories):
    length = max(map(len, histories))
    items = torch.tensor([[0] * (length - len(h)) + list(h) for h in histories])
    mask = torch.tensor([[False] * (length - len(h)) + [True] * len(h) for h in histories])
    return HistoryQuery(torch.arange(len(histories)), items, mask)


def example(*histories, positive, negative):
    return Batch(question(*histories), torch.tensor(positive), torch.tensor(negative))


def gradients(model, graph, batch, terms=None):
    model.zero_grad()
    loss = model.loss(graph, batch)
    sum(value for name, value in loss.items() if terms is None or name.startswith(terms)).backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


def assert_same(one, other):
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-3, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


BATCH = example([0, 2, 4, 6], [1, 3, 5], positive=[8, 9], negative=[[1, 3], [2, 4]])


def test_scoring_and_learning_leave_the_meta_weights_alone():
    model, graph, _ = setting()
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        encoded = model.encode(graph)
        kept = {name: value.clone() for name, value in encoded.items()}
        adapted = model.score(encoded, BATCH.query, torch.arange(I))
        model.config = replace(model.config, adapt_steps=0)
        plain = model.score(encoded, BATCH.query, torch.arange(I))
    model.loss(graph, BATCH)["bpr_image"].backward()
    assert not torch.allclose(adapted, plain)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(torch.equal(kept[name], value) for name, value in encoded.items())  # tables are slow: nobody has their own


@pytest.mark.parametrize("idle", [{"inner_lr": 0.0}, {"inner_steps": 0}, {"inner_lr": 0.0, "first_order": False}, {"meta": False}])
def test_without_inner_steps_the_outer_gradient_is_the_ordinary_one(idle):
    model, graph, _ = setting(bias_scale=0.5, **idle)
    found = gradients(model, graph, BATCH, "bpr")
    model.zero_grad()
    slow_bpr(model, graph, [([0, 2, 4, 6], 8, [1, 3]), ([1, 3, 5], 9, [2, 4])]).backward()
    assert_same(found, {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()})
    adapting, _, _ = setting(bias_scale=0.5)
    assert not torch.allclose(gradients(adapting, graph, BATCH, "bpr")["items"], found["items"], rtol=1e-3)


def slow_bpr(model, graph, users):
    """The learners' losses, user by user, without adaptation: history, what comes next, and what does not."""
    features, present = ([getattr(graph.features[name], kind) for name in model.names] for kind in ("unit", "present"))
    side = sum(torch.where(p[:, None], x @ w.T, 0.0) for x, p, w in zip(features, present, model.side, strict=True))
    side = side + model.side_offset  # every item has a text
    tables = [model.items, *(project(x) for project, x in zip(model.project, features, strict=True))]
    total = 0.0
    for m, (table, there) in enumerate(zip(tables, [torch.ones(I, dtype=torch.bool), *present], strict=True)):
        for history, positive, negatives in users:
            bias = model.config.bias_scale * side[history] @ side[history].T if m == 0 else None
            tokens, mask = torch.where(there[:, None], table, 0.0)[history], there[history]
            state = model.learners[m].transformer(tokens[None], mask[None], bias=None if bias is None else bias[None])[0, -1]
            wrong = [i for i in negatives if there[i]]
            total = total - F.logsigmoid((table[positive] - table[wrong]) @ state).mean() / len(users)
    return total


def test_the_whole_gradient_is_that_of_finite_differences_and_the_first_order_is_another():
    model, graph, _ = setting(first_order=False, inner_lr=0.5)
    cheap, _, _ = setting(first_order=True, inner_lr=0.5)
    exact, first = (
        {name: g for name, g in gradients(m, graph, BATCH, "bpr").items() if name.startswith("learners")} for m in (model, cheap)
    )
    length = torch.stack([g.square().sum() for g in exact.values()]).sum().sqrt()
    direction, losses, step = {name: g / length for name, g in exact.items()}, [], 0.01
    for sign in (1, -1):
        moved = copy.deepcopy(model)
        with torch.no_grad():
            for name, way in direction.items():
                moved.get_parameter(name).add_(sign * step * way)
            losses.append(sum(value for name, value in moved.loss(graph, BATCH).items() if name.startswith("bpr")))
    slope = (losses[0] - losses[1]) / (2 * step)
    torch.testing.assert_close(slope, length, rtol=1e-3, atol=0.0)
    assert abs(sum((first[name] * way).sum() for name, way in direction.items()) / slope - 1) > 0.05


@pytest.mark.parametrize("first_order", [True, False])
def test_the_outer_gradient_is_the_mean_over_tasks_in_any_order(first_order):
    model, graph, _ = setting(first_order=first_order, replace_prob=0.0)
    one = example([0, 2, 4, 6], positive=[8], negative=[[1, 3]])
    other = example([1, 3, 5], positive=[9], negative=[[2, 4]])
    turned = example([1, 3, 5], [0, 2, 4, 6], positive=[9, 8], negative=[[2, 4], [1, 3]])
    together = gradients(model, graph, BATCH)
    alone = [gradients(model, graph, batch) for batch in (one, other)]
    assert_same(together, {name: (alone[0][name] + alone[1][name]) / 2 for name in together})
    assert_same(together, gradients(model, graph, turned))


def test_weights_of_learners_sum_to_1_and_without_attention_are_equal():
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


def test_scores_are_the_learners_standardised_over_the_known_items():
    model, graph, log = setting()
    with torch.no_grad():
        encoded = model.encode(graph)
        scores = model.score(encoded, BATCH.query, torch.arange(I))
        weights = list(model.attention(encoded, BATCH.query, BATCH.positive).values())
        vectors, present, _ = model._items(graph)
        vectors[NEW, 0] = model._generate(graph, torch.tensor([NEW]))[0][0]
        wanted, _ = model._query_vectors(encoded, BATCH.query)
        known = torch.bincount(log.item, minlength=I) > 0
        expected = torch.zeros(2, I)
        for m in range(3):
            state = wanted.unflatten(1, (3, D))[:, m]  # up to a positive factor, which must not matter
            row = 5 * state @ vectors[:, m].T + 2  # nor must a constant
            among = row[:, known & present[:, m]]
            z = (row - among.mean(1, keepdim=True)) / among.std(1, keepdim=True, correction=0)
            expected += weights[m][:, None] * z.masked_fill(~present[:, m], 0.0)
    assert not bool(present[3, 1])  # has no image: an average item to that learner
    torch.testing.assert_close(scores, expected, rtol=1e-3, atol=1e-4)


def test_what_comes_later_does_not_change_states_of_any_learner():
    model, graph, _ = setting(bias_scale=5.0, adapt_steps=0)
    with torch.no_grad():
        encoded = model.encode(graph)
        world, mean = model._items(graph), encoded.mean
        for m in range(3):
            states = []
            for history in ([0, 2, 4, 6, 8], [0, 2, 4, 9, 1]):
                position, there = torch.tensor([history]), torch.ones(1, 5, dtype=torch.bool)
                episode = model._episode(m, world, mean[m], position, position, there)
                states.append(model._states(m, encoded, episode, there, 0, 0.0))
            torch.testing.assert_close(states[0][:, :3], states[1][:, :3])
            assert not torch.allclose(states[0][:, 3:], states[1][:, 3:])


def test_with_features_of_zeros_the_main_learner_is_a_plain_one():
    for zero, same in ((True, True), (False, False)):
        model, graph, _ = setting(zero_features=zero, bias_scale=5.0, unit_features=False)
        plain, _, _ = setting(zero_features=zero, bias_scale=0.0, unit_features=False)
        plain.load_state_dict(model.state_dict(), strict=False)
        states = []
        for m in (model, plain):
            with torch.no_grad():
                encoded, position = m.encode(graph), torch.tensor([[0, 2, 4, 6, 8]])
                there = torch.ones_like(position, dtype=torch.bool)
                world = m._items(graph)
                episode = m._episode(0, world, encoded.mean[0], position, position, there)
                states.append(m._states(0, encoded, episode, there, 2, 0.1))
        assert torch.allclose(*states, atol=1e-5) is same


def test_at_the_end_only_items_that_nobody_has_taken_have_made_vectors():
    model, graph, _ = setting()
    plain, _, _ = setting(generator=False)
    plain.load_state_dict(model.state_dict(), strict=False)
    with torch.no_grad():
        tables = []
        for m in (model, plain):
            encoded = m.encode(graph)
            tables.append(encoded["item"][:, :D] + encoded.mean[0])
        made, exists = model._generate(graph, torch.tensor([NEW]))
    changed = ~torch.isclose(*tables).all(1)
    assert changed.nonzero().flatten().tolist() == [NEW]
    assert bool(exists)
    torch.testing.assert_close(tables[0][NEW], made[0])
    torch.testing.assert_close(tables[1], model.items.detach())
    for name in ("image", "text"):
        source, target = graph.edges(nearest_known(name)).edge_index.as_tensor()
        assert NEW not in source.tolist()
        assert bool((source != target).all())
        assert bool((torch.bincount(target)[graph.features[name].present] == 5).all())


def test_without_replacement_the_generator_does_not_learn_and_with_it_nothing_else_does():
    model, graph, _ = setting(replace_prob=0.0)
    assert "generator" not in model.loss(graph, BATCH)
    model, graph, _ = setting(replace_prob=0.5)
    moved = gradients(model, graph, BATCH, "generator")
    assert {name.split(".")[0] for name, value in moved.items() if bool(value.any())} == {"generate"}
    with torch.no_grad():
        model.fuse.layers[-1].bias.fill_(1.0)  # else all logits may be 0
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
def test_a_stage_has_a_loss_of_its_own_which_is_the_one_it_has_among_all(stage, terms, parts):
    model, graph, _ = setting(stage=stage, inner_steps=1, adapt_steps=1, num_queries=1)
    assert {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad} == parts
    every, _, _ = setting(inner_steps=1, adapt_steps=1, num_queries=1)
    torch.manual_seed(0)
    alone = model.loss(graph, BATCH)
    torch.manual_seed(0)
    together = every.loss(graph, BATCH)
    assert list(alone) == terms
    for name in terms:
        torch.testing.assert_close(alone[name], together[name])


def test_the_fusion_learns_alone_from_learners_that_do_as_when_they_are_asked():
    model, graph, _ = setting(stage="fusion", dropout=0.5)
    with torch.no_grad():
        scores = model.score(model.encode(graph), BATCH.query, torch.arange(I))
        loss = model.train().loss(graph, BATCH)["fusion"]
    torch.testing.assert_close(loss, F.cross_entropy(scores, BATCH.positive))
    assert model.fuse.training
    assert setting(stage="learners")[0].train().learners[1].training


def test_three_runs_are_three_stages_and_each_moves_its_own_part_alone(tmp_path):
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
    for stage, own in (("learners", None), ("generator", "generate"), ("fusion", "fuse")):
        start = {} if before is None else {"init_from": tmp_path / before}
        gmmrec.fit(dataset, "mml", stage=stage, out=tmp_path / stage, **start, **quick)
        after = gmmrec.load(tmp_path / stage).model.state_dict()
        if before is not None:
            earlier = gmmrec.load(tmp_path / before).model.state_dict()
            moved[own] = {name.split(".")[0] for name in after if not torch.equal(after[name], earlier[name])}
        before = stage
    assert moved == {"generate": {"generate"}, "fuse": {"fuse"}}


def test_a_stage_begins_with_what_the_one_before_has_learned():
    source, _, _ = setting(stage="learners")
    model = MML(source.schema, MMLConfig(**SETTINGS, stage="generator"))
    assert not torch.equal(model.items, source.items)
    assert model.start_from(source)
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in model.state_dict().items())
    assert not model.items.requires_grad
    with pytest.raises(ValueError, match="the run of init_from has other items, features, sizes or modules"):
        MML(source.schema, MMLConfig(**{**SETTINGS, "dim": 4})).start_from(source)
    assert not model.start_from(gmmrec.MODELS["bm3"](source.schema))


def test_learners_are_trained_as_if_each_were_alone():
    model, graph, _ = setting()
    for m, name in enumerate((INTERACTION, "image", "text")):
        moved = {key for key, value in gradients(model, graph, BATCH, f"bpr_{name}").items() if bool(value.any())}
        own = f"learners.{m}."
        assert any(key.startswith(own) for key in moved)
        assert not any(key.startswith("learners.") and not key.startswith(own) for key in moved)


def test_features_reach_the_scores_of_others_only_if_the_item_was_trained_on():
    others = torch.tensor([i for i in range(I) if i not in (8, NEW)])
    scores = []
    for changed in (None, NEW, 8):  # neither is in the histories
        model, graph, _ = setting(changed=changed)
        with torch.no_grad():
            scores.append(model.score(model.encode(graph), BATCH.query, torch.arange(I)))
    assert torch.equal(scores[0][:, others], scores[1][:, others])
    assert not torch.allclose(scores[0][:, NEW], scores[1][:, NEW])
    assert not torch.allclose(scores[0][:, others], scores[2][:, others])  # by mean and covariance of the items


def test_a_learner_that_knows_nothing_of_a_history_has_no_say():
    model, graph, _ = setting()
    with torch.no_grad():
        encoded = model.encode(graph)
        weights = model.attention(encoded, question([3], [3, 3]), torch.tensor([0, 0]))
        silent = model.score(encoded, question([3]), torch.arange(I))
    assert weights["image"].tolist() == [0, 0]
    torch.testing.assert_close(weights["text"] + weights[INTERACTION], torch.ones(2))
    assert bool(torch.isfinite(silent).all())


def test_several_questions_a_task_at_most_half_of_what_happened():
    mask = question([0] * 6, [0] * 3, [0]).mask
    for wanted, expected in ((1, [1, 1, 1]), (2, [2, 2, 1]), (10, [3, 2, 1])):
        model, graph, _ = setting(num_queries=wanted)
        assert model._num_queries(mask).flatten().tolist() == expected
    one, many = (setting(num_queries=n, meta=False, replace_prob=0.0)[0] for n in (1, 2))
    last = example([0, 2], [2, 4], positive=[4, 6], negative=[[1], [1]])
    torch.testing.assert_close(one.loss(graph, last)["bpr_text"], many.loss(graph, last)["bpr_text"])  # one of two may be asked
    long = example([0, 2, 4, 6], positive=[8], negative=[[1]])
    assert not torch.allclose(one.loss(graph, long)["bpr_text"], many.loss(graph, long)["bpr_text"])


def test_longer_histories_than_there_are_positions_are_cut():
    model, graph, _ = setting()
    with torch.no_grad():
        encoded = model.encode(graph)
        long, cut = (model.score(encoded, question(h), torch.arange(I)) for h in ([9, 8, 1, 3, 5, 2, 4, 6], [1, 3, 5, 2, 4, 6]))
    torch.testing.assert_close(long, cut)


def test_detached_bias_and_odd_settings():
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


def test_one_item_alone_is_known():
    dataset, _ = checkerboard(U, I)
    log = Interactions(torch.tensor([0, 1]), torch.tensor([2, 2]))
    graph = build_graph(dataset, Split(log, log, log))
    model = MML(graph.schema, MMLConfig(**SETTINGS)).eval()
    with torch.no_grad():
        graph = model.prepare(graph)
        assert bool(torch.isfinite(model.score(model.encode(graph), question([2, 0, 5]), torch.arange(I))).all())
