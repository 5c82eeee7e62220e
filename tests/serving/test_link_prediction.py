import pytest
import torch

import gmmrec
from gmmrec.cli.main import main
from gmmrec.data.write import write_folder
from gmmrec.runs.run import Run
from gmmrec.tasks.query import LinkPredictionQuery
from gmmrec.testing import checkerboard, circle

SMALL = {"dim": 8, "num_heads": 2, "fusion_layers": 1, "bootstrap": 0, "progress": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "circle"
    written = write_folder(circle(12), path.with_name("data"))  # as a data folder, with tables of ids alone
    gmmrec.fit(written, "mkgformer", out=path, objective="softmax", epochs=2, **SMALL)
    return path


def test_answers_are_the_best_unknown_entities(folder) -> None:
    run = Run.load(folder)
    frame = run.link("e5", "opposite", 20)
    with torch.no_grad():
        scores = run.model.score(
            run.model.encode(run.graph), LinkPredictionQuery(torch.tensor([5]), torch.tensor([1])), torch.arange(12)
        )[0]
    expected = [f"e{row}" for row in scores.argsort(descending=True).tolist() if row != 11]  # e5 is opposite e11: known
    assert frame["entity_id"].tolist() == expected
    assert frame["rank"].tolist() == list(range(1, 12))
    assert len(run.link("e5", "opposite", 20, exclude_known=False)) == 12


def test_heads_are_predicted_by_inverse_relations(folder) -> None:
    run = Run.load(folder)
    frame = run.link(relation="next", tail="e5", k=20)
    assert "e4" not in set(frame["entity_id"])  # e4 is known
    assert not frame.equals(run.link("e5", "next", 20))


def test_a_link_prediction_run_is_saved_evaluated_and_compared(folder, capsys) -> None:
    run = Run.load(folder)
    found = run.evaluate("test").mean()
    assert set(found) == {"mrr", "hits@1", "hits@3", "hits@10", "mean_rank"}
    assert run.report["test"]["link_prediction/mrr"] == pytest.approx(found["mrr"])
    assert (folder / "results_link_prediction.safetensors").is_file()
    assert not (folder / "results_ranking.safetensors").exists()
    assert main(["evaluate", str(folder)]) == 0
    assert "triples with one end to predict" in capsys.readouterr().out


def test_the_command_prints_what_the_run_answers(folder, capsys) -> None:
    assert main(["link", str(folder), "--head", "e5", "--relation", "next", "-k", "3"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[0] == Run.load(folder).link("e5", "next")["entity_id"][0]
    assert main(["link", str(folder), "--tail", "e5", "--relation", "next", "--json"]) == 0
    assert capsys.readouterr().out.startswith('{"rows": [{"entity_id"')
    assert main(["link", str(folder), "--head", "e55", "--relation", "next"]) == 2
    assert "unknown entity id 'e55' (did you mean 'e5'?)" in capsys.readouterr().err


def test_bad_input_is_refused(folder) -> None:
    run = Run.load(folder)
    with pytest.raises(KeyError, match=r"unknown relation id 'nxt' \(did you mean 'next'\?\)"):
        run.link("e1", "nxt")
    with pytest.raises(ValueError, match="give a relation and one end"):
        run.link("e1", "next", tail="e2")
    with pytest.raises(ValueError, match="k must be at least 1"):
        run.link("e1", "next", 0)
    with pytest.raises(ValueError, match="does not predict links"):
        gmmrec.fit(checkerboard()[0], "popularity").link("a", "b")
