import pytest
import torch

from gmmrec.data.ragged import RaggedSets
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.tasks.negatives import UniformNegatives, drawable, uniform_negatives


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chi_square(drawn: torch.Tensor, allowed: list[int]) -> float:
    counts = torch.bincount(drawn.flatten())[allowed].double()
    expected = drawn.numel() / len(allowed)
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize(
    ("seen", "pool", "allowed"),
    [
        ([0, 1, 9], 10, [2, 3, 4, 5, 6, 7, 8]),
        ([], 6, [0, 1, 2, 3, 4, 5]),
        ([0, 1, 2, 3, 5], 6, [4]),
        ([2, 3, 7], torch.tensor([7, 1, 2, 5, 8, 1]), [1, 5, 8]),  # pool unsorted, with a repeat; 3 is not in it
    ],
)
def test_exactly_the_allowed_items_are_drawn_equally_often(seen, pool, allowed):
    # User 1 is drawn for; users 0 and 2 have seen other items.
    items = torch.tensor([4, *seen, 0, 5])
    users = torch.tensor([0, *[1] * len(seen), 2, 2])
    drawn = uniform_negatives(
        torch.ones(400, dtype=torch.long), RaggedSets.from_pairs(users, items, 3), pool, count=50, generator=generator()
    )
    assert drawn.shape == (400, 50)
    assert drawn.unique().tolist() == allowed
    # 99.9 % quantiles of chi-square with 0, 2, 5 and 6 degrees of freedom
    assert chi_square(drawn, allowed) < {1: 1e-9, 3: 13.82, 6: 20.52, 7: 22.46}[len(allowed)]


def test_every_item_but_those_of_the_user_is_drawn():
    seen_matrix = torch.rand(30, 20, generator=generator(1)) < 0.6
    seen = RaggedSets.from_pairs(*torch.nonzero(seen_matrix, as_tuple=True), 30)
    user = torch.arange(30).repeat(200)
    drawn = UniformNegatives(seen, 20).draw(user, 3, generator())
    reached = torch.zeros(30, 20, dtype=torch.bool)
    reached[user[:, None].expand_as(drawn), drawn] = True
    assert torch.equal(reached, ~seen_matrix)


def test_same_generator_same_negatives():
    sampler = UniformNegatives(RaggedSets.from_pairs(torch.tensor([0, 1]), torch.tensor([3, 4]), 2), 100)
    user = torch.tensor([0, 1, 1])
    assert torch.equal(sampler.draw(user, 2, generator(7)), sampler.draw(user, 2, generator(7)))


def test_a_user_who_has_seen_everything_is_reported_on_drawing():
    seen = RaggedSets.from_pairs(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 1, 2]), 2)
    sampler = UniformNegatives(seen, 3)
    assert set(sampler.draw(torch.tensor([0]), 50, generator()).flatten().tolist()) == {1, 2}
    with pytest.raises(ValueError, match="user row 1 has seen all 3 items"):
        sampler.draw(torch.tensor([0, 1]), 1, generator())


def test_an_empty_pool_is_refused():
    with pytest.raises(ValueError, match="the pool of negatives is empty"):
        uniform_negatives(
            torch.tensor([0]), RaggedSets(torch.tensor([0, 0]), torch.empty(0, dtype=torch.long)), 0, count=1, generator=generator()
        )


def test_examples_without_negatives_are_left_out_and_named(caplog):
    seen = RaggedSets.from_pairs(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 1, 2]), 2)
    sampler, names = UniformNegatives(seen, 3), Vocabulary(["some", "all"], name="user")
    assert drawable(sampler, torch.tensor([0, 0]), names).tolist() == [0, 1]
    assert caplog.messages == []
    assert drawable(sampler, torch.tensor([1, 0, 1]), names, remedy="set it").tolist() == [1]
    assert caplog.messages == [
        "2 of the 3 training examples are left out: their users ('all') have all 3 items that negatives are drawn from; "
        "set it to keep them"
    ]
    with pytest.raises(ValueError, match=r"any of the 1 users in training \('all'\): each has all 3 items .* add items, or use"):
        drawable(sampler, torch.tensor([1, 1]), names)
    with pytest.raises(ValueError, match=r"any of the 1 outfits in training \(1\)"):
        drawable(sampler, torch.tensor([1]), owners="outfits")
