"""Command line from arguments to output."""

import json
import subprocess
import sys
from dataclasses import fields, replace

import pandas as pd
import pytest
import torch
import yaml

from gmmrec.cli.main import main
from gmmrec.data.features import FeatureTable
from gmmrec.data.write import write_folder
from gmmrec.models import MODELS
from gmmrec.tasks.query import ContextQuery, HistoryQuery, LinkPredictionQuery, OutfitQuery, RatingQuery, UserQuery
from gmmrec.testing import checkerboard, circle, rated_checkerboard, with_outfits

KINDS = {
    UserQuery: "pictures",
    ContextQuery: "times",
    HistoryQuery: "times",
    RatingQuery: "ratings",
    OutfitQuery: "outfits",
    LinkPredictionQuery: "triples",
}
"""Files of a data folder for models of each query type."""
OTHERS = {"ease": "plain", "mm-rec": "impressions", "vlsnr": "impressions"}
RANKING = {"recall@20", "ndcg@20"}
METRICS = {
    "plain": RANKING,
    "pictures": RANKING,
    "times": RANKING,
    "ratings": {"rmse", "mae"},
    "impressions": {*RANKING, "impressions/auc", "impressions/mrr"},
    "outfits": {"fill_in_the_blank/accuracy", "compatibility/auc"},
    "triples": {"link_prediction/mrr", "link_prediction/hits@10"},
}


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


@pytest.fixture(scope="module")
def folders(data, tmp_path_factory):
    """One data folder per query type."""
    parent = tmp_path_factory.mktemp("kinds")
    board, _ = checkerboard(30, 20)
    regions = torch.randn(20, 3, 5, generator=torch.Generator().manual_seed(0))
    board = replace(board, features={**board.features, "regions": FeatureTable("regions", regions)})
    log = board.interactions
    order = torch.randperm(len(log), generator=torch.Generator().manual_seed(0))
    written = {
        "pictures": board,
        "times": replace(board, interactions=replace(log, time=1_500_000_000 + 7_000 * order)),
        "outfits": with_outfits(board),
        "triples": circle(12),
    }
    found = {"plain": data} | {kind: write_folder(dataset, parent / kind) for kind, dataset in written.items()}
    outfits = written["outfits"].outfits
    rows = [outfits.items.take(torch.tensor([n])).values.tolist() for n in range(len(outfits))]
    frame = {"items": [" ".join(map(str, row)) for row in rows], "user": [f"u{u}" for u in outfits.user.tolist()]}
    frame["split"] = [("train", "valid", "test")[part] for part in outfits.part.tolist()]
    pd.DataFrame(frame).to_csv(found["outfits"] / "outfits.csv", index=False)
    found["impressions"] = write_folder(replace(board, interactions=log.take(order[:0])), parent / "impressions")
    for name in ("interactions.csv.gz", "manifest.json"):
        (found["impressions"] / name).unlink()
    shows = [f"{n}\tu{n % 7}\t11/{1 + n // 2}/2019 8:00:00 AM\t{n % 20} {n % 9}\t{n % 13}-1 {13 + n % 7}-0\n" for n in range(40)]
    (found["impressions"] / "behaviors.tsv").write_text("".join(shows))
    rated, _ = rated_checkerboard(30, 20)
    texts = [" ".join(rated.reviews.words[word] for word in review if word) for review in rated.reviews.tokens.tolist()]
    columns = {"user": rated.interactions.user, "item": rated.interactions.item, "rating": rated.interactions.weight}
    found["ratings"] = parent / "ratings"
    found["ratings"].mkdir()
    pd.DataFrame({**columns, "review": texts}).to_csv(found["ratings"] / "interactions.csv", index=False)
    return found


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


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("lightgcn", "popularity")])  # trained elsewhere here
def test_every_model_trains_on_data_of_its_kind(folders, tmp_path, name):
    config = MODELS[name].config_class
    kind = OTHERS.get(name, KINDS[MODELS[name].query_type])
    flags = ["--train.epochs", "1", "--train.progress", "false", "--eval.bootstrap", "0"]
    flags += ["--model.dim", "8"] if "dim" in {field.name for field in fields(config)} else []
    flags += ["--model.adapt_steps", "1"] if name == "mml" else []  # slow otherwise
    flags += ["--split", "leave_last_out"] if kind == "times" else []
    assert main(["train", "-m", name, "-d", str(folders[kind]), "--out", str(tmp_path / "run"), *flags]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["model"] == name
    assert set(metrics["test"]) == set(metrics["valid"]) >= METRICS[kind]


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


def test_evaluate_warns_of_sampled_candidates(capsys, run):
    warning = "sampled metrics are misleading and may order models differently than full rankings (Krichene and Rendle, KDD 2020)"
    code, out, _ = output(capsys, "evaluate", str(run), "--eval.num_sampled", "5")
    assert code == 0
    assert f"Ranked among 5 candidates sampled uniformly: {warning}." in out
    _, out, _ = output(capsys, "evaluate", str(run), "--eval.num_sampled", "5", "--eval.sampled_by", "popularity", "--json")
    found = json.loads(out)
    assert (found["sampled"], found["sampled_by"], found["warning"]) == (5, "popularity", warning)
    _, out, _ = output(capsys, "evaluate", str(run))
    assert "mislead" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "-m", "lightgcm", "-d", "DATA"], "unknown model 'lightgcm'; the nearest known name is 'lightgcn'"),
        (
            ["train", "-m", "lightgcn", "-d", "DATA", "--train.lrr", "1"],
            "unknown setting 'train.lrr'; the nearest known name is 'train.lr'",
        ),
        (["train", "-m", "lightgcn", "-d", "DATA", "--model.dim", "0"], "dim must be greater than 0, but is 0"),
        (["train", "-m", "lightgcn"], "no data set given"),
        (["train", "-d", "DATA"], "no model given"),
        (["train", "-m", "mgat", "-d", "DATA"], "MGAT needs at least one modality"),
        (["train", "-m", "lightgcn", "-d", "nowhere"], "nowhere"),
        (["train", "-m", "lightgcn", "-d", "DATA", "-c", "nothing.yaml"], "settings file nothing.yaml does not exist"),
        (["recommend", "RUN", "--users", "nobody"], "unknown user id 'nobody'"),
        (["recommend", "RUN", "--users", "u1", "-k", "0"], "k must be at least 1"),
        (["recommend", "RUN", "--users", "u1", "--out", "list.xlsx"], "--out must end in"),
        (["similar", "RUN", "--items", "abc"], "unknown item id 'abc'; the ids are integers"),
        (["evaluate", "nowhere"], "nowhere is not a finished run"),
        (["evaluate", "RUN", "--eval.ks", "a"], "--eval.ks takes list lengths"),
    ],
)
def test_mistakes_are_reported_in_one_sentence_with_exit_code_2(capsys, data, run, arguments, message):
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


def test_a_config_file_is_read_and_flags_override_it(capsys, data, tmp_path):
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
