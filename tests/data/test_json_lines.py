import gzip
import io
import json

import pytest

from gmmrec.data.files import location, read_table
from gmmrec.data.json_lines import CHUNK, read_objects
from gmmrec.errors import DataError


def read(text):
    return read_objects(io.StringIO(text), "x.json")


def test_values_become_text_as_in_a_table():
    frame = read(
        '{"a": "007", "b": 5, "c": 4.5, "d": true, "e": ["p", "q"]}\n\n'
        '{"a": "", "b": 12345678901234567890, "c": NaN, "d": null, "f": {"x": [1]}}\r\n'
    )
    assert frame.iloc[0].dropna().to_dict() == {"a": "007", "b": "5", "c": "4.5", "d": "true", "e": "p, q"}
    assert frame.iloc[1].dropna().to_dict() == {"b": "12345678901234567890", "f": '{"x": [1]}'}


def test_a_list_of_objects_and_python_literals_are_the_same_table():
    """Amazon's metadata of 2014 are lines of Python dictionaries."""
    lines = read('{"a": "it\'s", "b": null}\n{"a": "y", "b": 1}\n')
    assert read('[{"a": "it\'s", "b": null},\n {"a": "y", "b": 1}]').equals(lines)
    assert read("{'a': \"it's\", 'b': None}\n{'a': u'y', 'b': 1}\n").equals(lines)


def test_objects_of_several_chunks():
    count = CHUNK + 5
    frame = read("".join(json.dumps({"a": i} | ({"late": 1} if i == count - 1 else {})) + "\n" for i in range(count)))
    assert frame["a"].tolist() == [str(i) for i in range(count)]
    assert frame["late"].notna().sum() == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n\n{"a": \n{"a": 2}\n', r"line 3 is not a JSON object \(Expecting value at column 6\)"),
        ('{"a": 1}\n{"a": 1} {"a": 2}\n', r"line 2 is not a JSON object \(Extra data at column 10\)"),
        ('{"a": 1}\n[1, 2]\n', "line 2 holds a list instead of a JSON object"),
        ('{"a": 1}\n"b"\n', "line 2 holds a text instead"),
        ("7\n", "line 1 holds a number instead"),
        ('{\n  "a": 1\n}\n', "line 1 is not a JSON object"),
        ('[{"a": 1},\n {"a": }]', r"line 2 is not JSON \(Expecting value at column 8\)"),
        ('[{"a": 1}, 3]', "entry 2 is a number instead of a JSON object"),
        ("[]", "holds no JSON objects"),
        ('{"a": ' + "[" * 100_000 + "\n", "line 1 is not a JSON object"),
        ('{"a": ' + "9" * 5000 + "}\n", "line 1 is not a JSON object"),
        ("{'a': __import__('os')}\n", "line 1 is not a JSON object"),
        ("{'a': 1}\n{'a': f()}\n", "line 2 is not a JSON object"),
        ("{" + ", ".join(f'"k{i}": 1' for i in range(1001)) + "}\n", "more than 1,000 different keys"),
    ],
)
def test_broken_lines_are_named(text, message):
    with pytest.raises(DataError, match=message) as caught:
        read(text)
    assert "\n" not in str(caught.value)


def test_files(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress('\ufeff\n{"a": "ü"}\n\n{"a": "b"}\n'.encode()))
    assert read_table(path)["a"].tolist() == ["ü", "b"]
    assert [location(path, row) for row in range(2)] == ["a.jsonl.gz line 2", "a.jsonl.gz line 4"]
    path.write_bytes(gzip.compress(('{"a": "b"}\n' * 5000).encode())[:50])
    with pytest.raises(DataError, match=r"a\.jsonl\.gz is truncated"):
        read_table(path)
    (tmp_path / "b.json").write_text('[{"a": 1},\n{"a": 2}]')
    assert location(tmp_path / "b.json", 1) == "b.json entry 2"
