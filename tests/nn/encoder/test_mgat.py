import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gmmrec.nn.encoder.mgat import MGATEncoder, MGATLayer
from gmmrec.nn.relations import UserItem
from tests.nn.encoder.test_content import D, inputs
from tests.nn.encoder.test_content import F as WIDTH


def attended(layer: MGATLayer, x_source: Tensor, x_target: Tensor, adjacency: Tensor, degree: Tensor, gated: bool) -> Tensor:
    """Rows of targets, node by node and in float64; ``adjacency`` ``[N_target, N_source]``."""
    weight, bias = layer.conv.weight.detach().double(), layer.conv.bias.detach().double()
    source, target = x_source @ weight, x_target @ weight
    rows = []
    for i in range(len(target)):
        neighbours = adjacency[i].nonzero().flatten()
        score = F.leaky_relu(source[neighbours], 0.01) @ target[i]
        gate = torch.sigmoid(score / degree[neighbours].sqrt()) if gated else torch.ones_like(score)
        total = (score * gate).softmax(0) @ source[neighbours] + bias
        rows.append(total / total.norm())
    return torch.stack(rows)


@pytest.mark.parametrize("gate", ["inner_product", "none"])
def test_the_layer_against_loops(gate: str) -> None:
    _, _, ids, edges, matrix = inputs()
    torch.manual_seed(0)
    layer, x = MGATLayer(3, D, gate), UserItem(torch.randn(6, 3), torch.randn(8, 3))
    out, matrix = layer(x, ids, edges), matrix.double()
    wide = UserItem(*(part.double() for part in x))
    messages = UserItem(
        attended(layer, wide.item, wide.user, matrix, matrix.sum(0), gate != "none"),
        attended(layer, wide.user, wide.item, matrix.T, matrix.sum(1), gate != "none"),
    )
    for actual, own, message, id_row in zip(out, wide, messages, ids, strict=True):
        w1, b1, w2, b2 = (p.detach().double() for p in (*layer.own.parameters(), *layer.neighbours.parameters()))
        inner = F.leaky_relu(message, 0.01) @ w2.T + b2 + F.leaky_relu(own @ w1.T + b1, 0.01) + id_row.double()
        torch.testing.assert_close(actual.double(), F.leaky_relu(inner, 0.01), rtol=1e-4, atol=1e-5)


def test_the_encoder_starts_from_unit_rows_and_keeps_all_layers_or_the_last() -> None:
    features, present, ids, edges, _ = inputs()
    torch.manual_seed(0)
    encoder = MGATEncoder(6, WIDTH, D, modality_dim=3, num_layers=2)
    latent = torch.tanh(encoder.latent(features)) * present[:, None]
    x = UserItem(F.normalize(encoder.preference, dim=1), F.normalize(latent, dim=1))
    first = encoder.layers[0](x, ids, edges)
    second = encoder.layers[1](first, ids, edges)
    both = encoder(encoder.preference, features, present, ids, edges)
    encoder.combine = "last"
    last = encoder(encoder.preference, features, present, ids, edges)
    for side in range(2):
        torch.testing.assert_close(both[side], torch.cat([first[side], second[side]], dim=1))
        torch.testing.assert_close(last[side], second[side])


def test_unknown_choices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^combine must be 'concat' or 'last', but is 'sum'$"):
        MGATEncoder(6, WIDTH, D, combine="sum")
    with pytest.raises(ValueError, match=r"^unknown gate 'inner_prod'; the nearest known name is 'inner_product'$"):
        MGATEncoder(6, WIDTH, D, gate="inner_prod")


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("combine", ["concat", "last"])
def test_some_users_of_mgat_are_rows_of_all_with_the_same_gradients(num_layers: int, combine: str) -> None:
    features, present, ids, edges, _ = inputs()
    torch.manual_seed(0)
    encoder = MGATEncoder(6, WIDTH, D, modality_dim=3, num_layers=num_layers, combine=combine)
    users = torch.tensor([5, 0, 3])
    whole = encoder(encoder.preference, features, present, ids, edges)
    part = encoder(encoder.preference, features, present, ids, edges, users)
    torch.testing.assert_close(part.user, whole.user[users])
    torch.testing.assert_close(part.item, whole.item)
    upstream = torch.randn(part.user.shape, generator=torch.Generator().manual_seed(1))
    parameters = list(encoder.parameters())
    gradients = [
        torch.autograd.grad((x.user * upstream).sum() + x.item.sum(), parameters)
        for x in (UserItem(whole.user[users], whole.item), part)
    ]
    for expected, actual in zip(*gradients, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
