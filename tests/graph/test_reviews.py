"""Ratings and reviews on edges: each on the edge of its pair after every graph operation, and none that is held out."""

from dataclasses import replace

import pytest
import torch

from gmmrec.data.dataset import Dataset
from gmmrec.data.interactions import Interactions
from gmmrec.data.ragged import RaggedSets
from gmmrec.data.reviews import Reviews, training_texts
from gmmrec.data.split import Split
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.ensemble.graphs import merge, view
from gmmrec.graph.build import build_graph
from gmmrec.graph.fold_in import with_new_users
from gmmrec.graph.sampling import sample_subgraph
from gmmrec.graph.store import load_graph, save_graph
from gmmrec.typing import ITEM_USER, USER_ITEM

U, I = 12, 9  # noqa: E741


def reviewed_data():
    """Return 40% of all pairs, with rating and first word computed from the rows of the pair, so that a mismatch shows."""
    generator = torch.Generator().manual_seed(0)
    user, item = torch.nonzero(torch.rand(U, I, generator=generator) < 0.4, as_tuple=True)
    order = torch.randperm(len(user), generator=generator)
    user, item = user[order], item[order]
    code = (user * I + item + 2).int()
    review = torch.arange(len(user)).masked_fill(item == 0, -1)
    log = Interactions(user, item, weight=code.float(), review=review)
    reviews = Reviews(torch.stack([code, code, torch.zeros_like(code)], dim=1), tuple(map(str, range(U * I + 2))))
    vocabularies = {"user": Vocabulary(range(U), name="user"), "item": Vocabulary(range(I), name="item")}
    dataset = Dataset("written", vocabularies, log, reviews=reviews)
    part = torch.arange(len(user)) % 5
    return dataset, Split(log.take(part > 1), log.take(part == 0), log.take(part == 1))


def check(graph, *, new_users=0):
    """Check that every edge has the rating and the review of its pair, whose word is the code."""
    dataset, split = reviewed_data()
    words = training_texts(dataset.reviews, split).words
    for kind in (USER_ITEM, ITEM_USER):
        ends = graph.edges(kind).edge_index.as_tensor()
        user, item = ends if kind == USER_ITEM else ends.flip(0)
        is_new = user >= graph.num_nodes("user") - new_users
        user, item = graph.rows("user")[user], graph.rows("item")[item]
        code = (user * I + item + 2).masked_fill(is_new, 0)
        assert torch.equal(graph.attribute(kind, "rating"), code.float())
        expected = code.masked_fill(item == 0, 0)
        assert graph.attribute(kind, "text").dtype == torch.int32
        assert [int(words[word]) for word in graph.attribute(kind, "text")[:, 0].tolist()] == expected.tolist()


def test_edges_carry_the_rating_and_the_review_of_their_pair():
    dataset, split = reviewed_data()
    graph = build_graph(dataset, split)
    check(graph)
    assert graph.schema.num_words == 2 + int((split.train.review >= 0).sum())
    assert len(graph.attribute(USER_ITEM, "rating")) == len(split.train)


def test_data_without_ratings_and_reviews_yield_no_edge_attributes():
    dataset, split = reviewed_data()
    plain = Split(*(Interactions(part.user, part.item) for part in (split.train, split.valid, split.test)))
    graph = build_graph(replace(dataset, interactions=plain.train, reviews=None), plain)
    assert graph.attribute(USER_ITEM, "rating") is None
    assert graph.attribute(USER_ITEM, "text") is None
    assert graph.schema.num_words == 0


def test_held_out_reviews_are_not_in_the_graph():
    dataset, split = reviewed_data()
    held_out = torch.cat([split.valid.review, split.test.review])
    held_out = held_out[held_out >= 0]
    tokens = dataset.reviews.tokens.clone()
    tokens[held_out] = 3
    changed = replace(dataset, reviews=replace(dataset.reviews, tokens=tokens))
    original, other = build_graph(dataset, split), build_graph(changed, split)
    for kind in (USER_ITEM, ITEM_USER):
        assert torch.equal(original.attribute(kind, "text"), other.attribute(kind, "text"))


def test_held_out_reviews_do_not_extend_the_vocabulary():
    dataset, split = reviewed_data()
    train, test = (part.review[part.review >= 0] for part in (split.train, split.test))
    rare = U * I + 2
    tokens = dataset.reviews.tokens.clone()
    tokens[train[0], 2] = rare  # once in training
    for others, count in ((test[:3], 0), (train[1:2], 2)):  # then also in held-out reviews, or again in training
        more = tokens.clone()
        more[others, 2] = rare
        changed = replace(dataset, reviews=Reviews(more, (*dataset.reviews.words, "rare")))
        text = build_graph(changed, split).attribute(USER_ITEM, "text")
        words = training_texts(changed.reviews, split).words
        assert ("rare" in words) == (count > 0)
        assert sum(words[word] == "rare" for word in text.flatten().tolist()) == count
        assert int((text == 1).sum()) == (1 if count == 0 else 0)


def test_repeated_pair_carries_its_first_review():
    log = Interactions(
        torch.tensor([1, 1, 0]), torch.tensor([0, 0, 1]), weight=torch.tensor([4.0, 1.0, 3.0]), review=torch.tensor([1, 0, 2])
    )
    reviews = Reviews(torch.tensor([[2, 2], [3, 3], [4, 4]], dtype=torch.int32), ("", "<unknown>", "a", "b", "c"))
    dataset = Dataset("repeats", {"user": Vocabulary(range(2)), "item": Vocabulary(range(2))}, log, reviews=reviews)
    graph = build_graph(dataset, Split(log, log.take(torch.arange(0)), log.take(torch.arange(0))))
    assert graph.attribute(ITEM_USER, "rating").tolist() == [3.0, 4.0]
    assert graph.attribute(ITEM_USER, "text").tolist() == [[3, 3], [2, 2]]  # c and b; a is in no first review


def test_subgraphs_keep_ratings_and_reviews():
    graph = build_graph(*reviewed_data())
    part, _ = sample_subgraph(graph, {"user": torch.tensor([6, 3])}, [2, 2], torch.Generator().manual_seed(1))
    assert 0 < part.edges(USER_ITEM).edge_index.shape[1] < graph.edges(USER_ITEM).edge_index.shape[1]
    check(part)


def test_new_users_have_neither_ratings_nor_reviews():
    graph = build_graph(*reviewed_data())
    wider = with_new_users(graph, RaggedSets.from_pairs(torch.tensor([0, 0, 1]), torch.tensor([1, 4, 2]), 2))
    assert len(wider.attribute(ITEM_USER, "text")) == wider.edges(ITEM_USER).edge_index.shape[1]
    check(wider, new_users=2)


def test_saving_and_moving_keep_ratings_and_reviews(tmp_path):
    graph = build_graph(*reviewed_data())
    save_graph(graph, tmp_path / "graph.safetensors")
    again = load_graph(tmp_path / "graph.safetensors")
    check(again)
    assert again.schema == graph.schema
    moved = graph.to("meta")
    assert moved.attribute(USER_ITEM, "text").device.type == moved.attribute(USER_ITEM, "rating").device.type == "meta"
    assert graph.attribute(USER_ITEM, "text").device.type == "cpu"


def test_merging_keeps_ratings_and_reviews():
    graph = build_graph(*reviewed_data())
    merged = merge([graph, graph])
    check(merged)
    assert merged.schema.num_words == graph.schema.num_words
    check(view(merged, 1, graph.schema))


def test_merging_different_reviews_is_rejected():
    dataset, split = reviewed_data()
    other = replace(dataset, reviews=replace(dataset.reviews, tokens=dataset.reviews.tokens.roll(1, 1)))
    with pytest.raises(ValueError, match="graph 1 differs in the text of some interactions"):
        merge([build_graph(dataset, split), build_graph(other, split)])


def test_replaced_edges_drop_ratings_and_reviews():
    graph = build_graph(*reviewed_data())
    kept = graph.with_edges(USER_ITEM, graph.edges(USER_ITEM).edge_index, torch.ones(len(graph.attribute(USER_ITEM, "rating"))))
    check(kept)
    edge_index = graph.edges(USER_ITEM).edge_index.as_tensor()[:, ::2]
    fewer = graph.with_edges(USER_ITEM, edge_index)
    assert fewer.attribute(USER_ITEM, "rating") is None
    assert fewer.attribute(USER_ITEM, "text") is None
    check(graph)
