"""A class of one's own, and parts of one's own, in everything that a run can do; and what is never imported."""

import json
import re
import struct
import sys

import pandas as pd
import pytest
import torch
import yaml

import gmmrec
from gmmrec.evaluation.compare import compare, read_runs
from gmmrec.runs.combine import alike
from gmmrec.runs.config import read_config
from gmmrec.runs.recipe import run as run_recipe
from gmmrec.testing import checkerboard
from tests.runs.folders import listed_again
from tests.runs.mine import imported, install

QUICK = {"epochs": 2, "dim": 8, "batch_size": 64, "progress": False}
FUSED = {**QUICK, "num_layers": 1, "content": "light"}


@pytest.fixture(scope="module")
def toy():
    return checkerboard(40, 30)[0]


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    with imported(tmp_path_factory.mktemp("module")) as module:
        yield module


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def folder(toy, mine, base):
    gmmrec.fit(toy, mine.Mine, out=base / "mine", **QUICK)
    return base / "mine"


@pytest.fixture(scope="module")
def lightgcn(toy, base):
    gmmrec.fit(toy, "lightgcn", out=base / "lightgcn", **QUICK)
    return base / "lightgcn"


@pytest.fixture(scope="module")
def fused(toy, mine, base):
    gmmrec.fit(toy, "graph-fusion", out=base / "fused", parts={"fusion": mine.Loud}, **FUSED)
    return base / "fused"


def refused(message):
    return pytest.raises(ValueError, match=f"^{re.escape(message)}")


def test_a_class_is_trained_saved_and_loaded(toy, mine, folder):
    run = gmmrec.fit(toy, "mine:Mine", **QUICK)
    again = gmmrec.load(folder, mine.Mine)
    assert isinstance(again.model, mine.Mine)
    assert again.config.model_name == "mine:Mine"
    assert again.evaluate("test").mean() == run.results["test"].mean()
    pd.testing.assert_frame_equal(again.recommend(["u1", "u7"], k=5), run.recommend(["u1", "u7"], k=5))
    assert len(again.similar_items([3], k=5)) == 5
    assert again.explain("u1", 3).weight.tolist() == [1.0]
    assert json.loads((folder / "run.json").read_text())["model"] == "mine:Mine"


def test_a_class_that_is_not_handed_in_is_not_imported(mine, folder):
    needs = "the model is of the class mine:Mine, which comes from outside gmmrec and is not imported by its name alone; "
    needs += "pass that class"
    with refused(f"{needs}: model_class=… in Python, or -m mine:Mine on the command line"):
        gmmrec.load(folder)
    with refused(f"{needs}, not mine:Other: model_class=…"):
        gmmrec.load(folder, model_class=mine.Other)
    assert isinstance(gmmrec.load(folder, [mine.Other, mine.Mine]).model, mine.Mine)


def test_runs_are_compared_blended_and_reranked(mine, folder, lightgcn, tmp_path):
    compared = compare(read_runs([folder, lightgcn]), metric="recall@20")
    assert {row.run for row in compared.rows} == {"mine", "lightgcn"}
    with refused("the model is of the class mine:Mine"):
        gmmrec.blend([folder, lightgcn])
    blended = gmmrec.blend([folder, lightgcn], weights=[0.5, 0.5], model_class=mine.Mine, out=tmp_path / "blend")
    ranked = gmmrec.rerank(lightgcn, folder, top=10, model_class=mine.Mine, out=tmp_path / "rerank")
    for made in (blended, ranked):
        name = made.config.model_name.replace("two-stage", "rerank")
        with refused("the model is of the class mine:Mine"):
            gmmrec.load(tmp_path / name)
        again = gmmrec.load(tmp_path / name, mine.Mine)
        assert "mine:Mine" in again.config.members
        assert again.evaluate("test").mean() == made.results["test"].mean()
        pd.testing.assert_frame_equal(again.recommend(["u1"], k=5), made.recommend(["u1"], k=5))


def test_a_run_goes_on(toy, mine, tmp_path):
    values = {"model": {"dim": 8}, "train": {"batch_size": 64, "progress": False}}
    configs = [read_config(mine.Mine, {**values, "train": {**values["train"], "epochs": epochs}}) for epochs in (2, 4)]
    run_recipe(configs[0], dataset=toy, folder=tmp_path / "a")
    resumed = run_recipe(configs[1], dataset=toy, folder=tmp_path / "a", resume=True)
    straight = run_recipe(configs[1], dataset=toy)
    assert all(torch.equal(a, b) for a, b in zip(straight.model.parameters(), resumed.model.parameters(), strict=True))
    other = read_config(mine.Other, {**values, "train": {**values["train"], "epochs": 4}})
    with pytest.raises(ValueError, match="cannot be resumed: model_name was mine:Mine and is mine:Other; give"):
        run_recipe(other, dataset=toy, folder=tmp_path / "a", resume=True)


def test_init_from_takes_classes_and_parts_from_outside(toy, mine, folder, fused):
    with refused("the model is of the class mine:Mine"):
        gmmrec.fit(toy, "lightgcn", init_from=folder, **QUICK)
    still = {**QUICK, "epochs": 1, "lr": 1e-30}
    source = gmmrec.load(folder, mine.Mine).model
    second = gmmrec.fit(toy, "lightgcn", init_from=folder, classes=mine.Mine, l2=0.0, **still)
    assert torch.equal(second.model.items, source.items)
    third = gmmrec.fit(toy, mine.Mine, init_from=folder, **still)  # the class itself is handed in already
    assert torch.equal(third.model.items, source.items)
    assert gmmrec.fit(toy, "graph-fusion", init_from=fused, parts={"fusion": mine.Loud}, **{**FUSED, "epochs": 1})


def test_parts_are_trained_saved_and_loaded(toy, mine, fused):
    run = gmmrec.fit(toy, "graph-fusion", parts={"fusion": mine.Loud}, **FUSED)
    assert not bool((run.model.fuse_item.weight == 1).all())  # it learns
    again = gmmrec.load(fused, parts={"fusion": mine.Loud})
    assert isinstance(again.model.fuse_user, mine.Loud)
    assert again.config == gmmrec.load(fused, parts={"fusion": [mine.Quiet, mine.Loud]}).config
    assert again.evaluate("test").mean() == run.results["test"].mean()
    assert yaml.safe_load((fused / "config.yaml").read_text())["parts"] == {"fusion": "mine:Loud"}
    with refused(f"{fused / 'model.safetensors'} holds a model with the fusion mine:Loud, which is not imported by its name alone"):
        gmmrec.load(fused)
    with refused(f"{fused / 'model.safetensors'} was trained with the fusion mine:Loud, but mine:Quiet is given; pass the former"):
        gmmrec.load(fused, parts={"fusion": mine.Quiet})


def test_runs_with_other_parts_are_other_runs(toy, mine, fused, tmp_path):
    runs = [gmmrec.fit(toy, "graph-fusion", parts=p, **FUSED) for p in ({"fusion": mine.Loud}, {"fusion": mine.Quiet}, None)]
    assert alike([*runs, gmmrec.load(fused, parts={"fusion": mine.Loud})]) == [[0, 3], [1], [2]]
    config = read_config("graph-fusion", {"model": {"dim": 8, "num_layers": 1, "content": "light"}, "train": {"epochs": 3}})
    run_recipe(config, dataset=toy, folder=tmp_path / "a", parts={"fusion": mine.Loud})
    with pytest.raises(ValueError, match=r"parts was \{'fusion': 'mine:Loud'\} and is \{'fusion': 'mine:Quiet'\}"):
        run_recipe(config, dataset=toy, folder=tmp_path / "a", parts={"fusion": mine.Quiet}, resume=True)


def test_members_of_a_blend_have_parts_of_their_own(toy, mine, fused, folder, base, tmp_path):
    quiet = gmmrec.fit(toy, "graph-fusion", out=base / "quiet", parts={"fusion": mine.Quiet}, **FUSED)
    both = {"fusion": [mine.Loud, mine.Quiet]}
    members = [fused, base / "quiet", folder]
    made = gmmrec.blend(members, weights=[1, 1, 1], model_class=mine.Mine, parts=both, out=tmp_path / "b")
    again = gmmrec.load(tmp_path / "b", mine.Mine, parts=both)
    assert [type(member.fuse_item).__name__ for member in list(again.model.members)[:2]] == ["Loud", "Quiet"]
    assert again.evaluate("test").mean() == made.results["test"].mean()
    with pytest.raises(ValueError, match="was trained with the fusion mine:Quiet, but mine:Loud is given"):
        gmmrec.load(tmp_path / "b", mine.Mine, parts={"fusion": mine.Loud})
    in_memory = gmmrec.blend([quiet, gmmrec.load(folder, mine.Mine)], weights=[1, 1])
    assert type(in_memory.model.members[0].fuse_item) is mine.Quiet


def test_a_part_without_a_name_is_refused_before_training_where_the_run_is_kept(toy, mine, tmp_path):
    parts = {"fusion": lambda dim, num_tokens: mine.Loud(dim, num_tokens)}
    with refused("the part 'fusion' has no name by which it could be handed in again"):
        gmmrec.fit(toy, "graph-fusion", out=tmp_path / "a", parts=parts, **FUSED)
    assert not (tmp_path / "a").exists()
    run = gmmrec.fit(toy, "graph-fusion", parts=parts, **FUSED)
    with refused("the part 'fusion' has no name by which it could be handed in again"):
        run.save(tmp_path / "a")


def test_a_class_from_a_notebook_is_loaded_by_another_name_of_its_module(toy, mine, tmp_path):
    space = {"__name__": "__main__"}
    exec("from mine import Mine as Base\nclass Sketch(Base): pass", space)
    run = gmmrec.fit(toy, space["Sketch"], out=tmp_path / "a", **QUICK)
    exec("class Sketch(Base): pass", space)  # its cell was run again
    assert gmmrec.load(tmp_path / "a", space["Sketch"]).evaluate("test").mean() == run.results["test"].mean()
    moved = type("Sketch", (mine.Mine,), {"__module__": "sketches"})
    assert gmmrec.load(tmp_path / "a", moved).evaluate("test").mean() == run.results["test"].mean()


def test_an_installed_class_needs_no_handing_in(toy, tmp_path, monkeypatch):
    site = tmp_path / "site"
    site.mkdir()
    install(site)
    monkeypatch.syspath_prepend(str(site))
    run = gmmrec.fit(toy, "theirs", out=tmp_path / "run", **QUICK)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["model"] == "theirs"
    assert gmmrec.load(tmp_path / "run").evaluate("test").mean() == run.results["test"].mean()
    blended = gmmrec.blend([tmp_path / "run", run], weights=[1, 1], out=tmp_path / "blend")
    assert gmmrec.load(tmp_path / "blend").config.members == ("theirs", "theirs") == blended.config.members
    sys.modules.pop("theirs_package", None)


def forge(path, name):
    """Put another name into the header of a file of weights."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"]["model"] = name
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


@pytest.mark.parametrize("name", ["os:system", "evil:Class", "evil", "gmmrec.models.lightgcn:LightGCN"])
def test_names_in_files_import_nothing(toy, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "evil.py").write_text("open('trace', 'w').close()\n")
    gmmrec.fit(toy, "popularity", out=tmp_path / "run")
    forge(tmp_path / "run" / "model.safetensors", name)
    listed_again(tmp_path / "run")
    with refused(f"the model is of the class {name}, which comes from outside gmmrec and is not imported by its name alone"):
        gmmrec.load(tmp_path / "run")
    assert not (tmp_path / "trace").exists()
    assert "evil" not in sys.modules


def test_folders_of_another_format_are_refused(lightgcn, tmp_path):
    old = gmmrec.load(lightgcn).save(tmp_path / "old")
    manifest = json.loads((old / "manifest.json").read_text())
    assert manifest["about"]["format"] == 3
    (old / "manifest.json").write_text(json.dumps({**manifest, "about": {**manifest["about"], "format": 4}}))
    with refused(f"{old} has the format 4, but this gmmrec ({gmmrec.__version__}) reads format 2 and 3; read it"):
        gmmrec.load(old)
    (old / "manifest.json").unlink()
    (old / "run.json").write_text("{")
    with refused(f"{old / 'run.json'} is damaged"):
        gmmrec.load(old)
    (old / "run.json").unlink()
    with refused(f"{old} was written before run folders had a format number; train the run again with this gmmrec"):
        gmmrec.load(old)


def test_tables_that_two_modules_share_are_saved(tmp_path):
    """NOR with one encoder for both garments."""
    from gmmrec.models.nor import NOR, NORConfig
    from gmmrec.runs.checkpoint import load_model, save_model
    from gmmrec.testing import toy_graph

    model = NOR(toy_graph().schema, NORConfig(share=True))
    shared = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    assert len(shared) > len(list(model.parameters()))
    save_model(model, tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    assert len(list(again.parameters())) == len(list(model.parameters()))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
