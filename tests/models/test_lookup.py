"""Classes by name: ours, installed ones, and those that a caller hands in; nothing that stands in a file is imported."""

import re
import sys
from functools import partial
from pathlib import Path

import pytest

from gmmrec.models.graph_fusion import GraphFusion, GraphFusionConfig
from gmmrec.models.lightgcn import LightGCN, LightGCNConfig
from gmmrec.models.lookup import build_model, class_path, find_model, find_part, given_parts, name_of, part_paths, stored_model
from gmmrec.recommender import Recommender
from gmmrec.testing import toy_graph
from tests.runs.mine import imported, install


class Mine(LightGCN):
    """A class from outside."""


class Nested:
    class Mine(LightGCN):
        """Another one."""


def named(dim: int, num_tokens: int) -> None:
    """A builder."""


def other(dim: int, num_tokens: int) -> None:
    """Another builder."""


def refused(message: str) -> "pytest.RaisesExc[ValueError]":
    return pytest.raises(ValueError, match=f"^{re.escape(message)}")


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """An installed package with a model, not imported yet."""
    install(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("theirs_package", None)


def test_names_of_ours_and_of_others_find_their_classes_again():
    for model_class in (LightGCN, Mine, Nested.Mine):
        assert find_model(name_of(model_class)) is model_class
        assert find_model(model_class) is model_class
    assert name_of(LightGCN) == "lightgcn"
    assert name_of(Nested.Mine) == f"{__name__}:Nested.Mine"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lightgcm", "unknown model 'lightgcm'; the nearest known name is 'lightgcn', and a class of your own is module:Class"),
        (f"{__name__}:Mien", f"module '{__name__}' ({__file__}) has no 'Mien'; its models are GraphFusion, LightGCN, Mine"),
        (
            "nowhere_at_all:Mine",
            "cannot import 'nowhere_at_all' for 'nowhere_at_all:Mine': No module named 'nowhere_at_all'; check",
        ),
        (f"{__name__}:named", f"{__name__}:named is no model class; expected a subclass of Recommender[Query, Config]"),
        (
            "mine.py/x:Mine",
            "'mine.py/x:Mine' is no name of a class; write module:Class, such as mine:MyModel for the class in mine.py",
        ),
        (".mine:Mine", "'.mine:Mine' is no name of a class"),
        ("mine:", "'mine:' is no name of a class"),
    ],
)
def test_names_that_are_none_are_refused(name, message):
    with refused(message):
        find_model(name)


def test_a_module_with_a_mistake_is_named(tmp_path, monkeypatch):
    (tmp_path / "mistaken_module.py").write_text("class Mine(:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"^cannot import 'mistaken_module' for .*mistaken_module.py, line 1\); check"):
        find_part("mistaken_module:Mine")


def test_a_module_that_fails_on_import_is_named_with_its_line(tmp_path, monkeypatch):
    (tmp_path / "failing_module.py").write_text("import math\n\nrun = gmmrec.fit(math.pi)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"^'failing_module' fails on import, .*failing_module.py line 3: NameError: "):
        find_model("failing_module:Mine")


@pytest.mark.parametrize("thing", [3, Recommender, Nested])
def test_things_that_are_no_models_are_refused(thing):
    with pytest.raises(TypeError, match=r"is no model class; expected a subclass of Recommender"):
        find_model(thing)


def test_a_stored_name_is_imported_only_where_somebody_vouches_for_it(tmp_path, monkeypatch):
    (tmp_path / "evil_module.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("evil_module:Class", "os:system", "evil_module", f"{__name__}:Mine"):
        with refused(f"the model is of the class {name}, which comes from outside gmmrec and is not imported by its name alone"):
            stored_model(name)
    assert not (tmp_path / "trace").exists()
    assert "evil_module" not in sys.modules
    assert stored_model(f"{__name__}:Mine", [LightGCN, Mine]) is Mine
    assert stored_model("lightgcn") is LightGCN
    with refused(
        f"the model is of the class a:B, which comes from outside gmmrec and is not imported by its name alone; "
        f"pass that class, not {__name__}:Mine: model_class=… in Python, or -m a:B on the command line"
    ):
        stored_model("a:B", [Mine])


def test_a_class_from_a_notebook_is_known_again_by_its_own_name():
    for home in ("__main__", "builtins"):
        assert stored_model(f"{home}:Mine", [Mine]) is Mine
        with refused(f"the model is of the class {home}:Mein"):
            stored_model(f"{home}:Mein", [Mine])
        with pytest.raises(ValueError, match="or -m module:Class on the command line"):
            stored_model(f"{home}:Mine")


def test_an_entry_point_is_a_name_like_ours(theirs):
    found = find_model("theirs")
    assert class_path(found) == "theirs_package:Mine"
    assert name_of(found) == "theirs"
    assert stored_model("theirs") is found
    with refused("unknown model 'theirz'; the nearest known name is 'theirs'"):
        find_model("theirz")


def test_entry_points_never_take_names_of_ours_and_say_what_is_broken(tmp_path, monkeypatch):
    install(tmp_path, "lightgcn")
    more = tmp_path / "more"
    more.mkdir()
    install(more, "broken", "theirs_package:Nothing")
    (more / "theirs_package-1.5.dist-info").rename(more / "broken_package-1.dist-info")
    (more / "broken_package-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-package\nVersion: 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(more))
    assert find_model("lightgcn") is LightGCN
    with refused("the entry point 'broken' (theirs_package:Nothing) cannot be loaded: "):
        find_model("broken")
    sys.modules.pop("theirs_package", None)


def test_parts_are_named_and_asked_for_by_role(tmp_path):
    schema = toy_graph().schema
    config = GraphFusionConfig(dim=4, content="linear")
    with imported(tmp_path, "mine_for_parts") as mine:
        model = build_model(GraphFusion, schema, config, {"fusion": mine.Loud})
        assert part_paths(model) == {"fusion": "mine_for_parts:Loud"}
        assert part_paths(build_model(GraphFusion, schema, config)) == part_paths(LightGCN(schema, LightGCNConfig(4))) == {}
    stored, file = {"fusion": f"{__name__}:named"}, Path("model.safetensors")
    assert given_parts(file, stored, {"fusion": named, "decoder": other}) == {"fusion": named}
    assert given_parts(file, stored, {"fusion": [other, named]}) == {"fusion": named}
    with refused(
        f"model.safetensors holds a model with the fusion {__name__}:named, which is not imported by its name alone; "
        f"pass it: parts={{'fusion': …}} in Python, or --module fusion={__name__}:named on the command line"
    ):
        given_parts(file, stored, {})
    with refused(f"model.safetensors was trained with the fusion {__name__}:named, but {__name__}:other is given; pass the former"):
        given_parts(file, stored, {"fusion": other})


@pytest.mark.parametrize("part", [lambda dim, num_tokens: None, partial(named, 3)])
def test_a_part_without_a_name_is_refused(part):
    with refused("the part 'fusion' has no name by which it could be handed in again to load the run; give a class or a named"):
        given_parts(Path("model"), {"fusion": "a:b"}, {"fusion": part})


def test_a_model_that_takes_no_parts_says_so():
    with refused("lightgcn takes no parts of your own; use graph-fusion, or leave parts out"):
        build_model(LightGCN, toy_graph().schema, LightGCNConfig(4), {"fusion": named})
