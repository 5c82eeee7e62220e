"""Chunked ranking against a dense, slow one, with ties, exclusions and NaN."""

from dataclasses import dataclass

import pytest
import torch

from gmmrec.data.ragged import RaggedSets
from gmmrec.evaluation.ranking import hits, rank, rank_sampled
from gmmrec.graph.multimodal import GraphSchema
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.evaluation_tasks import RankingEvaluation
from gmmrec.tasks.query import UserQuery

SCHEMA = GraphSchema({"user": 0, "item": 0}, {}, {}, ())


@dataclass(frozen=True)
class NoConfig:
    pass


class Table(Recommender[UserQuery, NoConfig]):
    """Model that reads scores from a table [U, I], its encoding."""

    def __init__(self):
        super().__init__(SCHEMA, NoConfig())

    def encode(self, graph):
        return Encoded({})

    def score(self, encoded, query, candidates):
        return encoded["table"][query.user][:, candidates]

    def loss(self, graph, batch):
        return {}


class Picked(Table):
    """Model called with separate candidates for every query."""

    def score(self, encoded, query, candidates):
        return encoded["table"][query.user].gather(1, candidates)


class Column(Table):
    """The same scores for all users, as a view of the encoding."""

    def score(self, encoded, query, candidates):
        assert candidates.tolist() == list(range(encoded["item"].numel()))
        return encoded["item"].expand(len(query), -1)


def ranking_of(excluded: torch.Tensor) -> RankingEvaluation[UserQuery]:
    """Return one query per user; excluded is a mask [U, I]."""
    user, item = excluded.nonzero(as_tuple=True)
    num_users = excluded.shape[0]
    users = torch.arange(num_users)
    return RankingEvaluation(
        UserQuery(users), RaggedSets.from_pairs(users, users * 0, num_users), RaggedSets.from_pairs(user, item, num_users), "train"
    )


def slow_rank(table: torch.Tensor, excluded: torch.Tensor, k: int, pool: torch.Tensor | None = None) -> list[list[int]]:
    lists = []
    for scores, out in zip(table.tolist(), excluded.tolist(), strict=True):
        rows = [i for i, known in enumerate(out) if not known and scores[i] != -float("inf") and (pool is None or pool[i])]
        best = sorted(rows, key=lambda i: (-scores[i], i))[:k]
        lists.append(best + [-1] * (k - len(best)))
    return lists


def random_case(*, levels: int | None, share: float = 0.2):
    generator = torch.Generator().manual_seed(levels or 0)
    table = torch.randn(13, 29, generator=generator)
    if levels:
        table = torch.randint(levels, (13, 29), generator=generator).float()
    return table, torch.rand(13, 29, generator=generator) < share


@pytest.mark.parametrize("k", [1, 4, 28, 29, 40])
@pytest.mark.parametrize("levels", [None, 1, 2, 6])
@pytest.mark.parametrize(("chunk_size", "candidate_chunk"), [(256, None), (1, None), (5, 1), (5, 7), (13, 30)])
def test_equals_sorting_for_any_chunks(k, levels, chunk_size, candidate_chunk):
    table, excluded = random_case(levels=levels)
    top, scores = rank(
        Table(), {"table": table}, ranking_of(excluded), 29, k=k, chunk_size=chunk_size, candidate_chunk=candidate_chunk
    )
    assert top.tolist() == slow_rank(table, excluded, k)
    assert torch.equal(scores, table.gather(1, top.clamp(min=0)).masked_fill(top < 0, -torch.inf))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_gives_the_same_order():
    for levels in (None, 3):
        table, excluded = random_case(levels=levels)
        on_cpu = ranking_of(excluded)
        ranking = RankingEvaluation(on_cpu.query.to("cuda"), on_cpu.relevant.to("cuda"), on_cpu.excluded.to("cuda"), "train")
        top = rank(Table(), {"table": table.cuda()}, ranking, 29, k=6, chunk_size=5, candidate_chunk=11).items
        assert top.tolist() == slow_rank(table, excluded, 6)


def test_short_lists_are_padded_and_contain_no_excluded_items():
    table, excluded = random_case(levels=3, share=0.9)
    excluded[2] = True
    table[0, 0], excluded[0, 0] = -torch.inf, False
    top = rank(Table(), {"table": table}, ranking_of(excluded), 29, k=6).items
    assert top.tolist() == slow_rank(table, excluded, 6)
    assert top[2].tolist() == [-1] * 6
    assert 0 not in top[0]


def test_pool_restricts_the_ranking():
    table, excluded = random_case(levels=4)
    pool = torch.arange(29) % 3 == 1
    for candidate_chunk in (None, 2):
        top = rank(Table(), {"table": table}, ranking_of(excluded), 29, k=5, candidate_chunk=candidate_chunk, pool=pool).items
        assert top.tolist() == slow_rank(table, excluded, 5, pool)


def test_scores_that_are_a_view_are_not_modified():
    scores, excluded = torch.randn(32), torch.rand(16, 32) < 0.2  # whole tiles, so that nothing is repeated
    top = rank(Column(), {"item": scores}, ranking_of(excluded), 32, k=5).items
    assert top.tolist() == slow_rank(scores.expand(16, -1), excluded, 5)
    assert bool(scores.isfinite().all())


@pytest.mark.parametrize("candidate_chunk", [None, 5])
def test_nan_is_refused(candidate_chunk):
    table, excluded = random_case(levels=2)
    table[7, 28], excluded[7, 28] = torch.nan, False
    with pytest.raises(ValueError, match=r"Table returned NaN scores, first for query 7"):
        rank(Table(), {"table": table}, ranking_of(excluded), 29, k=3, chunk_size=4, candidate_chunk=candidate_chunk)


class Whole(Table):
    """Model that ignores its candidates."""

    def score(self, encoded, query, candidates):
        return encoded["table"]


def test_wrong_shape_is_refused():
    table, excluded = random_case(levels=2)
    with pytest.raises(ValueError, match=r"Whole.score must return scores of shape \(16, 48\), but returned \(13, 29\)"):
        rank(Whole(), {"table": table}, ranking_of(excluded), 40, k=3)


def test_minus_one_is_never_a_hit():
    relevant = RaggedSets.from_pairs(torch.tensor([0, 1]), torch.tensor([4, 0]), 2)
    assert hits(torch.tensor([[4, -1], [-1, 0]]), relevant).tolist() == [[True, False], [False, True]]


def test_sampled_candidates_include_relevant_items_and_no_excluded_ones():
    generator = torch.Generator().manual_seed(0)
    table = torch.rand(5, 40, generator=generator)
    relevant = RaggedSets(torch.arange(6), torch.tensor([3, 8, 8, 0, 39]))
    excluded = RaggedSets.from_pairs(torch.arange(5).repeat_interleave(20), torch.randint(1, 39, (100,), generator=generator), 5)
    excluded = RaggedSets.from_pairs(
        *((x[~relevant.contains(excluded.groups, excluded.values)]) for x in (excluded.groups, excluded.values)), 5
    )
    ranking = RankingEvaluation(UserQuery(torch.arange(5)), relevant, excluded, "train")
    degree = torch.arange(40.0)
    for by in ("uniform", "popularity"):
        top, scores, *_ = rank_sampled(Picked(), {"table": table}, ranking, degree, 12, k=40, by=by, chunk_size=2)
        for n, row in enumerate(top):
            listed = row[row >= 0].tolist()
            assert scores[n, : len(listed)].tolist() == table[n, listed].tolist()
            assert int(relevant.values[n]) in listed
            assert len(listed) == len(set(listed)) <= 13
            assert not set(listed) & set(excluded.take(torch.tensor([n])).values.tolist())
            assert table[n, listed].tolist() == sorted(table[n, listed].tolist(), reverse=True)
    assert torch.equal(
        top, rank_sampled(Picked(), {"table": table}, ranking, degree, 12, k=40, by="popularity", chunk_size=2).items
    )
