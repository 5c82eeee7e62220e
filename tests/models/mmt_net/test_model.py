import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import gmmrec
from gmmrec.data.dataset import Dataset
from gmmrec.models.lightgcn import LightGCN
from gmmrec.models.mmt_net import MMTNet, MMTNetConfig
from gmmrec.runs.config import read_config
from gmmrec.runs.recipe import run
from gmmrec.tasks.context import time_context
from gmmrec.tasks.query import ContextQuery
from gmmrec.testing import I, U, score_all, toy_graph
from tests.memory import Largest
from tests.models.mmt_net.slow import HOUR, build, events, slow_score, timed


def test_scores_match_the_reference() -> None:
    dataset = timed()
    model, graph = build(dataset)
    batch = events(dataset)
    with torch.no_grad():
        actual = model.score(model.encode(graph), batch.query, torch.arange(I))
    for position, user in enumerate(batch.query.user.tolist()):
        event = batch.query.context[position].tolist()
        expected = [slow_score(model, graph, user, event, item) for item in range(I)]
        assert actual[position].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("kind", ["bce", "squared"])
def test_loss_matches_the_reference_and_excludes_the_event_from_its_history(kind) -> None:
    dataset = timed()
    model, graph = build(dataset, loss=kind, l2=0.3)
    batch = events(dataset)
    losses, squares = [], 0.0
    for position, user in enumerate(batch.query.user.tolist()):
        squares += float(model.users[user].detach().square().sum())
        for column, item in enumerate(batch.candidates[position].tolist()):
            score = slow_score(
                model, graph, user, batch.query.context[position].tolist(), item, without=int(batch.positive[position])
            )
            label = float(column == 0)
            losses.append(math.log1p(math.exp(score if column else -score)) if kind == "bce" else (score - label) ** 2)
            squares += float(model.items[item].detach().square().sum())
    terms = model.loss(graph, batch)
    assert float(terms[kind].detach()) == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    assert float(terms["l2"].detach()) == pytest.approx(0.3 * squares / (2 * len(batch)), rel=1e-5)


def test_user_with_a_single_item_has_an_empty_history_in_training() -> None:
    dataset = timed()
    log = dataset.interactions
    lonely = replace(dataset, interactions=log.take((log.user != 4) | (log.item == log.item[log.user == 4][0])))
    model, graph = build(lonely)
    item = lonely.interactions.item[lonely.interactions.user == 4]
    side = model._users(graph, None, (torch.tensor([4]), item))
    assert side.has.tolist() == [[0.0, 0.0]]
    assert not bool(side.profile.any())


def test_context_module_is_homogeneous_of_its_order() -> None:
    model, _ = build(order=3)
    model.context.activation = lambda x: x
    for p in (model.context.factor, model.context.first.bias, *(layer.bias for layer in model.context.layers)):
        p.data.zero_()
    context = torch.randn(5, model.context.group.numel())
    torch.testing.assert_close(model.context(2 * context), 8 * model.context(context), rtol=1e-4, atol=1e-5)


def test_shared_modules_are_independent_of_the_number_of_nodes() -> None:
    sizes = []
    for dataset in (timed(), timed(40, 30)):
        model, graph = build(dataset)
        shared = [p for module in model._shared() for p in module.parameters()]
        sizes.append(sum(p.numel() for p in shared))
        specific = sum(p.numel() for p in model.parameters()) - sizes[-1]
        assert specific == (dataset.num_users + dataset.num_items) * (model.config.dim + 1) + model.config.dim + 1
    assert sizes[0] == sizes[1]
    target, graph = build(timed(40, 30), transfer="layers")
    assert target.start_from(build()[0])
    with torch.no_grad():
        assert target.score(target.encode(graph), ContextQuery(torch.arange(40)), torch.arange(30)).shape == (40, 30)


def test_residuals_are_zero_at_initialisation() -> None:
    dataset = timed()
    source, graph = build(dataset)
    torch.manual_seed(1)
    target = MMTNet(graph.schema, MMTNetConfig(dim=8, transfer="drr"))
    target.prepare(graph)
    assert target.start_from(source)
    for name in ("users", "items", "user_bias", "item_bias"):  # the same domain, so all else must agree
        getattr(target, name).data = getattr(source, name).data.clone()
    query = events(dataset).query
    with torch.no_grad():
        actual, expected = (model.score(model.encode(graph), query, torch.arange(I)) for model in (target, source))
    assert torch.equal(actual, expected)
    assert not torch.allclose(expected, score_all(source, graph)[query.user])  # the event contexts matter


def settings(**changes) -> dict:
    model = {"dim": 8, **changes.pop("model", {})}
    train = {"epochs": 3, "batch_size": 64, "lr": 0.05, "progress": False}
    return {"model": model, "train": train, "eval": {"bootstrap": 0}, "split": {"strategy": "random"}, **changes}


def trained(dataset: Dataset, folder=None, **changes) -> gmmrec.runs.run.Run:
    return run(read_config("mmt-net", settings(**changes)), dataset=dataset, folder=folder)


@pytest.mark.parametrize("transfer", ["drr", "layers"])
def test_frozen_modules_are_unchanged_and_target_specific_ones_are_trained(transfer, tmp_path, monkeypatch) -> None:
    source = trained(timed(), tmp_path / "source").model

    initial, start_from = dict[str, Tensor](), MMTNet.start_from

    def recording_start(model: MMTNet, source: MMTNet) -> bool:
        started = start_from(model, source)
        initial.update({name: p.detach().clone() for name, p in model.named_parameters()})
        return started

    monkeypatch.setattr(MMTNet, "start_from", recording_start)
    target = trained(timed(30, 20, seed=1), init_from=str(tmp_path / "source"), model={"transfer": transfer}).model
    before, after = source.state_dict(), target.state_dict()
    for name in before:
        if name.startswith(("projections.", "context.", "reshape.", "moments.")):
            same = torch.equal(before[name], after[name])
            assert same == (transfer == "drr"), name
    if transfer == "drr":
        assert all(p.grad is None for module in target._shared() for p in module.parameters())
        assert not any(p.requires_grad for module in target._shared() for p in module.parameters())
    shared = ("projections.", "context.", "reshape.")
    unchanged = {name for name, p in target.named_parameters() if torch.equal(p, initial[name])}
    assert unchanged == {name for name in initial if name.startswith(shared) and transfer == "drr"}
    assert {"users", "items", "user_bias", "item_bias", "context_bias.weight"} < initial.keys()
    assert ("adapters.pair.outer.weight" in initial) == (transfer == "drr")


def test_context_of_ones_leaves_embeddings_and_of_zeros_leaves_biases() -> None:
    model, graph = build()
    encoded = model.encode(graph)
    last = model.context.layers[-1]
    last.weight.data.zero_()
    for value in (1.0, 0.0):
        last.bias.data.fill_(value)
        with torch.no_grad():
            actual = model.score(encoded, ContextQuery(torch.arange(U)), torch.arange(I))
            sides = [
                torch.relu(model.reshape[kind].layers[0](value * table))
                for kind, table in (("user", model.users), ("item", model.items))
            ]
            biases = model.user_bias + model.item_bias.t() + model.context_bias(torch.full((8,), value))
            torch.testing.assert_close(actual, sides[0] @ sides[1].t() + biases)
    rest = actual - model.user_bias.detach() - model.item_bias.detach().t()
    torch.testing.assert_close(rest, rest[0, 0].expand(U, I))


def test_bias_of_a_shared_context_does_not_change_the_ranking() -> None:
    dataset = timed()
    batch = events(dataset)
    for groups, shared in ((("interactional",), True), (("interactional", "attributional"), False)):
        model, graph = build(dataset, groups=groups)
        results = []
        for factor in (1.0, -30.0):
            model.context_bias.weight.data *= factor
            with torch.no_grad():
                scores = model.score(model.encode(graph), batch.query, torch.arange(I))
                results.append((scores.argsort(dim=1, stable=True), float(model.loss(graph, batch)["bce"])))
        assert torch.equal(results[0][0], results[1][0]) == shared
        assert results[0][1] != pytest.approx(results[1][1])


def test_groups_are_shifted_by_the_others_except_at_initialisation() -> None:
    graph = toy_graph(timed())
    model = MMTNet(graph.schema, MMTNetConfig(dim=8))
    context = torch.randn(model.context.group.numel())
    assert torch.equal(model.context.shifted(context), context)
    model.context.factor.data.fill_(0.7)
    slopes = torch.autograd.functional.jacobian(model.context.shifted, context) - torch.eye(len(context))
    same = model.context.group[:, None] == model.context.group
    assert bool((slopes[same] == 0).all())
    assert bool((slopes[~same] != 0).all())
    assert model.context.group.bincount().tolist() == [
        5,
        1 + 6 + 4 + 2 + 1,
        6 + 4 + 2 + 2,
    ]  # degrees, features, presence, distances


def test_shapes() -> None:
    model, graph = build()
    user, item = model._users(graph), model._items(graph)
    sides = model._in_event(user.at(torch.arange(3)), ContextQuery(torch.arange(3)))
    scores, outputs = model._pairs(type(sides)(*(v.unsqueeze(1) for v in sides)), item)
    assert scores.shape == (3, I)
    assert {name: output.shape for name, output in outputs.items()} == dict.fromkeys(("context", "user", "item"), (3, I, 8))
    assert model.score(model.encode(graph), ContextQuery(torch.arange(2)), torch.ones(2, 4, dtype=torch.long)).shape == (2, 4)


def test_missing_event_context_is_the_mean_of_training() -> None:
    dataset = timed()
    model, graph = build(dataset)
    log = dataset.interactions
    batches = [events(dataset, 6), events(dataset, 4)]
    model.train()
    for batch in batches:
        model.loss(graph, batch)
    model.eval()
    mean = torch.cat([batch.query.context for batch in batches]).mean(0)
    torch.testing.assert_close(model.event_mean, mean)
    with torch.no_grad():
        encoded = model.encode(graph)
        without_context, with_mean = (
            model.score(encoded, ContextQuery(log.user[:3], c), torch.arange(I)) for c in (None, mean.expand(3, -1))
        )
    torch.testing.assert_close(without_context, with_mean)
    model.loss(graph, batches[0])
    torch.testing.assert_close(model.event_mean, mean)  # updated in training only


def test_scores_depend_on_the_event_context() -> None:
    model, graph = build()
    query = ContextQuery(torch.zeros(2, dtype=torch.long), time_context(torch.tensor([0, 60 * HOUR])))
    with torch.no_grad():
        noon, night = model.score(model.encode(graph), query, torch.arange(I))
    assert not torch.allclose(noon, night)


def test_chunk_size_does_not_change_scores(monkeypatch) -> None:
    model, graph = build()
    whole = score_all(model, graph)
    monkeypatch.setattr("gmmrec.models.mmt_net.model.CELLS", 1)
    with Largest() as largest:
        torch.testing.assert_close(score_all(model, graph), whole)
    assert largest.numel < U * I * model.config.dim  # no vectors of all pairs


def test_moment_term_pulls_outputs_towards_the_source() -> None:
    dataset = timed()
    source, graph = build(dataset)
    batch = events(dataset)
    source.train().loss(graph, batch)
    target = MMTNet(graph.schema, MMTNetConfig(dim=8, transfer="drr", moment_weight=2.0))
    target.prepare(graph)
    target.start_from(source)
    for name in ("users", "items"):
        getattr(target, name).data = getattr(source, name).data.clone()
    assert float(target.loss(graph, batch)["moments"].detach()) == pytest.approx(0.0, abs=1e-6)
    target.adapters["context"].outer.weight.data.normal_()
    moved = target.loss(graph, batch)["moments"]
    moved.backward()
    assert float(moved.detach()) > 0.01
    assert bool(target.adapters["context"].outer.weight.grad.any())


def test_wide_modalities_are_projected_by_shared_modules() -> None:
    source, graph = build(feature_dim=4, transfer="none")
    assert source.widths == {"image": 4, "text": 4}
    target, _ = build(feature_dim=4, transfer="layers", seed=1)
    assert target.start_from(source)
    assert torch.equal(target.projections[0].weight, source.projections[0].weight)
    assert bool(torch.isfinite(score_all(target, graph)).all())


def test_user_features_are_context_columns() -> None:
    dataset = timed()
    ages = gmmrec.FeatureTable("age", torch.rand(U, 1), torch.arange(U) != 3, node_type="user")
    model, graph = build(replace(dataset, features={**dataset.features, "age": ages}))
    with torch.no_grad():
        encoded = model.encode(graph)
    assert encoded.user_side.context[:, -1].tolist() == [float(u != 3) for u in range(U)]
    assert bool(torch.isfinite(score_all(model, graph)).all())


def test_without_features_degrees_and_events_remain() -> None:
    model, graph = build(replace(timed(), features={}))
    assert bool(torch.isfinite(score_all(model, graph)).all())
    with pytest.raises(ValueError, match="the only context group is 'attributional', but there are no features"):
        build(replace(timed(), features={}), groups=("attributional",))


def test_run_recommends_without_a_context_and_to_new_users(tmp_path) -> None:
    run = trained(timed(), tmp_path / "run")
    loaded = gmmrec.runs.run.Run.load(tmp_path / "run")
    frame = loaded.recommend(["u0", "u5"], k=3)
    assert frame["user_id"].tolist() == ["u0"] * 3 + ["u5"] * 3
    assert frame.equals(run.recommend(["u0", "u5"], k=3))
    new_users = loaded.recommend(k=3, histories=[[2, 4], [1]])
    assert set(new_users["item_id"][:3]).isdisjoint({2, 4})
    assert loaded.similar_items([2], k=4)["similar_id"].nunique() == 4
    assert loaded.evaluate("test").mean() == run.results["test"].mean()
    assert len(loaded.evaluate("test")) == len(run.split.test)  # one query per event


def test_without_transfer_a_run_starts_from_id_vectors(tmp_path) -> None:
    source = trained(timed(), tmp_path / "source", split={"strategy": "random", "seed": 0})
    target = MMTNet(toy_graph(timed()).schema, MMTNetConfig(dim=8))
    gmmrec.runs.recipe.start_from(target, timed(), source.split, str(tmp_path / "source"))
    assert torch.equal(target.users, source.model.users)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda: build(order=3)[0], "another context or other widths"),
        (lambda: build(replace(timed(), features={"text": timed().features["text"]}))[0], "another context or other widths"),
        (lambda: LightGCN(toy_graph().schema), "needs a run of mmt-net to start from, not of LightGCN"),
    ],
    ids=["order", "modalities", "model"],
)
def test_incompatible_sources_are_refused(source, message) -> None:
    with pytest.raises(ValueError, match=message):
        build(transfer="drr")[0].start_from(source())


def test_residuals_without_a_source_are_refused() -> None:
    model, graph = build(transfer="drr")
    with pytest.raises(ValueError, match="transfer 'drr' needs a source, but the model has none"):
        model.loss(graph, events(timed()))


def test_contexts_of_another_width_are_refused() -> None:
    model, graph = build()
    with pytest.raises(ValueError, match="contexts must have 5 columns, but have 2; set context_dim"):
        model.score(model.encode(graph), ContextQuery(torch.arange(2), torch.zeros(2, 2)), torch.arange(I))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"order": 0}, "order must be greater than 0"),
        ({"groups": ()}, "groups must name at least one"),
        ({"groups": ("time",)}, "groups must be one of 'interactional'"),
        ({"transfer": "all"}, "transfer must be one of 'none', 'layers', 'drr'"),
        ({"loss": "bpr"}, "loss must be one of 'bce', 'squared'"),
        ({"moment_weight": -1.0}, "moment_weight must be 0 or more"),
    ],
    ids=str,
)
def test_invalid_settings_are_refused(changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        MMTNetConfig(**changes)
