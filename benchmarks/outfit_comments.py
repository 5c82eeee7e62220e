"""Matching garments and comments on them: NOR with and without mutual attention, and the quality of its comments.

    python benchmarks/outfit_comments.py [--folder runs/content/garment-pairs] [--seeds 0 1 2] [--tables-only]

The data set is made by ``data_scripts/garment_pairs.py``; garments have no features but the regions of their pictures. Every test
pair is two queries: the lower garment for the upper one, and the reverse, among all garments of that kind in the catalogue. The
comment on a pair is found by a beam search of width three and compared with the shop's description, which is not in the training
data; two baselines copy a text: the most frequent one of training, and that of the training pair with the most similar pictures.
Settings are the same for all variants and not tuned; training stops at the best validation AUC of fill in the blank. The table
goes to benchmarks/tables/outfit-comments.md, rendered from benchmarks/results/outfit_comments.csv; runs and texts are kept below
runs/outfit-comments, and an interrupted run resumes.
"""

import logging
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import gmmrec
from gmmrec.data.dataset import Dataset
from gmmrec.evaluation.text import most_frequent, plain, text_metrics
from gmmrec.runs.run import Run
from gmmrec.tasks.query import OutfitQuery
from lab import command
from lab.cells import commit, read_json, remembered, resumed
from lab.results import Row, Store, count_runs
from lab.tables import by, markdown, page, spreads, write

DATASET = "garment-pairs"
RUNS = Path("runs/outfit-comments")
VARIANTS: dict[str, dict[str, Any]] = {
    "NOR": {},
    "NOR without mutual attention": {"mutual": False},
    "NOR without comments": {"comment_weight": 0.0},
    "NOR without comments and mutual attention": {"comment_weight": 0.0, "mutual": False},
}
SETTINGS: dict[str, Any] = {
    "model": {"dim": 32, "attention_hidden": 32, "word_dim": 32, "state_dim": 64, "comment_weight": 0.1},
    "train": {"lr": 3e-3, "batch_size": 128, "num_negatives": 4, "clip_norm": 5.0, "patience": 5, "progress": False},
}
MATCHING = tuple(f"{metric} of {kind}" for kind in ("lower", "upper") for metric in ("auc", "mrr"))
COMMENT = ("bleu", "rouge-1", "rouge-2", "rouge-l")
WORDS = 48
TEST = 2
logger = logging.getLogger("outfit_comments")


def main() -> None:
    parser = command.parser(__doc__, threads=1, data=False)
    parser.add_argument("--folder", type=Path, default=Path("runs/content/garment-pairs"))
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--epochs", type=int, default=10)
    flags = command.start(parser)
    store = Store("outfit_comments", keys=("dataset", "model", "seed"))
    if not flags.tables_only:
        dataset = gmmrec.load_dataset(flags.folder, modalities="regions", review_words=WORDS)
        for seed in flags.seeds:  # a whole comparison first, then the next seed
            for name in flags.variants:
                remembered(path_of(name, seed, flags.epochs), partial(measure, dataset, name, seed, flags.epochs))
                keep(store, dataset, flags.epochs)
    write(tables(store))


def measure(dataset: Dataset, name: str, seed: int, epochs: int) -> dict[str, float]:
    """Train and evaluate one run, and keep its comments as text."""
    started = time.perf_counter()
    path = path_of(name, seed, epochs)
    model, train = SETTINGS["model"] | VARIANTS[name], SETTINGS["train"] | {"epochs": epochs}
    finished = resumed(
        dataset, "nor", {"model": model, "train": train, "seed": seed, "monitor": "fill_in_the_blank/auc"}, path.with_suffix("")
    )
    result = {"seconds": time.perf_counter() - started} | matching(dataset, finished)
    if model["comment_weight"]:
        texts = comments(dataset, finished)
        result |= text_metrics(texts, descriptions(dataset))
        path.with_suffix(".txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    logger.info("%s, seed %d: %s", name, seed, {key: round(value, 4) for key, value in result.items()})
    return result


def path_of(name: str, seed: int | str, epochs: int) -> Path:
    return RUNS / f"{name.replace(' ', '-').lower()}-epochs{epochs}-seed{seed}.json"


def pairs(dataset: Dataset, part: int) -> Tensor:
    """Rows of the garments ``[n, 2]`` of every pair of one split part, upper then lower."""
    assert dataset.outfits is not None
    return dataset.outfits.items.values.view(-1, 2)[dataset.outfits.part == part]


def described(dataset: Dataset, *parts: int) -> tuple[Tensor, Tensor]:
    """Pairs of some split parts that have a text, and their texts."""
    assert dataset.outfits is not None
    assert dataset.outfits.text is not None
    chosen = torch.isin(dataset.outfits.part, torch.tensor(parts)) & dataset.outfits.text.any(1)
    return dataset.outfits.items.values.view(-1, 2)[chosen], dataset.outfits.text[chosen]


def alone(garments: Tensor) -> OutfitQuery:
    """Outfits of one garment each ``[n]``, without a user."""
    return OutfitQuery(torch.full_like(garments, -1), garments[:, None], torch.ones_like(garments, dtype=torch.bool)[:, None])


@torch.no_grad()
def matching(dataset: Dataset, finished: Run) -> dict[str, float]:
    """AUC and reciprocal rank of the relevant garment among all of its kind, in both directions."""
    assert dataset.outfits is not None
    assert dataset.outfits.category is not None
    encoded, test, result = finished.model.encode(finished.graph), pairs(dataset, TEST), {}
    for name, given, asked in (("lower", 0, 1), ("upper", 1, 0)):
        kind = dataset.outfits.category[test[0, asked]]
        candidates = torch.nonzero(dataset.outfits.category == kind).flatten()
        scores = finished.model.score(encoded, alone(test[:, given]), candidates)
        is_relevant = candidates == test[:, asked, None]
        own = scores[is_relevant][:, None]
        better, equal = (scores > own).sum(1), (scores == own).sum(1) - 1
        position = better + equal / 2  # ties count half
        result[f"auc of {name}"] = float((1 - position / (len(candidates) - 1)).mean())
        result[f"mrr of {name}"] = float((1 / (1 + position)).mean())
    return result


def comments(dataset: Dataset, finished: Run) -> list[str]:
    """Comments of the model on the test pairs that have a text."""
    with torch.no_grad():
        encoded = finished.model.encode(finished.graph)
    upper, lower = described(dataset, TEST)[0].unbind(1)
    model: Any = finished.model
    return plain(model.comment(encoded, alone(upper), lower, max_words=WORDS), finished.words)


def descriptions(dataset: Dataset) -> list[str]:
    """Descriptions of the same pairs by the shop; words unknown in training are kept as unknown, and never matched."""
    assert dataset.reviews is not None
    return plain(described(dataset, TEST)[1], dataset.reviews.words)


def baselines(dataset: Dataset) -> dict[str, list[str]]:
    """Copied texts: the most frequent one, and that of the most similar training pair."""
    assert dataset.reviews is not None
    known, texts = described(dataset, 0)
    words = ("", "?", *dataset.reviews.words[2:])  # two rare words are not the same word
    said, pictures = plain(texts, words), F.normalize(dataset.features["regions"].pooled, dim=1)
    asked = described(dataset, TEST)[0]
    alike = sum(pictures[asked[:, side]] @ pictures[known[:, side]].T for side in (0, 1))
    assert isinstance(alike, Tensor)
    return {
        "the most frequent text of training": [most_frequent(said)] * len(asked),
        "the text of the most similar training pair": [said[position] for position in alike.argmax(1).tolist()],
    }


def popular(dataset: Dataset) -> dict[str, float]:
    """The same metrics for ranking garments by their number of training pairs."""
    assert dataset.outfits is not None
    assert dataset.outfits.category is not None
    count = torch.bincount(pairs(dataset, 0).flatten(), minlength=dataset.num_items).float()
    result, test = dict[str, float](), pairs(dataset, TEST)
    for name, asked in (("lower", 1), ("upper", 0)):
        others = count[dataset.outfits.category == dataset.outfits.category[test[0, asked]]]
        own = count[test[:, asked], None]
        position = (others > own).sum(1) + ((others == own).sum(1) - 1) / 2
        result |= {
            f"auc of {name}": float((1 - position / (len(others) - 1)).mean()),
            f"mrr of {name}": float((1 / (1 + position)).mean()),
        }
    return result


def keep(store: Store, dataset: Dataset, epochs: int) -> None:
    """Keep all results so far, and those that need no model, instead of earlier ones."""
    assert dataset.outfits is not None
    assert dataset.outfits.category is not None
    truth, chance = descriptions(dataset), dict[str, float]()
    for kind, side in (("lower", 1), ("upper", 0)):
        count = int((dataset.outfits.category == dataset.outfits.category[pairs(dataset, TEST)[0, side]]).sum())
        chance |= {f"auc of {kind}": 0.5, f"mrr of {kind}": sum(1 / (1 + n) for n in range(count)) / count}
    rows: list[dict[str, Any]] = [{"model": "by chance"} | chance, {"model": "by number of training pairs"} | popular(dataset)]
    rows += [{"model": name} | text_metrics(texts, truth) for name, texts in baselines(dataset).items()]
    for name in VARIANTS:
        for path in sorted(RUNS.glob(path_of(name, "*", epochs).name)):
            rows.append({"model": name, "seed": path.stem.rsplit("seed", 1)[1]} | read_json(path))
    about: dict[str, Any] = {"training_pairs": len(pairs(dataset, 0)), "test_pairs": len(pairs(dataset, TEST)), "texts": len(truth)}
    about |= {"garments": dataset.num_items, "epochs": epochs, "commit": commit()}
    store.replace([{"dataset": DATASET} | row | about for row in rows], dataset=DATASET)


def tables(store: Store) -> dict[str, str]:
    """The page of all results so far."""
    rows = store.select(dataset=DATASET)
    if not rows:
        return {}
    first = rows[0]
    text = page(
        "Matching garments, and comments on them",
        f"{first['training_pairs']} training pairs of an upper and a lower garment that were bought together, "
        f"{first['test_pairs']} "
        f"later test pairs, {first['garments']} garments with 7 x 7 regions of their pictures; means over "
        "seeds, with the standard deviation "
        f"between them; at most {first['epochs']} epochs. Made by `python benchmarks/outfit_comments.py` (see its docstring).",
        "Rank of the garment that goes with the given one, among all of its kind:",
        table("ranking", rows, MATCHING),
        f"Comments on {first['texts']} test pairs, compared with the shop's descriptions of the two products, none "
        "of which are in the training "
        "data (H&M's customers write no comments):",
        table("comment", rows, COMMENT),
    )
    return {"outfit-comments": text}


def table(title: str, rows: Sequence[Row], metrics: Sequence[str]) -> str:
    """Table with one row per ranking or text, and the number of seeds for models."""
    lines = []
    for (name,), found in by(rows, "model").items():
        measured = [row for row in found if metrics[0] in row]
        if measured:
            lines.append([name, *spreads(measured, metrics, alone=False), str(count_runs(measured)) if name in VARIANTS else ""])
    return markdown([title, *metrics, "seeds"], lines)


if __name__ == "__main__":
    main()
