"""Parts of one's own in GraphFusion: built as documented, in place of the named ones, and refused in one sentence."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gmmrec.models.graph_fusion import GraphFusion, GraphFusionConfig
from gmmrec.nn.conv.light import LightPropagation
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.nn.encoder.content import ContentEncoder
from gmmrec.nn.fusion.mean import SumFusion
from gmmrec.nn.relations import UserItem
from gmmrec.tasks.query import UserQuery
from gmmrec.testing import I, U, checkerboard, score_all, share_ordered, toy_graph, train

D = 8


class Doubled(nn.Module):
    """Twice the sum of what is there."""

    def __init__(self, dim: int, num_tokens: int) -> None:
        super().__init__()
        self.num_tokens = num_tokens

    def forward(self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None) -> Tensor:
        return 2 * SumFusion()(tokens, mask)


def test_parts_of_ones_own_take_the_place_of_named_ones() -> None:
    graph = toy_graph()
    config = GraphFusionConfig(dim=D, content="linear", fusion="concat", decoder="mlp", ids="mf", item_graph="none", num_layers=3)
    built: list[tuple[int, ...]] = []

    def deep(num_users: int, feature_dim: int, dim: int, num_layers: int) -> nn.Module:
        built.append((num_users, feature_dim, dim, num_layers))
        return ContentEncoder(feature_dim, dim, num_layers=2)

    def once(dim: int, num_layers: int) -> nn.Module:
        built.append((dim, num_layers))
        return LightPropagation(1)

    parts = {"encoder": once, "content.image": deep, "fusion": Doubled, "decoder": lambda dim: inner_product}
    torch.manual_seed(0)
    model = GraphFusion.with_parts(graph.schema, config, parts)
    with torch.no_grad():
        encoded, views = model.encode(graph), model._views(graph)
        score = model.score(encoded, UserQuery(torch.tensor([0, 3])), torch.tensor([1, 2]))
    hidden = views.item[1] * graph.features["image"].present[:, None]
    torch.testing.assert_close(encoded["item"], 2 * (views.item[0] + hidden + views.item[2]))
    torch.testing.assert_close(score, encoded["user"][[0, 3]] @ encoded["item"][[1, 2]].T)
    assert built == [(D, 3), (U, graph.schema.feature_dims["image"], D, 3)]
    assert isinstance(model.ids, LightPropagation)
    assert [len(list(encoder.parameters())) for encoder in model.content] == [4, 2]  # a hidden layer, or none
    assert model.custom_parts == parts


def test_a_fusion_of_ones_own_is_built_for_users_and_for_items() -> None:
    graph = toy_graph()
    config = GraphFusionConfig(dim=D, content={"image": "light", "text": "linear"}, item_graph="none")
    model = GraphFusion.with_parts(graph.schema, config, {"fusion": Doubled})
    assert (model.fuse_user.num_tokens, model.fuse_item.num_tokens) == (2, 3)
    with torch.no_grad():
        views = model._views(graph)
        torch.testing.assert_close(model.encode(graph)["user"], 2 * (views.user[0] + views.user[1]))


class Flows(nn.Module):
    """Users are what their items are; items are their features."""

    def __init__(self, num_users: int, feature_dim: int, dim: int, num_layers: int) -> None:
        super().__init__()
        self.preference = nn.Parameter(torch.ones(num_users, dim))
        self.read = nn.Linear(feature_dim, dim)
        self.flow = LightPropagation(num_layers)

    def forward(self, preference: Tensor, features: Tensor, present: Tensor, ids: UserItem, edges: Any) -> Any:
        return self.flow(UserItem(preference, self.read(features) * present[:, None]), edges)


def test_content_encoders_of_ones_own_provide_views_of_users_where_they_have_a_preference() -> None:
    dataset, expected = checkerboard(U, I)
    graph = toy_graph(dataset)
    torch.manual_seed(0)
    model = GraphFusion.with_parts(graph.schema, GraphFusionConfig(dim=D, ids="none", item_graph="none"), {"content": Flows})
    assert [type(encoder) for encoder in model.content] == [Flows, Flows]
    train(model, graph, dataset.interactions, epochs=30)
    assert share_ordered(score_all(model, graph), expected) > 0.95
    assert not bool((model.content[0].preference == 1).all())


class Short(Doubled):
    """Fusion that returns tokens instead of a vector."""

    def forward(self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None) -> Tensor:
        return tokens


def reads_only(num_users: int, feature_dim: int, dim: int, num_layers: int) -> nn.Module:
    return ContentEncoder(feature_dim, dim)


@pytest.mark.parametrize(
    ("parts", "settings", "message"),
    [
        (
            {"fusoin": Doubled},
            {},
            "GraphFusion has no part 'fusoin'; its roles are fusion, encoder, content, decoder, content.image, content.text",
        ),
        (
            {"fusion": Doubled(D, 3)},
            {},
            "the part 'fusion' must be a class or a function that is called as fusion(dim, num_tokens), but is an object of type "
            "Doubled; give its class, or a function that returns it",
        ),
        (
            {"decoder": Doubled},
            {},
            "the part 'decoder' is built as Doubled(dim), but Doubled: missing a required argument",
        ),
        ({"encoder": lambda dim, num_layers: 3}, {}, "the part 'encoder' must be an nn.Module, but"),
        ({"encoder": Doubled}, {"ids": "hcgcn", "cluster_weight": 0.1}, "cluster_weight needs the clusters of 'hcgcn', but the"),
        (
            {"fusion": Doubled},
            {"content": "none"},
            "the part 'fusion' is not used, as no node has more than one view; set content,",
        ),
        (
            {"content": reads_only, "content.image": reads_only, "content.text": reads_only},
            {},
            "the part 'content' is not used, as no modality is left for it; give data with one, or leave it out",
        ),
        ({"content": reads_only}, {"ids": "none"}, "no view provides user vectors, as no content encoder has a preference"),
    ],
)
def test_parts_of_ones_own_that_do_not_fit_are_refused(parts: dict[str, Any], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        GraphFusion(toy_graph().schema, GraphFusionConfig(**{"dim": D, "content": "linear", **settings}), parts)


def test_a_fusion_that_returns_something_else_than_a_vector_per_node_is_named() -> None:
    graph = toy_graph()
    model = GraphFusion(graph.schema, GraphFusionConfig(dim=D, content="linear", item_graph="none"), {"fusion": Short})
    with pytest.raises(ValueError, match=rf"^Short made \[{I}, 3, 8\] of 3 views \[{I}, 8\]; a fusion must return one vector"):
        model.encode(graph)
