import torch

from gmmrec.testing import checkerboard, rated_checkerboard, with_outfits


def parity(rows: torch.Tensor) -> torch.Tensor:
    return rows % 2


def test_likes_are_of_one_parity_and_known_or_held_out() -> None:
    dataset, held_out = checkerboard(6, 8)
    log = dataset.interactions
    known = torch.zeros(6, 8, dtype=torch.bool)
    known[log.user, log.item] = True
    assert torch.equal(known ^ held_out, (torch.arange(6)[:, None] + torch.arange(8)) % 2 == 0)
    assert bool(held_out.any())
    assert not bool((known & held_out).any())
    assert dataset.features["image"].mask.tolist() == [item != 3 for item in range(8)]
    assert dataset.features["text"].values[:, 0].tolist() == [0, 1] * 4


def test_ratings_and_the_informative_word_follow_parity() -> None:
    dataset, held_out = rated_checkerboard(6, 8)
    log = dataset.interactions
    liked = parity(log.user) == parity(log.item)
    assert torch.equal(log.weight == 5, liked)
    assert torch.equal(log.weight == 1, ~liked)
    assert not bool(held_out[log.user, log.item].any())
    words = [dataset.reviews.words[token] for token in dataset.reviews.tokens[:, 1].tolist()]
    right = {(0, False): "poor", (1, False): "bad", (0, True): "good", (1, True): "great"}
    assert words == [right[item % 2, like] for item, like in zip(log.item.tolist(), liked.tolist(), strict=True)]


def test_outfits_have_the_parity_of_their_users_and_are_disjoint_from_histories() -> None:
    dataset = with_outfits(checkerboard(4, 16)[0], each=4)
    outfits = dataset.outfits
    assert len(outfits.items) == 16
    assert outfits.part.tolist() == [0, 0, 1, 2] * 4
    assert outfits.user.tolist() == [user for user in range(4) for _ in range(4)]
    for row in range(16):
        worn, before = (lists.values[lists.groups == row].tolist() for lists in (outfits.items, outfits.history))
        assert 2 <= len(worn) <= 4
        assert {item % 2 for item in worn + before} == {row // 4 % 2}
        assert not set(worn) & set(before)
