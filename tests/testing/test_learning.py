import pytest
import torch

from gmmrec.models.lightgcn import LightGCN, LightGCNConfig
from gmmrec.testing import I, U, checkerboard, score_all, share_ordered, toy_graph, train


def test_the_share_in_order_is_that_of_held_out_likes_above_dislikes() -> None:
    held_out = torch.zeros(U, I, dtype=torch.bool)
    held_out[0, 2] = held_out[1, 1] = True
    scores = torch.zeros(U, I)
    scores[0, 2] = 1.0  # above all eight dislikes of user 0
    scores[1, 0], scores[1, 1] = 2.0, 1.0  # below one of the nine of user 1
    assert share_ordered(scores, held_out) == pytest.approx((8 + 8) / 17)
    assert share_ordered(-scores, held_out) == pytest.approx(1 / 17)


def test_training_lowers_the_loss_of_every_user_at_once() -> None:
    graph, (dataset, held_out) = toy_graph(), checkerboard(U, I)
    torch.manual_seed(0)
    model = LightGCN(graph.schema, LightGCNConfig(dim=8))
    losses = train(model, graph, dataset.interactions, epochs=30)
    assert len(losses) == 30
    assert losses[-1] < 0.9 * losses[0]
    assert not model.training
    assert score_all(model, graph).shape == (U, I)
    assert share_ordered(score_all(model, graph), held_out) > 0.9
