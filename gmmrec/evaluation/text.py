"""Similarity of generated and reference texts: BLEU and ROUGE by their reference implementations, and a baseline."""

from collections import Counter
from collections.abc import Iterable, Sequence
from types import ModuleType

from torch import Tensor

from gmmrec.errors import UsageError

BOUNDARY = 0
ROUGES = {"rouge1": "rouge-1", "rouge2": "rouge-2", "rougeL": "rouge-l"}
"""Names of the metrics by their name in rouge-score."""


def text_metrics(found: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Return corpus BLEU and the mean F1 of ROUGE-1, -2 and -L over texts, all between 0 and 1.

    BLEU is sacrebleu's (up to four words, geometric mean, brevity penalty, exponential smoothing), divided by 100. Words are split
    at spaces, so both sides must be tokenized alike beforehand: see :func:`plain`. ROUGE is that of rouge-score without stemming.

    Args:
        found: Generated texts.
        references: Reference texts, one each.

    Raises:
        UsageError: There are no texts, or their numbers differ.
        ImportError: sacrebleu or rouge-score is not installed.

    >>> scores = text_metrics(["a red shirt with a collar"], ["a red shirt with sleeves"])
    >>> {name: round(score, 3) for name, score in scores.items()}
    {'bleu': 0.508, 'rouge-1': 0.727, 'rouge-2': 0.667, 'rouge-l': 0.727}
    """
    if not found or len(found) != len(references):
        raise UsageError(
            f"expected as many generated texts as references, at least one, but got {len(found)} and {len(references)}"
        )
    sacrebleu, rouge = _libraries()
    bleu = sacrebleu.corpus_bleu(list(found), [list(references)], tokenize="none", force=True).score / 100
    scorer = rouge.RougeScorer(list(ROUGES), use_stemmer=False)
    each = [scorer.score(reference, text) for text, reference in zip(found, references, strict=True)]
    return {"bleu": bleu} | {name: sum(score[key].fmeasure for score in each) / len(each) for key, name in ROUGES.items()}


def most_frequent(texts: Iterable[str]) -> str:
    """Return the most frequent text, the first among equals: a constant baseline.

    >>> most_frequent(["a shirt", "blue jeans", "blue jeans"])
    'blue jeans'
    """
    return Counter(texts).most_common(1)[0][0]


def plain(tokens: Tensor, words: Sequence[str]) -> list[str]:
    """Return texts from word ids ``[n, T]``, separated by spaces; 0 ends a text.

    >>> import torch
    >>> plain(torch.tensor([[3, 2, 0], [1, 3, 3]]), ("", "<unknown>", "shirt", "red"))
    ['red shirt', '<unknown> red red']
    """
    rows = []
    for row in tokens.tolist():
        end = row.index(BOUNDARY) if BOUNDARY in row else len(row)
        rows.append(" ".join(words[word] for word in row[:end]))
    return rows


def _libraries() -> tuple[ModuleType, ModuleType]:
    try:
        import sacrebleu
        from rouge_score import rouge_scorer
    except ImportError as error:
        raise ImportError(
            f"comparing texts needs sacrebleu and rouge-score, but {error.name} is missing: pip install 'gmmrec[text]'"
        ) from error
    return sacrebleu, rouge_scorer
