import torch

from gmmrec.testing import I, U, checkerboard, permuted, toy_graph, with_mask
from gmmrec.testing.boards import with_new_features


def test_the_graph_contains_all_known_interactions() -> None:
    dataset, held_out = checkerboard(U, I)
    graph = toy_graph()
    (kind,) = [kind for kind in graph.schema.relations if (kind[0], kind[2]) == ("user", "item")]
    user, item = graph.edges(kind).edge_index.as_tensor()
    assert set(zip(user.tolist(), item.tolist(), strict=True)) == set(
        zip(dataset.interactions.user.tolist(), dataset.interactions.item.tolist(), strict=True)
    )
    assert not bool(held_out[user, item].any())


def test_a_masked_modality_hides_its_rows() -> None:
    dataset = with_mask(checkerboard(U, I)[0], "text", torch.tensor([2, 5]))
    assert torch.nonzero(~dataset.features["text"].mask).flatten().tolist() == [2, 5]
    assert not bool(dataset.features["text"].values[[2, 5]].any())
    assert torch.equal(dataset.features["image"].mask, checkerboard(U, I)[0].features["image"].mask)


def test_new_features_change_one_row() -> None:
    before = checkerboard(U, I)[0]
    after = with_new_features(before, 4)
    for name, table in before.features.items():
        assert torch.nonzero((after.features[name].values != table.values).any(1)).flatten().tolist() == [4]


def test_users_and_items_are_moved_to_their_new_rows() -> None:
    before, user, item = checkerboard(U, I)[0], torch.arange(U).flip(0), torch.arange(I).roll(1)
    after = permuted(before, user, item)
    assert torch.equal(after.interactions.user, U - 1 - before.interactions.user)
    assert torch.equal(after.interactions.item, (before.interactions.item - 1) % I)
    for name, table in before.features.items():
        assert torch.equal(after.features[name].values[item], table.values)
        assert torch.equal(after.features[name].mask[item], table.mask)
