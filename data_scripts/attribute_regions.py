"""Finds the attributes of items in their pictures, and writes a token for each: the semantic extraction of SAERS.

A folder made by ``data_scripts/content.py``, or any data set in the package's own layout whose items have a modality of regions
(a square grid, row by row from the top left) and columns of attributes, gets:

- ``NAME_feat.npz``: a modality with one token an attribute [I, A, D]: the mean, over the attribute's box, of the feature map that
  the classifiers see; attributes that do not apply to an item are masked;
- ``NAME_maps.npz``: ``ids`` [I], activation maps ``maps`` [I, A, H, W] (between 0 and 1), ``boxes`` [I, A, 4] (top, left, bottom,
  right, in regions), ``classes`` [I, A], the class that was looked for, -1 where the attribute does not apply;
- ``NAME.json``: what every token and class is called, and how often the classifiers were right on a fifth of the items that they
  were not trained on, beside the share of the most frequent class.

The classifiers (:mod:`gmmrec.models.saers.semantic_extraction`) learn from the items with labels; then every picture is looked at.

- ``--columns type,colour``: one attribute a column; its classes are the values that at least ``--min-count`` items have. The class
  that is predicted is looked for. An empty cell is unknown, or, in a column named by ``--optional`` too, says that the attribute
  does not apply.
- ``--lists genres``: columns with several values in a cell, joined by ``|``. Every value is an attribute of its own, which applies
  to the items that have it; there, its presence is looked for.

    python data_scripts/attribute_regions.py runs/content/hm-fashion --columns type,group,appearance,colour
    python data_scripts/attribute_regions.py runs/content/ml1m-posters --lists genres
"""

import argparse
import json
import math
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gmmrec.data.features import FeatureTable
from gmmrec.data.load import load_dataset
from gmmrec.models.saers.semantic_extraction import UNLABELLED, SemanticExtraction, labelled_loss, largest_boxes, pool_boxes


class Attributes(NamedTuple):
    """What is known of the items, an attribute a column.

    Attributes:
        names: A of them.
        classes: What every attribute's classes are called.
        labels: ``[I, A]``; -1 where unknown.
        applies: ``[I, A]``.
        sought: The class to look for ``[I, A]``; -1 for the one that is predicted.
    """

    names: list[str]
    classes: list[list[str]]
    labels: Tensor
    applies: Tensor
    targets: Tensor


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--columns", default="", help="columns of items.csv with one value a cell")
    parser.add_argument("--optional", default="", help="those of the columns whose empty cells say: does not apply")
    parser.add_argument("--lists", default="", help="columns with several values a cell")
    parser.add_argument("--regions", default="regions", help="modality of regions")
    parser.add_argument("--name", default="attribute_regions", help="what to call the new modality")
    parser.add_argument("--min-count", type=int, default=10, help="items a class needs")
    parser.add_argument("--hidden", type=int, default=64, help="channels of the trunk; 0 for classifiers on the regions themselves")
    parser.add_argument("--threshold", type=float, default=0.2, help="share of a map's maximum from which a region counts")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args(arguments)

    dataset = load_dataset(flags.folder)
    table = dataset.features[flags.regions]
    side = math.isqrt(table.values.shape[1])
    attributes = read_attributes(dataset.attributes["item"], flags.columns, flags.lists, flags.optional, flags.min_count)

    torch.manual_seed(flags.seed)
    generator = torch.Generator().manual_seed(flags.seed)
    net = SemanticExtraction(table.dim, [len(names) for names in attributes.classes], (side, side), hidden=flags.hidden)
    labels = attributes.labels.masked_fill(~table.present[:, None], UNLABELLED)
    known = torch.nonzero((labels != UNLABELLED).any(1)).flatten()
    known = known[torch.randperm(len(known), generator=generator)]
    held_out, training = known[: len(known) // 5], known[len(known) // 5 :]
    fit(net, table.values, labels, training, flags.epochs, flags.lr, generator)
    accuracy = right(net, table.values, labels, held_out)
    always = [most_frequent(label[label != UNLABELLED]) for label in labels[held_out].unbind(1)]
    write(flags.folder, flags.name, dataset.vocabularies["item"].ids(), table, attributes, net, flags.threshold)
    report = {
        "regions": flags.regions,
        "grid": [side, side],
        "names": attributes.names,
        "classes": attributes.classes,
        "labelled": (labels != UNLABELLED).sum(0).tolist(),
        "accuracy": accuracy,
        "most_frequent": always,
        "settings": {key: value for key, value in vars(flags).items() if key != "folder"},
    }
    (flags.folder / f"{flags.name}.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for name, share, chance in zip(attributes.names, accuracy, always, strict=True):
        print(f"{name:20} right {share:.1%}, always the most frequent class {chance:.1%}")


def read_attributes(items: pd.DataFrame, columns: str, lists: str, optional: str, min_count: int) -> Attributes:
    """Labels from columns with one value a cell and columns with several."""
    names, classes, labels, applies, targets = [], [], [], [], []
    for column in (column for column in columns.split(",") if column):
        counts = items[column].value_counts()
        kept = sorted(str(value) for value in counts[counts >= min_count].index)
        codes = pd.Index(kept).get_indexer(items[column].astype(str))
        names.append(column)
        classes.append(kept)
        labels.append(codes.astype(np.int64))  # -1 for an empty cell and for rare values
        applies.append(items[column].notna().to_numpy() | (column not in optional.split(",")))
        targets.append(np.full(len(items), UNLABELLED))
    for column in (column for column in lists.split(",") if column):
        found = items[column].fillna("").str.get_dummies("|")
        for value in (value for value in found if found[value].sum() >= min_count):
            has = found[value].to_numpy(dtype=bool)
            names.append(f"{column}: {value}")
            classes.append(["no", "yes"])
            labels.append(has.astype(np.int64))
            applies.append(has)
            targets.append(np.ones(len(items), np.int64))
    if not names:
        raise ValueError("there is no attribute to learn; name columns of items.csv with --columns or --lists")
    return Attributes(names, classes, *(torch.from_numpy(np.stack(rows, 1)) for rows in (labels, applies, targets)))


def fit(
    net: SemanticExtraction, regions: Tensor, labels: Tensor, rows: Tensor, epochs: int, lr: float, generator: torch.Generator
) -> None:
    """Trains the classifiers together, with Adam on batches of 64 pictures."""
    optimizer = torch.optim.Adam(net.parameters(), lr=lr, weight_decay=1e-4)
    for _ in range(epochs):
        for batch in rows[torch.randperm(len(rows), generator=generator)].split(64):
            optimizer.zero_grad()
            labelled_loss(net(regions[batch]), labels[batch]).backward()
            optimizer.step()


@torch.no_grad()
def right(net: SemanticExtraction, regions: Tensor, labels: Tensor, rows: Tensor) -> list[float]:
    """Share of the labelled items whose class is predicted, for every attribute."""
    found = []
    for logits, label in zip(net(regions[rows]), labels[rows].unbind(1), strict=True):
        hits = (logits.argmax(1) == label)[label != UNLABELLED]
        found.append(float(hits.float().mean()) if len(hits) else 0.0)
    return found


def most_frequent(labels: Tensor) -> float:
    return float(labels.bincount().max() / len(labels)) if len(labels) else 0.0


@torch.no_grad()
def write(
    folder: Path,
    name: str,
    ids: Sequence[Hashable],
    table: FeatureTable,
    attributes: Attributes,
    net: SemanticExtraction,
    threshold: float,
) -> None:
    """The tokens, and where they come from."""
    features, maps, boxes, classes = [], [], [], []
    for rows in torch.arange(table.num_rows).split(256):
        feature_maps = net.maps(table.values[rows])
        predicted = torch.stack([logits.argmax(1) for logits in net.logits(feature_maps)], 1)
        targets = torch.where(attributes.targets[rows] == UNLABELLED, predicted, attributes.targets[rows])
        strength = net.activation_maps(feature_maps, targets)
        box = largest_boxes(strength, threshold)
        features.append(pool_boxes(feature_maps.flatten(2).transpose(1, 2), box, net.grid))
        maps.append(strength / strength.amax((2, 3), keepdim=True).clamp(min=1e-12))
        boxes.append(box)
        classes.append(targets)
    mask = attributes.applies & table.present[:, None]
    has_any = mask.any(1)
    kept = np.array(ids)[has_any.numpy()]
    values, strength, box, targets = (torch.cat(parts)[has_any] for parts in (features, maps, boxes, classes))
    own = mask[has_any]
    values = values.masked_fill(~own.unsqueeze(-1), 0.0)
    np.savez_compressed(folder / f"{name}_feat.npz", ids=kept, values=values.numpy().astype(np.float16), mask=own.numpy())
    np.savez_compressed(
        folder / f"{name}_maps.npz",
        ids=kept,
        maps=strength.numpy().astype(np.float16),
        boxes=box.numpy().astype(np.uint8),
        classes=targets.masked_fill(~own, UNLABELLED).numpy().astype(np.int16),
    )


if __name__ == "__main__":
    main()
