"""Make a data set of sequences with item attributes: ids of categories and brands become a modality.

The package reads a folder with ``item2attributes.json`` (``{item: [attribute, ...]}``, as in the data of S3-Rec) as sequences
alone, since the file's numbers are not self-explanatory. The new folder has copies of its tables and features, and

- ``attribute_feat.npz``: ``ids`` of the items, and ``values`` [I, A] (float16), 1 where an item has an attribute, else 0, without
  reduction: a linear layer on these rows is a sum of one learned vector per attribute. Items without attributes have no row;
- ``attributes.txt``: the ids of the attributes, one line per column, the rarest last.

    python data_scripts/sequence_attributes.py FOLDER --out runs/content/amazon-beauty-seq
"""

import argparse
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np

from gmmrec.errors import UsageError

SOURCE = "item2attributes.json"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--min-count", type=int, default=1, help="minimum number of items per attribute")
    flags = parser.parse_args(arguments)

    source = flags.folder / SOURCE
    if not source.is_file():
        raise UsageError(f"folder {flags.folder.name} has no {SOURCE}; give one with the attributes of every item")
    attributes = {item: set(ids) for item, ids in json.loads(source.read_text(encoding="utf-8")).items()}
    counts = Counter(attribute for ids in attributes.values() for attribute in ids)
    kept = [attribute for attribute, count in counts.most_common() if count >= flags.min_count]
    if not kept:
        raise UsageError(f"no attribute has {flags.min_count} items; lower --min-count")
    column = {attribute: position for position, attribute in enumerate(kept)}
    rows = {item: [column[attribute] for attribute in ids if attribute in column] for item, ids in attributes.items()}
    rows = {item: positions for item, positions in rows.items() if positions}

    values = np.zeros((len(rows), len(kept)), dtype=np.float16)
    for row, positions in enumerate(rows.values()):
        values[row, positions] = 1
    flags.out.mkdir(parents=True, exist_ok=True)
    for path in flags.folder.iterdir():
        if path.is_file() and path.name not in (SOURCE, "README.md"):
            shutil.copyfile(path, flags.out / path.name)
    np.savez_compressed(flags.out / "attribute_feat.npz", ids=np.array(list(rows)), values=values)
    (flags.out / "attributes.txt").write_text("".join(f"{attribute}\n" for attribute in kept), encoding="utf-8")
    mean = values.sum(1, dtype=np.float64).mean()
    print(f"{len(rows)} items, {len(kept)} attributes, {mean:.1f} per item, written to {flags.out}")


if __name__ == "__main__":
    main()
