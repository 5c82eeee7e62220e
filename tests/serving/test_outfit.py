"""Outfits are completed from the pool alone, most likely first, and their scores equal those of rescoring by the model."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from gmmrec.data.reviews import Reviews
from gmmrec.evaluation.text import plain
from gmmrec.runs.recipe import fit
from gmmrec.runs.run import Run
from gmmrec.serving.outfit import complete
from gmmrec.tasks.query import OutfitQuery
from gmmrec.testing import checkerboard, with_outfits
from tests.models.pog.slow import build, make_query

POOL = torch.tensor([1, 3, 4, 8, 9, 11, 16])


MODELS: dict[str, dict[str, Any]] = {
    "pog": {"model": "pog", "hidden_dim": 16},
    "fom": {"model": "pog", "hidden_dim": 16, "personal": False},
    "nor": {"model": "nor", "attention_hidden": 8},
}


@pytest.fixture(scope="module", params=MODELS.values(), ids=MODELS)
def run(request: Any) -> Run:
    common: dict[str, Any] = {"dim": 16, "epochs": 2, "eval": {"bootstrap": 0}, "split": {"strategy": "given"}}
    return fit(with_outfits(checkerboard(30, 24)[0]), **request.param, **common)


@pytest.mark.parametrize("personal", [True, False])
def test_generated_items_are_distinct_from_the_pool_and_within_the_size_limits(personal):
    model, graph = build(personal=personal)
    query, encoded = make_query(), model.encode(graph)
    found = complete(model, encoded, query, POOL, width=8, min_new=1, max_new=3)
    assert found.chosen.shape == (6, 8, 3)
    for n in range(6):
        told = set(query.outfit[n][query.outfit_mask[n]].tolist())
        for line, score in zip(found.chosen[n].tolist(), found.score[n].tolist(), strict=True):
            new = POOL[[c for c in line if c >= 0]].tolist()
            if score == -torch.inf:  # fewer remain
                assert not new
                continue
            assert len(set(new)) == len(new)
            assert not told & set(new)
            assert 1 <= len(new) <= 3
    few = complete(model, encoded, query, POOL[:2], width=9, min_new=3, max_new=4)  # the pool is smaller than the minimum size
    for n in range(6):
        left = set(POOL[:2].tolist()) - set(query.outfit[n][query.outfit_mask[n]].tolist())
        sets = [
            {int(POOL[c]) for c in line if c >= 0} for line, s in zip(few.chosen[n].tolist(), few.score[n], strict=True) if s > -1e9
        ]
        assert sets == [left]


def told_again(model: Any, encoded: Any, query: OutfitQuery, pool: torch.Tensor, chosen: list[int], least: int, most: int) -> float:
    """Return the log probability of a completion, scored step by step."""
    total, there = 0.0, query.outfit[query.outfit_mask].tolist()
    for n in range(len(chosen) + 1):
        if n == most:
            break
        rows = torch.tensor([[*there, *pool[chosen[:n]].tolist()]], dtype=torch.long)
        asked = replace(query, outfit=rows, outfit_mask=torch.ones_like(rows, dtype=torch.bool))
        logits = model.score(encoded, asked, pool)[0]
        logits[[c for c in range(len(pool)) if int(pool[c]) in rows[0].tolist()]] = -torch.inf
        end = model.stop_score(encoded, asked)
        if end is not None:
            logits = torch.cat([logits, end if n >= least else torch.tensor([-torch.inf])])
        elif n == len(chosen):
            break
        total += float(logits.log_softmax(0)[chosen[n] if n < len(chosen) else -1])
    return total


@pytest.mark.parametrize("personal", [True, False])
@pytest.mark.parametrize("width", [1, 6])
def test_scores_decrease_and_equal_those_of_rescoring_the_outfit(personal, width):
    model, graph = build(personal=personal)
    query = make_query()
    with torch.no_grad():
        encoded = model.encode(graph)
        pool = torch.arange(17)
        found = complete(model, encoded, query, pool, width=width, min_new=1, max_new=3)
        assert found.chosen.shape[1] == width
        for n in range(6):
            assert found.score[n].tolist() == sorted(found.score[n].tolist(), reverse=True)
            sets = {frozenset(line) for line in found.chosen[n].tolist()}
            assert len(sets) == width
            for line, score in zip(found.chosen[n].tolist(), found.score[n].tolist(), strict=True):
                chosen = [c for c in line if c >= 0]
                again = told_again(model, encoded, query.take(torch.tensor([n])), pool, chosen, 1, 3)
                assert score == pytest.approx(again, abs=1e-3)


@pytest.mark.parametrize("personal", [True, False])
def test_a_beam_of_one_is_greedy(personal):
    model, graph = build(personal=personal, seed=1)
    lengths = set()
    with torch.no_grad():
        encoded = model.encode(graph)
        for n in range(6):
            query = make_query().take(torch.tensor([n]))
            found = complete(model, encoded, query, POOL, width=1, min_new=1, max_new=3).chosen[0, 0].tolist()
            rows, chosen = query.outfit[query.outfit_mask].tolist(), [-1, -1, -1]
            for position in range(3):
                there = torch.tensor([rows], dtype=torch.long)
                asked = replace(query, outfit=there, outfit_mask=there >= 0)
                scores, end = model.score(encoded, asked, POOL)[0], model.stop_score(encoded, asked)
                scores[[c for c in range(len(POOL)) if int(POOL[c]) in rows]] = -torch.inf
                if position and end is not None and float(end) > float(scores.max()):
                    break
                chosen[position] = int(scores.argmax())
                rows.append(int(POOL[chosen[position]]))
            assert found == chosen
            lengths.add(sum(c >= 0 for c in chosen))
    assert lengths == ({1, 2, 3} if personal else {3})  # with and without a chosen end


def test_at_most_one_item_per_category():
    model, graph = build(personal=False)
    kind = torch.arange(17) % 4
    kind[16] = -1
    query = make_query()
    found = complete(model, model.encode(graph), query, torch.arange(17), width=5, min_new=1, max_new=5, kind=kind)
    for n in range(6):
        told = {int(kind[i]) for i in query.outfit[n][query.outfit_mask[n]] if int(kind[i]) >= 0}
        for line in found.chosen[n].tolist():
            new = [int(kind[c]) for c in line if c >= 0 and int(kind[c]) >= 0]
            assert not told & set(new)
            assert len(new) == len(set(new))


def test_a_run_completes_outfits_in_raw_ids(run, tmp_path):
    items = run.vocabularies["item"].ids()
    frame = run.complete(items[:2], run.vocabularies["user"].ids()[0], k=3)
    assert list(frame.columns) == ["outfit", "item_id", "given", "probability", "score", "category"]
    for number, outfit in frame.groupby("outfit"):
        assert outfit["item_id"].tolist()[:2] == items[:2]
        assert outfit["given"].tolist() == [True, True] + [False] * (len(outfit) - 2)
        assert outfit["item_id"].is_unique
        assert number <= 3
    assert frame.groupby("outfit")["score"].first().is_monotonic_decreasing
    assert run.complete(items[:2], k=2, max_items=5, min_items=5).groupby("outfit").size().tolist() == [5, 5]
    few = run.complete(items[:1], k=4, pool=items[3:5], max_items=2, min_items=2)
    assert sorted(few.loc[~few["given"], "item_id"]) == sorted(items[3:5])
    kinds = run.complete([], k=3, max_items=3, one_per_category=True)
    assert all(outfit["category"].is_unique for _, outfit in kinds.groupby("outfit"))
    again = Run.load(run.save(tmp_path)).complete(items[:2], run.vocabularies["user"].ids()[0], k=3)
    assert again["item_id"].tolist() == frame["item_id"].tolist()


def test_added_items_get_comments_given_the_rest(tmp_path):
    board = with_outfits(checkerboard(30, 24)[0])
    text = torch.randint(2, 6, (len(board.outfits), 3), generator=torch.Generator().manual_seed(0))
    words = ("", "<unknown>", "red", "blue", "warm", "cool")
    told = replace(board, outfits=replace(board.outfits, text=text), reviews=Reviews(torch.zeros(0, 3, dtype=torch.int32), words))
    settings: dict[str, Any] = {"dim": 8, "epochs": 1, "lr": 0.05, "eval": {"bootstrap": 0}, "split": {"strategy": "given"}}
    fit(told, "nor", **settings, out=tmp_path)
    run, generator = Run.load(tmp_path), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.normal_(std=2.0, generator=generator)  # so that the output depends on the input
    items = run.vocabularies["item"].ids()
    frame = run.complete(items[:2], k=1, min_items=4, max_items=4)
    rows = run.vocabularies["item"].rows(frame["item_id"].tolist())
    expected = ["", ""]
    for position in (2, 3):
        others = rows[torch.arange(4) != position][None]
        query = OutfitQuery(torch.tensor([-1]), others, torch.ones_like(others, dtype=torch.bool))
        expected += plain(run.model.comment(run.model.encode(run.graph), query, rows[position : position + 1]), run.words)
    assert frame["comment"].tolist() == expected
    assert any(expected)
    assert run.complete([], k=1, max_items=1)["comment"].tolist() == [""]  # a single item
    silent = fit(told, "nor", **settings, comment_weight=0)
    assert "comment" not in silent.complete(items[:2], k=1)


def test_a_run_has_results_of_all_evaluation_tasks(run):
    assert {"recall@20", "fill_in_the_blank/accuracy", "compatibility/auc"} <= set(run.report["test"])
    assert run.config.monitor == "fill_in_the_blank/accuracy"


def test_bad_input_is_refused(run):
    items = run.vocabularies["item"].ids()
    with pytest.raises(ValueError, match="given twice"):
        run.complete([items[0], items[0]])
    with pytest.raises(ValueError, match="max_items"):
        run.complete(items[:3], max_items=3)
    with pytest.raises(KeyError, match="unknown item"):
        run.complete([10_000])
    with pytest.raises(ValueError, match="pool has no item to add"):
        run.complete(items[:1], pool=items[:1])
    with pytest.raises(ValueError, match="gmmrec complete"):
        run.recommend(k=3)


def test_a_user_model_does_not_complete_outfits():
    found = fit(checkerboard(30, 24)[0], "popularity", eval={"bootstrap": 0})
    with pytest.raises(ValueError, match="does not complete outfits"):
        found.complete(found.vocabularies["item"].ids()[:1])
