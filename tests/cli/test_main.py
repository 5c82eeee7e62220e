"""The command as a person types it."""

import json
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from gmmrec.cli.main import main
from tests.toy import checkerboard


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "board"
    folder.mkdir()
    dataset, _ = checkerboard(40, 30)
    log = dataset.interactions
    users, items = dataset.vocabularies["user"].ids(log.user), dataset.vocabularies["item"].ids(log.item)
    pd.DataFrame({"user": users, "item": items}).to_csv(folder / "interactions.csv", index=False)
    pd.DataFrame({"item": range(30), "title": [f"film {i}" for i in range(30)]}).to_csv(folder / "items.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    flags = ["--train.epochs", "2", "--model.dim", "8", "--train.progress", "false", "--seed", "1", "--split", "random"]
    assert main(["train", "-m", "lightgcn", "-d", str(data), "--out", str(folder), *flags]) == 0
    return folder


def output(capsys, *arguments):
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_train_writes_a_run_folder(run):
    names = {path.name for path in run.iterdir()}
    assert {"config.yaml", "model.safetensors", "metrics.json", "history.csv", "environment.json", "vocabularies.json"} <= names
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"test", "valid", "groups", "timing", "peak_rss_mib"} <= set(metrics)
    assert {"recall@20", "ndcg@20"} <= set(metrics["test"])


def test_json_is_one_object_and_nothing_else(capsys, run, data, tmp_path):
    code, out, _ = output(
        capsys, "train", "-m", "popularity", "-d", str(data), "--out", str(tmp_path / "p"), "--json", "--train.progress", "false"
    )
    assert code == 0
    assert json.loads(out)["model"] == "popularity"
    for command in (
        ["evaluate", str(run)],
        ["recommend", str(run), "--users", "u1", "-k", "3"],
        ["similar", str(run), "--items", "2"],
        ["data", "describe", "-d", str(data)],
        ["graph", "-d", str(data)],
        ["doctor"],
        ["compare", str(run), str(tmp_path / "p")],
    ):
        code, out, err = output(capsys, *command, "--json")
        assert code == 0, (command, err)
        assert isinstance(json.loads(out), dict), command


def test_models_lists_all(capsys):
    from gmmrec.models import MODELS

    code, out, _ = output(capsys, "models", "--json")
    rows = json.loads(out)
    assert code == 0
    assert [row["name"] for row in rows] == list(MODELS)
    assert all(set(row) == {"name", "paper", "query", "modalities", "fidelity"} and all(row.values()) for row in rows)
    code, out, _ = output(capsys, "models")
    assert all(name in out for name in MODELS)


def test_recommend_prints_titles_and_writes_files(capsys, run, tmp_path):
    code, out, _ = output(capsys, "recommend", str(run), "--users", "u1,u2", "-k", "3")
    assert code == 0
    assert out.count("film") == 6
    for name in ("list.csv", "list.tsv", "list.json", "list.parquet"):
        assert main(["recommend", str(run), "--users", "u1", "-k", "2", "--out", str(tmp_path / name)]) == 0
    frame = pd.read_csv(tmp_path / "list.csv")
    assert frame.user_id.tolist() == ["u1", "u1"]
    assert frame.item_id.dtype.kind == "i"
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "list.parquet"), frame, check_dtype=False)
    code, out, _ = output(capsys, "recommend", str(run), "--history", "1,3,5", "-k", "3")
    assert code == 0
    assert "history-0" in out


def test_evaluate_repeats_the_report(capsys, run):
    _, out, _ = output(capsys, "evaluate", str(run), "--json")
    metrics = json.loads((run / "metrics.json").read_text())
    assert json.loads(out)["test"]["recall@20"] == pytest.approx(metrics["test"]["recall@20"])
    _, out, _ = output(capsys, "evaluate", str(run), "--eval.mask", "train+valid", "--json")
    assert json.loads(out)["masked"] == "train+valid"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "-m", "lightgcm", "-d", "DATA"], "unknown model 'lightgcm'; the nearest known name is 'lightgcn'"),
        (
            ["train", "-m", "lightgcn", "-d", "DATA", "--train.lrr", "1"],
            "unknown setting 'train.lrr'; the nearest known name is 'train.lr'",
        ),
        (["train", "-m", "lightgcn", "-d", "DATA", "--model.dim", "0"], "dim must be greater than 0, but is 0"),
        (["train", "-m", "lightgcn"], "no data set was named"),
        (["train", "-d", "DATA"], "no model was named"),
        (["train", "-m", "mgat", "-d", "DATA"], "MGAT needs at least one modality"),
        (["train", "-m", "lightgcn", "-d", "nowhere"], "nowhere"),
        (["train", "-m", "lightgcn", "-d", "DATA", "-c", "nothing.yaml"], "there is no settings file nothing.yaml"),
        (["recommend", "RUN", "--users", "nobody"], "unknown user id 'nobody'"),
        (["recommend", "RUN", "--users", "u1", "-k", "0"], "k must be at least 1"),
        (["recommend", "RUN", "--users", "u1", "--out", "list.xlsx"], "--out must end in"),
        (["similar", "RUN", "--items", "abc"], "unknown item id 'abc'; the ids are integers"),
        (["evaluate", "nowhere"], "nowhere is not a finished run"),
        (["evaluate", "RUN", "--eval.ks", "a"], "--eval.ks takes list lengths"),
    ],
)
def test_one_sentence_and_exit_code_2(capsys, data, run, arguments, message):
    filled = [{"DATA": str(data), "RUN": str(run)}.get(argument, argument) for argument in arguments]
    code, out, err = output(capsys, *filled)
    assert code == 2
    assert out == ""
    assert message in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1


def test_unknown_arguments_are_refused(capsys, run):
    with pytest.raises(SystemExit) as caught:
        main(["recommend", str(run), "--usr", "u1"])
    assert caught.value.code == 2
    assert "--usr" in capsys.readouterr().err


def test_settings_are_listed(capsys):
    code, out, _ = output(capsys, "train", "-m", "lightgcn", "--settings")
    assert code == 0
    assert all(flag in out for flag in ("--train.lr", "--model.dim", "--split.strategy", "--eval.mask", "--train.sampled"))


def test_a_config_file_is_read_and_flags_win(capsys, data, tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text(
        f"model_name: lightgcn\nseed: 5\ndata: {{path: {data}}}\nmodel: {{dim: 4}}\ntrain: {{epochs: 1, progress: false}}\n"
    )
    code, _, _ = output(capsys, "train", "-c", str(config), "--model.dim", "6", "--out", str(tmp_path / "out"), "--json")
    assert code == 0
    written = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert (written["seed"], written["model"]["dim"], written["train"]["epochs"]) == (5, 6, 1)


def test_the_command_starts_without_the_heavy_libraries():
    code = "import sys, gmmrec.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
