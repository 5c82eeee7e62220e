"""A short training loop, and the scores that come of it."""

import torch
from torch import Tensor

from gmmrec.data.interactions import Interactions
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.recommender import AnyRecommender
from gmmrec.testing.boards import I, U
from gmmrec.testing.queries import asked, training_batch


def train(
    model: AnyRecommender, graph: MultimodalGraph, interactions: Interactions, *, epochs: int, lr: float = 0.02, device: str = "cpu"
) -> list[float]:
    """Train with Adam, one batch per epoch, and return the loss of every epoch."""
    losses: list[float] = []
    if not list(model.parameters()):
        return losses
    torch.manual_seed(1)  # for dropout
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    model.train()
    for _ in range(epochs):
        with torch.no_grad():
            epoch_graph = model.begin_epoch(graph, generator)
        optimizer.zero_grad(set_to_none=True)
        batch = training_batch(interactions, generator, model.query_type).to(device)
        loss = torch.stack(list(model.loss(epoch_graph, batch).values())).sum()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    model.eval()
    return losses


def score_all(model: AnyRecommender, graph: MultimodalGraph, device: str = "cpu", log: Interactions | None = None) -> Tensor:
    """Return scores ``[U, I]`` of all users and items."""
    with torch.no_grad():
        query = asked(model, torch.arange(U, device=device), log)
        return model.score(model.encode(graph), query, torch.arange(I, device=device))


def share_ordered(scores: Tensor, held_out: Tensor) -> float:
    """Return the share of (held-out like, dislike) pairs in correct order, over all users; chance is 0.5."""
    dislikes = (torch.arange(U)[:, None] + torch.arange(I)) % 2 == 1
    pairs = held_out[:, :, None] & dislikes[:, None, :]
    return float((scores[:, :, None] > scores[:, None, :])[pairs].float().mean())
