"""A model without a row, a declaration, a page or a test is found."""

from pathlib import Path

import pytest

from tests.house.models import TABLE, check_models
from tests.house.source import Source

FILES = {
    TABLE: 'CARDS: dict[str, Card] = {"my-model": Card("gmmrec.models.mine:Mine", "paper")}',
    "gmmrec/models/mine.py": "class Mine(Recommender[UserQuery, MineConfig], Attends): ...",
    "tests/models/test_mine.py": "",
}


def messages(root: Path, files: dict[str, str]) -> list[str]:
    return [f"{found.path}: {found.message}" for found in check_models([Source(*each) for each in files.items()], root)]


@pytest.fixture
def root(tmp_path):
    (tmp_path / "docs" / "models").mkdir(parents=True)
    (tmp_path / "docs" / "models" / "my-model.md").touch()
    return tmp_path


def test_a_complete_model_passes_as_a_file_and_as_a_package(root):
    assert messages(root, FILES) == []
    package = {
        TABLE: FILES[TABLE],
        "gmmrec/models/mine/__init__.py": "",
        "gmmrec/models/mine/layer.py": "",
        "gmmrec/models/mine/model.py": FILES["gmmrec/models/mine.py"],
        "tests/models/mine/test_model.py": "",
    }
    assert messages(root, package) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gmmrec/models/other.py": ""}, f"gmmrec/models/other.py: no row names this model; add one to CARDS in {TABLE}"),
        ({"tests/models/test_mine.py": None}, "gmmrec/models/mine.py: my-model has no test; write tests/models/test_mine.py"),
        (
            {"gmmrec/models/mine.py": "class Mine(Recommender[UserQuery]): ..."},
            "gmmrec/models/mine.py: Mine does not declare query and settings; write class Mine(Recommender[UserQuery, MineConfig])",
        ),
        (
            {"gmmrec/models/mine.py": "class Mine(LightGCN): ..."},
            "gmmrec/models/mine.py: Mine does not declare query and settings; write class Mine(Recommender[UserQuery, MineConfig])",
        ),
        (
            {"gmmrec/models/mine.py": "class Other: ..."},
            f"gmmrec/models/mine.py: the row 'my-model' names the class Mine, which does not exist; fix the row in {TABLE}",
        ),
        (
            {"gmmrec/models/mine.py": None},
            f"{TABLE}: the row 'my-model' names the module gmmrec.models.mine, which does not exist; fix the row",
        ),
    ],
    ids=["row", "test", "settings", "heir", "class", "module"],
)
def test_what_a_model_lacks_is_found(root, changes, message):
    files = {path: text for path, text in {**FILES, **changes}.items() if text is not None}
    assert messages(root, files) == [message]


def test_a_missing_page_is_found(root):
    (root / "docs" / "models" / "my-model.md").unlink()
    assert messages(root, FILES) == ["gmmrec/models/mine.py: my-model has no page; write docs/models/my-model.md"]
