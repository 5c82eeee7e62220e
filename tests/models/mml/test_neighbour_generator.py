import torch

from gmmrec.models.mml.neighbour_generator import NeighbourEmbeddingGenerator
from gmmrec.nn.relations import Relation
from tests.nn.fusion.checks import random

I, D = 6, 5  # noqa: E741
EDGES = torch.tensor([[1, 2, 3, 0, 4], [0, 0, 0, 2, 5]])  # item 1 has no neighbours


def setting():
    torch.manual_seed(0)
    generate = NeighbourEmbeddingGenerator([3, 4], D).double()
    features = [random(I, 3), random(I, 4, seed=1)]
    present = [torch.tensor([True] * 6), torch.tensor([True, False, True, True, True, True])]
    relations = [Relation(EDGES), Relation(EDGES[:, [1, 3]])]
    return generate, features, present, relations


def test_matches_the_reference():
    generate, features, present, relations = setting()
    rows = torch.tensor([5, 0, 1])
    vectors, exists = generate(features, present, relations, rows)
    first_half, offset = random(D, seed=7), 0.3  # cancel in the softmax
    for position, i in enumerate(rows.tolist()):
        parts = []
        for m in range(2):
            if not present[m][i]:
                continue
            y = generate.project[m](features[m])
            near = [j for j, target in relations[m].edge_index.t().tolist() if target == i]
            logits = [first_half @ y[i] + generate.logit[m].weight[0] @ y[j] + offset for j in near]
            alpha = torch.stack(logits).softmax(0) if near else []
            parts.append((y[i] + sum(a * y[j] for a, j in zip(alpha, near, strict=True))).clamp(min=0))
        torch.testing.assert_close(vectors[position], torch.stack(parts).mean(0))
    assert exists.tolist() == [True, True, True]


def test_vectors_are_nonnegative_and_invariant_to_the_order_of_neighbours():
    generate, features, present, relations = setting()
    vectors, _ = generate(features, present, relations, torch.arange(I))
    assert bool((vectors >= 0).all())
    assert bool((vectors > 0).any())
    reordered = [Relation(relation.edge_index.flip(1)) for relation in relations]
    torch.testing.assert_close(generate(features, present, reordered, torch.arange(I))[0], vectors)


def test_attention_sums_to_one():
    generate, features, _, relations = setting()
    edge_index, alpha, _ = generate.attention(0, features[0], relations[0], torch.arange(I))
    total = torch.zeros(I).double().index_add(0, edge_index[1], alpha)
    torch.testing.assert_close(total, torch.tensor([1.0, 0, 1, 0, 0, 1]).double())


def test_items_without_any_modality_get_no_embedding():
    generate, features, _, relations = setting()
    vectors, exists = generate(features, [torch.zeros(I, dtype=torch.bool)] * 2, relations, torch.tensor([0, 2]))
    assert exists.tolist() == [False, False]
    assert torch.equal(vectors, torch.zeros(2, D).double())
