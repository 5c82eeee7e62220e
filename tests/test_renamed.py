"""Old names are refused with their new ones, and all others pass."""

import pytest

from gmmrec.renamed import RENAMED, refuse_renamed


def test_an_old_name_is_refused_and_its_new_name_passes(monkeypatch):
    monkeypatch.setitem(RENAMED, "max_len", "max_length")
    with pytest.raises(ValueError, match="'max_len' is now called 'max_length'"):
        refuse_renamed("max_len")
    with pytest.raises(ValueError, match="'blanks/accuracy' is now called 'fill_in_the_blank/accuracy'"):
        refuse_renamed("blanks/accuracy")
    for name in ("max_length", "fill_in_the_blank/accuracy", "blanks", "recall@20", "other/blanks"):
        refuse_renamed(name)


def test_no_new_name_is_an_old_one():
    assert not set(RENAMED) & set(RENAMED.values())
