"""Signals during a training: the first finishes the epoch, the second stops at once, and both say how to go on."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

from gmmrec.cli.main import main
from gmmrec.cli.stopping import stopping
from gmmrec.testing import checkerboard
from gmmrec.training.trainer import Trainer

FLAGS = ["--model.dim", "8", "--train.progress", "false", "--eval.bootstrap", "0", "--train.batch_size", "256"]


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = checkerboard(40, 30)[0].interactions
    pd.DataFrame({"user": log.user, "item": log.item}).to_csv("log.csv", index=False)
    return ["train", "-m", "lightgcn", "-d", "log.csv", *FLAGS]


def signals(monkeypatch, *, epoch, numbers):
    """Send signals while the steps of an epoch run."""
    original = Trainer._steps

    def steps(self, model, optimizer, batches, number, *others):
        if number == epoch:
            for each in numbers:
                os.kill(os.getpid(), each)
        return original(self, model, optimizer, batches, number, *others)

    monkeypatch.setattr(Trainer, "_steps", steps)


@pytest.mark.parametrize(("number", "name", "code"), [(signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "SIGTERM", 143)])
def test_the_first_signal_finishes_the_epoch_and_saves(capsys, monkeypatch, data, number, name, code):
    assert main([*data, "--out", "whole", "--train.epochs", "4"]) == 0
    with monkeypatch.context() as patch:
        signals(patch, epoch=2, numbers=[number])
        flags = ["--out", "a", "--train.epochs", "4", "--train.checkpoint_every", "3"]
        assert main([*data, *flags]) == code
    said = capsys.readouterr().err
    assert f"{name}: finishing the epoch; once more to stop at once\n" in said
    assert said.endswith(f"stopped by {name} after epoch 2, which is saved; resume it with 'gmmrec train --resume a'\n")
    assert main(["recommend", "a", "--users", "1"]) == 2
    assert "the run of lightgcn in a is not finished; resume it with 'gmmrec train --resume a'" in capsys.readouterr().err
    assert main(["train", "--resume", "a"]) == 0
    columns = [name for name in pd.read_csv("a/history.csv") if name != "seconds"]
    pd.testing.assert_frame_equal(pd.read_csv("a/history.csv")[columns], pd.read_csv("whole/history.csv")[columns])


def test_the_second_signal_stops_at_once(capsys, monkeypatch, data):
    with monkeypatch.context() as patch:
        signals(patch, epoch=3, numbers=[signal.SIGTERM, signal.SIGTERM])
        assert main([*data, "--out", "a", "--train.epochs", "4"]) == 143
    sentence = "stopped at once by SIGTERM; the last state written is that of epoch 2; resume it with 'gmmrec train --resume a'\n"
    assert capsys.readouterr().err.endswith(sentence)
    assert main(["train", "--resume", "a", "--json"]) == 0


def test_a_signal_before_training_stops_at_once_and_leaves_nothing(capsys, monkeypatch, data):
    import gmmrec.runs.recipe

    original = gmmrec.runs.recipe.load_dataset

    def load(*arguments, **settings):
        os.kill(os.getpid(), signal.SIGINT)
        return original(*arguments, **settings)

    monkeypatch.setattr(gmmrec.runs.recipe, "load_dataset", load)
    assert main([*data, "--out", "a"]) == 130
    assert "stopped at once by Ctrl-C; no epoch was saved; nothing was begun, so give the command again" in capsys.readouterr().err
    assert not os.path.exists("a")


def test_handlers_are_put_back_and_libraries_install_none(data):
    import gmmrec

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    gmmrec.fit("log.csv", "lightgcn", epochs=1, dim=8, eval={"bootstrap": 0}, train={"progress": False})
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    with stopping():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_other_threads_are_left_alone():
    found = []

    def work():
        with stopping() as should_stop:
            found.append(should_stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]


def test_a_real_process_is_stopped_and_resumed(data):
    command = [sys.executable, "-m", "gmmrec", *data, "--out", "a", "--train.epochs", "100000", "--train.patience", "100000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not (os.path.exists("a/history.csv") and Path("a/history.csv").read_text().count("\n") > 2):
            assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
        said = process.stderr.read()
    assert process.returncode == 143
    epoch = int(re.search(r"stopped by SIGTERM after epoch (\d+), which is saved", said)[1])
    assert main(["train", "--resume", "a", "--train.epochs", str(epoch + 1)]) == 0
    assert len(pd.read_csv("a/history.csv")) == epoch + 1
