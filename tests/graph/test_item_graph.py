import pytest
import torch
from torch import Tensor

from gmmrec.graph.item_graph import item_graph, modality_shares
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.testing import I, checkerboard, toy_graph, with_mask


def graph_without(text: list[int], image: list[int]) -> MultimodalGraph:
    dataset, _ = checkerboard(23, I)
    dataset = with_mask(with_mask(dataset, "text", torch.tensor(text)), "image", torch.tensor(image))
    return toy_graph(dataset)


def dense(edges: tuple[Tensor, Tensor]) -> Tensor:
    """Return the dense matrix ``[target, source]``."""
    matrix = torch.zeros(I, I, dtype=torch.float64)
    (source, target), weight = edges
    matrix[target, source] = weight.double()
    return matrix


def slow(graph: MultimodalGraph, name: str, k: int, *, cosine: bool, both_ends: bool) -> Tensor:
    """Compute the normalised k-NN graph of one modality by definition, row by row."""
    table = graph.features[name]
    unit = torch.nn.functional.normalize(table.values.double(), dim=1)
    similarity = unit @ unit.T
    matrix = torch.zeros(I, I, dtype=torch.float64)
    rows = [i for i in range(I) if table.present[i]]
    for i in rows:
        nearest = sorted((j for j in rows if j != i), key=lambda j: -float(similarity[i, j]))[: k - 1]
        for j in [i, *nearest]:
            matrix[i, j] = max(0.0, float(similarity[i, j])) if cosine else 1.0
    into, out = matrix.sum(1), matrix.sum(0 if both_ends else 1)
    scale = (into[:, None] * out[None, :]).clamp(min=1e-12).sqrt()
    return matrix / scale


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("both_ends", [False, True])
def test_mixture_is_the_sum_of_normalised_graphs(cosine: bool, both_ends: bool) -> None:
    graph = graph_without(text=[2, 8], image=[5])
    edges = item_graph(
        graph,
        {"image": 0.25, "text": 0.75},
        4,
        weighting="cosine" if cosine else "binary",
        degrees="both_ends" if both_ends else "incoming",
    )
    image, text = (slow(graph, name, 4, cosine=cosine, both_ends=both_ends) for name in ("image", "text"))
    share = torch.full((I, 1), 0.25, dtype=torch.float64)
    share[[2, 8]], share[~graph.features["image"].present] = 1.0, 0.0  # the other modality gets the share of a missing one
    torch.testing.assert_close(dense(edges), share * image + (1 - share) * text, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("alone", "weight"), [("itself", 1.0), ("nothing", 0.0)])
def test_item_without_any_modality(alone: str, weight: float) -> None:
    matrix = dense(item_graph(graph_without(text=[2], image=[2]), {"image": 1.0, "text": 1.0}, 4, alone=alone))
    expected = torch.zeros(I, dtype=torch.float64)
    expected[2] = weight
    assert torch.equal(matrix[2], expected)
    assert torch.equal(matrix[:, 2], expected)


def test_modality_shares() -> None:
    assert modality_shares(("image", "text"), {"image": 3}) == {"image": 1.0, "text": 0.0}
    with pytest.raises(ValueError, match="needs features of at least one modality"):
        modality_shares((), None)
    with pytest.raises(ValueError, match="modality_weights name 'sound', but the modalities of the items are 'image'"):
        modality_shares(("image",), {"sound": 1.0})
