"""Beam search agrees with an exhaustive one, every score with its sequence told again, and nothing that is banned is chosen."""

from itertools import permutations

import pytest
import torch

from gmmrec.nn.beam import Beams, beam_search

POOL, SEARCHES = 7, 3
WEIGHTS = torch.randn(SEARCHES, POOL, POOL, generator=torch.Generator().manual_seed(0), dtype=torch.float64).float()
FIRST = torch.randn(SEARCHES, POOL, generator=torch.Generator().manual_seed(1))
NOTHING = torch.zeros(SEARCHES, POOL, dtype=torch.bool)


def step(chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The last thing decides; the end grows likelier."""
    last = WEIGHTS[torch.arange(SEARCHES)[:, None], chosen[..., -1].clamp(min=0)] if chosen.shape[-1] else FIRST[:, None]
    return last, last[..., 0] * 0 + 0.5 * chosen.shape[-1] - 1


def set_step(chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """All things decide, whatever their order."""
    search = torch.arange(SEARCHES)[:, None, None]
    total = FIRST[:, None] + (WEIGHTS[search, chosen.clamp(min=0)] * (chosen >= 0)[..., None]).sum(2)
    return total, total[..., 0] * 0 + 0.5 * chosen.shape[-1] - 1


def told_again(search: int, sequence: list[int], banned: set[int], shortest: int, longest: int, *, as_sets: bool = False) -> float:
    """Log probability of a sequence, step by step, with the same things left out."""
    total = 0.0
    for length in range(len(sequence) + 1):
        if length == longest:
            break
        logits = (WEIGHTS[search, sequence[length - 1]] if length else FIRST[search]).double().clone()
        if as_sets:
            logits = FIRST[search].double() + sum((WEIGHTS[search, c].double() for c in sequence[:length]), torch.zeros(POOL))
        logits[[*banned, *sequence[:length]]] = -torch.inf
        end = 0.5 * length - 1 if length >= shortest else -torch.inf
        chances = torch.cat([logits, torch.tensor([end], dtype=torch.float64)]).log_softmax(0)
        total += float(chances[sequence[length] if length < len(sequence) else POOL])
    return total


def sequences(found: Beams, search: int) -> list[list[int]]:
    return [[c for c in line if c >= 0] for line in found.chosen[search].tolist()]


@pytest.mark.parametrize("as_sets", [False, True])
def test_a_wide_beam_is_an_exhaustive_search(as_sets):
    banned = NOTHING.clone()
    banned[1, [0, 4]] = True
    found = beam_search(set_step if as_sets else step, banned, width=POOL**3, min_length=1, max_length=3, as_sets=as_sets)
    for search in range(SEARCHES):
        out = set(banned[search].nonzero().flatten().tolist())
        free = [c for c in range(POOL) if c not in out]
        every = [list(p) for n in (1, 2, 3) for p in permutations(free, n)]
        expected = sorted(((told_again(search, s, out, 1, 3, as_sets=as_sets), s) for s in every), reverse=True)
        if as_sets:
            best: dict[frozenset[int], tuple[float, list[int]]] = {}
            for score, s in expected:
                best.setdefault(frozenset(s), (score, s))
            expected = list(best.values())
        got = [s for s in sequences(found, search) if s]
        assert got == [s for _, s in expected]
        torch.testing.assert_close(
            found.score[search, : len(got)], torch.tensor([score for score, _ in expected]), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("width", [1, 3])
def test_scores_are_those_of_teacher_forcing_and_fall(width):
    found = beam_search(step, NOTHING, width=width, min_length=2, max_length=4)
    assert found.chosen.shape == (SEARCHES, width, 4)
    for search in range(SEARCHES):
        assert found.score[search].tolist() == sorted(found.score[search].tolist(), reverse=True)
        for sequence, score, steps in zip(sequences(found, search), found.score[search].tolist(), found.steps[search], strict=True):
            assert 2 <= len(sequence) <= 4
            assert len(set(sequence)) == len(sequence)
            assert score == pytest.approx(told_again(search, sequence, set(), 2, 4), abs=1e-4)
            ended = told_again(search, sequence, set(), 2, 4) - told_again(search, sequence, set(), 2, len(sequence))
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


def test_a_pool_that_is_too_small_ends_the_search():
    banned = torch.ones(SEARCHES, POOL, dtype=torch.bool)
    banned[:, [2, 5]] = False
    found = beam_search(lambda chosen: (step(chosen)[0], None), banned, width=5, max_length=4)
    for search in range(SEARCHES):
        assert sorted(sequences(found, search)) == [[], [], [], [2, 5], [5, 2]]
    assert bool(found.score[:, 2:].isinf().all())
    assert bool((found.lengths[:, 2:] == 0).all())
    assert bool(torch.isfinite(found.steps).all())


def test_of_one_kind_one_thing_is_chosen():
    kind = torch.tensor([0, 0, 1, 1, 2, -1, -1])
    found = beam_search(lambda chosen: (step(chosen)[0], None), NOTHING, width=40, max_length=5, kind=kind)
    for search in range(SEARCHES):
        for sequence in sequences(found, search):
            kinds = [int(kind[c]) for c in sequence if int(kind[c]) >= 0]
            assert len(kinds) == len(set(kinds))
            assert len(sequence) == 5  # one of each kind, and both that are of none


def test_sets_come_once():
    found = beam_search(lambda chosen: (step(chosen)[0], None), NOTHING, width=35, max_length=3, as_sets=True)
    for search in range(SEARCHES):
        sets = {frozenset(s) for s in sequences(found, search)}
        assert len(sets) == 35  # all there are of 3 things out of 7


def test_bad_sizes_are_said_in_one_sentence():
    for sizes in ({"width": 0, "max_length": 2}, {"width": 1, "max_length": 0}, {"width": 1, "max_length": 2, "min_length": 3}):
        with pytest.raises(ValueError, match="beam search needs width >= 1"):
            beam_search(step, NOTHING, **sizes)
