"""Text tables: rows and columns, written in all forms that programs export, and damaged in all ways that people do."""

import csv
import gzip
import io
from dataclasses import dataclass, field, replace
from itertools import product

from hypothesis import strategies as st

from tests.fuzz.values import CELLS, cells


@dataclass(frozen=True)
class Form:
    """Form of a text table."""

    separator: str = ","
    quoting: int = csv.QUOTE_MINIMAL
    newline: str = "\n"
    encoding: str = "utf-8"
    gzipped: bool = False
    last_newline: bool = True


@dataclass(frozen=True)
class Table:
    """Header and rows; the header is empty in files that have none."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    form: Form = field(default_factory=Form)

    def content(self) -> bytes:
        lines = [row for row in (self.header, *self.rows) if row]
        form = self.form
        if form.quoting == csv.QUOTE_NONE:
            text = form.newline.join(form.separator.join(row) for row in lines)
        else:
            file = io.StringIO(newline="")
            csv.writer(file, delimiter=form.separator, quoting=form.quoting, lineterminator=form.newline).writerows(lines)
            text = file.getvalue()[: -len(form.newline)]
        raw = (text + form.newline * form.last_newline).encode(form.encoding, "replace")
        return gzip.compress(raw, 1, mtime=0) if form.gzipped else raw


def forms(separator: str = ",", *, quoted: bool = True) -> st.SearchStrategy[Form]:
    """Forms that every reader of tables takes."""
    quotings = (csv.QUOTE_MINIMAL, csv.QUOTE_ALL) if quoted else (csv.QUOTE_NONE,)
    choices = product(quotings, ("\n", "\r\n"), ("utf-8", "utf-8-sig"), (False,), (True, False))
    return st.sampled_from([Form(separator, *choice) for choice in choices])


@st.composite
def damaged_tables(draw: st.DrawFn, table: Table) -> Table:
    """Change cells, columns, rows or the form of a table."""
    for _ in range(draw(st.integers(1, 2))):
        table = DAMAGE[draw(st.integers(0, len(DAMAGE) - 1))](draw, table)
    return table


def _cell(draw: st.DrawFn, table: Table) -> Table:
    if not table.rows:
        return table
    row = draw(st.integers(0, len(table.rows) - 1))
    changed = list(table.rows[row])
    if changed:
        changed[draw(st.integers(0, len(changed) - 1))] = draw(cells)
    return replace(table, rows=(*table.rows[:row], tuple(changed), *table.rows[row + 1 :]))


def _whole_column(draw: st.DrawFn, table: Table) -> Table:
    width = max(map(len, table.rows), default=0)
    if not width:
        return table
    column, cell = draw(st.integers(0, width - 1)), draw(cells)
    rows = tuple(tuple(cell if n == column else old for n, old in enumerate(row)) for row in table.rows)
    return replace(table, rows=rows)


def _header(draw: st.DrawFn, table: Table) -> Table:
    names = ("user", "item", "rating", "timestamp", "split", "review", "items", "head", "label", "x_label", "user_id:token", *CELLS)
    header = list(table.header) or ["user", "item"]
    header[draw(st.integers(0, len(header) - 1))] = draw(st.sampled_from(names))
    return replace(table, header=tuple(header))


def _drop_column(draw: st.DrawFn, table: Table) -> Table:
    column = draw(st.integers(0, max(0, len(table.header) - 1)))
    cut = tuple(row[:column] + row[column + 1 :] for row in table.rows)
    return replace(table, header=table.header[:column] + table.header[column + 1 :], rows=cut)


def _double_column(draw: st.DrawFn, table: Table) -> Table:
    column = draw(st.integers(0, max(0, len(table.header) - 1)))
    rows = tuple(row[: column + 1] + row[column:] for row in table.rows)
    return replace(table, header=table.header[: column + 1] + table.header[column:], rows=rows)


def _ragged_row(draw: st.DrawFn, table: Table) -> Table:
    if not table.rows:
        return table
    row = draw(st.integers(0, len(table.rows) - 1))
    changed = draw(st.sampled_from(((), table.rows[row][:-1], table.rows[row][:1], (*table.rows[row], "x"), ("",), ("", ""))))
    return replace(table, rows=(*table.rows[:row], changed, *table.rows[row + 1 :]))


def _repeat_row(draw: st.DrawFn, table: Table) -> Table:
    if not table.rows:
        return table
    row = draw(st.integers(0, len(table.rows) - 1))
    return replace(table, rows=(*table.rows, *table.rows[row : row + 1] * draw(st.integers(1, 2))))


def _no_rows(draw: st.DrawFn, table: Table) -> Table:
    return replace(table, rows=table.rows[: draw(st.integers(0, 1))])


def _no_header(draw: st.DrawFn, table: Table) -> Table:
    return replace(table, header=())


def _form(draw: st.DrawFn, table: Table) -> Table:
    return replace(table, form=draw(ODD_FORMS))


ODD_FORMS = st.sampled_from(
    [
        Form(*choice)
        for choice in product(
            (",", "\t", ";", "|", " ", "::", "\x01"),
            (csv.QUOTE_NONE,),
            ("\n", "\r\n", "\r", "\n\n"),
            ("utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-16-le", "cp1252", "utf-32"),
            (False, True),
            (True, False),
        )
    ]
)


def _quotes(draw: st.DrawFn, table: Table) -> Table:
    quoting = draw(st.sampled_from((csv.QUOTE_NONE, csv.QUOTE_ALL, csv.QUOTE_MINIMAL)))
    if table.form.separator not in (",", "\t", ";", "|"):
        return table
    return replace(table, form=replace(table.form, quoting=quoting))


DAMAGE = (
    (_cell,) * 6
    + (_whole_column, _header, _header, _drop_column, _double_column, _ragged_row, _repeat_row, _no_rows)
    + (*(_no_header, _form, _form, _quotes),)
)
"""Kinds of damage; changed cells are the most frequent."""


@st.composite
def damaged_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Cut, change or insert bytes, or replace all of them."""
    kind = draw(st.integers(0, 7))
    at = draw(st.integers(0, max(0, len(content) - 1)))
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[at:]
    if kind == 2:
        return content[:at] + draw(st.binary(min_size=1, max_size=3)) + content[at + 1 :]
    if kind == 3:
        return (
            content[:at]
            + draw(st.sampled_from((b"\x00", b'"', b"\n", b"\r", b"\t", b",", b"\xff", b"\xef\xbb\xbf")))
            + content[at:]
        )
    if kind == 4:
        return draw(st.sampled_from(WHOLE))
    if kind == 5:
        return gzip.compress(content, 1, mtime=0)
    if kind == 6:
        return content + content
    return draw(st.binary(max_size=20))


WHOLE = (
    *(b"", b"\n", b"   \n\n", b"\xef\xbb\xbf", b"\xff\xfe", b"\x00" * 64, b"<!DOCTYPE html><html>", b"PK\x03\x04", b"PAR1", b"{}"),
    *(
        b"[]",
        b"[[]]",
        b"null",
        b"1",
        b'"',
        b"[" * 2000,
        b"version https://git-lfs.github.com/spec/v1\n",
        b"\x80\x04K\x01.",
        b"# a\n",
    ),
    *(
        b"user,item\n",
        b"user\titem\n",
        b'{"user": 1, "item": 2}\n',
        b"1 2\n",
        b"a\n",
        b"\x1f\x8b",
        b"\x1f\x8b\x08\x00",
        b"\x93NUMPY",
    ),
)
"""Whole contents of files that are something else, or nothing."""
