"""Contract of answers where there is next to nothing to learn from: cold users and items, one user, one item, equal features."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gmmrec.abilities import IgnoresFeatures, NonPersonalized, ignores_features, offers
from gmmrec.data.dataset import Dataset
from gmmrec.data.interactions import Interactions
from gmmrec.data.ragged import RaggedSets
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.recommender import AnyRecommender
from gmmrec.serving.service import Service
from gmmrec.testing.boards import I, U, corner, toy_graph, with_equal_features, with_new_features, without_interactions
from gmmrec.testing.learning import score_all, train
from gmmrec.testing.queries import asked, asking, board
from gmmrec.testing.suite import ModelSuite

COLD_USER, COLD_ITEM = 5, 6
"""A user and an item without interactions; the item has no features either."""


class ExtremesContract(ModelSuite):
    """Contract of answers at the edge of the data; a model may refuse such data with a ``UsageError``."""

    def test_users_and_items_without_interactions_get_no_arbitrary_answer(self, model_class: type[AnyRecommender]) -> None:
        dataset = without_interactions(board(model_class)[0], COLD_USER, COLD_ITEM)
        model, graph = self.build(model_class, toy_graph(dataset))
        train(model, graph, dataset.interactions, epochs=2)
        service = service_of(model, graph, dataset)
        try:
            service.query(torch.arange(0))
        except UsageError as error:
            pytest.skip(str(error))
        raw = dataset.vocabularies["item"].ids()
        frame = service.recommend(k=I)
        lists = frame.groupby("user_id", sort=False).item_id.apply(list)
        cold = frame[frame.user_id == f"u{COLD_USER}"]
        new = service.recommend(histories=[[], [raw[0], raw[2], raw[4]], [raw[COLD_ITEM]], [raw[1], raw[3], raw[5]]], k=I)
        new_lists = new.groupby("user_id", sort=False).item_id.apply(list)
        assert bool(torch.isfinite(torch.tensor(new.score.tolist())).all())
        if offers(model_class, NonPersonalized):
            assert set(frame.basis) | set(new.basis) == {"model"}
            return
        assert raw[COLD_ITEM] not in set(frame.item_id) | set(new.item_id)
        assert (set(cold.basis), set(frame[frame.user_id != f"u{COLD_USER}"].basis)) == ({"popularity"}, {"model"})
        assert cold.score.tolist() == sorted(graph.degree("item")[torch.arange(I) != COLD_ITEM].tolist(), reverse=True)
        assert lists[f"u{COLD_USER}"] == new_lists["history-0"] == new_lists["history-2"]
        read = new[new.user_id.isin(["history-1", "history-3"])]
        assert set(read.basis) <= {"model", "similar users"}
        scores = read.pivot(index="user_id", columns="item_id", values="score")[[raw[i] for i in range(7, I)]]
        assert bool((scores.iloc[0] - scores.iloc[1]).abs().max() > 1e-6)  # told apart by their histories

    @pytest.mark.parametrize("sizes", [(1, I), (U, 1), (1, 1)], ids=["one user", "one item", "one of each"])
    def test_the_smallest_data_are_scored_or_refused(self, model_class: type[AnyRecommender], sizes: tuple[int, int]) -> None:
        dataset = corner(board(model_class)[0], *sizes)
        users, items = (torch.arange(size) for size in sizes)
        if not len(dataset.interactions):  # the one pair was held out
            dataset = one_pair(dataset)
        try:
            model, graph = self.build(model_class, toy_graph(dataset))
            if sizes[1] > 1 and not asking(model_class.query_type).names_items:
                train(model, graph, dataset.interactions, epochs=2)
            with torch.no_grad():
                scores = model.score(model.encode(graph), asked(model, users, dataset.interactions), items)
        except UsageError:
            return
        assert scores.shape == sizes
        assert bool(torch.isfinite(scores).all())

    def test_equal_features_are_learned_from(self, model_class: type[AnyRecommender]) -> None:
        dataset = with_equal_features(board(model_class)[0])
        try:
            model, graph = self.build(model_class, toy_graph(dataset))
            train(model, graph, dataset.interactions, epochs=2)
        except UsageError:
            return
        assert bool(torch.isfinite(score_all(model, graph)).all())
        assert all(bool(torch.isfinite(p).all()) for p in model.parameters())

    def test_features_are_ignored_if_declared(self, model_class: type[AnyRecommender]) -> None:
        if not offers(model_class, IgnoresFeatures):
            pytest.skip("does not declare that it ignores features")
        scores: list[Tensor] = []
        for data in (board(model_class)[0], with_new_features(board(model_class)[0], 4)):
            model, graph = self.build(model_class, toy_graph(data))
            scores.append(score_all(model, graph, log=data.interactions))
        assert torch.equal(*scores) or not ignores_features(model)


def one_pair(dataset: Dataset) -> Dataset:
    """Return the data set with the first interaction possible, as in the other one of ratings and reviews."""
    log = dataset.interactions
    first = torch.zeros(1, dtype=torch.long)
    weight = None if log.weight is None else torch.ones(1)
    return replace(dataset, interactions=Interactions(first, first, weight=weight, review=None if log.review is None else first))


def service_of(model: AnyRecommender, graph: MultimodalGraph, dataset: Dataset) -> Service:
    """Return the model as it serves the users of a data set."""
    log = dataset.interactions
    seen = RaggedSets.from_pairs(log.user, log.item, dataset.num_users)
    return Service(model, graph, dataset.vocabularies, seen, log=log)
