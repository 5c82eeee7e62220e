import math

import pytest
import torch
from torch.nn.utils import clip_grad_norm_

from gmmrec.models.lightgcn import LightGCN, LightGCNConfig
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import UserQuery
from gmmrec.training.trainer import TrainConfig, Trainer
from tests.training.toys import Dropout, DropoutConfig, mean_margin, seeded, toy_task


def trainer(**settings) -> Trainer:
    return Trainer(TrainConfig(**{"accelerator": "cpu", "progress": False, "epochs": 4, **settings}))


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fit(settings: dict, *, validate=None, run_dir=None, model=None, **named):
    graph, task = toy_task()
    model = model or seeded(LightGCN, graph, LightGCNConfig(dim=8, num_layers=1, l2=0.1))
    history = trainer(**settings).fit(model, graph, task.batches, validate, generator=generator(), run_dir=run_dir, **named)
    return model, history


PLAIN = {
    "adam": lambda weights: torch.optim.Adam(weights, lr=0.02, weight_decay=0.1),
    "adamw": lambda weights: torch.optim.AdamW(weights, lr=0.02, weight_decay=0.1),
}


@pytest.mark.parametrize("optimizer", PLAIN)
@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [0.02] * 4),
        ("exponential", [0.02, 0.01, 0.005, 0.0025]),
        ("cosine", [0.02, 0.01 * (1 + math.sqrt(0.5)), 0.01, 0.01 * (1 - math.sqrt(0.5))]),
    ],
)
def test_the_loop_is_the_textbook_loop(optimizer, schedule, rates):
    settings = {"optimizer": optimizer, "lr": 0.02, "weight_decay": 0.1, "schedule": schedule, "lr_decay": 0.5, "clip_norm": 0.002}
    model, history = fit(settings)

    graph, task = toy_task()
    plain = seeded(LightGCN, graph, LightGCNConfig(dim=8, num_layers=1, l2=0.1))
    steps, draws, clipped = PLAIN[optimizer](plain.parameters()), generator(), 0
    for epoch, rate in enumerate(rates):
        steps.param_groups[0]["lr"] = rate
        means = []
        for step_graph, batch in task.batches(graph, draws):
            steps.zero_grad()
            terms = plain.loss(step_graph, batch)
            (terms["bpr"] + terms["l2"]).backward()
            clipped += float(clip_grad_norm_(plain.parameters(), 0.002)) > 0.002
            steps.step()
            means.append(terms["bpr"].item())
        assert history.epochs[epoch].terms["bpr"] == pytest.approx(sum(means) / len(means), rel=1e-5)
    assert clipped
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_best_weights_are_kept_and_patience_stops():
    values, weights = iter([0.1, 0.5, 0.4, 0.3, 0.9]), []

    def validate(model):
        weights.append(model.users.detach().clone())
        return next(values)

    model, history = fit({"epochs": 10, "patience": 2}, validate=validate)
    assert [epoch.value for epoch in history.epochs] == [0.1, 0.5, 0.4, 0.3]
    assert (history.best_epoch, history.best_value, history.stopped_early) == (2, 0.5, True)
    assert torch.equal(model.users, weights[1])
    assert not torch.equal(weights[1], weights[3])
    assert not model.training


def test_errors_are_minimised_and_logged_unchanged():
    values, weights = iter([0.9, 0.7, 0.8, 0.75]), []

    def validate(model):
        weights.append(model.users.detach().clone())
        return next(values)

    model, history = fit({"epochs": 10, "patience": 2}, validate=validate, monitor="rmse", mode="min")
    assert history.to_frame()["val/rmse"].tolist() == [0.9, 0.7, 0.8, 0.75]
    assert (history.monitor, history.best_epoch, history.best_value, history.stopped_early) == ("rmse", 2, 0.7, True)
    assert torch.equal(model.users, weights[1])


def test_validation_every_few_epochs_and_after_the_last():
    _, history = fit({"epochs": 5, "evaluate_every": 2}, validate=lambda model: 0.5)
    assert [epoch.value for epoch in history.epochs] == [None, 0.5, None, 0.5, 0.5]
    assert (history.best_epoch, history.stopped_early) == (2, False)


def test_without_validation_the_last_weights_are_kept():
    _, history = fit({"epochs": 3})
    assert (len(history.epochs), history.best_epoch, history.best_value, history.stopped_early) == (3, 3, None, False)


def test_it_learns_the_checkerboard():
    graph, task = toy_task()
    model, history = fit({"epochs": 30, "lr": 0.05}, validate=mean_margin(graph, task))
    scores = model.score(model.encode(graph), task.ranking("valid").query, torch.arange(task.num_items))
    ranking = task.ranking("valid")
    scores[ranking.excluded.groups, ranking.excluded.values] = -torch.inf
    best = scores.argmax(1)
    assert torch.equal(best % 2, ranking.query.user % 2)  # even users like even items
    assert history.best_value > 3 * abs(history.epochs[0].value)


class Fixed(Recommender[UserQuery, DropoutConfig]):
    """Model without trainable weights."""

    def encode(self, graph):
        return Encoded({})

    def score(self, encoded, query, candidates):
        return torch.zeros(len(query), candidates.shape[-1])

    def loss(self, graph, batch):
        return {}


def test_a_model_without_weights_is_only_validated():
    graph, _ = toy_task()
    _, history = fit({}, validate=lambda model: 0.25, model=Fixed(graph.schema, DropoutConfig()))
    assert (history.epochs, history.best_epoch, history.best_value) == ([], 0, 0.25)


def test_a_loss_that_is_not_finite_stops_training():
    graph, _ = toy_task()
    model = seeded(LightGCN, graph, LightGCNConfig(dim=8))
    model.users.data[0] = torch.nan
    with pytest.raises(ValueError, match="loss term 'bpr' is nan in step 1 of epoch 1"):
        fit({}, model=model)


def test_the_graph_of_the_epoch_is_the_one_trained_on():
    graph, task = toy_task()
    model = seeded(LightGCN, graph, LightGCNConfig(dim=8))
    seen, made = [], []

    def begin_epoch(given, draws):
        assert given is graph
        assert not torch.is_grad_enabled()
        made.append(
            given.with_edges(("user", "interacts", "item"), torch.tensor([[int(torch.randint(24, (), generator=draws))], [0]]))
        )
        return made[-1]

    def batches(given, draws):
        seen.append(given)
        return task.batches(given, draws)

    model.begin_epoch = begin_epoch
    trainer(epochs=3).fit(model, graph, batches, None, generator=generator())
    assert len(seen) == 3
    assert all(a is b for a, b in zip(seen, made, strict=True))


def test_files_of_a_run(tmp_path):
    _, history = fit({"epochs": 3}, validate=lambda model: 0.5, run_dir=tmp_path / "run", monitor="recall@20")
    lines = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert lines[0] == "epoch,seconds,loss/bpr,loss/l2,val/recall@20"
    assert len(lines) == 4
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = events.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    board.Reload()
    logged = [(event.step, event.value) for event in board.Scalars("loss/bpr")]
    assert logged == [(epoch.number, pytest.approx(epoch.terms["bpr"])) for epoch in history.epochs]
    assert [event.value for event in board.Scalars("val/recall@20")] == [0.5] * 3


@pytest.mark.parametrize(("kind", "config"), [(Dropout, DropoutConfig()), (LightGCN, LightGCNConfig(dim=8))])
def test_bfloat16_stays_near_full_precision(kind, config):
    graph, _ = toy_task()
    ends = []
    for precision in ("32-true", "bf16-mixed"):
        with torch.random.fork_rng():
            torch.manual_seed(0)  # of dropout
            _, history = fit({"precision": precision, "lr": 0.02}, model=seeded(kind, graph, config))
        ends.append(history.epochs[-1].terms["bpr"])
    assert ends[0] != ends[1]
    assert ends[0] == pytest.approx(ends[1], rel=0.02)


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": 0.0},
        {"epochs": 0},
        {"patience": 0},
        {"evaluate_every": 0},
        {"clip_norm": -1.0},
        {"optimizer": "sgd"},
        {"precision": "8"},
    ],
)
def test_settings_are_checked(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"^{name} must be"):
        TrainConfig(**wrong)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees_with_cpu():
    graph, task = toy_task()
    ends = []
    for accelerator in ("cpu", "cuda"):
        model = seeded(LightGCN, graph, LightGCNConfig(dim=8))
        trainer(accelerator=accelerator, lr=0.02).fit(model, graph, task.batches, None, generator=generator())
        ends.append(model.users.detach().cpu())
    torch.testing.assert_close(*ends, rtol=1e-3, atol=1e-4)
