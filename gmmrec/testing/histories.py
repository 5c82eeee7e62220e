"""Contract of models of histories."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gmmrec.abilities import FeatureBased, StandardizesScores, offers
from gmmrec.data.dataset import Dataset
from gmmrec.data.split import Split, SplitConfig, Strategy, split_dataset
from gmmrec.graph.build import build_graph
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.recommender import AnyRecommender
from gmmrec.tasks.inputs import TaskInputs
from gmmrec.tasks.next_item import NextItemTask
from gmmrec.testing.boards import I, U, toy_graph, with_new_features
from gmmrec.testing.learning import score_all, train
from gmmrec.testing.queries import asked, asking, board
from gmmrec.testing.suite import ModelSuite


class HistoryContract(ModelSuite):
    """Contract of models of histories; all other models skip it."""

    def test_left_padding_does_not_change_scores(self, model_class: type[AnyRecommender]) -> None:
        if not asking(model_class.query_type).in_order:
            pytest.skip("queries contain no histories")
        model, graph = self.build(model_class, toy_graph(board(model_class)[0]))
        query = asked(model, torch.arange(U))
        shorter = replace(query, mask=query.mask & (torch.arange(query.mask.shape[1]) >= torch.arange(U)[:, None] % 4))
        other = replace(shorter, items=torch.where(shorter.mask, shorter.items, I - 1))
        nothing = shorter.items.new_zeros(U, 3)
        wider = replace(shorter, items=torch.cat([nothing, shorter.items], 1), mask=torch.cat([nothing > 0, shorter.mask], 1))
        with torch.no_grad():
            encoded = model.encode(graph)
            expected = model.score(encoded, shorter, torch.arange(I))
            for same in (other, wider):
                torch.testing.assert_close(model.score(encoded, same, torch.arange(I)), expected, rtol=1e-4, atol=1e-5)
            none = replace(shorter, mask=torch.zeros_like(shorter.mask))
            assert bool(torch.isfinite(model.score(encoded, none, torch.arange(I))).all())

    @pytest.mark.parametrize("strategy", ["by_time", "leave_last_out"])
    def test_queries_do_not_depend_on_their_event_or_later_ones(
        self, model_class: type[AnyRecommender], strategy: Strategy
    ) -> None:
        if not asking(model_class.query_type).in_order:
            pytest.skip("queries contain no histories")
        dataset = timed(board(model_class)[0])
        split, model, graph = self.split_by(strategy, dataset, model_class)
        train(model, graph, split.train, epochs=2)
        weights = model.state_dict()
        for part, log in (("valid", split.valid), ("test", split.test)):
            for moment in log.time[:: len(log) // 4].tolist():  # type: ignore[index]
                expected = answer(model, graph, split, part, moment)
                # Later events of other users are part of training, and so of the scale of all scores: only the rest can be changed.
                kept = split.train.time if offers(model_class, StandardizesScores) else None
                other_split, other, other_graph = self.split_by(strategy, changed_from(moment, dataset, kept), model_class)
                other.load_state_dict(weights)
                assert torch.equal(answer(other, other_graph, other_split, part, moment), expected)

    def split_by(
        self, strategy: Strategy, dataset: Dataset, model_class: type[AnyRecommender]
    ) -> tuple[Split, AnyRecommender, MultimodalGraph]:
        split = split_dataset(dataset, SplitConfig(strategy, valid=0.2, test=0.2))
        return split, *self.build(model_class, build_graph(dataset, split))

    def test_features_of_an_item_outside_the_history_change_at_most_its_own_score(self, model_class: type[AnyRecommender]) -> None:
        if not asking(model_class.query_type).in_order:
            pytest.skip("queries contain no histories")
        dataset, item = board(model_class)[0], 4
        log = dataset.interactions
        if offers(model_class, StandardizesScores):  # without interactions of the item, the scale is the same
            dataset = replace(dataset, interactions=log.take(log.item != item))
        users = torch.ones(U, dtype=torch.bool)
        users[dataset.interactions.user[dataset.interactions.item == item]] = False
        before, after = (
            score_all(*self.build(model_class, toy_graph(data)), log=dataset.interactions)[users]
            for data in (dataset, with_new_features(dataset, item))
        )
        others = torch.arange(I) != item
        assert torch.equal(after[:, others], before[:, others])
        assert bool(((after[:, item] != before[:, item]) == (offers(model_class, FeatureBased))).all())


def timed(dataset: Dataset) -> Dataset:
    """Return the data set with a distinct time for every interaction, in the order of the log."""
    log = dataset.interactions
    return replace(dataset, interactions=replace(log, time=60 * torch.arange(1, 1 + len(log))))


def changed_from(moment: int, dataset: Dataset, kept: Tensor | None = None) -> Dataset:
    """Return the data set with other items from ``moment`` on, and another order of all later events.

    Events at the times ``kept`` are unchanged.
    """
    log, generator = dataset.interactions, torch.Generator().manual_seed(0)
    assert log.time is not None
    free = torch.ones(len(log), dtype=torch.bool) if kept is None else ~torch.isin(log.time, kept)
    item = torch.where(free & (log.time >= moment), torch.randint(I, (len(log),), generator=generator), log.item)
    late = int(log.time.max()) + 1 + torch.randperm(len(log), generator=generator)
    time = torch.where(free & (log.time > moment), late, log.time)
    return replace(dataset, interactions=replace(log, item=item, time=time))


def answer(model: AnyRecommender, graph: MultimodalGraph, split: Split, part: Any, moment: int) -> Tensor:
    """Return scores ``[1, I]`` for the query of the event at one time, padded to ``I``, since rounding depends on the width."""
    (row,) = torch.nonzero(getattr(split, part).time == moment).flatten().tolist()
    query = NextItemTask(TaskInputs(split, U, I, settings=model.config)).ranking(part, "none").query.take(torch.tensor([row]))
    wide = {name: F.pad(getattr(query, name), (I - query.mask.shape[1], 0)) for name in ("items", "mask", "time")}
    with torch.no_grad():
        return model.score(model.encode(graph), replace(query, **wide), torch.arange(I))
