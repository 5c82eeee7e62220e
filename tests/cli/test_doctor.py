"""Tests of ``gmmrec doctor``."""

import argparse
import json
import sys
from importlib import metadata

import pytest

from gmmrec.cli import doctor


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    doctor.add_commands(parser.add_subparsers(required=True))
    namespace = parser.parse_args(["doctor", *arguments])
    code: int = namespace.run(namespace)
    return code


def test_json_lists_every_dependency_and_a_correct_product(capsys):
    assert run("--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert {"torch", "torch-geometric", "numpy", "scipy", "networkx", "pandas", "lightning-fabric"} <= report["versions"].keys()
    assert "faiss-cpu" not in report["versions"]
    assert report["versions"]["torch"] == metadata.version("torch")
    assert report["self_test"][0]["device"] == "cpu"
    assert all(test["right"] for test in report["self_test"])


def test_a_missing_package_is_reported_with_its_remedy(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)  # makes the import fail
    assert run() == 0
    out = capsys.readouterr().out
    assert 'pip install "gmmrec[faiss]"' in out
    assert 'pip install "gmmrec[parquet]"' not in out


def test_a_package_that_fails_to_import_is_not_active(tmp_path, monkeypatch):
    (tmp_path / "broken_part.py").write_text("raise OSError('undefined symbol: at')\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = doctor.examine_part(doctor.Part("numpy", "broken_part", "arithmetic", "install it anew"))
    assert not found["active"]
    assert found["error"] == "OSError: undefined symbol: at"
    assert found["remedy"] == "install it anew"


def test_wrong_product_fails_the_command(capsys, monkeypatch):
    monkeypatch.setattr("gmmrec.nn.propagate.weighted_sum", lambda edges, x, weight: x * 0)
    assert run() == 1
    assert "WRONG" in capsys.readouterr().out


def test_a_slow_build_is_reported(monkeypatch):
    report = doctor.examine() | {"mkl": False}
    assert "slow without it" in doctor.to_text(report)
    assert "slow without it" not in doctor.to_text(report | {"mkl": True})


@pytest.mark.parametrize("package", doctor.required_packages())
def test_required_packages_are_names(package):
    assert metadata.version(package)
