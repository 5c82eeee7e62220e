"""A run folder from a stranger can at worst be refused, in one sentence."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file

import gmmrec
from gmmrec.cli.main import main
from gmmrec.errors import UsageError
from gmmrec.runs.consistency import stored_tokens, stored_vocabularies, stored_words
from gmmrec.runs.run import Run
from gmmrec.storage.manifest import entry_of, read_manifest, write_manifest


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of LightGCN with features of 12 users and 15 items."""
    folder, draw = tmp_path_factory.mktemp("runs") / "run", np.random.default_rng(0)
    log = pd.DataFrame(
        [(f"u{user}", f"i{item}") for user in range(12) for item in draw.permutation(15)[:6]], columns=["user", "item"]
    )
    items = pd.DataFrame({"item": [f"i{item}" for item in range(15)], "title": [f"film {item}" for item in range(15)]})
    dataset = gmmrec.load_dataset(log, items=items, features={"image": (items["item"].tolist(), draw.normal(size=(15, 4)))})
    gmmrec.fit(dataset, "lightgcn", out=folder, epochs=1, dim=8)
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def forge(folder) -> None:
    """Write the manifest of a folder anew, as a stranger would: every digest is that of the changed file."""
    manifest = read_manifest(folder)
    assert manifest is not None
    paths = {name: entry.path for name, entry in manifest.files.items()} | {name: name for name in ("tokens.json", "words.json")}
    files = {name: entry_of(folder, path) for name, path in paths.items() if (folder / path).is_file()}
    write_manifest(folder, replace(manifest, files=files))


def refused(folder, message: str, *, forged: bool = True) -> None:
    if forged:
        forge(folder)
    with pytest.raises(UsageError, match=message) as caught:
        Run.load(folder).recommend(["u1"], 3)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_the_folder_is_read(folder):
    assert len(Run.load(folder).recommend(["u1"], 3)) == 3


def test_links_in_the_folder_are_not_followed(folder, tmp_path):
    secret = tmp_path / "secret.json"
    secret.write_bytes((folder / "attributes.json").read_bytes())
    (folder / "attributes.json").unlink()
    os.symlink(secret, folder / "attributes.json")
    refused(folder, r"attributes\.json is missing", forged=False)
    (folder / "manifest.json").unlink()  # a folder of format 2 has none
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**about, "format": 2}))
    (folder / "vocabularies.json").rename(tmp_path / "ids")
    os.symlink(tmp_path / "ids", folder / "vocabularies.json")
    refused(folder, r"vocabularies\.json is a symbolic link", forged=False)


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "..", "a/b", ["a"], "C:evil"])
def test_files_of_a_training_cannot_leave_the_folder(folder, name, tmp_path, capsys):
    about = json.loads((folder / "run.json").read_text())
    about["files"] = {**about["files"], "history.csv": name}
    (folder / "run.json").write_text(json.dumps(about))
    assert main(["train", "--resume", str(folder)]) == 2
    assert "its files are not in this folder" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*evil*"))


def test_a_training_is_not_written_through_links(folder, tmp_path, capsys):
    target = tmp_path / "profile"
    target.write_text("precious")
    (folder / "history.csv").unlink()
    os.symlink(target, folder / "history.csv")
    assert main(["train", "--resume", str(folder)]) == 2
    assert "is a symbolic link" in capsys.readouterr().err
    assert target.read_text() == "precious"


@pytest.mark.parametrize(("field", "value"), [("model", 5), ("status", "evil"), ("data", [1]), ("run", None), ("files", [1])])
def test_impossible_descriptions_of_a_training_are_refused(folder, field, value, capsys):
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**about, field: value}))
    assert main(["train", "--resume", str(folder)]) == 2
    assert "run.json" in capsys.readouterr().err


def test_pages_are_not_written_through_links(folder, tmp_path, capsys):
    os.symlink(tmp_path / "target", folder / "outfits.html")
    assert main(["complete", str(folder), "--page", str(folder / "outfits.html")]) == 2
    assert not (tmp_path / "target").exists()


def edit_header(path, key: str, change) -> None:
    with safe_open(path, "pt") as file:
        header, tensors = dict(file.metadata()), {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    value = json.loads(header[key])
    header[key] = json.dumps(change(value) or value)
    header.pop("checksum", None)  # which a stranger can leave out
    save_file(tensors, path, header)


def edit_tensors(path, change) -> None:
    with safe_open(path, "pt") as file:
        header, tensors = dict(file.metadata() or {}), {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    change(tensors)
    header.pop("checksum", None)
    save_file(tensors, path, header)


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("schema", lambda x: x["num_nodes"].update(user=10**12), r"ask for \[1000000000000, 8\]"),
        ("schema", lambda x: x["num_nodes"].update(user=-1), "impossible ones"),
        ("schema", lambda x: x["num_nodes"].update(user="12"), "for 'num_nodes'"),
        ("schema", lambda x: x.pop("num_nodes"), "without sizes"),
        ("schema", lambda x: x.update(relations=[["a"]]), "for 'relations'"),
        ("schema", lambda x: x.update(evil=1), "unknown setting 'evil'"),
        ("schema", lambda x: [1], "expected an object"),
        ("config", lambda x: x.update(dim=10**12), r"ask for .*1000000000000\]"),
        ("config", lambda x: x.update(dim=10**30), "for 'dim', but it must be int"),
        ("config", lambda x: x.update(dim=2**62), "cannot be read as a model"),
        ("config", lambda x: x.update(dim=-8), "dim must be greater than 0"),
        ("config", lambda x: x.update(dim=[8]), "has '\\[8\\]' for 'dim', but it must be int"),
        ("config", lambda x: x.update(dims=8), "unknown setting 'dims'"),
        ("config", lambda x: x.update(num_layers="__import__('os')"), "for 'num_layers'"),
    ],
)
def test_models_that_ask_for_more_than_they_hold_are_refused(folder, key, change, message):
    edit_header(folder / "model.safetensors", key, lambda value: change(value) if isinstance(change(value), list) else None)
    refused(folder, message)


@pytest.mark.parametrize("name", ["os:system", "gmmrec.cli.main:main", "../evil", "", "lightgcn\x00"])
def test_classes_that_a_file_names_are_not_imported(folder, name):
    path = folder / "model.safetensors"
    with safe_open(path, "pt") as file:
        header, tensors = dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, path, {**header, "model": name})
    refused(folder, "comes from outside gmmrec and is not imported")


TO_ITEM = "edge_index of interacts"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x: x["2/edge_index"].__setitem__((1, -1), 10**9),
            f"'{TO_ITEM}' holds the row 1000000000, but",
        ),
        (lambda x: x["2/edge_index"].__setitem__((0, 0), -1), f"'{TO_ITEM}' holds the row -1"),
        (lambda x: x.update({"2/edge_index": x["2/edge_index"].flip(1).contiguous()}), "are not sorted by target"),
        (lambda x: x.update({"2/edge_index": x["2/edge_index"].float()}), "is torch.float32, expected torch.int64"),
        (lambda x: x.update({"2/edge_weight": x["2/edge_weight"][:-1].contiguous()}), "'edge_weight' of interacts has the shape"),
        (lambda x: x["2/edge_weight"].fill_(float("nan")), "'edge_weight of interacts' holds NaN"),
        (lambda x: x.update({"0/degree": torch.zeros(0)}), r"has the shape \[0\], expected \[12\]"),
        (lambda x: x.pop("0/degree"), "'degree of user' is missing"),
        (lambda x: x.update({"1/image": torch.zeros(15, 5)}), r"'image' has the shape \[15, 5\], expected \[15, 4\]"),
        (lambda x: x.update({"1/image_mask": torch.zeros(15)}), "is torch.float32, expected torch.bool"),
        (lambda x: x.update({"99/x": torch.zeros(1)}), "'99/x' belongs to no node or edge type"),
        (lambda x: x.update({"x": torch.zeros(1)}), "'x' belongs to no node or edge type"),
    ],
)
def test_graphs_with_impossible_tensors_are_refused(folder, change, message):
    edit_tensors(folder / "graph.safetensors", change)
    refused(folder, f"graph.safetensors is damaged .*{message}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x["nodes"].update(user=10**12), r"has the shape \[12\], expected \[1000000000000\]"),
        (lambda x: x.update(nodes=[1]), "no number of nodes"),
        (lambda x: x.update(owners=["user"]), "no list of its node and edge types"),
        (lambda x: x["owners"].__setitem__(2, ["user", "x", "shop"]), "unknown ends"),
        (lambda x: x["owners"].__setitem__(2, "user"), "not a source, a name and a target"),
        (lambda x: x["num_nodes"].update(item=16), "15 nodes of type 'item', but its schema 16"),
        (lambda x: x["feature_dims"].update(image=10**12), "expected \\[15, 1000000000000\\]"),
        (lambda x: x["feature_nodes"].update(image="shop"), "no width or no nodes"),
        (lambda x: x["relations"].append(["a", "b", "c"]), "its schema and its tensors differ"),
    ],
)
def test_graphs_with_impossible_headers_are_refused(folder, change, message):
    edit_header(folder / "graph.safetensors", "graph", lambda value: change(value) and None)
    refused(folder, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x["train.item"].fill_(15), "'train.item' holds the row 15, but rows run from 0 to 14"),
        (lambda x: x["test.user"].fill_(-1), "negative row"),
        (lambda x: x.update({"train.user": x["train.user"][:-1].contiguous()}), "values, but 'user' has"),
        (lambda x: x.update({"train.user": x["train.user"].double()}), "is torch.float64, expected torch.int64"),
        (lambda x: x.pop("valid.item"), "'valid.item' is missing"),
        (lambda x: x.clear(), "is damaged"),
        (lambda x: x.update({"train.evil": torch.zeros(1)}), "'train.evil' is unknown"),
    ],
)
def test_splits_with_impossible_rows_are_refused(folder, change, message):
    edit_tensors(folder / "split.safetensors", change)
    refused(folder, message)


USERS, ITEMS = [f"u{user}" for user in range(12)], [f"i{item}" for item in range(15)]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "it must hold ids of users and items"),
        ({"user": USERS}, "it must hold ids of users and items"),
        ({"user": USERS, "item": ITEMS, "../../secret": []}, "it must hold ids of users and items"),
        ({"user": USERS, "item": {"a": 1}}, "the item ids are not a list of integers or texts"),
        ({"user": USERS, "item": [[1]]}, "the item ids are not a list of integers or texts"),
        ({"user": USERS, "item": [True]}, "the item ids are not a list of integers or texts"),
        ({"user": USERS, "item": [10**30]}, "vocabularies.json is damaged"),
        ({"user": USERS, "item": ["a", "a"]}, "item id 'a' occurs more than once"),
        ({"user": USERS, "item": ITEMS[:-1]}, "column 'title' has 15 values, not 14"),
    ],
)
def test_impossible_ids_are_refused(folder, ids, message):
    (folder / "vocabularies.json").write_text(json.dumps(ids))
    refused(folder, message)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("attributes.json", "[" * 100_000),
        ("vocabularies.json", '{"user": ' + "9" * 5000),
        ("tokens.json", '{"image": {"kind": "grid", "size": -1}}'),
        ("tokens.json", '{"image": {"kind": "evil"}}'),
        ("tokens.json", '{"image": {"kind": "names", "names": "abc"}}'),
        ("tokens.json", "[1]"),
        ("words.json", '{"a": 1}'),
        ("metrics.json", "[1]"),
        ("config.yaml", "a: &a [*a]"),
        ("config.yaml", "- 1"),
        ("config.yaml", "a: " + "{b: " * 5000),
    ],
)
def test_impossible_documents_are_refused(folder, file, text):
    (folder / file).write_text(text)
    refused(folder, file.replace(".", r"\."))


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("data", []),
        ("data", {"path": ["a"]}),
        ("split", {"valid": "x"}),
        ("eval", {"ks": {"a": 1}}),
        ("eval", None),
        ("parts", [1]),
    ],
)
def test_impossible_settings_are_refused(folder, section, value):
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump({**settings, section: value}))
    refused(folder, r"config\.yaml")


@pytest.mark.parametrize("main_task", ["../../evil", "", 3, ["a"], "a\x00"])
def test_the_name_of_a_task_cannot_leave_the_folder(folder, main_task):
    manifest = read_manifest(folder)
    write_manifest(folder, replace(manifest, about={**manifest.about, "main": main_task}))
    refused(folder, "main evaluation task .* cannot be part of a file name")


ATTRIBUTES = (
    [],
    {"../../evil": {}},
    {"item": [1]},
    {"item": {"title": [1]}},
    {"item": {"title": {"kind": "evil", "values": []}}},
    {"item": {"title": {"kind": "text", "values": ["only one"]}}},
    {"item": {"title": {"kind": "text", "values": [["a"]] * 15}}},
    {"item": {"title": {"kind": "int64", "values": [10**30] * 15}}},
    {"item": {"title": {"kind": "float64", "values": [10**400] * 15}}},
    {"item": {"title": {"kind": "datetime", "values": ["never"] * 15}}},
    {"item": {"title": {"kind": "category", "values": [{}] * 15}}},
)


@pytest.mark.parametrize("attributes", ATTRIBUTES, ids=range(len(ATTRIBUTES)))
def test_impossible_attributes_are_refused(folder, attributes):
    (folder / "attributes.json").write_text(json.dumps(attributes))
    refused(folder, r"attributes\.json")


TABLES = (b"", b"\xff\xfe\x00", b"title\na,b,c\n", b'title\n"open', b"," * 200_000, b"a,b\n1\n2,3,4,5\n", b"title\nonly one\n")


@pytest.mark.parametrize("content", TABLES, ids=range(len(TABLES)))
def test_attributes_of_earlier_versions_that_are_no_table_are_refused(folder, content):
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**about, "format": 2}))
    for name in ("manifest.json", "attributes.json"):
        (folder / name).unlink()
    assert Run.load(folder).titles is None
    (folder / "items.csv").write_bytes(content)
    refused(folder, r"items\.csv", forged=False)


def test_pipes_are_not_waited_for(folder, tmp_path):
    for name in ("config.yaml", "attributes.json", "model.safetensors", "manifest.json", "run.json"):
        copy = shutil.copytree(folder, tmp_path / name)
        (copy / name).unlink()
        os.mkfifo(copy / name)
        if name == "run.json":  # of which the finished run has no need
            assert len(Run.load(copy).recommend(["u1"], 3)) == 3
        else:
            refused(copy, "is missing|is not finished", forged=False)


def test_results_are_checked(folder):
    from gmmrec.evaluation.kinds import load_results

    path = folder / "results_ranking.safetensors"
    load_results(folder)
    for change, message in (
        (lambda x: x["all/position"].fill_(10**6), "'all/position' holds the row 1000000"),
        (lambda x: x.pop("query"), "'query' is missing"),
        (lambda x: x.pop("all/position"), "no values of all queries"),
    ):
        whole = path.read_bytes()
        edit_tensors(path, change)
        forge(folder)
        with pytest.raises(UsageError, match=message):
            load_results(folder)
        path.write_bytes(whole)
    edit_header(path, "gmmrec", lambda about: {**about, "evil": 1})
    forge(folder)
    with pytest.raises(UsageError, match="unknown setting 'evil'"):
        load_results(folder)
    with pytest.raises(UsageError, match=r"'\.\./\.\./evil' cannot be part of a file name"):
        load_results(folder, "../../evil")


def test_whole_documents_are_read(tmp_path):
    path = tmp_path / "x.json"
    assert len(stored_vocabularies({"user": [1], "item": ["a", "b"]}, path)["item"]) == 2
    assert stored_tokens({"image": {"kind": "grid", "size": 2}}, path)["image"].size == 2
    assert stored_words(["", "a"], path) == ["", "a"]
