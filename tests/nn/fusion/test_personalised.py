import pytest
import torch
from torch import Tensor

from gmmrec.nn.fusion.personalised import PersonalisedAttention
from tests.nn.fusion.checks import assert_never_read, assert_same, random, random_mask, softmax

B, R, T, K, ID = 4, 3, 5, 6, 2  # users, reviews, words, width, width of an ID


def build(seed: int = 0) -> PersonalisedAttention:
    torch.manual_seed(seed)
    return PersonalisedAttention(K, ID, 7).double()


def slow(layer: PersonalisedAttention, tokens: Tensor, mask: Tensor | None, query: Tensor) -> tuple[Tensor, Tensor]:
    """Fuse tokens ``[B, M, K]`` in loops."""
    fused, weights = torch.zeros(B, K).double(), torch.zeros(B, tokens.shape[1]).double()
    harmony = layer.harmony.weight.T  # [d_a, K]
    for b in range(B):
        q = torch.relu(layer.query.weight @ query[b] + layer.query.bias)
        present = [m for m in range(tokens.shape[1]) if mask is None or mask[b, m]]
        for m, weight in zip(present, softmax([q @ harmony @ tokens[b, m] for m in present]), strict=True):
            weights[b, m] = weight
            fused[b] = fused[b] + weight * tokens[b, m]
    return fused, weights


@pytest.mark.parametrize("masked", [False, True])
def test_equals_the_formula_in_loops(masked) -> None:
    layer, mask = build(), random_mask(B, T) if masked else None
    tokens, query = random(B, T, K).requires_grad_(), random(B, ID, seed=1).requires_grad_()
    fused, weights = layer(tokens, mask, query, return_weights=True)
    expected, expected_weights = slow(layer, tokens, mask, query)
    assert_same(fused, expected, layer, tokens, query)
    assert_same(weights, expected_weights, layer, tokens, query)


def test_masked_values_are_never_read() -> None:
    layer, mask, query = build(), random_mask(B, T), random(B, ID, seed=1)
    assert_never_read(lambda x: layer(x, mask, query), random(B, T, K), mask, layer)


def levels(texts: Tensor, mask: Tensor, user: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return review vectors, user vectors, and the weights of words and reviews."""
    reviews, word_weights = build(1)(texts, mask, user[:, None], return_weights=True)
    user_vector, review_weights = build(2)(reviews, mask.any(-1), user, return_weights=True)
    return reviews, user_vector, word_weights, review_weights


TEXTS, USERS = random(B, R, T, K), random(B, ID, seed=1)
MASK = random_mask(B, R, T)
MASK[1] = False  # a user without reviews


def test_shapes_and_sums_of_both_levels() -> None:
    reviews, user_vector, word_weights, review_weights = levels(TEXTS, MASK, USERS)
    assert (reviews.shape, user_vector.shape, word_weights.shape, review_weights.shape) == ((B, R, K), (B, K), (B, R, T), (B, R))
    torch.testing.assert_close(word_weights.sum(-1), MASK.any(-1).double())
    torch.testing.assert_close(review_weights.sum(-1), MASK.any(-1).any(-1).double())
    assert bool((word_weights[~MASK] == 0).all())
    assert bool((review_weights[~MASK.any(-1)] == 0).all())
    assert torch.equal(user_vector[1], torch.zeros(K).double())


def test_weights_depend_on_the_user() -> None:
    same, mask = TEXTS[:1, 0].expand(B, T, K), torch.ones(B, T, dtype=torch.bool)
    layer = build()
    weights = layer(same, mask, USERS, return_weights=True)[1]
    assert not torch.allclose(weights[0], weights[1])
    layer.query.weight.data.zero_()
    layer.query.bias.data.zero_()
    torch.testing.assert_close(layer(same, mask, USERS, return_weights=True)[1], torch.full((B, T), 1 / T).double())


def test_order_of_reviews_does_not_matter() -> None:
    order = torch.tensor([2, 0, 1])
    _, user_vector, _, weights = levels(TEXTS, MASK, USERS)
    _, permuted, _, permuted_weights = levels(TEXTS[:, order], MASK[:, order], USERS)
    torch.testing.assert_close(permuted, user_vector)
    torch.testing.assert_close(permuted_weights, weights[:, order])


def test_padding_changes_nothing() -> None:
    longer = torch.cat([torch.cat([TEXTS, random(B, R, 2, K, seed=3)], 2), random(B, 1, T + 2, K, seed=4)], 1)
    present = torch.zeros(B, R + 1, T + 2, dtype=torch.bool)
    present[:, :R, :T] = MASK
    torch.testing.assert_close(levels(longer, present, USERS)[1], levels(TEXTS, MASK, USERS)[1])


def test_word_affects_only_its_review() -> None:
    changed = TEXTS.clone()
    changed[:, 1, 0] += 1.0
    mask = torch.ones_like(MASK)
    before, after = levels(TEXTS, mask, USERS), levels(changed, mask, USERS)
    assert torch.equal(before[0][:, [0, 2]], after[0][:, [0, 2]])
    torch.testing.assert_close(build(2)(torch.stack([before[0][:, 0], after[0][:, 1], before[0][:, 2]], 1), None, USERS), after[1])


def test_zero_harmony_matrix_removes_the_effect_of_the_id() -> None:
    layer = build()
    layer.harmony.weight.data.zero_()
    torch.testing.assert_close(layer(TEXTS[:, 0], None, USERS), layer(TEXTS[:, 0], None, USERS + 5))
    torch.testing.assert_close(layer(TEXTS[:, 0], None, USERS), TEXTS[:, 0].mean(1))


def test_hand_computed_example() -> None:
    layer = PersonalisedAttention(1)
    for part in (layer.query.weight, layer.harmony.weight):
        part.data = torch.tensor([[1.0]])
    layer.query.bias.data.zero_()
    tokens, ids = torch.tensor([[[0.0], [1.0]]]).expand(2, 2, 1), torch.tensor([[1.0986123], [-4.0]])  # ln 3; the ReLU is zero
    weights = layer(tokens, None, ids, return_weights=True)[1]
    assert weights.flatten().tolist() == pytest.approx([0.25, 0.75, 0.5, 0.5])


def test_missing_query_is_rejected() -> None:
    with pytest.raises(ValueError, match="personalised attention needs a query"):
        build()(random(B, T, K))
