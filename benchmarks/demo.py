"""Demo behind ``make demo``: train on the bundled films, compare, recommend and explain. Output goes to runs/demo/."""

import logging
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import gmmrec
from gmmrec.abilities import SplitsScores, offered

OUT = Path("runs/demo")
SETTINGS: dict[str, dict[str, Any]] = {
    "popularity": {},
    "lightgcn": {"epochs": 60, "patience": 8, "lr": 5e-3, "num_layers": 2},
    "mgat": {"epochs": 25, "patience": 6, "lr": 1e-3, "l2": 0.0},
}


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    started = time.perf_counter()
    dataset = gmmrec.load_dataset("movies-small")
    print(
        f"movies-small: {dataset.num_users} users, {dataset.num_items} films, {len(dataset.interactions)} ratings; "
        + ", ".join(f"{name} of {table.present.float().mean():.0%} of the films" for name, table in dataset.features.items())
        + "\n"
    )
    runs = {
        name: gmmrec.fit(dataset, name, out=OUT / name, overwrite=True, seed=0, **settings) for name, settings in SETTINGS.items()
    }

    metrics = ("recall@20", "ndcg@20", "precision@20", "hit@20", "coverage@20")
    table = pd.DataFrame({name: run.report["test"] for name, run in runs.items()}).T
    table = table[[m for m in metrics if m in table]]
    table["epochs"] = [run.report["timing"]["epochs"] for run in runs.values()]
    table["seconds per epoch"] = [round(run.report["timing"]["seconds_per_epoch"], 2) for run in runs.values()]
    print("Test results (all films ranked, training films left out):\n")
    print(table.to_string(float_format=lambda value: f"{value:.4f}"))
    table.to_csv(OUT / "results.csv")

    run = runs["mgat"]
    user = dataset.vocabularies["user"].ids()[0]
    print(f"\nFilms that user {user} rated highest:\n")
    print(liked(dataset, user).to_string(index=False))
    print(f"\nTen films for user {user}, and the contribution of each modality to the score:\n")
    recommended = run.recommend([user], k=10)
    recommended = recommended[["rank", "title", "score"]].assign(**reasons(run, user, recommended["item_id"].tolist()))
    print(recommended.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    recommended.to_csv(OUT / f"recommendations-user-{user}.csv", index=False)
    print(f"\n{time.perf_counter() - started:.0f} seconds; the runs are in {OUT}/")


def liked(dataset: gmmrec.Dataset, user: object, k: int = 8) -> pd.DataFrame:
    """Return the titles of the films that a user rated highest."""
    log = dataset.interactions
    mine = log.user == int(dataset.vocabularies["user"].rows([user])[0])
    assert log.weight is not None  # films are rated
    films, ratings = log.item[mine], log.weight[mine]
    order = ratings.argsort(descending=True, stable=True)[:k]
    titles = dataset.attributes["item"]["title"].iloc[films[order].numpy()].tolist()
    found: pd.DataFrame = pd.DataFrame({"rating": ratings[order].numpy(), "title": titles})
    return found


def reasons(run: gmmrec.Run, user: object, films: list[object]) -> dict[str, list[float]]:
    """Return the contribution of every modality to the score of each film; contributions sum to the score."""
    users, items = run.vocabularies["user"].rows([user]), run.vocabularies["item"].rows(films)
    model = offered(run.model, SplitsScores)
    assert model is not None
    with torch.no_grad():
        parts = model.modality_scores(run.graph, users, items)
    return {f"by {name}": part[0].tolist() for name, part in parts.items()}


if __name__ == "__main__":
    main()
