"""Baselines of benchmarks/links.py score all entities at once like PyG's own models score single triples."""

import importlib.util
from pathlib import Path

import pytest
import torch

from gmmrec.tasks.query import LinkPredictionQuery
from gmmrec.testing import circle, graph_of

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "links.py"


@pytest.mark.parametrize("kind", ["transe", "distmult", "complex"])
def test_scores_equal_those_of_pyg_from_both_ends(kind):
    spec = importlib.util.spec_from_file_location("links", SCRIPT)
    links = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(links)
    _, graph = graph_of(circle(12))
    torch.manual_seed(0)
    baseline = links.Embeddings(graph.schema, links.EmbeddingsConfig(kind, dim=8)).double()
    known, relation = torch.arange(12).repeat(4), torch.arange(4).repeat_interleave(12)
    candidates = torch.tensor([7, 0, 3, 11, 4])
    found = baseline.score({}, LinkPredictionQuery(known, relation), candidates)
    expected = torch.empty_like(found)
    for row in range(len(known)):
        for position in range(len(candidates)):
            ends = known[row : row + 1], candidates[position : position + 1]
            head, tail = ends if int(relation[row]) < 2 else ends[::-1]
            expected[row, position] = baseline.model(head, relation[row : row + 1] % 2, tail)
    torch.testing.assert_close(found, expected)
