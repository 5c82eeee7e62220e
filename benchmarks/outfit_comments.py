"""Matching garments and saying something of them: NOR with and without mutual attention, and what its comments are worth.

    python benchmarks/outfit_comments.py [--folder runs/content/garment-pairs] [--seeds 0 1 2]

The data set is made by ``data_scripts/garment_pairs.py``; regions of pictures are all that is known of a garment. Every test pair
is asked twice: which lower garment goes with the upper one, and the reverse, among all garments of that kind in the catalogue. The
comment on a pair is the text that a beam search of three finds; it is compared with the shop's own words, which no part of training
has seen, beside two texts that nobody generates: the most frequent one of training, and that of the training pair whose two
pictures are most alike. Settings are the same for all variants and not tuned; training stops at the best validation AUC of blanks.
The table goes to benchmarks/tables/outfit-comments.md; what was measured is kept below runs/outfit-comments.
"""

import argparse
import json
import logging
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

import gmmrec
from gmmrec.data.dataset import Dataset
from gmmrec.evaluation.text import most_frequent, plain, text_metrics
from gmmrec.runs.run import Run
from gmmrec.tasks.query import OutfitQuery

HERE = Path(__file__).parent
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
WORDS = 48
TEST = 2
logger = logging.getLogger("outfit_comments")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/content/garment-pairs"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    torch.set_num_threads(arguments.threads)
    dataset = gmmrec.load_dataset(arguments.folder, modalities="regions", review_words=WORDS)
    for seed in arguments.seeds:  # a whole comparison first, then the next seed
        for name in arguments.variants:
            report(dataset, name, seed, arguments.epochs)
            write(dataset, arguments.epochs)


def report(dataset: Dataset, name: str, seed: int, epochs: int) -> dict[str, float]:
    """What one run scores, made if it is not there."""
    path = path_of(name, seed, epochs)
    if not path.is_file():
        started = time.perf_counter()
        model, train = SETTINGS["model"] | VARIANTS[name], SETTINGS["train"] | {"epochs": epochs}
        finished = gmmrec.fit(dataset, "nor", **model, train=train, seed=seed, monitor="fill_in_the_blank/auc")
        result = {"seconds": time.perf_counter() - started} | matching(dataset, finished)
        if model["comment_weight"]:
            texts = comments(dataset, finished)
            result |= text_metrics(texts, wanted(dataset))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
        logger.info("%s, seed %d: %s", name, seed, {key: round(value, 4) for key, value in result.items()})
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result))
    loaded: dict[str, float] = json.loads(path.read_text())
    return loaded


def path_of(name: str, seed: int | str, epochs: int) -> Path:
    return RUNS / f"{name.replace(' ', '-').lower()}-epochs{epochs}-seed{seed}.json"


def pairs(dataset: Dataset, part: int) -> Tensor:
    """Rows of the garments ``[n, 2]`` of every pair of one part, upper then lower."""
    assert dataset.outfits is not None
    return dataset.outfits.items.values.view(-1, 2)[dataset.outfits.part == part]


def described(dataset: Dataset, *parts: int) -> tuple[Tensor, Tensor]:
    """The pairs of some parts that have a text, and their texts."""
    assert dataset.outfits is not None
    assert dataset.outfits.text is not None
    chosen = torch.isin(dataset.outfits.part, torch.tensor(parts)) & dataset.outfits.text.any(1)
    return dataset.outfits.items.values.view(-1, 2)[chosen], dataset.outfits.text[chosen]


def alone(garments: Tensor) -> OutfitQuery:
    """Outfits of one garment each ``[n]``, for nobody."""
    return OutfitQuery(torch.full_like(garments, -1), garments[:, None], torch.ones_like(garments, dtype=torch.bool)[:, None])


@torch.no_grad()
def matching(dataset: Dataset, finished: Run) -> dict[str, float]:
    """AUC and reciprocal rank of the right garment among all of its kind, in both directions."""
    assert dataset.outfits is not None
    assert dataset.outfits.category is not None
    encoded, test, result = finished.model.encode(finished.graph), pairs(dataset, TEST), {}
    for name, given, asked in (("lower", 0, 1), ("upper", 1, 0)):
        kind = dataset.outfits.category[test[0, asked]]
        candidates = torch.nonzero(dataset.outfits.category == kind).flatten()
        scores = finished.model.score(encoded, alone(test[:, given]), candidates)
        right = candidates == test[:, asked, None]
        own = scores[right][:, None]
        better, equal = (scores > own).sum(1), (scores == own).sum(1) - 1
        place = better + equal / 2  # equal ones are met half-way
        result[f"auc of {name}"] = float((1 - place / (len(candidates) - 1)).mean())
        result[f"mrr of {name}"] = float((1 / (1 + place)).mean())
    return result


def comments(dataset: Dataset, finished: Run) -> list[str]:
    """What the model says of the test pairs that have a text."""
    assert dataset.reviews is not None
    with torch.no_grad():
        encoded = finished.model.encode(finished.graph)
    upper, lower = described(dataset, TEST)[0].unbind(1)
    model: Any = finished.model
    return plain(model.comment(encoded, alone(upper), lower, max_words=WORDS), dataset.reviews.words)


def wanted(dataset: Dataset) -> list[str]:
    """The shop's words on the same pairs; words that training does not know are there as such, and never met."""
    assert dataset.reviews is not None
    return plain(described(dataset, TEST)[1], dataset.reviews.words)


def without_a_model(dataset: Dataset) -> dict[str, list[str]]:
    """Texts that are copied: the most frequent one, and that of the most similar training pair."""
    assert dataset.reviews is not None
    known, texts = described(dataset, 0)
    words = ("", "?", *dataset.reviews.words[2:])  # two rare words are not the same word
    said, pictures = plain(texts, words), F.normalize(dataset.features["regions"].pooled, dim=1)
    asked = described(dataset, TEST)[0]
    alike = sum(pictures[asked[:, side]] @ pictures[known[:, side]].T for side in (0, 1))
    assert isinstance(alike, Tensor)
    return {
        "the most frequent text of training": [most_frequent(said)] * len(asked),
        "the text of the most similar training pair": [said[place] for place in alike.argmax(1).tolist()],
    }


def popular(dataset: Dataset) -> dict[str, float]:
    """The same numbers for ranking garments by their training pairs."""
    assert dataset.outfits is not None
    assert dataset.outfits.category is not None
    count = torch.bincount(pairs(dataset, 0).flatten(), minlength=dataset.num_items).float()
    result, test = {}, pairs(dataset, TEST)
    for name, asked in (("lower", 1), ("upper", 0)):
        others = count[dataset.outfits.category == dataset.outfits.category[test[0, asked]]]
        own = count[test[:, asked], None]
        place = (others > own).sum(1) + ((others == own).sum(1) - 1) / 2
        result |= {
            f"auc of {name}": float((1 - place / (len(others) - 1)).mean()),
            f"mrr of {name}": float((1 / (1 + place)).mean()),
        }
    return result


def write(dataset: Dataset, epochs: int) -> None:
    """The table of all that has been measured so far."""
    found = {
        name: [json.loads(path.read_text()) for path in sorted(RUNS.glob(path_of(name, "*", epochs).name))] for name in VARIANTS
    }
    names = [f"{metric} of {kind}" for metric in ("auc", "mrr") for kind in ("lower", "upper")]
    chance = {}
    assert dataset.outfits is not None
    assert dataset.outfits.category is not None
    for kind, side in (("lower", 1), ("upper", 0)):
        count = int((dataset.outfits.category == dataset.outfits.category[pairs(dataset, TEST)[0, side]]).sum())
        chance |= {f"auc of {kind}": 0.5, f"mrr of {kind}": sum(1 / (1 + n) for n in range(count)) / count}
    rows = [{"ranking": "by chance", **chance}, {"ranking": "by number of training pairs", **popular(dataset)}]
    rows += [
        {"ranking": name, **{key: spread(reports, key) for key in names}, "seeds": len(reports)}
        for name, reports in found.items()
        if reports
    ]
    metrics = ("bleu", "rouge-1", "rouge-2", "rouge-l")
    truth = wanted(dataset)
    said: list[dict[str, Any]] = [
        {"comment": name, **text_metrics(texts, truth)} for name, texts in without_a_model(dataset).items()
    ]
    said += [
        {"comment": name, **{key: spread(reports, key) for key in metrics}, "seeds": len(reports)}
        for name, reports in found.items()
        if reports and "bleu" in reports[0]
    ]
    text = f"""# Matching garments, and comments on them

{len(pairs(dataset, 0))} training pairs of an upper and a lower garment that were bought together, {len(pairs(dataset, TEST))} later
test pairs, {dataset.num_items} garments known by 7 x 7 regions of their pictures; means of seeds,
with the deviation between them; at most {epochs} epochs. Made by `python benchmarks/outfit_comments.py`, which says how.

Which garment goes with the given one, among all of its kind:

{table(rows, names)}

What is said of {len(truth)} test pairs, against the shop's own words on the two products, none of which training has seen (H&M's
customers write no comments):

{table(said, metrics)}
"""
    (HERE / "tables" / "outfit-comments.md").write_text(text, encoding="utf-8")


def spread(reports: Sequence[dict[str, float]], key: str) -> str:
    values = [report[key] for report in reports]
    deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{deviation}"


def table(rows: list[dict[str, Any]], keys: Sequence[str]) -> str:
    frame = pd.DataFrame(rows)
    frame["seeds"] = ["" if pd.isna(count) else str(int(count)) for count in frame["seeds"]] if "seeds" in frame else ""
    for key in keys:
        frame[key] = [value if isinstance(value, str) else f"{value:.4f}" for value in frame[key]]
    return str(frame.to_markdown(index=False, disable_numparse=True))


if __name__ == "__main__":
    main()
