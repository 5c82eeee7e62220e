"""The decoder attends to earlier tokens and its context only."""

import pytest
import torch

from gmmrec.nn.fusion.set_attention import SetAttention
from gmmrec.nn.sequence.context_decoder import ContextDecoder

B, N, M = 3, 5, 4


def parts() -> tuple[ContextDecoder, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    mask = torch.arange(N) >= torch.tensor([[0], [2], [4]])
    context_mask = torch.tensor([[True, True, False, True], [False, True, True, True], [False, False, False, False]])
    decoder = ContextDecoder(8, num_layers=2, num_heads=2, in_dim=6).eval()
    return decoder, torch.randn(B, N, 6), mask, torch.randn(B, M, 8), context_mask


def test_later_items_do_not_affect_earlier_ones():
    decoder, tokens, mask, context, context_mask = parts()
    expected, _ = decoder(tokens, mask, context, context_mask)
    for t in range(N - 1):
        other = tokens.clone()
        other[:, t + 1 :] += 3
        found, _ = decoder(other, mask, context, context_mask)
        assert torch.equal(found[:, : t + 1], expected[:, : t + 1])
        assert not torch.allclose(found[0, t + 1], expected[0, t + 1])


def test_weights_sum_to_one_over_visible_tokens():
    decoder, tokens, mask, context, context_mask = parts()
    output, weights = decoder(tokens, mask, context, context_mask, return_weights=True)
    own, other = weights
    assert own.shape == (B, 2, 2, N, N)
    assert other.shape == (B, 2, 2, N, M)
    readable = mask[:, None] & torch.ones(N, N, dtype=torch.bool).tril() & mask[:, :, None]
    assert bool((own.masked_select(~readable[:, None, None].expand_as(own)) == 0).all())
    torch.testing.assert_close(own.sum(-1), mask[:, None, None].expand(-1, 2, 2, -1).float())
    assert bool((other.masked_select(~context_mask[:, None, None, None].expand_as(other)) == 0).all())
    torch.testing.assert_close(other.sum(-1)[:2], mask[:2, None, None].expand(-1, 2, 2, -1).float())
    assert bool((other[2] == 0).all())
    assert bool((output[~mask] == 0).all())


def test_visibility_is_configurable():
    decoder, tokens, mask, context, context_mask = parts()
    visible = torch.eye(N, dtype=torch.bool)
    found, weights = decoder(tokens, mask, context, context_mask, visible=visible, return_weights=True)
    torch.testing.assert_close(weights[0][0], visible.float().expand(2, 2, -1, -1))
    other = tokens.clone()
    other[:, 0] += 3
    changed, _ = decoder(other, mask, context, context_mask, visible=visible)
    torch.testing.assert_close(changed[:, 1:], found[:, 1:])
    assert not torch.allclose(changed[0, 0], found[0, 0])


def test_missing_tokens_are_never_read():
    decoder, tokens, mask, context, context_mask = parts()
    expected, _ = decoder(tokens, mask, context, context_mask)
    hidden = tokens.masked_fill(~mask[..., None], torch.nan), context.masked_fill(~context_mask[..., None], torch.nan)
    found, _ = decoder(hidden[0], mask, hidden[1], context_mask)
    assert torch.equal(found, expected)


def test_empty_context_adds_nothing():
    decoder, tokens, mask, context, context_mask = parts()
    expected, _ = decoder(tokens, mask, context[:, :0], context_mask[:, :0])
    found, _ = decoder(tokens, mask, context, torch.zeros_like(context_mask))
    assert bool(torch.isfinite(found).all())
    torch.testing.assert_close(found, expected)
    found, _ = decoder(tokens, mask, context, context_mask)
    assert not torch.allclose(found[0], expected[0])
    torch.testing.assert_close(found[2], expected[2])


def test_set_attention_is_copied_bit_for_bit():
    decoder, *_ = parts()
    torch.manual_seed(7)
    source = SetAttention(8, num_layers=2, num_heads=2, in_dim=6)
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    decoder.take_over(source)
    copied = source.state_dict()
    for name, value in decoder.state_dict().items():
        if ".context.output" in name:
            assert not bool(value.any())
        else:
            assert torch.equal(value, before[name] if ".context" in name else copied[name])
    with pytest.raises(ValueError, match="sizes"):
        decoder.take_over(SetAttention(8, num_layers=3, num_heads=2, in_dim=6))
    with pytest.raises(ValueError, match="sizes"):
        decoder.take_over(SetAttention(8, num_layers=2, num_heads=2))
