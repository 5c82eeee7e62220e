"""The Python code of every page is run, page by page, in one namespace and a separate folder."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "page", [p for p in PAGES if BLOCK.search(p.read_text(encoding="utf-8"))], ids=lambda p: str(p.relative_to(ROOT))
)
def test_code_on_the_page_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}  # as in a notebook
    for number, block in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")), 1):
        if "pd.read_csv(" in block or 'load_dataset(".")' in block:
            continue  # a recipe for the reader's own files; tests/data/test_shared.py runs these on them
        exec(compile(block, f"{page.name}, block {number}", "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_are_valid(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_table_of_models_is_the_registry():
    from gmmrec.cli.models import to_markdown

    text = (ROOT / "docs/models/index.md").read_text(encoding="utf-8")
    between = text.split("<!-- models: begin (made by `gmmrec models --markdown`) -->")[1].split("<!-- models: end -->")[0]
    assert between.strip() == to_markdown().strip()
