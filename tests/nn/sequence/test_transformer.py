import pytest
import torch

from gmmrec.nn.sequence.transformer import Recency, SequenceTransformer, encode_by_length, last_positions
from tests.nn.fusion.checks import assert_never_read, assert_same, random

B, L, D = 4, 5, 6
MASK = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 0, 1], [0, 1, 1, 1, 1]]).bool()


def build(**settings) -> SequenceTransformer:
    torch.manual_seed(0)
    return SequenceTransformer(D, 8, init_std=1.0, **settings).double().eval()


def test_positions_are_counted_from_the_end() -> None:
    positions = Recency(4, D)
    assert torch.equal(positions(2), positions.table[[1, 0]])
    assert torch.equal(positions(4)[-2:], positions(2))


def test_too_long_sequences_are_rejected() -> None:
    with pytest.raises(ValueError, match="a sequence has 5 positions, but max_length is 4"):
        Recency(4, D)(5)


def test_output_is_the_encoder_on_tokens_with_positions() -> None:
    model, x = build(), random(B, L, D).requires_grad_()
    positioned = model.norm(x + torch.stack([model.positions.table[L - 1 - position] for position in range(L)]))
    assert_same(model(x, MASK), model.encoder(positioned, MASK), model, x)


@pytest.mark.parametrize("causal", [False, True])
def test_left_pad_does_not_change_the_output(causal) -> None:
    model, x = build(causal=causal), random(B, L, D)
    wider = torch.cat([random(B, 3, D, seed=1), x], 1)
    mask = torch.cat([torch.zeros(B, 3).bool(), MASK], 1)
    torch.testing.assert_close(model(wider, mask)[:, 3:], model(x, MASK))


def test_padding_is_never_read() -> None:
    model = build()
    assert_never_read(lambda x: model(x, MASK), random(B, L, D), MASK, model)


def test_weights_belong_to_the_last_layer() -> None:
    model, x = build(num_layers=1, num_heads=1), random(B, L, D)
    positioned = model.norm(x + model.positions(L)).masked_fill(~MASK.unsqueeze(-1), 0.0)
    attention = model.encoder.layers[0].attention
    logits = attention.query(positioned) @ attention.key(positioned).mT / D**0.5
    expected = logits.masked_fill(~MASK.unsqueeze(1), -torch.inf).softmax(-1)
    torch.testing.assert_close(model.weights(x, MASK).squeeze(1), expected)


def test_dropout_acts_in_training_only() -> None:
    model, x = build(dropout=0.5), random(B, L, D)
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))


@pytest.mark.parametrize("rows", [1, 2, 64])
def test_encoding_by_length_does_not_change_the_output(rows) -> None:
    model, x = build(), random(B, L, D)
    widths = []

    def encode(part: torch.Tensor, width: int) -> torch.Tensor:
        widths.append(width)
        return model(x[part, -width:], MASK[part, -width:])[:, -1]

    torch.testing.assert_close(encode_by_length(encode, MASK, rows=rows), model(x, MASK)[:, -1])
    assert widths == {1: [1, 3, 4, 5], 2: [3, 5], 64: [5]}[rows]


def test_no_rows_and_empty_histories_are_encoded() -> None:
    nothing = torch.zeros(0, 3).bool()
    assert encode_by_length(lambda rows, width: torch.zeros(len(rows), D), nothing).shape == (0, D)
    assert encode_by_length(lambda rows, width: torch.full((len(rows), D), width), torch.zeros(2, 3).bool()).eq(1).all()


def test_last_positions() -> None:
    x = random(B, L, D)
    assert torch.equal(x.flatten(0, 1)[last_positions(MASK)], x[:, -1])
