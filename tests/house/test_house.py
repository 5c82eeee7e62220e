"""The check as a whole: enforced rules fail, pending rules are counted, and no heavy library is imported."""

import subprocess
import sys

from tests.house import __main__ as house
from tests.house.models import TABLE
from tests.house.source import ROOT, Source
from tests.house.test_rules import KNOWN


def test_pending_rules_are_counted_separately(monkeypatch):
    monkeypatch.setattr(house, "PENDING", frozenset({"docstring-question"}))
    source = Source("gmmrec/module.py", '"""What it is."""\nif isinstance(query, UserQuery): ...\n')
    assert [str(found)[:34] for found in house.check([source], KNOWN)] == ["gmmrec/module.py:2: no-branch: isi"]
    assert [found.rule for found in house.check([source], KNOWN, pending=True)] == ["docstring-question"]


def test_every_rule_is_enforced():
    assert not house.PENDING


def test_findings_are_printed_and_fail(monkeypatch, capsys):
    texts = {"gmmrec/module.py": '"""Module."""\n\nraise NotImplementedError\n', TABLE: '"""Models."""\n\nCARDS = {}\n'}
    monkeypatch.setattr(house, "read_sources", lambda: [Source(*each) for each in texts.items()])
    assert house.main([]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "gmmrec/module.py:3: left-over: NotImplementedError; write the code, or declare an abstract method",
        "1 finding in 2 files",
    ]


def test_it_runs_without_torch():
    code = (
        "import sys; from tests.house import __main__ as house; from tests.house.source import Source; "
        f"house.read_sources = lambda: [Source({TABLE!r}, 'CARDS = {{}}')]; house.main([]); "
        "sys.exit(bool({'torch', 'gmmrec'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
