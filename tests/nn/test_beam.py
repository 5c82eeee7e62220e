"""Beam search agrees with exhaustive search, scores agree with teacher forcing, and banned elements are never chosen."""

from itertools import permutations

import pytest
import torch

from gmmrec.nn.beam import Beams, beam_search

POOL, SEARCHES = 7, 3
WEIGHTS = torch.randn(SEARCHES, POOL, POOL, generator=torch.Generator().manual_seed(0), dtype=torch.float64).float()
FIRST = torch.randn(SEARCHES, POOL, generator=torch.Generator().manual_seed(1))
NOTHING = torch.zeros(SEARCHES, POOL, dtype=torch.bool)


def step(chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits depend on the last element; the end becomes more likely with the length."""
    last = WEIGHTS[torch.arange(SEARCHES)[:, None], chosen[..., -1].clamp(min=0)] if chosen.shape[-1] else FIRST[:, None]
    return last, last[..., 0] * 0 + 0.5 * chosen.shape[-1] - 1


def set_step(chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits depend on all elements, in any order."""
    search = torch.arange(SEARCHES)[:, None, None]
    total = FIRST[:, None] + (WEIGHTS[search, chosen.clamp(min=0)] * (chosen >= 0)[..., None]).sum(2)
    return total, total[..., 0] * 0 + 0.5 * chosen.shape[-1] - 1


def teacher_forced(
    search: int, sequence: list[int], banned: set[int], shortest: int, longest: int, *, as_sets: bool = False
) -> float:
    """Compute the log probability of a sequence step by step, with the same elements excluded."""
    total = 0.0
    for length in range(len(sequence) + 1):
        if length == longest:
            break
        logits = (WEIGHTS[search, sequence[length - 1]] if length else FIRST[search]).double().clone()
        if as_sets:
            logits = FIRST[search].double() + sum((WEIGHTS[search, c].double() for c in sequence[:length]), torch.zeros(POOL))
        logits[[*banned, *sequence[:length]]] = -torch.inf
        end = 0.5 * length - 1 if length >= shortest else -torch.inf
        log_probability = torch.cat([logits, torch.tensor([end], dtype=torch.float64)]).log_softmax(0)
        total += float(log_probability[sequence[length] if length < len(sequence) else POOL])
    return total


def sequences(found: Beams, search: int) -> list[list[int]]:
    return [[c for c in line if c >= 0] for line in found.chosen[search].tolist()]


@pytest.mark.parametrize("as_sets", [False, True])
def test_wide_beam_equals_exhaustive_search(as_sets):
    banned = NOTHING.clone()
    banned[1, [0, 4]] = True
    found = beam_search(set_step if as_sets else step, banned, width=POOL**3, min_length=1, max_length=3, as_sets=as_sets)
    for search in range(SEARCHES):
        excluded = set(banned[search].nonzero().flatten().tolist())
        free = [c for c in range(POOL) if c not in excluded]
        every = [list(p) for n in (1, 2, 3) for p in permutations(free, n)]
        expected = sorted(((teacher_forced(search, s, excluded, 1, 3, as_sets=as_sets), s) for s in every), reverse=True)
        if as_sets:
            best: dict[frozenset[int], tuple[float, list[int]]] = {}
            for score, s in expected:
                best.setdefault(frozenset(s), (score, s))
            expected = list(best.values())
        actual = [s for s in sequences(found, search) if s]
        assert actual == [s for _, s in expected]
        torch.testing.assert_close(
            found.score[search, : len(actual)], torch.tensor([score for score, _ in expected]), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("width", [1, 3])
def test_scores_are_descending_and_equal_teacher_forcing(width):
    found = beam_search(step, NOTHING, width=width, min_length=2, max_length=4)
    assert found.chosen.shape == (SEARCHES, width, 4)
    for search in range(SEARCHES):
        assert found.score[search].tolist() == sorted(found.score[search].tolist(), reverse=True)
        for sequence, score, steps in zip(sequences(found, search), found.score[search].tolist(), found.steps[search], strict=True):
            assert 2 <= len(sequence) <= 4
            assert len(set(sequence)) == len(sequence)
            assert score == pytest.approx(teacher_forced(search, sequence, set(), 2, 4), abs=1e-4)
            ended = teacher_forced(search, sequence, set(), 2, 4) - teacher_forced(search, sequence, set(), 2, len(sequence))
            assert float(steps.sum()) == pytest.approx(score - ended, abs=1e-4)


def test_width_one_is_greedy():
    found = beam_search(step, NOTHING, width=1, min_length=2, max_length=4)
    for search in range(SEARCHES):
        sequence: list[int] = []
        while len(sequence) < 4:
            logits = (WEIGHTS[search, sequence[-1]] if sequence else FIRST[search]).clone()
            logits[sequence] = -torch.inf
            end = 0.5 * len(sequence) - 1 if len(sequence) >= 2 else -torch.inf
            if end > float(logits.max()):
                break
            sequence.append(int(logits.argmax()))
        assert sequences(found, search) == [sequence]


def test_search_ends_when_the_pool_is_empty():
    banned = torch.ones(SEARCHES, POOL, dtype=torch.bool)
    banned[:, [2, 5]] = False
    found = beam_search(lambda chosen: (step(chosen)[0], None), banned, width=5, max_length=4)
    for search in range(SEARCHES):
        assert sorted(sequences(found, search)) == [[], [], [], [2, 5], [5, 2]]
    assert bool(found.score[:, 2:].isinf().all())
    assert bool((found.lengths[:, 2:] == 0).all())
    assert bool(torch.isfinite(found.steps).all())


def test_at_most_one_element_per_kind_is_chosen():
    kind = torch.tensor([0, 0, 1, 1, 2, -1, -1])
    found = beam_search(lambda chosen: (step(chosen)[0], None), NOTHING, width=40, max_length=5, kind=kind)
    for search in range(SEARCHES):
        for sequence in sequences(found, search):
            kinds = [int(kind[c]) for c in sequence if int(kind[c]) >= 0]
            assert len(kinds) == len(set(kinds))
            assert len(sequence) == 5  # one of each kind, and both without a kind


def test_sets_are_distinct():
    found = beam_search(lambda chosen: (step(chosen)[0], None), NOTHING, width=35, max_length=3, as_sets=True)
    for search in range(SEARCHES):
        sets = {frozenset(s) for s in sequences(found, search)}
        assert len(sets) == 35  # all sets of 3 elements out of 7


def test_invalid_sizes_are_rejected():
    for sizes in ({"width": 0, "max_length": 2}, {"width": 1, "max_length": 0}, {"width": 1, "max_length": 2, "min_length": 3}):
        with pytest.raises(ValueError, match="beam search needs width >= 1"):
            beam_search(step, NOTHING, **sizes)
