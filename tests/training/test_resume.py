import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from gmmrec.storage.atomic import checksum
from gmmrec.training.files import STATE_FILE
from gmmrec.training.trainer import TrainConfig, Trainer
from tests.training.toys import Dropout, DropoutConfig, mean_margin, seeded, toy_task

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {"epochs": 6, "lr": 0.05, "weight_decay": 0.01, "schedule": "cosine", "accelerator": "cpu", "progress": False}


def train(
    folder: Path | None,
    *,
    resume: bool = False,
    kill_in: tuple[int, int] | None = None,
    dim: int = 6,
    monitor: str = "margin",
    **changes,
):
    """Six epochs of a model that draws from both generators; killed in an epoch's step if asked."""
    graph, task = toy_task()
    model = seeded(Dropout, graph, DropoutConfig(dim), seed=99 if resume else 0)  # initial weights must not matter
    epoch = 0

    def batches(given, draws):
        nonlocal epoch
        epoch += 1
        for step, pair in enumerate(task.batches(given, draws), start=1):
            if (epoch, step) == kill_in:
                os.kill(os.getpid(), signal.SIGKILL)
            yield pair

    with torch.random.fork_rng():
        torch.manual_seed(99 if resume else 3)
        history = Trainer(TrainConfig(**{**SETTINGS, **changes})).fit(
            model,
            graph,
            batches,
            mean_margin(graph, task),
            generator=torch.Generator().manual_seed(99 if resume else 4),
            monitor=monitor,
            run_dir=folder,
            resume=resume,
        )
    return model, history


def content(history):
    rows = [(epoch.number, dict(epoch.terms), epoch.value) for epoch in history.epochs]
    return rows, history.best_epoch, history.best_value, history.stopped_early


@pytest.fixture(scope="module")
def straight():
    torch.set_num_threads(1)
    return train(None)


@pytest.fixture
def finished(tmp_path):
    """A folder with the state of a run of two epochs."""
    train(tmp_path, epochs=2, schedule="constant")
    return tmp_path


def test_a_killed_run_resumes_bit_for_bit(tmp_path, straight):
    script = (
        "import torch; torch.set_num_threads(1); from pathlib import Path; from tests.training.test_resume import train; "
        f"train(Path({str(tmp_path)!r}), kill_in=(4, 3))"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 4  # a header and three epochs

    model, history = train(tmp_path, resume=True)
    assert content(history) == content(straight[1])
    for name, weight in straight[0].state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0] == "epoch,seconds,loss/bpr,loss/norm,val/margin"
    assert [line.split(",")[0] for line in lines[1:]] == list("123456")
    assert [float(line.split(",")[-1]) for line in lines[1:]] == [epoch.value for epoch in straight[1].epochs]


def test_rarer_checkpoints_resume_from_an_earlier_epoch(tmp_path, straight):
    train(tmp_path, checkpoint_every=4)
    before = (tmp_path / "history.csv").read_text().splitlines()
    model, history = train(tmp_path, resume=True, checkpoint_every=0)  # epochs 5 and 6 again
    assert content(history) == content(straight[1])
    assert torch.equal(model.users, straight[0].users)
    after = (tmp_path / "history.csv").read_text().splitlines()
    assert [line.split(",")[2:] for line in before] == [line.split(",")[2:] for line in after]


def test_resuming_a_finished_run_returns_it(tmp_path, straight):
    train(tmp_path)
    model, history = train(tmp_path, resume=True)
    assert content(history) == content(straight[1])
    assert torch.equal(model.users, straight[0].users)


def test_early_stopping_is_resumed(tmp_path):
    settings = {"epochs": 50, "schedule": "constant", "patience": 2, "min_delta": 1e9}  # stops after epoch 3
    best, whole = train(None, **settings)
    train(tmp_path, **{**settings, "epochs": 2})
    model, history = train(tmp_path, resume=True, **settings)
    assert history.best_epoch == 1
    assert torch.equal(model.users, best.users)  # the best weights are older than the state's own
    assert content(history) == content(whole)
    assert len(history.epochs) == 3
    assert history.stopped_early


def test_no_partial_file_is_left(finished):
    assert sorted(path.name for path in finished.iterdir() if path.is_file()) == ["history.csv", STATE_FILE]


def test_a_new_run_removes_the_state_of_an_older_one(finished):
    train(finished, epochs=1, schedule="constant", checkpoint_every=0)
    fails(finished, "there is no training state")


def fails(folder: Path | None, message: str, **changes) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        train(folder, resume=True, **{"epochs": 2, "schedule": "constant", **changes})
    assert "\n" not in str(caught.value)


def test_unusable_states_are_refused(tmp_path, finished):
    path = finished / STATE_FILE
    whole = path.read_bytes()
    fails(None, "needs a run folder")
    fails(tmp_path / "elsewhere", "there is no training state .*elsewhere.* to resume from")
    for length in (0, 5, 200, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        fails(finished, f"{STATE_FILE} is damaged or not a training state")
    path.write_bytes(json.dumps({"a": 1}).encode() * 100)
    fails(finished, "is damaged")
    save_file({"a": torch.zeros(2)}, path)
    fails(finished, "is not a training state")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state, tensors: state.pop("epochs"), "its header lacks"),
        (lambda state, tensors: state.update(stopping=[1]), "its header lacks"),
        (lambda state, tensors: state["stopping"].update(evil=1), "unknown setting 'evil'"),
        (lambda state, tensors: state.update(epochs=[{"number": "x"}]), "has 'x' for 'number'"),
        (lambda state, tensors: tensors.update({"evil/x": torch.zeros(1)}), "it holds the unknown 'evil/x'"),
        (lambda state, tensors: tensors.update({"optimizer/x.step": torch.zeros(1)}), "it holds the unknown 'optimizer/x.step'"),
        (lambda state, tensors: tensors.update({"optimizer/99.step": torch.zeros(1)}), "'step' of parameter 99 has no place"),
        (
            lambda header, tensors: tensors.update({"optimizer/0.exp_avg": torch.zeros(10**5)}),
            "'exp_avg' of parameter 0 has no place",
        ),
        (lambda state, tensors: tensors.update({"random/cpu": torch.zeros(3)}), "its random states"),
        (lambda state, tensors: tensors.update({"best/items": torch.zeros(3)}), "weight 'items' is"),
    ],
)
def test_states_of_strangers_are_refused(finished, change, message):
    path = finished / STATE_FILE
    with safe_open(path, "pt") as file:
        header, tensors = dict(file.metadata()), {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    state = json.loads(header["state"])
    change(state, tensors)
    text = json.dumps(state)
    save_file(tensors, path, {**header, "state": text, "checksum": checksum(tensors, header["owner"] + text)})
    fails(finished, message)


def test_states_of_other_runs_are_refused(finished):
    fails(finished, "written with monitor = margin, but monitor is recall@20 now", monitor="recall@20")
    fails(finished, "written with lr = 0.05, but lr is 0.01 now", lr=0.01)
    fails(finished, r"model_settings = DropoutConfig\(dim=6\), but", dim=7)
    graph, task = toy_task()
    smaller = seeded(Dropout, graph, DropoutConfig())
    smaller.items.data = smaller.items.data[:-1]
    with pytest.raises(
        ValueError, match=r"belongs to other data or another model: weight 'items' is \(16, 6\) there, but \(15, 6\) here"
    ):
        Trainer(TrainConfig(**{**SETTINGS, "epochs": 2, "schedule": "constant"})).fit(
            smaller, graph, task.batches, None, generator=torch.Generator(), monitor="margin", run_dir=finished, resume=True
        )


def test_tied_weights_can_be_saved(tmp_path):
    graph, task = toy_task()
    model = seeded(Dropout, graph, DropoutConfig())
    model.alias = model.users  # two names of one weight
    config = TrainConfig(**{**SETTINGS, "epochs": 2})
    Trainer(config).fit(model, graph, task.batches, lambda model: 0.0, generator=torch.Generator(), run_dir=tmp_path)
    again = seeded(Dropout, graph, DropoutConfig())
    again.alias = again.users
    Trainer(config).fit(again, graph, task.batches, lambda model: 0.0, generator=torch.Generator(), run_dir=tmp_path, resume=True)
    assert torch.equal(model.users, again.users)
