"""Contract of a model as one test suite, run for each entry of ``MODELS``, and for your own class in three lines.

>>> from gmmrec.models.lightgcn import LightGCN
>>> from gmmrec.testing import RecommenderContract
>>> class TestMine(RecommenderContract):
...     model_class = LightGCN
...     settings = {"dim": 16}  # if the defaults do not suit such small data
"""

import copy
import io
from dataclasses import asdict

import pytest
import torch
from torch import Tensor

from gmmrec.abilities import FoldsInUsers, NonPersonalized, offers
from gmmrec.data.interactions import Interactions
from gmmrec.data.ragged import RaggedSets
from gmmrec.data.split import Split
from gmmrec.graph.build import build_graph
from gmmrec.graph.fold_in import with_new_users
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.graph.sampling import sample_subgraph
from gmmrec.recommender import AnyRecommender
from gmmrec.testing.boards import I, U, permuted, toy_graph, with_mask
from gmmrec.testing.extremes import ExtremesContract
from gmmrec.testing.histories import HistoryContract
from gmmrec.testing.learning import score_all, share_ordered, train
from gmmrec.testing.queries import asked, asking, board, training_batch

Model = AnyRecommender


class RecommenderContract(HistoryContract, ExtremesContract):
    """Contract of models that rank items for users: alone, in a context, given a history or an outfit, or by rating.

    Other models, such as those of link prediction, are skipped with the reason. Expectations depend on the abilities that a class
        declares (:mod:`gmmrec.abilities`).
    """

    def test_learns_the_checkerboard(self, model_class: type[Model]) -> None:
        if offers(model_class, NonPersonalized):
            pytest.skip("ranks alike for all users")
        dataset, held_out_likes = board(model_class)
        model, graph = self.build(model_class, toy_graph(dataset))
        losses = train(model, graph, dataset.interactions, epochs=60)
        if losses:  # a closed form has none
            assert losses[-1] < 0.9 * losses[0]  # smoothing alone ranks well on such a regular graph
        assert share_ordered(score_all(model, graph, log=dataset.interactions), held_out_likes) > 0.95

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
        optimizer.step()  # parameters behind a factor initialised to zero get gradients in the second step
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

    def test_scores_are_the_same_in_chunks_and_per_query(self, model_class: type[Model]) -> None:
        model, graph = self.build(model_class, toy_graph(board(model_class)[0]))
        with torch.no_grad():
            encoded, query = model.encode(graph), asked(model, torch.arange(U))
            whole = model.score(encoded, query, torch.arange(I))
            chunks = [model.score(encoded, query, chunk) for chunk in torch.arange(I).split(5)]
            columns = torch.stack([torch.randperm(I, generator=torch.Generator().manual_seed(u))[:6] for u in range(U)])
            per_query = model.score(encoded, query, columns)
        assert whole.shape == (U, I)
        torch.testing.assert_close(torch.cat(chunks, dim=1), whole)
        torch.testing.assert_close(per_query, whole.gather(1, columns))

    def test_scores_do_not_depend_on_the_rest_of_the_batch(self, model_class: type[Model]) -> None:
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

    def test_masked_values_do_not_affect_scores(self, model_class: type[Model]) -> None:
        scores = []
        for hidden in (0.0, 1000.0):
            dataset, _ = board(model_class)
            graph = toy_graph(with_mask(dataset, "text", torch.tensor([2, 8])))
            data = copy.copy(graph.data)
            for name in ("image", "text"):  # written after the tables were checked
                absent = ~data["item"][f"{name}_mask"]
                data["item"][name] = data["item"][name].masked_fill(absent[:, None], hidden)
            model, graph = self.build(model_class, MultimodalGraph(data, graph.schema))
            train(model, graph, dataset.interactions, epochs=2)
            scores.append(score_all(model, graph))
        assert torch.equal(*scores)

    def test_permuting_users_and_items_permutes_scores(self, model_class: type[Model]) -> None:
        generator = torch.Generator().manual_seed(3)
        user, item = torch.randperm(U, generator=generator), torch.randperm(I, generator=generator)  # new row of every old row
        dataset, _ = board(model_class)
        model, graph = self.build(model_class, toy_graph(dataset))
        other, other_graph = self.build(model_class, toy_graph(permuted(dataset, user, item)), seed=1)
        rows = {U: user, I: item, U + I: torch.cat([user, U + item])}
        with torch.no_grad():
            for new, old in zip(other.parameters(), model.parameters(), strict=True):
                new[rows[len(old)] if old.dim() and len(old) in rows else ...] = old
        permuted_scores = score_all(other, other_graph, log=permuted(dataset, user, item).interactions)
        expected = score_all(model, graph, log=dataset.interactions)
        torch.testing.assert_close(permuted_scores[user][:, item], expected, rtol=1e-4, atol=1e-5)

    def test_held_out_interactions_are_not_seen(self, model_class: type[Model]) -> None:
        dataset, held_out_likes = board(model_class)
        held_out = Interactions(*torch.nonzero(held_out_likes, as_tuple=True))
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
                        assert not bool(held_out_likes[user, item].any())
        assert torch.equal(*scores)

    def test_hooks_do_not_modify_their_input_graph(self, model_class: type[Model]) -> None:
        graph = toy_graph(board(model_class)[0])
        before = {kind: graph.edges(kind).edge_index.as_tensor().clone() for kind in graph.schema.relations}
        model, prepared = self.build(model_class, graph)
        relations = prepared.schema.relations
        model.begin_epoch(prepared, torch.Generator().manual_seed(0))
        assert set(graph.data.edge_types) == set(before)
        assert set(prepared.data.edge_types) == set(relations)
        for kind, edge_index in before.items():
            assert torch.equal(graph.edges(kind).edge_index.as_tensor(), edge_index)

    def test_new_users_are_distinguished_by_history_if_declared(self, model_class: type[Model]) -> None:
        if asking(model_class.query_type).names_items:
            pytest.skip("queries contain histories or outfits")
        dataset, _ = board(model_class)
        model, graph = self.build(model_class, toy_graph(dataset))
        train(model, graph, dataset.interactions, epochs=2)
        new = with_new_users(graph, RaggedSets(torch.tensor([0, 3, 6]), torch.tensor([0, 2, 4, 1, 3, 5])))
        with torch.no_grad():
            even, odd = model.score(model.encode(new), asked(model, torch.tensor([U, U + 1])), torch.arange(I))
        assert torch.allclose(even, odd, rtol=0, atol=1e-5) != self.folds_in_users(model_class)

    def folds_in_users(self, model_class: type[AnyRecommender]) -> bool:
        """Return whether new users are told apart with the settings of the suite; the declaration holds for the defaults."""
        return offers(model_class, FoldsInUsers)

    def test_unseen_nodes_get_finite_scores(self, model_class: type[Model]) -> None:
        model, graph = self.build(model_class, toy_graph(board(model_class)[0]))
        data = copy.copy(graph.data)
        data["user"].n_id = torch.arange(U).masked_fill_(torch.arange(U) >= U - 2, -1)
        data["item"].n_id = torch.arange(I).masked_fill_(torch.arange(I) == 0, -1)
        assert bool(torch.isfinite(score_all(model, MultimodalGraph(data, graph.schema))).all())

    def test_sampled_subgraphs_score_their_seeds_like_the_whole_graph(self, model_class: type[Model]) -> None:
        if asking(model_class.query_type).names_items:
            pytest.skip("reads all items and is never evaluated on a subgraph")
        model, graph = self.build(model_class, toy_graph(board(model_class)[0]))
        seeds = {"user": torch.tensor([4, 2, 6]), "item": torch.tensor([0, 8])}
        part, positions = sample_subgraph(graph, seeds, [-1] * 4, torch.Generator().manual_seed(0))
        query, candidates = asked(model, positions["user"]), positions["item"]
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
