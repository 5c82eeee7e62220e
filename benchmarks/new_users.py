"""Lists for new users from histories, by models that fold in nobody: similar users against popularity and nearest items.

The models are trained without 80 of the 671 users of movies-small. Half of the items of each of these users, drawn at random, is
their history; recall@20 is measured on the other half. Prints a Markdown table; a model takes one to four minutes.

    python benchmarks/new_users.py vbpr mario vecf
"""

import sys
from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch.nn import functional as F

import gmmrec
from gmmrec.runs.run import Run

SETTINGS: dict[str, Any] = {"dim": 32, "lr": 0.005, "epochs": 15, "progress": False, "eval": {"bootstrap": 0}}
COUNT, K = 80, 20


def main(models: list[str]) -> None:
    """Train the models and print one row each."""
    dataset = gmmrec.load_dataset("movies-small")
    log, generator = dataset.interactions, torch.Generator().manual_seed(1)
    new = torch.randperm(dataset.num_users, generator=generator)[:COUNT].sort().values
    ids = dataset.vocabularies["item"].ids()
    histories: list[list[Hashable]] = []
    answers: list[set[Hashable]] = []
    for user in new.tolist():
        items = log.item[log.user == user]
        shuffled = items[torch.randperm(len(items), generator=generator)].tolist()
        histories.append([ids[item] for item in shuffled[: len(items) // 2]])
        answers.append({ids[item] for item in shuffled[len(items) // 2 :]})
    rest = replace(dataset, interactions=log.take(~torch.isin(log.user, new)), given_split=None)
    print("| model | popularity | nearest items | similar users |\n|---|---|---|---|")
    for name in models:
        run = gmmrec.fit(rest, name, **SETTINGS)
        similar = run.recommend(histories=histories, k=K)
        assert set(similar.basis) == {"similar users"}
        counts = pd.Series(run.graph.degree("item").tolist(), index=ids).sort_values(ascending=False, kind="stable")
        lists = [[[i for i in counts.index if i not in set(h)][:K] for h in histories], nearest(run, histories), by_user(similar)]
        print(f"| {name} | " + " | ".join(f"{recall(found, answers):.3f}" for found in lists) + " |", flush=True)


def nearest(run: Run, histories: list[list[Hashable]]) -> list[list[Hashable]]:
    """Return the items nearest to a history, by the mean cosine of the model's vectors of items."""
    ids, vectors = run.vocabularies["item"], F.normalize(run.service.encoded["item"], dim=1)
    found = []
    for history in histories:
        rows = ids.rows(history)
        scores = vectors @ vectors[rows].mean(0)
        scores[rows] = -torch.inf
        found.append(ids.ids(scores.topk(K).indices))
    return found


def by_user(frame: pd.DataFrame) -> list[list[Hashable]]:
    """Return the lists of a frame of recommendations."""
    return frame.groupby("user_id", sort=False).item_id.apply(list).tolist()


def recall(lists: list[list[Hashable]], answers: list[set[Hashable]]) -> float:
    """Return recall@20, over at most 20 answers."""
    shares = [len(set(found) & right) / min(K, len(right)) for found, right in zip(lists, answers, strict=True)]
    return sum(shares) / len(shares)


if __name__ == "__main__":
    main(sys.argv[1:] or ["vbpr", "mario", "vecf"])
