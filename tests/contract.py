"""What every model owes: one suite, run for each entry of ``MODELS`` (and for any class of yours, in three lines).

>>> import pytest
>>> from gmmrec.models.lightgcn import LightGCN
>>> @pytest.mark.parametrize("model_class", [LightGCN])
... class TestMine(RecommenderContract):
...     settings = {LightGCN: {"dim": 16}}
"""

import copy
import io
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gmmrec.abilities import FeatureBased, FoldsInUsers, NonPersonalized, StandardizesScores, offers
from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.data.interactions import Interactions
from gmmrec.data.lists import Lists
from gmmrec.data.outfits import Outfits
from gmmrec.data.ragged import Ragged
from gmmrec.data.split import Split, SplitConfig, Strategy, split_dataset
from gmmrec.graph.build import build_graph
from gmmrec.graph.fold_in import with_new_users
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.graph.sampling import sample_subgraph
from gmmrec.recommender import AnyRecommender
from gmmrec.tasks.collaborative import CollaborativeConfig
from gmmrec.tasks.next_item import NextItemTask, Timeline
from gmmrec.tasks.outfit import OutfitTask
from gmmrec.tasks.query import Batch, HistoryQuery, OutfitQuery, RatingQuery, UserQuery
from tests.toy import checkerboard, rated_checkerboard

U, I = 23, 17  # primes that no layer has as its width: a table of 23 rows is one of users  # noqa: E741

Model = AnyRecommender


class RecommenderContract:
    """Promises of a model that ranks items for users (in a situation or not); parametrise a subclass over ``model_class``."""

    settings: ClassVar[Mapping[type[Model], dict[str, Any]]] = {}
    """Settings other than the defaults, by model."""

    def build(self, model_class: type[Model], graph: MultimodalGraph, *, seed: int = 0) -> tuple[Model, MultimodalGraph]:
        torch.manual_seed(seed)
        model = model_class(graph.schema, model_class.config_class(**self.settings.get(model_class, {})))
        with torch.no_grad():
            return model.eval(), model.prepare(graph)

    def test_learns_the_checkerboard(self, model_class: type[Model]) -> None:
        if offers(model_class, NonPersonalized):
            pytest.skip("gives everybody the same ranking")
        dataset, wanted = board(model_class)
        model, graph = self.build(model_class, toy_graph(dataset))
        losses = train(model, graph, dataset.interactions, epochs=60)
        if losses:  # a closed form has none
            assert losses[-1] < 0.9 * losses[0]  # smoothing alone, untrained, ranks well on so regular a graph
        assert share_ordered(score_all(model, graph, log=dataset.interactions), wanted) > 0.95

    def test_gradients_reach_every_parameter(self, model_class: type[Model]) -> None:
        dataset, _ = board(model_class)
        model, graph = self.build(model_class, toy_graph(dataset))
        batch = training_batch(dataset.interactions, torch.Generator().manual_seed(0), model.query_type)
        terms = model.train().loss(graph, batch)
        if not list(model.parameters()):
            assert terms == {}
            return
        assert all(term.dim() == 0 and bool(torch.isfinite(term)) for term in terms.values())
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()  # what stands behind a factor that begins at zero is reached in the second step
        torch.stack(list(model.loss(graph, batch).values())).sum().backward()
        unreached = [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())]
        assert unreached == []

    def test_same_seed_same_scores(self, model_class: type[Model]) -> None:
        def run() -> Tensor:
            dataset, _ = board(model_class)
            model, graph = self.build(model_class, toy_graph(dataset), seed=7)
            train(model, graph, dataset.interactions, epochs=3)
            return score_all(model, graph)

        assert torch.equal(run(), run())

    def test_what_stands_in_front_of_a_history_means_nothing(self, model_class: type[Model]) -> None:
        if model_class.query_type is not HistoryQuery:
            pytest.skip("is not asked with histories")
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
    def test_a_question_knows_nothing_of_itself_and_of_what_came_later(self, model_class: type[Model], strategy: Strategy) -> None:
        if model_class.query_type is not HistoryQuery:
            pytest.skip("is not asked with histories")
        dataset = timed(board(model_class)[0])
        split, model, graph = self.split_by(strategy, dataset, model_class)
        train(model, graph, split.train, epochs=2)
        weights = model.state_dict()
        for part, log in (("valid", split.valid), ("test", split.test)):
            for moment in log.time[:: len(log) // 4].tolist():  # type: ignore[index]
                expected = answer(model, graph, split, part, moment)
                # What others took later is part of their training, and so of the scale of all scores: only the rest can be changed.
                kept = split.train.time if offers(model_class, StandardizesScores) else None
                other_split, other, other_graph = self.split_by(strategy, changed_from(moment, dataset, kept), model_class)
                other.load_state_dict(weights)
                assert torch.equal(answer(other, other_graph, other_split, part, moment), expected)

    def split_by(self, strategy: Strategy, dataset: Dataset, model_class: type[Model]) -> tuple[Split, Model, MultimodalGraph]:
        split = split_dataset(dataset, SplitConfig(strategy, valid=0.2, test=0.2))
        return split, *self.build(model_class, build_graph(dataset, split))

    def test_features_of_an_item_outside_of_the_history_change_at_most_its_own_score(self, model_class: type[Model]) -> None:
        if model_class.query_type is not HistoryQuery:
            pytest.skip("is not asked with histories")
        dataset, item = board(model_class)[0], 4
        log = dataset.interactions
        if offers(model_class, StandardizesScores):  # nobody took it, so that the scale is the same
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

    def test_scores_are_the_same_in_chunks_and_per_query(self, model_class: type[Model]) -> None:
        model, graph = self.build(model_class, toy_graph(board(model_class)[0]))
        with torch.no_grad():
            encoded, query = model.encode(graph), asked(model, torch.arange(U))
            whole = model.score(encoded, query, torch.arange(I))
            chunks = [model.score(encoded, query, chunk) for chunk in torch.arange(I).split(5)]
            own = torch.stack([torch.randperm(I, generator=torch.Generator().manual_seed(u))[:6] for u in range(U)])
            per_query = model.score(encoded, query, own)
        assert whole.shape == (U, I)
        torch.testing.assert_close(torch.cat(chunks, dim=1), whole)
        torch.testing.assert_close(per_query, whole.gather(1, own))

    def test_a_score_does_not_depend_on_the_rest_of_the_batch(self, model_class: type[Model]) -> None:
        model, graph = self.build(model_class, toy_graph(board(model_class)[0]))
        with torch.no_grad():
            encoded = model.encode(graph)
            alone = [model.score(encoded, asked(model, torch.tensor([u])), torch.arange(I)) for u in (5, 0, 5)]
        torch.testing.assert_close(torch.cat(alone), score_all(model, graph)[[5, 0, 5]])

    def test_schema_config_and_weights_rebuild_the_model(self, model_class: type[Model]) -> None:
        dataset, _ = board(model_class)
        model, graph = self.build(model_class, toy_graph(dataset))
        train(model, graph, dataset.interactions, epochs=2)
        file = io.BytesIO()
        torch.save(model.state_dict(), file)
        file.seek(0)
        torch.manual_seed(99)
        rebuilt = model_class(model.schema, model_class.config_class(**asdict(model.config)))
        rebuilt.load_state_dict(torch.load(file, weights_only=True))
        assert torch.equal(score_all(rebuilt.eval(), graph), score_all(model, graph))

    @pytest.mark.parametrize("missing", [("image",), ("text",), ("image", "text")], ids="+".join)
    def test_items_without_a_modality_are_scored(self, model_class: type[Model], missing: tuple[str, ...]) -> None:
        for rows in (torch.tensor([0, 4, 9]), torch.arange(I)):  # a few items, then all of them
            dataset, _ = board(model_class)
            for name in missing:
                dataset = with_mask(dataset, name, rows)
            model, graph = self.build(model_class, toy_graph(dataset))
            train(model, graph, dataset.interactions, epochs=2)
            assert bool(torch.isfinite(score_all(model, graph)).all())
            assert all(bool(torch.isfinite(p).all()) for p in model.parameters())

    def test_values_under_the_mask_never_enter(self, model_class: type[Model]) -> None:
        scores = []
        for hidden in (0.0, 1000.0):
            dataset, _ = board(model_class)
            graph = toy_graph(with_mask(dataset, "text", torch.tensor([2, 8])))
            data = copy.copy(graph.data)
            for name in ("image", "text"):  # as if somebody had written there after the tables were checked
                absent = ~data["item"][f"{name}_mask"]
                data["item"][name] = data["item"][name].masked_fill(absent[:, None], hidden)
            model, graph = self.build(model_class, MultimodalGraph(data, graph.schema))
            train(model, graph, dataset.interactions, epochs=2)
            scores.append(score_all(model, graph))
        assert torch.equal(*scores)

    def test_permuting_users_and_items_permutes_scores(self, model_class: type[Model]) -> None:
        generator = torch.Generator().manual_seed(3)
        user, item = torch.randperm(U, generator=generator), torch.randperm(I, generator=generator)  # new row of every old one
        dataset, _ = board(model_class)
        model, graph = self.build(model_class, toy_graph(dataset))
        other, other_graph = self.build(model_class, toy_graph(permuted(dataset, user, item)), seed=1)
        rows = {U: user, I: item, U + I: torch.cat([user, U + item])}
        with torch.no_grad():
            for theirs, ours in zip(other.parameters(), model.parameters(), strict=True):
                theirs[rows[len(ours)] if ours.dim() and len(ours) in rows else ...] = ours
        theirs = score_all(other, other_graph, log=permuted(dataset, user, item).interactions)
        expected = score_all(model, graph, log=dataset.interactions)
        torch.testing.assert_close(theirs[user][:, item], expected, rtol=1e-4, atol=1e-5)

    def test_held_out_interactions_are_not_seen(self, model_class: type[Model]) -> None:
        dataset, wanted = board(model_class)
        held_out = Interactions(*torch.nonzero(wanted, as_tuple=True))
        scores = []
        for test in (held_out, held_out.take(torch.arange(0))):
            model, graph = self.build(model_class, build_graph(dataset, Split(dataset.interactions, test, test)))
            train(model, graph, dataset.interactions, epochs=2)
            scores.append(score_all(model, graph))
            for seen in (graph, model.begin_epoch(graph, torch.Generator().manual_seed(0))):
                for source, relation, target in seen.schema.relations:
                    if {source, target} == {"user", "item"}:
                        ends = seen.edges((source, relation, target)).edge_index.as_tensor()
                        user, item = ends if source == "user" else ends.flip(0)
                        assert not bool(wanted[user, item].any())
        assert torch.equal(*scores)

    def test_hooks_leave_the_graph_they_are_given_alone(self, model_class: type[Model]) -> None:
        graph = toy_graph(board(model_class)[0])
        before = {kind: graph.edges(kind).edge_index.as_tensor().clone() for kind in graph.schema.relations}
        model, prepared = self.build(model_class, graph)
        relations = prepared.schema.relations
        model.begin_epoch(prepared, torch.Generator().manual_seed(0))
        assert set(graph.data.edge_types) == set(before)
        assert set(prepared.data.edge_types) == set(relations)
        for kind, edge_index in before.items():
            assert torch.equal(graph.edges(kind).edge_index.as_tensor(), edge_index)

    def test_new_users_are_told_apart_by_their_histories_where_that_is_declared(self, model_class: type[Model]) -> None:
        if model_class.query_type in (HistoryQuery, OutfitQuery):
            pytest.skip("is told histories, or outfits")
        dataset, _ = board(model_class)
        model, graph = self.build(model_class, toy_graph(dataset))
        train(model, graph, dataset.interactions, epochs=2)
        new = with_new_users(graph, Ragged(torch.tensor([0, 3, 6]), torch.tensor([0, 2, 4, 1, 3, 5])))
        query_type: Any = model_class.query_type
        with torch.no_grad():
            even, odd = model.score(model.encode(new), query_type(user=torch.tensor([U, U + 1])), torch.arange(I))
        assert torch.allclose(even, odd, rtol=0, atol=1e-5) != self.folds_in_users(model_class)

    def folds_in_users(self, model_class: type[Model]) -> bool:
        """Whether the model does so with the suite's settings; what is declared holds for the defaults."""
        return offers(model_class, FoldsInUsers)

    def test_nodes_that_were_never_seen_get_finite_scores(self, model_class: type[Model]) -> None:
        model, graph = self.build(model_class, toy_graph(board(model_class)[0]))
        data = copy.copy(graph.data)
        data["user"].n_id = torch.arange(U).masked_fill_(torch.arange(U) >= U - 2, -1)
        data["item"].n_id = torch.arange(I).masked_fill_(torch.arange(I) == 0, -1)
        assert bool(torch.isfinite(score_all(model, MultimodalGraph(data, graph.schema))).all())

    def test_a_sampled_subgraph_encodes_its_seeds_as_the_whole_graph_does(self, model_class: type[Model]) -> None:
        if model_class.query_type in (HistoryQuery, OutfitQuery):
            pytest.skip("reads all items, so it is never asked on a part of the graph")
        model, graph = self.build(model_class, toy_graph(board(model_class)[0]))
        seeds = {"user": torch.tensor([4, 2, 6]), "item": torch.tensor([0, 8])}
        part, places = sample_subgraph(graph, seeds, [-1] * 4, torch.Generator().manual_seed(0))
        query, candidates = asked(model, places["user"]), places["item"]
        with torch.no_grad():
            scores = model.score(model.encode(part), query, candidates)
        torch.testing.assert_close(scores, score_all(model, graph)[seeds["user"]][:, seeds["item"]])

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
    def test_cpu_and_gpu_agree(self, model_class: type[Model]) -> None:
        dataset, _ = board(model_class)
        model, graph = self.build(model_class, toy_graph(dataset))
        train(model, graph, dataset.interactions, epochs=2)
        expected = score_all(model, graph)
        actual = score_all(model.to("cuda"), graph.to("cuda"), device="cuda")
        torch.testing.assert_close(actual.cpu(), expected, rtol=1e-4, atol=1e-4)
        train(model, graph.to("cuda"), dataset.interactions, epochs=1, device="cuda")


def board(model_class: type[Model]) -> tuple[Dataset, Tensor]:
    """Toy data for a model, and the likes that are held out: with ratings and reviews where it predicts ratings."""
    if model_class.query_type in (HistoryQuery, OutfitQuery):  # in an order that tells nothing
        dataset, wanted = checkerboard(U, I)
        order = torch.randperm(len(dataset.interactions), generator=torch.Generator().manual_seed(0))
        return replace(dataset, interactions=dataset.interactions.take(order)), wanted
    return (rated_checkerboard if model_class.query_type is RatingQuery else checkerboard)(U, I)


def toy_graph(dataset: Dataset | None = None) -> MultimodalGraph:
    """The graph of all known interactions."""
    dataset = checkerboard(U, I)[0] if dataset is None else dataset
    nothing = dataset.interactions.take(torch.arange(0))
    return build_graph(dataset, Split(dataset.interactions, nothing, nothing))


def with_mask(dataset: Dataset, name: str, rows: Tensor) -> Dataset:
    """The data set with one modality of some items missing."""
    mask = dataset.features[name].mask.clone()
    mask[rows] = False
    return replace(dataset, features={**dataset.features, name: FeatureTable(name, dataset.features[name].values, mask)})


def with_new_features(dataset: Dataset, item: int) -> Dataset:
    """The data set in which one item has other features."""
    generator, features = torch.Generator().manual_seed(7), {}
    for name, table in dataset.features.items():
        values = table.values.clone()
        values[item] = torch.randn(table.dim, generator=generator)
        features[name] = FeatureTable(name, values, table.mask)
    return replace(dataset, features=features)


def timed(dataset: Dataset) -> Dataset:
    """The data set in which every interaction has a time of its own, in the order of the log."""
    log = dataset.interactions
    return replace(dataset, interactions=replace(log, time=60 * torch.arange(1, 1 + len(log))))


def changed_from(moment: int, dataset: Dataset, kept: Tensor | None = None) -> Dataset:
    """The data set in which all that happened later than ``moment`` happened in another order, then and later to other items.

    Events at the times ``kept`` stay as they are.
    """
    log, generator = dataset.interactions, torch.Generator().manual_seed(0)
    assert log.time is not None
    free = torch.ones(len(log), dtype=torch.bool) if kept is None else ~torch.isin(log.time, kept)
    item = torch.where(free & (log.time >= moment), torch.randint(I, (len(log),), generator=generator), log.item)
    late = int(log.time.max()) + 1 + torch.randperm(len(log), generator=generator)
    time = torch.where(free & (log.time > moment), late, log.time)
    return replace(dataset, interactions=replace(log, item=item, time=time))


def answer(model: Model, graph: MultimodalGraph, split: Split, part: Any, moment: int) -> Tensor:
    """Scores ``[1, I]`` in the question of the event at one time, as wide as all, for the rounding depends on the width."""
    (row,) = torch.nonzero(getattr(split, part).time == moment).flatten().tolist()
    query = NextItemTask(split, U, I, settings=model.config).questions(part, "none").query.take([row])
    wide = {name: F.pad(getattr(query, name), (I - query.mask.shape[1], 0)) for name in ("items", "mask", "time")}
    with torch.no_grad():
        return model.score(model.encode(graph), replace(query, **wide), torch.arange(I))


def permuted(dataset: Dataset, user: Tensor, item: Tensor) -> Dataset:
    """The data set in which user ``u`` stands in row ``user[u]``, and item ``i`` in row ``item[i]``."""
    old = torch.argsort(item)
    return replace(
        dataset,
        interactions=replace(dataset.interactions, user=user[dataset.interactions.user], item=item[dataset.interactions.item]),
        features={name: FeatureTable(name, table.values[old], table.mask[old]) for name, table in dataset.features.items()},
    )


def asked(model: Model | type[Model], users: Tensor, log: Interactions | None = None) -> Any:
    """The question what these users like, as the model takes it, after all that ``log`` holds of them."""
    query_type: Any = model.query_type
    if query_type in (HistoryQuery, OutfitQuery):
        query = Timeline((checkerboard(U, I)[0].interactions if log is None else log).to("cpu"), U).of(users.cpu(), 50)
        known = query.items, query.mask
        return (query if query_type is HistoryQuery else OutfitQuery(query.user, *known, *known)).to(users.device)
    return query_type(user=users)


def training_batch(
    interactions: Interactions, generator: torch.Generator, query_type: Callable[..., Any] = UserQuery
) -> Batch[Any]:
    """All interactions, with two items each that the user does not have, or with their ratings."""
    if query_type is RatingQuery:
        user, item = interactions.user, interactions.item
        return Batch(RatingQuery(user), item, item.new_empty(len(item), 0), rating=interactions.weight)
    if query_type is HistoryQuery:
        task = NextItemTask(Split(interactions, interactions, interactions), U, I, CollaborativeConfig(num_negatives=2))
        (batch,) = [batch for _, batch in task.batches(None, generator)]  # type: ignore[arg-type]
        return batch
    if query_type is OutfitQuery:
        whole = Lists.from_groups(interactions.user, interactions.item, U)
        user = torch.nonzero(whole.counts >= 3).flatten()
        whole = whole.take(user)
        is_worn = (torch.arange(len(whole.values)) - whole.indptr[whole.groups]) % 3 > 0  # two of three, the others came before
        worn, before = (Lists.from_groups(whole.groups[c], whole.values[c], len(whole)) for c in (is_worn, ~is_worn))
        outfits = Outfits(worn, torch.zeros(len(worn), dtype=torch.long), user, before)
        split = Split(interactions, interactions, interactions, outfits=outfits)
        (batch,) = [batch for _, batch in OutfitTask(split, U, I).batches(None, generator)]  # type: ignore[arg-type]
        return batch
    unseen = torch.ones(U, I)
    unseen[interactions.user, interactions.item] = 0
    negative = torch.multinomial(unseen[interactions.user], 2, generator=generator)
    return Batch(query_type(user=interactions.user), interactions.item, negative)


def train(
    model: Model, graph: MultimodalGraph, interactions: Interactions, *, epochs: int, lr: float = 0.02, device: str = "cpu"
) -> list[float]:
    """A short Adam loop, one batch an epoch; returns the loss of every epoch."""
    losses: list[float] = []
    if not list(model.parameters()):
        return losses
    torch.manual_seed(1)  # for dropout
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    model.train()
    for _ in range(epochs):
        with torch.no_grad():
            epoch_graph = model.begin_epoch(graph, generator)
        optimizer.zero_grad(set_to_none=True)
        batch = training_batch(interactions, generator, model.query_type).to(device)
        loss = torch.stack(list(model.loss(epoch_graph, batch).values())).sum()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    model.eval()
    return losses


def score_all(model: Model, graph: MultimodalGraph, device: str = "cpu", log: Interactions | None = None) -> Tensor:
    """Scores ``[U, I]`` of every user for every item."""
    with torch.no_grad():
        query = asked(model, torch.arange(U, device=device), log)
        return model.score(model.encode(graph), query, torch.arange(I, device=device))


def share_ordered(scores: Tensor, wanted: Tensor) -> float:
    """Share of (held-out like, dislike) pairs that are ranked rightly, over all users; chance is a half."""
    dislikes = (torch.arange(U)[:, None] + torch.arange(I)) % 2 == 1
    pairs = wanted[:, :, None] & dislikes[:, None, :]
    return float((scores[:, :, None] > scores[:, None, :])[pairs].float().mean())
