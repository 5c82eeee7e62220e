import builtins
import math

import pytest

from gmmrec.evaluation.text import most_frequent, text_metrics


def test_values_computed_by_hand() -> None:
    """BLEU: 4 of 5 words, 3 of 4 pairs, 2 of 3 triples, 1 of 2 quadruples, as long as the reference."""
    found = text_metrics(["a b c d x"], ["a b c d e"])
    assert found["bleu"] == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** (1 / 4))
    assert found["rouge-1"] == pytest.approx(4 / 5)
    assert found["rouge-2"] == pytest.approx(3 / 4)
    assert found["rouge-l"] == pytest.approx(4 / 5)


def test_bleu_is_over_the_corpus_and_rouge_a_mean_over_texts() -> None:
    found = text_metrics(["a b c d", "x y z"], ["a b c d e f", "x z y"])
    counts = (4 + 3, 3 + 0, 2 + 0, 1 + 0), (4 + 3, 3 + 2, 2 + 1, 1 + 0)  # of 1 to 4 words: matching ones, and all generated
    precision = math.prod(right / said for right, said in zip(*counts, strict=True)) ** (1 / 4)
    assert found["bleu"] == pytest.approx(math.exp(1 - 9 / 7) * precision)
    longest = (2 * 1 * (4 / 6) / (1 + 4 / 6) + 2 / 3) / 2  # F1 of a common part of 4 words, and of one of 2 in 3
    assert found["rouge-l"] == pytest.approx(longest)


def test_equal_texts_score_one_and_disjoint_texts_zero() -> None:
    texts = ["a red shirt with short sleeves", "blue jeans in washed denim"]
    assert text_metrics(texts, texts) == pytest.approx(dict.fromkeys(("bleu", "rouge-1", "rouge-2", "rouge-l"), 1.0))
    assert text_metrics(texts, texts[::-1])["rouge-1"] == 0


def test_the_first_of_equally_frequent_texts_wins() -> None:
    assert most_frequent(iter(["b", "a", "a", "b"])) == "b"


def test_bad_input_is_refused(monkeypatch) -> None:
    with pytest.raises(ValueError, match="at least one, but got 0 and 0"):
        text_metrics([], [])
    with pytest.raises(ValueError, match="got 1 and 2"):
        text_metrics(["a"], ["a", "b"])
    original = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name == "sacrebleu":
            raise ImportError("no", name="sacrebleu")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"sacrebleu is missing: pip install 'gmmrec\[text\]'"):
        text_metrics(["a"], ["a"])
