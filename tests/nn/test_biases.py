import numpy as np
import pytest
import torch

from gmmrec.nn.biases import rating_biases


@pytest.mark.parametrize("shrinkage", [0.5, 4.0])
def test_many_rounds_minimise_the_regularised_error(shrinkage):
    generator = torch.Generator().manual_seed(0)
    pair = torch.randperm(6 * 5, generator=generator)[:18]
    user, item, rating = pair // 5, pair % 5, torch.randint(1, 6, (18,), generator=generator).float()
    design = np.zeros((18, 11))
    design[np.arange(18), user] = design[np.arange(18), 6 + item] = 1
    target = rating.double().numpy() - float(rating.mean())
    solution = np.linalg.solve(design.T @ design + shrinkage * np.eye(11), design.T @ target)
    found = rating_biases(user, item, rating, (6, 5), shrinkage=shrinkage, num_rounds=300)
    np.testing.assert_allclose(torch.cat([found.users, found.items]), solution, atol=1e-7)


def test_users_without_ratings_get_zero_even_without_shrinkage():
    found = rating_biases(torch.tensor([1]), torch.tensor([0]), torch.tensor([4.0]), (3, 2), shrinkage=0)
    assert found.mean == 4
    assert found.users.tolist() == [0, 0, 0]
    nothing = torch.empty(0, dtype=torch.long)
    assert rating_biases(nothing, nothing, torch.empty(0), (1, 1), shrinkage=0).mean == 0
