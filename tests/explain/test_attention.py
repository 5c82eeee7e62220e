from dataclasses import replace

import pandas as pd
import pytest
import torch

import gmmrec
from gmmrec.abilities import Attends
from gmmrec.data.features import FeatureTable
from gmmrec.data.tokens import TokenNames
from gmmrec.explain.attention import Explanation, Part, parts_of, weights_of
from gmmrec.models.lightgcn import LightGCN
from gmmrec.models.mario import MARIO, MARIOConfig
from gmmrec.tasks.query import UserQuery
from gmmrec.testing import I, checkerboard, toy_graph

QUICK = {"epochs": 1, "dim": 8, "batch_size": 64, "progress": False}


class Looks(LightGCN, Attends):
    """Model with given attention."""

    def attention(self, encoded, query, items):
        assert isinstance(query, UserQuery)
        assert (query.user.shape, items.shape) == ((1,), (1,))
        return {
            "user:history": torch.tensor([[0.75, 0.25, 0.0]]),
            "user:history_items": torch.tensor([[4, 2, -1]]),
            "id": torch.tensor([0.5]),
            "words": torch.tensor([[0.3, 0.2, 0.0]]),
        }


def with_words(graph_or_dataset=None):
    dataset = checkerboard(23, I)[0]
    mask = torch.ones(I, 3, dtype=torch.bool)
    mask[6, 2] = False
    tokens = TokenNames("pieces", pieces={"6": "red fish"})
    words = FeatureTable("words", torch.rand(I, 3, 4), mask, tokens=tokens)
    return replace(dataset, features={**dataset.features, "words": words})


def test_every_present_token_has_its_name_and_weight():
    graph = toy_graph(with_words())
    model = Looks(graph.schema).eval()
    with torch.no_grad():
        meaning, weights = weights_of(model, graph, model.encode(graph), UserQuery(torch.tensor([1])), 6)
    parts = parts_of(
        weights,
        graph,
        {"user": 1, "item": 6},
        {"user": "ann", "item": 6},
        tokens={"words": TokenNames("pieces", pieces={"6": "red fish"})},
        item_labels=lambda row: f"film {row}",
    )
    assert meaning == "weight"
    assert [(part.name, part.kind, part.positions) for part in parts] == [
        ("id", "whole", [0]),
        ("words", "pieces", [0, 1]),
        ("user:history", "items", [0, 1]),
    ]
    frame = Explanation("ann", 6, "Six", 1.0, meaning, parts).to_frame()
    expected = [
        ("id", "", 0.5),
        ("words", "red", 0.3),
        ("words", "fish", 0.2),
        ("user:history", "film 4", 0.75),
        ("user:history", "film 2", 0.25),
    ]
    pd.testing.assert_frame_equal(frame, pd.DataFrame(expected, columns=["modality", "token", "weight"]), rtol=1e-6)
    assert parts[1].even == pytest.approx(0.25)  # half of the attention, two words


def test_models_that_weigh_modalities():
    graph = toy_graph()
    torch.manual_seed(0)
    for granularity in ("scalar", "vector"):
        model = MARIO(graph.schema, MARIOConfig(dim=4, granularity=granularity)).eval()
        meaning, weights = weights_of(model, graph, model.encode(graph), UserQuery(torch.tensor([2])), 3)
        assert meaning == "weight"
        assert list(weights) == ["image", "text", "interaction"]
        assert float(sum(weights.values())) == pytest.approx(1)
        assert float(weights["image"]) == 0  # item 3 has none


def test_parts_of_a_score_add_up_to_it():
    run = gmmrec.fit(checkerboard()[0], "mgat", **QUICK)
    found = run.explanation("u3", 5)
    assert found.meaning == "score"
    assert sum(part.total for part in found.parts) == pytest.approx(found.score, rel=1e-4)
    recommended = run.recommend(["u3"], k=16, exclude_seen=False).set_index("item_id")
    assert found.score == pytest.approx(recommended.loc[5, "score"], rel=1e-5)


def test_a_model_without_attention_is_refused():
    run = gmmrec.fit(checkerboard()[0], "popularity")
    with pytest.raises(ValueError, match="Popularity has no attention to show; explain a model that weighs"):
        run.explain("u3", 5)
    with pytest.raises(KeyError, match="ann"):
        run.explain("ann", 5)


def test_a_run_folder_keeps_the_names_of_tokens(tmp_path):
    run = gmmrec.fit(with_words(), "mario", out=tmp_path / "run", **QUICK)
    again = gmmrec.load(tmp_path / "run")
    assert again.tokens == run.tokens == {"words": TokenNames("pieces", pieces={"6": "red fish"})}
    pd.testing.assert_frame_equal(again.explain("u3", 5), run.explain("u3", 5))
    assert run.explain("u3", 5).weight.sum() == pytest.approx(1)


def test_uniform_weight_of_an_empty_part():
    assert Part("image", "grid", [], [], []).even == 0
