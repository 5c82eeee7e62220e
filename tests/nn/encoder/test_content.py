"""Encoders by name, and those of content."""

import pytest
import torch
from torch import Tensor

from gmmrec.nn.conv.light import LightPropagation
from gmmrec.nn.encoder import CONTENT_ENCODERS, PROPAGATIONS, content_encoder, propagation
from gmmrec.nn.encoder.content import ContentEncoder, PropagatedContent
from gmmrec.nn.relations import Bipartite, Relation, UserItem
from tests.nn.encoder.test_hcgcn import bipartite, drawn

D, F = 4, 5


def inputs() -> tuple[Tensor, Tensor, UserItem, Bipartite, Tensor]:
    """Features ``[8, F]``, present ``[8]``, ids, edges (those between users and between items too), the 0/1 matrix."""
    generator = torch.Generator().manual_seed(0)
    matrix = drawn()
    ids = UserItem(torch.randn(6, D, generator=generator), torch.randn(8, D, generator=generator))
    chain = [Relation(torch.stack([torch.arange(n - 1), torch.arange(1, n)]), torch.full((n - 1,), 0.5)) for n in (6, 8)]
    edges = bipartite(matrix)._replace(between_users=chain[0], between_items=chain[1])
    present = torch.ones(8, dtype=torch.bool)
    present[3] = False
    return torch.randn(8, F, generator=generator), present, ids, edges, matrix


@pytest.mark.parametrize("num_layers", [0, 1, 2])
def test_content_against_the_formula(num_layers: int) -> None:
    torch.manual_seed(0)
    encoder = ContentEncoder(F, D, num_layers=num_layers)
    features, rows = inputs()[0], torch.tensor([4, 4, 1])
    x = features.double()
    for layer in [encoder.project, *(m for m in encoder.rest if isinstance(m, torch.nn.Linear))]:
        x = x @ layer.weight.detach().double().T + layer.bias.detach().double()
        x = torch.where(x > 0, x, 0.01 * x) if num_layers else x
    torch.testing.assert_close(encoder(features).double(), x, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(encoder(features, rows), encoder(features)[rows])


def test_light_propagation_is_the_mean_of_powers() -> None:
    _, _, ids, edges, matrix = inputs()
    r = matrix.double()
    n = r.sum(1).clamp(min=1)[:, None] ** -0.5 * r * r.sum(0).clamp(min=1) ** -0.5
    adjacency = torch.zeros(14, 14, dtype=torch.float64)
    adjacency[:6, 6:], adjacency[6:, :6] = n, n.T
    x = torch.cat(ids).double()
    expected = (x + adjacency @ x + adjacency @ adjacency @ x + adjacency @ adjacency @ adjacency @ x) / 4
    torch.testing.assert_close(torch.cat(LightPropagation(3)(ids, edges)).double(), expected, rtol=1e-5, atol=1e-6)


def test_propagated_content_starts_from_preferences_and_projections() -> None:
    features, present, ids, edges, _ = inputs()
    torch.manual_seed(0)
    encoder = PropagatedContent(6, F, D, LightPropagation(2))
    latent = encoder.project(features) * present[:, None]
    expected = LightPropagation(2)(UserItem(encoder.preference, latent), edges)
    for actual, wanted in zip(encoder(encoder.preference, features, present, ids, edges), expected, strict=True):
        torch.testing.assert_close(actual, wanted)
    changed = torch.where(present[:, None], features, 1e6)
    assert torch.equal(
        encoder(encoder.preference, changed, present, ids, edges).user,
        encoder(encoder.preference, features, present, ids, edges).user,
    )


@pytest.mark.parametrize("kind", PROPAGATIONS)
def test_propagations_by_name(kind: str) -> None:
    _, _, ids, edges, _ = inputs()
    torch.manual_seed(0)
    users, items = propagation(kind, D, 2, num_clusters=3)(ids, edges)
    assert (users.shape, items.shape) == ((6, D), (8, D))
    assert (kind == "mf") == (torch.equal(users, ids.user) and torch.equal(items, ids.item))


def test_co_interaction_needs_its_graphs() -> None:
    _, _, ids, edges, _ = inputs()
    with pytest.raises(ValueError, match="needs a graph of users and one of items"):
        propagation("mcptr", D, 2)(ids, edges._replace(between_users=None))


@pytest.mark.parametrize("kind", [kind for kind in CONTENT_ENCODERS if kind not in ("linear", "perceptron")])
def test_content_encoders_by_name_never_read_what_is_missing(kind: str) -> None:
    features, present, ids, edges, _ = inputs()
    torch.manual_seed(0)
    encoder = content_encoder(kind, 6, F, D, 2, modality_dim=3)
    out = encoder(encoder.preference, features, present, ids, edges)
    assert (out.user.shape, out.item.shape) == ((6, D), (8, D))
    hidden = torch.where(present[:, None], features, 1000.0)
    for actual, wanted in zip(encoder(encoder.preference, hidden, present, ids, edges), out, strict=True):
        assert torch.equal(actual, wanted)
