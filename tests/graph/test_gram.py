import pytest
import torch

from gmmrec.graph import gram
from gmmrec.graph.gram import add_feature_gram, interaction_gram
from gmmrec.testing import I, U, toy_graph
from gmmrec.typing import USER_ITEM


@pytest.mark.parametrize("block_entries", [1, 40, 2**23])
def test_common_users_are_counted(monkeypatch: pytest.MonkeyPatch, block_entries: int) -> None:
    monkeypatch.setattr(gram, "BLOCK_ENTRIES", block_entries)
    graph = toy_graph()
    dense = torch.zeros(U, I, dtype=torch.float64)
    users, items = graph.edges(USER_ITEM).edge_index.as_tensor()
    dense[users, items] = 1
    assert torch.equal(interaction_gram(graph), dense.T @ dense)
    assert interaction_gram(graph, torch.float32).dtype == torch.float32


@pytest.mark.parametrize("center", [True, False])
def test_features_are_centred_over_items_with_the_modality(center: bool) -> None:
    graph = toy_graph()
    expected = torch.ones(I, I, dtype=torch.float64)
    for name, weight in (("image", 2.0), ("text", 0.5)):
        rows = graph.features[name].present.nonzero().flatten().tolist()
        values = {i: graph.features[name].pooled[i].double() for i in rows}
        mean = sum(values.values()) / len(rows)
        values = {i: value - mean if center else value for i, value in values.items()}
        for i in rows:
            for j in rows:
                expected[i, j] += weight * values[i] @ values[j] / (values[i].norm() * values[j].norm())
    actual = torch.ones(I, I, dtype=torch.float64)
    assert add_feature_gram(actual, graph, {"image": 2.0, "text": 0.5}, center=center) is actual
    torch.testing.assert_close(actual, expected)


def test_modalities_of_weight_zero_are_skipped_and_others_count() -> None:
    graph, nothing = toy_graph(), torch.zeros(I, I, dtype=torch.float64)
    both = add_feature_gram(nothing.clone(), graph, {"image": 0.0, "text": 0.5}, center=True)
    torch.testing.assert_close(both, add_feature_gram(nothing.clone(), graph, {"text": 0.5}, center=True))
    assert bool(both.any())
