"""Pages: escaped values, no external resources, errors in one sentence."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from jinja2 import UndefinedError

from gmmrec.errors import UsageError
from gmmrec.report.outfits import write_outfits
from gmmrec.report.page import ENVIRONMENT, embedded, write_page

EVIL = "<script>alert('x')</script>\"&"


def test_every_value_is_escaped_and_a_content_policy_is_set(tmp_path):
    frame = pd.DataFrame({"outfit": [1], "item_id": [EVIL], "given": [False], "probability": [0.5], "score": [-1.0]})
    frame = frame.assign(title=EVIL, category=EVIL, comment=EVIL)
    text = write_outfits(frame, tmp_path / "deep" / "page.html", {}, EVIL).read_text(encoding="utf-8")
    assert "<script" not in text
    assert text.count("&lt;script&gt;") == 7  # title and heading of the page; box, caption, id, category and comment of the item
    (policy,) = re.findall('http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    (style,) = re.findall("<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert text.startswith("<!doctype html>")


HOSTILE = [
    "</style><style>@import 'http://evil.example/x'</style>",
    "</title><script src=//evil.example></script>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "<!--",
    "]]><svg onload=alert(1)>",
    "zero \x00, escape \x1b[2J, back \u202elive",
]


@pytest.mark.parametrize("evil", HOSTILE)
def test_hostile_texts_add_neither_elements_nor_links(tmp_path, evil):
    def page(text):
        frame = pd.DataFrame({"outfit": [1], "item_id": [text], "given": [False], "probability": [0.5], "score": [-1.0]})
        frame = frame.assign(title=text, category=text, comment=text)
        return write_outfits(frame, tmp_path / "page.html", {}, text).read_text(encoding="utf-8")

    class Elements(HTMLParser):
        def __init__(self, text):
            super().__init__()
            self.found = []
            self.feed(text)

        def handle_starttag(self, tag, attributes):
            self.found.append((tag, [name for name, _ in attributes]))

    text = page(evil)
    assert Elements(text).found == Elements(page("plain")).found  # the same elements with the same attributes
    assert not set("\x00\x1b\u202e") & set(text)
    assert "49" not in text.split("<h1>")[1].split("</h1>")[0]


def test_pictures_of_other_formats_are_not_opened(tmp_path):
    pytest.importorskip("PIL.Image")
    (tmp_path / "a.png").write_text('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>')
    with pytest.raises(UsageError, match=r"a\.png cannot be read as a picture"):
        embedded(tmp_path / "a.png", 10)


def test_values_in_attributes_are_escaped(tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (3, 2)).save(tmp_path / "a.png")
    frame = pd.DataFrame({"outfit": [1], "item_id": ["a"], "given": [True], "probability": [1.0], "score": [-1.0], "title": [EVIL]})
    text = write_outfits(frame, tmp_path / "page.html", {"a": tmp_path / "a.png"}, "Outfits").read_text(encoding="utf-8")
    assert 'alt="&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&#34;&amp;"' in text


def test_a_missing_value_is_an_error(tmp_path):
    with pytest.raises(UndefinedError, match="outfits"):
        write_page("outfits.html", tmp_path / "page.html", heading="Outfits")
    assert not (tmp_path / "page.html").exists()


def test_other_suffixes_and_unreadable_pictures_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.html, but is page\.txt"):
        write_page("outfits.html", tmp_path / "page.txt", heading="Outfits", outfits=[])
    pytest.importorskip("PIL.Image")
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"a\.png cannot be read as a picture"):
        embedded(tmp_path / "a.png", 10)


def test_all_templates_compile():
    assert {"page.html", "outfits.html"} <= set(ENVIRONMENT.list_templates())
    for name in ENVIRONMENT.list_templates():
        ENVIRONMENT.get_template(name)
