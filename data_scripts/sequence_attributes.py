"""Makes a data set of sequences whose items have attributes: ids of categories and brands become a modality.

A folder with ``item2attributes.json`` (``{item: [attribute, ...]}``, as in the data of S3-Rec) beside its sequences is read as
sequences alone, since nothing tells what the numbers of such a file mean. The new folder has copies of its tables and features, and

- ``attribute_feat.npz``: ``ids`` of the items, and ``values`` [I, A] (float16), 1 where an item has an attribute, else 0. Nothing
  is reduced: a linear layer on these rows is a sum of one learned vector an attribute. Items without any attribute have no row;
- ``attributes.txt``: the attributes' own ids, a line a column, the rarest last.

    python data_scripts/sequence_attributes.py FOLDER --out runs/content/amazon-beauty-seq
"""

import argparse
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np

SOURCE = "item2attributes.json"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--min-count", type=int, default=1, help="items an attribute needs")
    flags = parser.parse_args(arguments)

    source = flags.folder / SOURCE
    if not source.is_file():
        raise ValueError(f"folder {flags.folder.name} has no {SOURCE}; give one that says which attributes every item has")
    attributes = {item: set(held) for item, held in json.loads(source.read_text(encoding="utf-8")).items()}
    counts = Counter(attribute for held in attributes.values() for attribute in held)
    kept = [attribute for attribute, count in counts.most_common() if count >= flags.min_count]
    if not kept:
        raise ValueError(f"no attribute has {flags.min_count} items; lower --min-count")
    column = {attribute: position for position, attribute in enumerate(kept)}
    rows = {item: [column[attribute] for attribute in held if attribute in column] for item, held in attributes.items()}
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
    print(f"{len(rows)} items, {len(kept)} attributes, {mean:.1f} an item, written to {flags.out}")


if __name__ == "__main__":
    main()
