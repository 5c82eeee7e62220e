import pytest
import torch
from torch import Tensor

from gmmrec.nn.decoder.modality_preserving import ModalityPreservingDecoder

N, D, WIDTHS = 6, 4, (5, 3)
PRESENT = torch.tensor([[1, 1], [1, 0], [0, 1], [0, 0], [1, 1], [0, 1]], dtype=torch.bool)


def inputs() -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(N, D, generator=generator), [torch.randn(N, width, generator=generator) for width in WIDTHS]


def build(**settings) -> ModalityPreservingDecoder:
    torch.manual_seed(0)
    return ModalityPreservingDecoder(D, WIDTHS, **settings)


def decode(decoder: torch.nn.Module, x: Tensor) -> Tensor:
    layers = [decoder] if isinstance(decoder, torch.nn.Linear) else [decoder[0], decoder[2]]
    for position, layer in enumerate(layers):
        x = (x.clamp(min=0) if position else x) @ layer.weight.detach().double().T + layer.bias.detach().double()
    return x


@pytest.mark.parametrize("distance", ["cosine", "squared"])
@pytest.mark.parametrize("hidden", [None, 0, 3])
def test_loss_equals_the_dense_formula(hidden, distance) -> None:
    decoder = build(hidden=hidden, distance=distance)
    x, features = inputs()
    distances = []
    for m, raw in enumerate(features):
        decoded = decode(decoder.decoders[m], x.double())
        torch.testing.assert_close(decoder(x)[m].detach().double(), decoded, rtol=0, atol=1e-6)
        for n in range(N):
            if PRESENT[n, m]:
                f, g = decoded[n], raw[n].double()
                cosine = f @ g / (f.norm() * g.norm())
                distances.append(float(1 - cosine if distance == "cosine" else ((f - g) ** 2).sum() / len(f)))
    assert float(decoder.loss(x, features, PRESENT).detach()) == pytest.approx(sum(distances) / len(distances), rel=1e-5)


def test_hidden_width_defaults_to_twice_the_input_width() -> None:
    assert [decoder[0].out_features for decoder in build().decoders] == [2 * D, 2 * D]


@pytest.mark.parametrize("distance", ["cosine", "squared"])
def test_missing_modalities_are_never_read_and_raw_features_get_no_gradient(distance) -> None:
    results = []
    for filler in (0.0, torch.nan):
        decoder = build(distance=distance)
        x, features = inputs()
        x.requires_grad_()
        raw = [f.masked_fill(~PRESENT[:, m, None], filler).requires_grad_() for m, f in enumerate(features)]
        decoder.loss(x, raw, PRESENT).backward()
        assert all(f.grad is None for f in raw)
        assert x.grad[3].tolist() == [0] * D  # has no modality
        assert bool((x.grad[[0, 1, 2, 4, 5]] != 0).any(1).all())
        results.append([x.grad, *(p.grad for p in decoder.parameters())])
    for expected, actual in zip(*results, strict=True):
        assert torch.equal(actual, expected)


def test_loss_without_features_is_zero() -> None:
    x, features = inputs()
    loss = build().loss(x, features, torch.zeros_like(PRESENT))
    loss.backward()
    assert float(loss.detach()) == 0


def test_unknown_distance_is_rejected() -> None:
    with pytest.raises(ValueError, match="distance must be 'cosine' or 'squared'"):
        build(distance="l1")
