import json

import pandas as pd
import pytest
import torch

from gmmrec.cli.main import parse
from gmmrec.data.load import load_dataset
from gmmrec.data.split import split_dataset
from gmmrec.graph.build import build_graph
from gmmrec.graph.store import load_graph
from gmmrec.typing import USER_ITEM


def main(arguments):
    parsed = parse(arguments)
    return parsed.run(parsed)


def table(folder):
    path = folder / "log.csv"
    users, items = torch.nonzero((torch.arange(12)[:, None] * torch.arange(1, 9)) % 3 == 0, as_tuple=True)
    pd.DataFrame({"user": users.numpy(), "item": items.numpy()}).to_csv(path, index=False)
    return path


def test_statistics_as_json_and_the_graph_as_a_file(tmp_path, capsys):
    path = table(tmp_path)
    assert main(["graph", "-d", str(path), "--json", "--co-occurrence", "2", "--out", str(tmp_path / "graph")]) == 0
    report = json.loads(capsys.readouterr().out)
    dataset = load_dataset(path)
    expected = build_graph(dataset, split_dataset(dataset, generator=torch.Generator().manual_seed(0)))
    loaded = load_graph(tmp_path / "graph")
    assert torch.equal(loaded.edges(USER_ITEM).edge_index, expected.edges(USER_ITEM).edge_index)
    assert report["edges"]["user-interacts-item"] == expected.edges(USER_ITEM).edge_index.shape[1]
    assert report["edges"]["item-co_occurs-item"] == 2 * report["nodes"]["item"]["count"]
    assert report["nodes"]["user"]["count"] == dataset.num_users


def test_text_output_has_aligned_tables(tmp_path, capsys):
    assert main(["graph", "-d", str(table(tmp_path))]) == 0
    out = capsys.readouterr().out
    blocks = out.strip().split("\n\n")
    nodes = blocks[1].splitlines()
    assert nodes[0].split() == ["nodes", "count", "cold", "isolated", "degree", "min", "median", "mean", "max"]
    assert nodes[1].split()[:2] == ["user", "12"]
    for block in blocks[1:]:
        assert len({len(line) for line in block.splitlines()}) == 1  # right-aligned numbers end in one column


def test_impossible_settings_are_refused(tmp_path):
    with pytest.raises((ValueError, OSError), match="none"):
        main(["graph", "-d", str(tmp_path / "none")])
    with pytest.raises(ValueError, match="knn must be 0 or more"):
        main(["graph", "-d", str(table(tmp_path)), "--knn", "-1"])
    with pytest.raises(ValueError, match="dim must be greater than 0"):
        main(["graph", "-d", str(table(tmp_path)), "--dim", "0"])
