"""Localize attributes of items in their images, and write one token per attribute: the semantic extraction of SAERS.

The input is a folder made by ``data_scripts/content.py``, or any data set in the package's own layout whose items have a modality
of regions (a square grid, row by row from the top left) and attribute columns. The script adds:

- ``NAME_feat.npz``: a modality with one token per attribute [I, A, D], the mean of the classifiers' feature map over the
  attribute's box; attributes that do not apply to an item are masked;
- ``NAME_maps.npz``: ``ids`` [I], activation maps ``maps`` [I, A, H, W] (between 0 and 1), ``boxes`` [I, A, 4] (top, left, bottom,
  right, in regions), ``classes`` [I, A], the localized class, -1 where the attribute does not apply;
- ``NAME.json``: names of tokens and classes, and the accuracy of the classifiers on a held-out fifth of the items, beside the
  share of the most frequent class.

The classifiers (:mod:`gmmrec.models.saers.semantic_extraction`) are trained on the labelled items and applied to all images.

- ``--columns type,colour``: one attribute per column, whose classes are the values of at least ``--min-count`` items. The
  predicted class is localized. An empty cell is unknown or, in a column of ``--optional``, means that the attribute does not apply.
- ``--lists genres``: columns with several values per cell, joined by ``|``. Every value is an attribute that applies to the items
  that have it; its presence is localized.

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
from gmmrec.errors import UsageError
from gmmrec.models.saers.semantic_extraction import UNLABELLED, SemanticExtraction, labelled_loss, largest_boxes, pool_boxes


class Attributes(NamedTuple):
    """Attributes of the items, one per column.

    Attributes:
        names: Names of the A attributes.
        classes: Names of the classes of every attribute.
        labels: Class of every item ``[I, A]``; -1 if unknown.
        applies: Mask of the attributes that apply ``[I, A]``.
        targets: Class to localize ``[I, A]``; -1 for the predicted one.
    """

    names: list[str]
    classes: list[list[str]]
    labels: Tensor
    applies: Tensor
    targets: Tensor


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--columns", default="", help="columns of items.csv with one value per cell")
    parser.add_argument(
        "--optional", default="", help="those of the columns whose empty cells mean that the attribute does not apply"
    )
    parser.add_argument("--lists", default="", help="columns with several values per cell")
    parser.add_argument("--regions", default="regions", help="modality of regions")
    parser.add_argument("--name", default="attribute_regions", help="name of the new modality")
    parser.add_argument("--min-count", type=int, default=10, help="minimum number of items per class")
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
    accuracy = class_accuracy(net, table.values, labels, held_out)
    chance = [most_frequent(label[label != UNLABELLED]) for label in labels[held_out].unbind(1)]
    write(flags.folder, flags.name, dataset.vocabularies["item"].ids(), table, attributes, net, flags.threshold)
    report = {
        "regions": flags.regions,
        "grid": [side, side],
        "names": attributes.names,
        "classes": attributes.classes,
        "labelled": (labels != UNLABELLED).sum(0).tolist(),
        "accuracy": accuracy,
        "most_frequent": chance,
        "settings": {key: value for key, value in vars(flags).items() if key != "folder"},
    }
    (flags.folder / f"{flags.name}.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for name, share, baseline in zip(attributes.names, accuracy, chance, strict=True):
        print(f"{name:20} accuracy {share:.1%}, most frequent class {baseline:.1%}")


def read_attributes(items: pd.DataFrame, columns: str, lists: str, optional: str, min_count: int) -> Attributes:
    """Read labels from columns with one value per cell, and from columns with several."""
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
        indicators = items[column].fillna("").str.get_dummies("|")
        for value in (value for value in indicators if indicators[value].sum() >= min_count):
            has = indicators[value].to_numpy(dtype=bool)
            names.append(f"{column}: {value}")
            classes.append(["no", "yes"])
            labels.append(has.astype(np.int64))
            applies.append(has)
            targets.append(np.ones(len(items), np.int64))
    if not names:
        raise UsageError("there is no attribute to learn; name columns of items.csv with --columns or --lists")
    return Attributes(names, classes, *(torch.from_numpy(np.stack(rows, 1)) for rows in (labels, applies, targets)))


def fit(
    net: SemanticExtraction, regions: Tensor, labels: Tensor, rows: Tensor, epochs: int, lr: float, generator: torch.Generator
) -> None:
    """Train all classifiers jointly, with Adam on batches of 64 images."""
    optimizer = torch.optim.Adam(net.parameters(), lr=lr, weight_decay=1e-4)
    for _ in range(epochs):
        for batch in rows[torch.randperm(len(rows), generator=generator)].split(64):
            optimizer.zero_grad()
            labelled_loss(net(regions[batch]), labels[batch]).backward()
            optimizer.step()


@torch.no_grad()
def class_accuracy(net: SemanticExtraction, regions: Tensor, labels: Tensor, rows: Tensor) -> list[float]:
    """Return the accuracy on the labelled items, for every attribute."""
    accuracy = []
    for logits, label in zip(net(regions[rows]), labels[rows].unbind(1), strict=True):
        hits = (logits.argmax(1) == label)[label != UNLABELLED]
        accuracy.append(float(hits.float().mean()) if len(hits) else 0.0)
    return accuracy


def most_frequent(labels: Tensor) -> float:
    """Return the share of the most frequent class."""
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
    """Write the tokens, and their location in the images."""
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
    mask = mask[has_any]
    values = values.masked_fill(~mask.unsqueeze(-1), 0.0)
    np.savez_compressed(folder / f"{name}_feat.npz", ids=kept, values=values.numpy().astype(np.float16), mask=mask.numpy())
    np.savez_compressed(
        folder / f"{name}_maps.npz",
        ids=kept,
        maps=strength.numpy().astype(np.float16),
        boxes=box.numpy().astype(np.uint8),
        classes=targets.masked_fill(~mask, UNLABELLED).numpy().astype(np.int16),
    )


if __name__ == "__main__":
    main()
