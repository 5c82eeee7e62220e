"""GraphFusion: points of the space score as the papers' own files do; every combination keeps the contract's promises."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.freedom import FREEDOM, FREEDOMConfig
from gmmrec.models.graph_fusion import GraphFusion, GraphFusionConfig, Parts
from gmmrec.models.hcgcn import HCGCN, HCGCNConfig
from gmmrec.models.lattice import LATTICE, LATTICEConfig
from gmmrec.models.lightgcn import LightGCN, LightGCNConfig
from gmmrec.models.mario import MARIO, MARIOConfig
from gmmrec.models.mcptr import MCPTR, MCPTRConfig
from gmmrec.models.mgat import MGAT, MGATConfig
from gmmrec.models.mmgcn import MMGCN, MMGCNConfig
from gmmrec.nn.conv.light import LightPropagation
from gmmrec.nn.encoder.content import ContentEncoder
from gmmrec.nn.fusion.mean import SumFusion
from gmmrec.recommender import Recommender
from gmmrec.tasks.query import Batch, UserQuery
from tests.contract import I, RecommenderContract, U, score_all, toy_graph, train, training_batch, with_mask
from tests.toy import checkerboard

Model = Recommender[Any]
D = 8


def paired(
    paper: type[Model], config: Any, names: Mapping[str, str], **settings: Any
) -> tuple[tuple[Model, MultimodalGraph], tuple[GraphFusion, MultimodalGraph]]:
    """A paper's model and its point of GraphFusion, same weights; ``names``: beginnings of parameters' names, theirs to ours."""
    dataset, _ = checkerboard(U, I)
    graph = toy_graph(with_mask(dataset, "text", torch.tensor([2, 8])))
    torch.manual_seed(0)
    theirs = paper(graph.schema, config).eval()
    ours = GraphFusion(graph.schema, GraphFusionConfig(**{"dim": D, "unit_features": False, **settings})).eval()
    weights = {}
    for name, value in theirs.state_dict().items():
        old, new = next((old, new) for old, new in names.items() if name.startswith(old))
        if new:
            weights[new + name[len(old) :]] = value
    assert weights.keys() == ours.state_dict().keys()
    ours.load_state_dict(weights)
    with torch.no_grad():
        return (theirs, theirs.prepare(graph)), (ours, ours.prepare(graph))


SAME = {"users": "users", "items": "items"}
BRANCHES = {**SAME, "branches.": "content."}
POINTS: dict[str, tuple[type[Model], Any, dict[str, str], dict[str, Any]]] = {
    "lightgcn": (LightGCN, LightGCNConfig(dim=D, num_layers=3), SAME, {"num_layers": 3, "item_graph": "none"}),
    "bpr-mf": (LightGCN, LightGCNConfig(dim=D, num_layers=0), SAME, {"ids": "mf", "item_graph": "none"}),
    "freedom": (
        FREEDOM,
        FREEDOMConfig(dim=D, knn=4, item_layers=2, aux_weight=0.0),
        SAME,
        {"knn": 4, "item_layers": 2},
    ),
    "lattice": (
        LATTICE,
        LATTICEConfig(dim=D, modality_dim=5, knn=4),
        {**SAME, "latent": "smooth.latent"},
        {"ids": "self_loops", "item_graph": "learned", "modality_dim": 5, "knn": 4, "item_unit": True},
    ),
    "mgat": (
        MGAT,
        MGATConfig(dim=D, modality_dim=5, num_layers=2, combine="last"),
        BRANCHES,
        {"ids": "none", "content": "mgat", "modality_dim": 5, "item_graph": "none"},
    ),
    "mmgcn": (MMGCN, MMGCNConfig(dim=D), BRANCHES, {"ids": "none", "content": "mmgcn", "modality_dim": 256, "item_graph": "none"}),
    "mario": (
        MARIO,
        MARIOConfig(dim=D, backbone="lightgcn", num_layers=2),
        {**SAME, "encoders": "content", "fuse.": "fuse_item.", "decode.": "preserve."},
        {"content": "perceptron", "fusion": "modality_aware", "item_graph": "none", "preserve_weight": 0.1, "unit_features": True},
    ),
    "mcptr": (
        MCPTR,
        MCPTRConfig(dim=D, neighbors=3),
        {**SAME, "project.{m}.": "content.{m}.project.", "fuse_item": "fuse_item"},
        {"ids": "mcptr", "content": "linear", "fusion": "self_attention", "item_graph": "none", "neighbors": 3},
    ),
}


@pytest.mark.parametrize("name", POINTS)
def test_points_of_the_space_score_as_the_papers_own_files(name: str) -> None:
    paper, config, names, settings = POINTS[name]
    expanded = {old.format(m=m): new.format(m=m) for old, new in names.items() for m in range(2)}
    (theirs, their_graph), (ours, our_graph) = paired(paper, config, expanded, **settings)
    torch.testing.assert_close(score_all(ours, our_graph), score_all(theirs, their_graph), rtol=1e-5, atol=1e-6)
    pairs = torch.randint(0, I, (U, 3), generator=torch.Generator().manual_seed(0))
    query = UserQuery(torch.arange(U))
    with torch.no_grad():
        actual, expected = (m.score(m.encode(g), query, pairs) for m, g in ((ours, our_graph), (theirs, their_graph)))
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_hcgcns_user_item_part_is_a_point() -> None:
    dataset, _ = checkerboard(U, I)
    graph = toy_graph(dataset)
    config = HCGCNConfig(dim=D, num_clusters=3, init_std=0.1)
    theirs = HCGCN(graph.schema, config)
    ours = GraphFusion(graph.schema, GraphFusionConfig(dim=D, ids="hcgcn", num_clusters=3, item_graph="none"))
    ours.users.data, ours.items.data = theirs.users.data, theirs.items.data
    ours.ids.load_state_dict(theirs.encoder.state_dict())
    expected = theirs.encoder(type(graph.bipartite.degree)(theirs.users, theirs.items), graph.bipartite)
    encoded = ours.encode(graph)
    torch.testing.assert_close(encoded["user"], expected.user)
    torch.testing.assert_close(encoded["item"], expected.item)


COMBINATIONS: list[dict[str, Any]] = [
    {"ids": ids, "content": content, "fusion": fusion, "item_graph": item_graph}
    for ids, content, fusion, item_graph in [
        ("light", "light", "gate", "frozen"),
        ("light", {"image": "mgat", "text": "mmgcn"}, "attention", "none"),
        ("hcgcn", "hcgcn", "concat", "frozen"),
        ("mcptr", "mcptr", "self_attention", "none"),
        ("light", "perceptron", "modality_aware", "frozen"),
        ("mf", {"text": "linear"}, "sum", "frozen"),
        ("none", "mgat", "mean", "frozen"),
        ("light", "linear", "co_attention", "none"),
        ("light", "linear", "cross_stitch", "none"),
        ("light", "linear", "multi_order", "none"),
    ]
]
COMBINATIONS += [
    {"ids": "self_loops", "item_graph": "learned", "content": "linear", "fusion": "attention"},
    {"decoder": "bilinear", "content": "light"},
    {"decoder": "mlp", "item_unit": True},
    {"content": "linear", "preserve_weight": 0.1, "contrast_weight": 0.1},
    {"ids": "hcgcn", "cluster_weight": 0.1},
    {"edge_dropout": 0.3},
]


@pytest.mark.parametrize("model_class", [GraphFusion])
@pytest.mark.parametrize("combination", COMBINATIONS, ids=lambda c: "-".join(map(str, c.values())))
class TestCombinations(RecommenderContract):
    """The whole contract, for every combination."""

    @pytest.fixture(autouse=True)
    def _settings(self, combination: dict[str, Any]) -> None:
        type(self).settings = {
            GraphFusion: {"dim": 16, "knn": 4, "neighbors": U, **combination}
        }  # all neighbours: no ties to break


def test_parts_by_object_take_the_place_of_named_ones() -> None:
    graph = toy_graph()

    class Doubled(nn.Module):
        def forward(self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None) -> Tensor:
            return 2 * SumFusion()(tokens, mask)

    config = GraphFusionConfig(dim=D, content="linear", fusion="sum", item_graph="none")
    parts = Parts(ids=LightPropagation(1), content={"image": ContentEncoder(6, D, num_layers=2)}, fuse_item=Doubled())
    torch.manual_seed(0)
    model = GraphFusion(graph.schema, config, parts)
    with torch.no_grad():
        encoded, views = model.encode(graph), model._views(graph)
    hidden = views.item[1] * graph.features["image"].present[:, None]
    torch.testing.assert_close(encoded["item"], 2 * (views.item[0] + hidden + views.item[2]))
    assert model.ids is parts.ids
    assert model.content[0] is parts.content["image"]
    assert isinstance(model.content[1], ContentEncoder)


def test_weighted_terms_appear_and_lower_themselves() -> None:
    dataset, _ = checkerboard(U, I)
    graph = toy_graph(dataset)
    settings = {"ids": "hcgcn", "content": "linear", "preserve_weight": 1.0, "contrast_weight": 1.0, "cluster_weight": 1.0}
    torch.manual_seed(0)
    model = GraphFusion(graph.schema, GraphFusionConfig(dim=16, knn=4, **settings))
    graph = model.prepare(graph)
    batch = training_batch(dataset.interactions, torch.Generator().manual_seed(0))
    before = model.loss(graph, batch)
    assert list(before) == ["bpr", "l2", "preserve", "contrast", "cluster"]
    train(model, graph, dataset.interactions, epochs=40)
    after = model.loss(graph, batch)
    assert all(bool(after[name] < before[name]) for name in ("bpr", "preserve", "contrast", "cluster"))


def test_softmax_finds_the_positive_among_the_items_of_the_batch() -> None:
    dataset, _ = checkerboard(U, I)
    graph = toy_graph(dataset)
    torch.manual_seed(0)
    model = GraphFusion(graph.schema, GraphFusionConfig(dim=D, knn=4, ranking="softmax", l2=0.0))
    graph = model.prepare(graph)
    batch = Batch(UserQuery(torch.tensor([0, 1, 2])), torch.tensor([5, 3, 5]), torch.tensor([[7], [8], [9]]))
    vectors = {name: vector.double() for name, vector in model.encode(graph).items()}
    logits = vectors["user"][:3] @ vectors["item"][[3, 5]].T  # every item of the batch once
    expected = -logits.log_softmax(1)[[0, 1, 2], [1, 0, 1]].mean()
    terms = model.loss(graph, batch)
    assert list(terms) == ["softmax"]
    torch.testing.assert_close(terms["softmax"].double(), expected, rtol=1e-5, atol=1e-6)


def test_context_fusion_hears_other_views_from_the_second_step_on() -> None:
    """Its factor begins at zero: what it scales has no gradient at first, so it is none of the combinations above."""
    dataset, _ = checkerboard(U, I)
    graph = toy_graph(dataset)
    torch.manual_seed(0)
    model = GraphFusion(graph.schema, GraphFusionConfig(dim=8, content="linear", fusion="context", item_graph="none"))
    train(model, graph, dataset.interactions, epochs=1)
    terms = model.train().loss(graph, training_batch(dataset.interactions, torch.Generator().manual_seed(0)))
    model.zero_grad()
    torch.stack(list(terms.values())).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


def test_contrast_is_the_mean_over_modalities_of_symmetric_info_nce_over_items_that_have_both() -> None:
    dataset, _ = checkerboard(U, I)
    graph = toy_graph(with_mask(dataset, "text", torch.tensor([2, 8])))
    torch.manual_seed(0)
    model = GraphFusion(graph.schema, GraphFusionConfig(dim=D, content="linear", item_graph="none", contrast_weight=1.0))
    views, rows = model._views(graph), torch.tensor([0, 2, 3, 5])  # item 2 has no text, item 3 no image
    batch = Batch(UserQuery(torch.zeros(5, dtype=torch.long)), torch.tensor([5, 0, 3, 2, 0]), torch.ones(5, 1, dtype=torch.long))
    expected = 0.0
    for column, items in ((1, [0, 2, 5]), (2, [0, 3, 5])):
        x, y = (torch.nn.functional.normalize(views.item[c][items].double()) for c in (0, column))
        logits = x @ y.T / 0.2
        expected += sum(-table.log_softmax(1).diagonal().mean() for table in (logits, logits.T)) / 4
    assert set(batch.positive.tolist()) == set(rows.tolist())  # an item that the batch has twice counts once
    torch.testing.assert_close(model.loss(graph, batch)["contrast"].double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ids": "gat"}, "ids must be one of 'none', 'mf', 'light', 'self_loops', 'hcgcn', 'mcptr'"),
        ({"content": {"image": "gat"}}, r"content\['image'\] must be one of"),
        ({"fusion": "max"}, "fusion must be one of"),
        ({"decoder": "gru"}, "decoder must be one of"),
        ({"fusion": "modality_aware", "decoder": "mlp"}, "modality_aware fusion scores by the inner product, but decoder is 'mlp'"),
        ({"ranking": "hinge"}, "ranking must be one of 'bpr', 'softmax'"),
        ({"fusion": "modality_aware", "ranking": "softmax"}, "modality_aware fusion looks at single pairs"),
        ({"edge_dropout": 1.0}, "edge_dropout must be at least 0 and less than 1"),
        ({"cluster_weight": 0.1}, "cluster_weight needs clusters, but ids is 'light'"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GraphFusionConfig(**settings)


def test_parts_that_do_not_fit_are_refused() -> None:
    schema = toy_graph().schema
    with pytest.raises(ValueError, match="nobody speaks for the users"):
        GraphFusion(schema, GraphFusionConfig(ids="none", content="linear"))
    with pytest.raises(ValueError, match="content names 'sound', but the modalities of the items are 'image', 'text'"):
        GraphFusion(schema, GraphFusionConfig(content={"sound": "light"}))
