import pytest

from tests.mutation import results as module
from tests.mutation.__main__ import main, mirrored_tests, plant_all
from tests.mutation.results import (
    KILLED,
    SAME,
    SLOW,
    SURVIVED,
    UNUSABLE,
    Result,
    append,
    outcomes,
    read_equivalent,
    read_results,
    table,
    wilson,
)
from tests.mutation.sites import PACKAGES, is_plausible, mutate, read_package, sample, sites
from tests.test_mirrors import ROOT

SOURCE = '''"""Module."""
FACTOR = 2


def area(width: int | None, *, height: float = 1.5) -> "float | None":
    if width is None:
        return None
    return FACTOR * width / height
'''


def found(source=SOURCE):
    return [
        (site.line, operator)
        for site in sites("a.py", source)
        for operator in sorted({name.split("/")[1] for name, _ in site.mutants})
    ]


def test_sites_are_code_and_no_types():
    lines = {line for line, _ in found()}
    assert lines == {
        "FACTOR = 2",
        'def area(width: int | None, *, height: float = 1.5) -> "float | None":',
        "if width is None:",
        "return FACTOR * width / height",
    }
    in_head = [operator for line, operator in found() if line.startswith("def")]
    assert not any("BitOr" in operator for operator in in_head)
    assert "NumberReplacer" in in_head
    assert ("if width is None:", "AddNot") in found()
    assert ("if width is None:", "ReplaceComparisonOperator_Is_IsNot") in found()


def test_operators_keep_the_kind_of_a_value():
    assert is_plausible("core/ReplaceBinaryOperator_Add_Sub")
    assert not is_plausible("core/ReplaceBinaryOperator_Add_LShift")
    assert is_plausible("core/ReplaceComparisonOperator_Lt_LtE")
    assert not is_plausible("core/ReplaceComparisonOperator_Lt_Is")
    assert is_plausible("core/ReplaceUnaryOperator_Delete_USub")
    assert not is_plausible("core/ReplaceUnaryOperator_USub_Invert")
    assert not is_plausible("core/VariableReplacer")


def test_a_mutant_changes_its_line_alone():
    for mutant in sample("x", {"gmmrec/x/a.py": SOURCE}, 100, 0):
        text = mutate(SOURCE, mutant.operator, mutant.occurrence)
        before, after = SOURCE.splitlines(), text.splitlines()
        changed = [number for number, (old, new) in enumerate(zip(before, after, strict=True), 1) if old != new]
        assert changed == [mutant.number]
        assert (before[mutant.number - 1].strip(), after[mutant.number - 1].strip()) == (mutant.before, mutant.after)
        compile(text, "a.py", "exec")
    dotted = "try:\n    a = 1\nexcept (OSError, json.JSONDecodeError):\n    a = 2\n"
    assert {mutant.operator for mutant in sample("x", {"gmmrec/x/a.py": dotted}, 9, 0)} >= {"NumberReplacer"}
    with pytest.raises(ValueError, match="ExceptionReplacer cannot change its occurrence 1"):
        mutate(dotted, "ExceptionReplacer", 1)
    with pytest.raises(ValueError, match="AddNot has no occurrence 99"):
        mutate(SOURCE, "AddNot", 99)


def test_samples_repeat_and_a_change_of_one_file_moves_none_elsewhere():
    sources = {f"gmmrec/x/{name}.py": SOURCE for name in "abcdefgh"}
    drawn = sample("x", sources, 12, 0)
    assert len({mutant.key for mutant in drawn}) == 12
    assert drawn == sample("x", sources, 12, 0)
    assert drawn != sample("x", sources, 12, 1)
    assert sample("x", sources, 12, 0)[:3] != sample("y", sources, 12, 0)
    changed = {mutant.key for mutant in sample("x", {**sources, "gmmrec/x/a.py": "FACTOR = 3\n"}, 12, 0)}
    assert {m.key for m in drawn if not m.file.endswith("a.py")} <= changed


def test_every_package_has_mutants_and_every_file_its_tests():
    for package in PACKAGES:
        files = read_package(ROOT, [package])
        assert files
        for file in files:
            if not file.endswith("__init__.py"):
                assert all((ROOT / name).is_file() for name in mirrored_tests(file))


def test_wilson_intervals():
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(180, 200)  # by hand: (0.9 + 0.009604 ± 1.96 sqrt(0.00045 + 0.00002401)) / 1.019208
    assert (low, high) == pytest.approx((0.8506, 0.9344), abs=1e-4)
    assert wilson(10, 10)[1] == pytest.approx(1.0)


def row(mutant, outcome):
    return Result(mutant.file, mutant.number, mutant.operator, outcome, 1.5, mutant.before, mutant.after, mutant.nth)


def test_the_newest_row_of_a_mutant_counts(tmp_path):
    first, second, third, *_ = sample("x", {"gmmrec/x/a.py": SOURCE}, 4, 0)
    path = tmp_path / "results.csv"
    assert read_results(path) == {}
    for mutant, outcome in ((first, SURVIVED), (second, SURVIVED), (first, KILLED)):
        append(path, row(mutant, outcome))
    rows = read_results(path)
    assert rows[first.key] == row(first, KILLED)
    assert read_results(path, first=True)[first.key] == row(first, SURVIVED)
    reasons = {(second.file, second.before, second.after): "the same"}
    assert outcomes([first, second, third], rows, {}) == [KILLED, SURVIVED]
    assert outcomes([first, second, third], rows, reasons) == [KILLED, SAME]


def test_the_score_leaves_out_what_nobody_could_kill():
    first = [KILLED] * 6 + [SLOW] * 2 + [SURVIVED] * 2 + [SAME] * 5 + [UNUSABLE]
    text = table({"nn": first}, {"nn": [KILLED] * 2 + first[2:8] + [KILLED] + first[9:]})
    assert text.splitlines()[2] == "| `nn` | 16 | 5 | 1 | 80.0% | 49.0% to 94.3% | 7 | 2 | 1 | 90.0% |"


def test_mutants_are_planted_one_at_a_time_and_tests_must_pass_before(tmp_path, monkeypatch):
    file, seen = "gmmrec/nn/a.py", []
    (tmp_path / "gmmrec/nn").mkdir(parents=True)
    (tmp_path / file).write_text(SOURCE, encoding="utf-8")
    drawn, codes = sample("nn", {file: SOURCE}, 4, 0), iter([0, 0, 1, None, 2])

    def run_tests(tests, copy, timeout, *, more):
        seen.append((copy / file).read_text(encoding="utf-8"))
        return next(codes), "the output"

    monkeypatch.setattr("tests.mutation.__main__.run_tests", run_tests)
    monkeypatch.setattr("tests.mutation.__main__.preload", lambda: None)
    monkeypatch.setattr("tests.mutation.__main__.mirrored_tests", lambda name: ["tests/test_a.py", name])
    rows = []
    assert plant_all(drawn, {file: SOURCE}, tmp_path, rows.append, float("inf")) == 4
    assert [result.outcome for result in rows] == [SURVIVED, KILLED, SLOW, UNUSABLE]
    assert seen == [SOURCE, *(mutate(SOURCE, mutant.operator, mutant.occurrence) for mutant in drawn)]
    assert (tmp_path / file).read_text(encoding="utf-8") == SOURCE
    assert plant_all(drawn, {file: SOURCE}, tmp_path, rows.append, float("-inf")) == 0
    codes = iter([1])
    with pytest.raises(ValueError, match=r"tests/test_a.py gmmrec/nn/a.py must pass before a mutant is planted, .*: the output"):
        plant_all(drawn, {file: SOURCE}, tmp_path, rows.append, float("inf"))


def test_equivalent_mutants_stand_in_the_code_and_say_why(tmp_path):
    for (file, before, _), reason in read_equivalent().items():
        lines = [line.strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines()]
        assert before in lines, f"{before} is gone from {file}; remove it from {module.EQUIVALENT.name}"
        assert reason
    (tmp_path / "wrong.yaml").write_text("- {file: a.py, before: a, after: b}\n")
    with pytest.raises(ValueError, match=r"wrong.yaml must have the fields file, before, after, why, but has file, before, after"):
        read_equivalent(tmp_path / "wrong.yaml")


def test_unknown_packages_are_refused(capsys):
    with pytest.raises(SystemExit):
        main(["models"])
    assert "PACKAGE must be among nn, graph, tasks, evaluation, runs, but is 'models'" in capsys.readouterr().err
