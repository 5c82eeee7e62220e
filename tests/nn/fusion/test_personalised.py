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
    """Of tokens ``[B, M, K]``."""
    fused, weights = torch.zeros(B, K).double(), torch.zeros(B, tokens.shape[1]).double()
    harmony = layer.harmony.weight.T  # [d_a, K]
    for b in range(B):
        q = torch.relu(layer.query.weight @ query[b] + layer.query.bias)
        there = [m for m in range(tokens.shape[1]) if mask is None or mask[b, m]]
        for m, share in zip(there, softmax([q @ harmony @ tokens[b, m] for m in there]), strict=True):
            weights[b, m] = share
            fused[b] = fused[b] + share * tokens[b, m]
    return fused, weights


@pytest.mark.parametrize("masked", [False, True])
def test_equals_the_formula_in_loops(masked) -> None:
    layer, mask = build(), random_mask(B, T) if masked else None
    tokens, query = random(B, T, K).requires_grad_(), random(B, ID, seed=1).requires_grad_()
    fused, weights = layer(tokens, mask, query, return_weights=True)
    expected, expected_weights = slow(layer, tokens, mask, query)
    assert_same(fused, expected, layer, tokens, query)
    assert_same(weights, expected_weights, layer, tokens, query)


def test_values_under_the_mask_are_never_read() -> None:
    layer, mask, query = build(), random_mask(B, T), random(B, ID, seed=1)
    assert_never_read(lambda x: layer(x, mask, query), random(B, T, K), mask, layer)


def levels(texts: Tensor, mask: Tensor, user: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Reviews, user, and the weights of words and reviews."""
    reviews, of_words = build(1)(texts, mask, user[:, None], return_weights=True)
    whole, of_reviews = build(2)(reviews, mask.any(-1), user, return_weights=True)
    return reviews, whole, of_words, of_reviews


TEXTS, USERS = random(B, R, T, K), random(B, ID, seed=1)
MASK = random_mask(B, R, T)
MASK[1] = False  # a user without any review


def test_shapes_and_sums_of_both_levels() -> None:
    reviews, whole, of_words, of_reviews = levels(TEXTS, MASK, USERS)
    assert (reviews.shape, whole.shape, of_words.shape, of_reviews.shape) == ((B, R, K), (B, K), (B, R, T), (B, R))
    torch.testing.assert_close(of_words.sum(-1), MASK.any(-1).double())
    torch.testing.assert_close(of_reviews.sum(-1), MASK.any(-1).any(-1).double())
    assert bool((of_words[~MASK] == 0).all())
    assert bool((of_reviews[~MASK.any(-1)] == 0).all())
    assert torch.equal(whole[1], torch.zeros(K).double())


def test_another_user_reads_the_same_words_otherwise() -> None:
    same, mask = TEXTS[:1, 0].expand(B, T, K), torch.ones(B, T, dtype=torch.bool)
    layer = build()
    weights = layer(same, mask, USERS, return_weights=True)[1]
    assert not torch.allclose(weights[0], weights[1])
    layer.query.weight.data.zero_()
    layer.query.bias.data.zero_()
    torch.testing.assert_close(layer(same, mask, USERS, return_weights=True)[1], torch.full((B, T), 1 / T).double())


def test_the_order_of_reviews_does_not_matter() -> None:
    order = torch.tensor([2, 0, 1])
    _, whole, _, weights = levels(TEXTS, MASK, USERS)
    _, turned, _, turned_weights = levels(TEXTS[:, order], MASK[:, order], USERS)
    torch.testing.assert_close(turned, whole)
    torch.testing.assert_close(turned_weights, weights[:, order])


def test_padding_changes_nothing() -> None:
    longer = torch.cat([torch.cat([TEXTS, random(B, R, 2, K, seed=3)], 2), random(B, 1, T + 2, K, seed=4)], 1)
    there = torch.zeros(B, R + 1, T + 2, dtype=torch.bool)
    there[:, :R, :T] = MASK
    torch.testing.assert_close(levels(longer, there, USERS)[1], levels(TEXTS, MASK, USERS)[1])


def test_a_word_speaks_through_its_review_only() -> None:
    changed = TEXTS.clone()
    changed[:, 1, 0] += 1.0
    mask = torch.ones_like(MASK)
    before, after = levels(TEXTS, mask, USERS), levels(changed, mask, USERS)
    assert torch.equal(before[0][:, [0, 2]], after[0][:, [0, 2]])
    torch.testing.assert_close(build(2)(torch.stack([before[0][:, 0], after[0][:, 1], before[0][:, 2]], 1), None, USERS), after[1])


def test_without_harmony_an_id_has_no_say() -> None:
    layer = build()
    layer.harmony.weight.data.zero_()
    torch.testing.assert_close(layer(TEXTS[:, 0], None, USERS), layer(TEXTS[:, 0], None, USERS + 5))
    torch.testing.assert_close(layer(TEXTS[:, 0], None, USERS), TEXTS[:, 0].mean(1))


def test_a_case_by_hand() -> None:
    layer = PersonalisedAttention(1)
    for part in (layer.query.weight, layer.harmony.weight):
        part.data = torch.tensor([[1.0]])
    layer.query.bias.data.zero_()
    tokens, ids = torch.tensor([[[0.0], [1.0]]]).expand(2, 2, 1), torch.tensor([[1.0986123], [-4.0]])  # ln 3; the ReLU shuts
    weights = layer(tokens, None, ids, return_weights=True)[1]
    assert weights.flatten().tolist() == pytest.approx([0.25, 0.75, 0.5, 0.5])


def test_a_query_is_needed() -> None:
    with pytest.raises(ValueError, match="personalised attention needs a query"):
        build()(random(B, T, K))
