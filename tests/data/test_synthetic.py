import pytest
import torch

from gmmrec.data.synthetic import SyntheticConfig, synthetic_dataset


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_same_seed_gives_the_same_data():
    one, same, other = (synthetic_dataset(SyntheticConfig(), generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.interactions.item, same.interactions.item)
    assert torch.equal(one.features["text"].values, same.features["text"].values)
    assert not torch.equal(one.interactions.item, other.interactions.item)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_pairs_are_distinct_and_follow_the_clusters(noise):
    config = SyntheticConfig(num_users=90, num_items=50, num_interactions=700, num_clusters=3, noise=noise)
    log = synthetic_dataset(config, generator()).interactions
    assert len(torch.unique(log.user * 50 + log.item)) == 700
    share = ((log.user % 3) == (log.item % 3)).float().mean()
    assert share == 1.0 if noise == 0 else abs(share - 1 / 3) < 0.07
    assert (log.time.diff() == 60).all()


def test_a_full_log_can_be_drawn():
    config = SyntheticConfig(num_users=20, num_items=12, num_interactions=40, num_clusters=3, noise=0)
    assert len(synthetic_dataset(config, generator()).interactions) == 40


def test_features_identify_the_cluster_and_may_be_missing():
    dataset = synthetic_dataset(SyntheticConfig(num_items=2000, num_clusters=4, missing=0.25, dims={"image": 32}), generator())
    image = dataset.features["image"]
    assert abs(image.present.float().mean() - 0.75) < 0.05
    cluster = torch.arange(2000) % 4
    centres = torch.stack([image.values[image.present & (cluster == c)].mean(0) for c in range(4)])
    nearest = torch.cdist(image.values[image.present], centres).argmin(1)
    assert (nearest == cluster[image.present]).float().mean() > 0.99


def test_too_many_interactions_are_refused():
    with pytest.raises(ValueError, match="num_interactions must be at most"):
        SyntheticConfig(num_users=10, num_items=10, num_interactions=50, num_clusters=1 + 1)
    with pytest.raises(ValueError, match="num_clusters must be at most"):
        SyntheticConfig(num_items=4, num_clusters=5)
