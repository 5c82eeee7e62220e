"""The table of licences agrees with pyproject.toml and with what is installed, and says a word on every GPL."""

from email.message import Message

import pytest

import licences
from licences import PAGE, REMARKS, Row, declared, licence_of, read_rows, remark_on, table, unclear

pytest.importorskip("tomllib")  # of Python 3.11 and later


def test_every_direct_dependency_has_a_row_in_its_groups():
    rows = read_rows(PAGE.read_text(encoding="utf-8"))
    expected: dict[str, list[str]] = {}
    for group, requirements in declared().items():
        for requirement in requirements:
            name = requirement.name.lower().replace("_", "-")
            if group not in expected.setdefault(name, []):
                expected[name].append(group)
    found = {name: list(row.direct) for name, row in rows.items() if row.direct}
    assert found == expected, "run python benchmarks/licences.py"


def test_no_licence_is_unclear_without_a_word_on_it():
    rows = read_rows(PAGE.read_text(encoding="utf-8"))
    assert len(rows) > 60
    for name, row in rows.items():
        assert row.direct or row.through, f"nothing needs {name}; run python benchmarks/licences.py"
        assert not unclear(row.licence) or (name in REMARKS and REMARKS[name] in row.remark), name


def test_rows_agree_with_what_is_installed():
    kept = read_rows(PAGE.read_text(encoding="utf-8"))
    for row in table(declared(), kept):
        if row.name in kept:  # other versions and systems have other packages below them
            assert row.licence == kept[row.name].licence, f"{row.name}: run python benchmarks/licences.py"


def test_packages_that_are_not_installed_keep_their_licence():
    groups = {"core": [licences.Requirement("no-such-package>=1")]}
    kept = {"no-such-package": Row("no-such-package", "MIT", ("core",), ())}
    assert table(groups, kept) == [kept["no-such-package"]]
    (unknown,) = table(groups, {})
    assert unclear(unknown.licence)


def test_what_others_need_is_found():
    rows = {row.name: row for row in table({"core": [licences.Requirement("jinja2")]}, {})}
    assert rows["jinja2"].direct == ("core",)
    assert rows["markupsafe"] == Row("markupsafe", rows["markupsafe"].licence, (), ("core",))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"License-Expression": "MIT OR Apache-2.0", "License": "x"}, "MIT OR Apache-2.0"),
        ({"License": "Apache 2.0"}, "Apache-2.0"),
        ({"License": "Copyright\nsomebody", "Classifier": "License :: OSI Approved :: BSD License"}, "BSD"),
        ({"License": "BSD", "Classifier": "License :: OSI Approved :: BSD License"}, "BSD"),
        ({"License": "UNKNOWN"}, "GNU GENERAL PUBLIC LICENSE (its text)"),
        ({"License": "GPLv3"}, "GPLv3"),
    ],
)
def test_licences_are_read_from_metadata(fields, expected):
    about = Message()
    for name, value in fields.items():
        about[name] = value
    assert licence_of(about, "GNU GENERAL PUBLIC LICENSE\nVersion 3") == expected


def test_gpl_and_its_kin_are_unclear():
    assert all(map(unclear, ("GPLv3", "LGPL-2.1", "AGPL-3.0-only", "GNU GENERAL PUBLIC LICENSE (its text)", "not declared")))
    assert not any(map(unclear, ("MIT", "MPL-2.0", "BSD-3-Clause AND Zlib")))


def test_runtime_libraries_are_named():
    assert remark_on("x", ["x.libs/libgomp-a34b.so.1", "x/__init__.py"]) == "brings libgomp"
    assert remark_on("x", ["x/libgompertz.py.txt/readme"]) == ""
