"""Summaries of the accuracy of all models on all data sets, for the README and for a page of their own."""

from collections.abc import Mapping, Sequence

from gmmrec.errors import UsageError
from lab import grid
from lab.results import Row, Store, Summary, summarise
from lab.search import order
from lab.tables import between, by, line

FULL = "<!-- accuracy: begin (made by `python benchmarks/accuracy.py --tables-only`) -->"
COMPACT = "<!-- accuracy, compact: begin (made by `python benchmarks/accuracy.py --tables-only`) -->"
END = "<!-- accuracy: end -->"
SHOWN = ("impressions/auc", "impressions/mrr", "impressions/ndcg@5", "impressions/ndcg@10")
"""Impression metrics, for data with impressions."""
RATING = "Ratings (rmse / mae, lower is better)"
IMPRESSION = "Impressions (auc / ndcg@10)"
NEXT = "Next item (recall@10, the hit rate / ndcg@10)"
RANKING = "Collaborative ranking (recall@20 / ndcg@20)"
Kind = tuple[str, tuple[str, str]]


def full(store: Store, tables: str = "benchmarks/tables") -> str:
    """One table per evaluation task, with all of its data sets; ``tables`` is the folder the links lead to."""
    kinds: dict[Kind, dict[str, dict[str, list[Row]]]] = {}
    for dataset in sorted({row["dataset"] for row in store.select(part="test")}):
        rows = of_dataset(store, dataset)
        kinds.setdefault(kind_of(dataset, rows), {})[dataset] = rows
    return "\n\n".join(
        f"{title}:\n\n{table(metrics, found, tables)}"
        for (title, metrics), found in sorted(kinds.items(), key=lambda kind: kind[0])
    )


def compact(store: Store, chosen: Sequence[str], tables: str = "benchmarks/tables", *, most: int = 12) -> str:
    """One table of a few data sets with the same evaluation task, with the models of the best average rank.

    Raises:
        UsageError: The data sets have different evaluation tasks, or one has no results.
    """
    found = {dataset: of_dataset(store, dataset) for dataset in chosen}
    if empty := [dataset for dataset, rows in found.items() if not rows]:
        raise UsageError(f"expected results of {', '.join(empty)} in {store.path.name}, but there are none; run accuracy.py first")
    kinds = {kind_of(dataset, rows) for dataset, rows in found.items()}
    if len(kinds) > 1:
        raise UsageError(f"expected data sets with the same evaluation task, but {', '.join(chosen)} differ; choose others")
    title, metrics = next(iter(kinds))
    ranks: dict[str, list[float]] = {}
    for rows in found.values():
        ordered = [model for model in order(rows, metrics[0]) if summarise(rows[model], metrics[0]) is not None]
        for rank, model in enumerate(ordered):
            ranks.setdefault(model, []).append(rank / len(ordered))
    everywhere = {model: sum(shares) for model, shares in ranks.items() if len(shares) == len(found)}
    best = sorted(everywhere, key=lambda model: everywhere[model])[:most]
    return f"{title}:\n\n{table(metrics, found, tables, only=best)}"


def fill(text: str, store: Store, chosen: Sequence[str]) -> str:
    """Render the summary of a page anew: the full or the compact one, by the mark in the page."""
    if FULL in text:
        text = between(text, FULL, END, full(store))
    if COMPACT in text:
        text = between(text, COMPACT, END, compact(store, chosen))
    return text


def of_dataset(store: Store, dataset: str) -> dict[str, list[Row]]:
    """Test rows of a data set, by model."""
    return {model: rows for (model,), rows in by(store.select(dataset=dataset, part="test"), "model").items()}


def has(rows: Mapping[str, list[Row]], metric: str) -> bool:
    """Return whether any model has a metric."""
    return any(summarise(found, metric) is not None for found in rows.values())


def kind_of(dataset: str, rows: Mapping[str, list[Row]]) -> Kind:
    """Title and the two metrics of the evaluation task of a data set."""
    if has(rows, "rmse"):
        return RATING, ("rmse", "mae")
    if has(rows, SHOWN[0]):
        return IMPRESSION, (SHOWN[0], SHOWN[-1])
    if grid.shared(dataset).get("split", {}).get("strategy") == "leave_last_out":
        return NEXT, ("recall@10", "ndcg@10")
    return RANKING, ("recall@20", "ndcg@20")


def table(
    metrics: tuple[str, str], found: Mapping[str, Mapping[str, list[Row]]], tables: str, *, only: Sequence[str] | None = None
) -> str:
    """Table with one row per model and one column per data set; the best on the last data set first."""
    last = list(found.values())[-1]
    models = {model for rows in found.values() for model in rows if has({model: rows[model]}, metrics[0])}
    names = [model for model in last if model in models] if len(found) == 1 else sorted(models)  # ties keep this order
    ordered = order({model: last.get(model, []) for model in names if only is None or model in only}, metrics[0])
    lines = [line(["model", *(f"[{name}]({tables}/{name}.md)" for name in found)]), "|---|" + "---:|" * len(found)]
    lines += [line([model, *(pair(rows.get(model, []), metrics) for rows in found.values())]) for model in ordered]
    return "\n".join(lines)


def pair(rows: Sequence[Row], metrics: tuple[str, str]) -> str:
    """Two means in one cell; empty if the model has none."""
    means = [summarise(rows, metric) for metric in metrics]
    return "" if None in means else " / ".join(f"{found.mean:.4f}" for found in means if isinstance(found, Summary))
