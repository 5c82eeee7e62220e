"""Small models with random weights, saved and loaded in the Hugging Face format without network access."""

import json

import pytest
import torch
from PIL import Image

from gmmrec.data.encode.encoders import load_image_encoder, load_text_encoder
from tests.data.encode.tiny import colour

transformers = pytest.importorskip("transformers", reason="the extra encoders is not installed")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "green", "blue", "fish", "cat"]
PICTURES = [Image.new("RGB", (40, 40), colour(row)) for row in (0, 100)]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=16,
    )
    transformers.BertModel(config).save_pretrained(folder)
    transformers.BertTokenizerFast(vocab={word: row for row, word in enumerate(WORDS)}).save_pretrained(folder)
    return folder


def hidden_of(folder, token_ids):
    """Return the model's own hidden states of one text without padding ``[L, D]``."""
    with torch.no_grad():
        return transformers.BertModel.from_pretrained(folder).eval()(torch.tensor([token_ids])).last_hidden_state[0]


def test_text_vectors_are_normalized_means_of_tokens(bert):
    encoder = load_text_encoder(str(bert))
    vectors = encoder.vectors(["red fish", "blue cat green cat"])
    for vector, tokens in zip(vectors, ([2, 4, 7, 3], [2, 6, 8, 5, 8, 3]), strict=True):
        mean = hidden_of(bert, tokens).mean(0)
        assert torch.allclose(vector, mean / mean.norm(), atol=1e-5)


def test_first_token_pooling_is_read_from_the_model(bert, tmp_path):
    folder = tmp_path / "cls"
    folder.mkdir()
    for path in bert.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    first = hidden_of(bert, [2, 4, 7, 3])[0]
    vectors = load_text_encoder(str(folder)).vectors(["red fish", "cat green blue cat"])[0]
    assert torch.allclose(vectors, first / first.norm(), atol=1e-5)


def test_token_vectors_exclude_special_tokens(bert):
    encoder = load_text_encoder(str(bert))
    values, mask = encoder.tokens(["red fish", "blue cat green cat"], 3)
    assert mask.tolist() == [[True, True, False], [True, True, True]]
    assert torch.allclose(values[0, :2], hidden_of(bert, [2, 4, 7, 3])[1:3], atol=1e-5)
    assert torch.allclose(values[1], hidden_of(bert, [2, 6, 8, 5, 3])[1:4], atol=1e-5)  # cut, then read
    assert encoder.tokens(["red"], 5)[0].shape == (1, 5, 8)


def test_pieces_match_the_token_vectors(bert):
    texts = ["red fish", "blue cat green cat", ""]
    encoder = load_text_encoder(str(bert))
    pieces = encoder.pieces(texts, 3)
    assert pieces == [["red", "fish"], ["blue", "cat", "green"], []]
    assert encoder.tokens(texts, 3)[1].sum(1).tolist() == [len(row) for row in pieces]


def test_long_texts_are_truncated_and_too_many_tokens_refused(bert):
    encoder = load_text_encoder(str(bert))
    assert encoder.vectors(["red " * 50]).shape == (1, 8)
    with pytest.raises(ValueError, match="tokens must be at most 14"):
        encoder.tokens(["red"], 15)


def saved(model, folder, *, size=32):
    model.save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": size, "width": size}).save_pretrained(folder)
    return str(folder)


def test_patches_of_a_vision_transformer_keep_their_order(tmp_path):
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=32, patch_size=8
    )
    model = transformers.ViTModel(config, add_pooling_layer=False).eval()
    encoder = load_image_encoder(saved(model, tmp_path))
    pixels = torch.stack([torch.tensor(colour(row)) / 255 * 2 - 1 for row in (0, 100)])[:, :, None, None].expand(-1, -1, 32, 32)
    with torch.no_grad():
        hidden = model(pixels).last_hidden_state[:, 1:]  # [2, 16, 8]
    assert torch.allclose(encoder.regions(PICTURES, 4), hidden, atol=1e-5)
    assert torch.allclose(encoder.vectors(PICTURES), hidden.mean(1), atol=1e-5)
    assert torch.allclose(encoder.regions(PICTURES, 2)[0, 1], hidden[0, [2, 3, 6, 7]].mean(0), atol=1e-5)


def test_regions_of_a_convolutional_network_are_its_feature_map(tmp_path):
    torch.manual_seed(0)
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 6], depths=[1, 1], layer_type="basic")
    encoder = load_image_encoder(saved(transformers.ResNetModel(config), tmp_path))
    regions = encoder.regions(PICTURES, 4)
    assert regions.shape == (2, 16, 6)
    assert torch.allclose(regions.mean(1), encoder.vectors(PICTURES), atol=1e-5)


def test_clip_encodes_images_and_texts(tmp_path, bert):
    torch.manual_seed(0)
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "projection_dim": 6}
    text = {
        **small,
        "vocab_size": len(WORDS),
        "max_position_embeddings": 16,
        "eos_token_id": 3,
        "bos_token_id": 2,
        "pad_token_id": 0,
    }
    vision = {**small, "image_size": 32, "patch_size": 8}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=6)
    folder = saved(transformers.CLIPModel(config), tmp_path)
    transformers.BertTokenizerFast(vocab={word: row for row, word in enumerate(WORDS)}).save_pretrained(folder)
    images, texts = load_image_encoder(folder), load_text_encoder(folder)
    assert images.vectors(PICTURES).shape == (2, 6)
    assert images.regions(PICTURES, 4).shape == (2, 16, 8)
    vectors = texts.vectors(["red fish", "cat"])
    assert vectors.shape == (2, 6)
    assert torch.allclose(vectors.norm(dim=-1), torch.ones(2), atol=1e-5)


@pytest.mark.parametrize("load", [load_image_encoder, load_text_encoder])
def test_an_unknown_model_is_refused_in_one_sentence(load, tmp_path):
    with pytest.raises(ValueError, match="cannot be loaded by Auto") as caught:
        load(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_text_model_is_refused_as_image_encoder(bert):
    with pytest.raises(ValueError, match="cannot be loaded by AutoImageProcessor"):
        load_image_encoder(str(bert))
