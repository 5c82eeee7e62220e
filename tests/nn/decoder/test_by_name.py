import pytest
import torch

from gmmrec.nn.decoder.by_name import DECODERS


@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_accepts_shared_and_separate_candidates(name: str) -> None:
    torch.manual_seed(0)
    decode = DECODERS[name](4)
    queries, candidates = torch.randn(2, 4), torch.randn(5, 4)
    scores = decode(queries, candidates)
    assert scores.shape == (2, 5)
    torch.testing.assert_close(decode(queries, candidates.expand(2, 5, 4)), scores)


def test_unknown_decoder_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"^unknown decoder 'mpl'; the nearest known name is 'mlp'$"):
        DECODERS["mpl"](4)
