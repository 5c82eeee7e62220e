"""Reports of results: Markdown tables that are also aligned in a terminal."""

from collections.abc import Sequence

from gmmrec.evaluation.results import EVERYTHING, SAMPLED, Results, candidates


def ranking_report(results: Results) -> str:
    """Return two tables: every metric by list length, with its interval, and the groups at one list length.

    The groups show recall and NDCG at 20 (or at the last list length if 20 is not among them); :meth:`Results.to_frame` has all.
    """
    names = list(dict.fromkeys(metric.split("@")[0] for metric in (*results.values, *results.catalogue)))
    ks = list(dict.fromkeys(int(metric.split("@")[1]) for metric in results.values))
    means = {**results.mean(), **results.catalogue}

    def cell(metric: str) -> str:
        return _with_interval(results, EVERYTHING, metric, means[metric]) if metric in means else ""

    masked = "all items are ranked" if results.masked == "none" else f"items known from {results.masked} are not ranked"
    text = f"{len(results)} {results.kind.headline}; {masked}; 95 % intervals in brackets.\n\n"
    if results.sampled:
        text += f"Ranked among {candidates(results.sampled, results.sampled_by)}: {SAMPLED}.\n\n"
    text += aligned([["metric", *(f"@{k}" for k in ks)], *([name, *(cell(f"{name}@{k}") for k in ks)] for name in names)])
    if results.groups:
        k = 20 if 20 in ks else ks[-1]
        shown = [f"{name}@{k}" for name in ("recall", "ndcg") if f"{name}@{k}" in results.values] or list(results.values)[:1]
        rows = [
            [name, str(group.position.numel()), *(f"{results.mean(name)[metric]:.4f}" for metric in shown)]
            for name, group in results.groups.items()
        ]
        text += "\n" + aligned([["group", results.kind.unit, *shown], *rows])
    return text


def table_report(results: Results) -> str:
    """Return one table with a row per group and a column per metric, with intervals."""
    rows = [
        [
            name,
            str(results.group(name).position.numel()),
            *(_with_interval(results, name, metric, mean) for metric, mean in results.mean(name).items()),
        ]
        for name in (EVERYTHING, *results.groups)
    ]
    text = f"{len(results)} {results.kind.headline}; 95 % intervals in brackets.\n\n"
    return text + aligned([["group", results.kind.unit, *results.values], *rows])


def _with_interval(results: Results, group: str, metric: str, mean: float) -> str:
    ends = results.intervals(group).get(metric)
    return f"{mean:.4f}" + (f" ({ends[0]:.4f} to {ends[1]:.4f})" if ends else "")


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, header first, with columns aligned in a terminal; all but the first are right-aligned.

    >>> print(aligned([["a", "b"], ["long", "1"]]), end="")
    | a    | b |
    |------|--:|
    | long | 1 |
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))) + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]]) + "\n"
