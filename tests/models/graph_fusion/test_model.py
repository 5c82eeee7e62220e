"""GraphFusion: points of the space score as the papers' own files do; every combination keeps the contract's promises."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.freedom import FREEDOM, FREEDOMConfig
from gmmrec.models.graph_fusion import GraphFusion, GraphFusionConfig
from gmmrec.models.hcgcn import HCGCN, HCGCNConfig
from gmmrec.models.lattice import LATTICE, LATTICEConfig
from gmmrec.models.lightgcn import LightGCN, LightGCNConfig
from gmmrec.models.mario import MARIO, MARIOConfig
from gmmrec.models.mcptr import MCPTR, MCPTRConfig
from gmmrec.models.mgat import MGAT, MGATConfig
from gmmrec.models.mmgcn import MMGCN, MMGCNConfig
from gmmrec.nn.fusion.behaviour_aware import BehaviourAwareFusion
from gmmrec.nn.fusion.co_attention import CoAttention
from gmmrec.nn.fusion.co_transformer import CoTransformerLayer
from gmmrec.nn.fusion.correlation import CorrelationAwareFusion
from gmmrec.nn.fusion.cross_modal import CrossModalFusion
from gmmrec.nn.fusion.multi_level import MEncoder
from gmmrec.nn.fusion.mutual import MutualAttentionFusion
from gmmrec.nn.fusion.personalised import PersonalisedAttention
from gmmrec.nn.fusion.prefix import PrefixGuidedAttention
from gmmrec.nn.fusion.set_attention import SetAttention
from gmmrec.nn.fusion.side import SideFusion
from gmmrec.nn.masked import hide_missing, masked_mean
from gmmrec.recommender import AnyRecommender
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.testing import (
    I,
    RecommenderContract,
    U,
    checkerboard,
    score_all,
    share_ordered,
    toy_graph,
    train,
    training_batch,
    with_mask,
)

Model = AnyRecommender
Call = Callable[[nn.Module, Tensor, Tensor], Any]
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


@pytest.mark.parametrize("fusion", ["mean", "modality_aware"])
def test_cold_items_are_fused_from_their_features_alone(fusion: str) -> None:
    dataset, _ = checkerboard(U, I)
    cold = 4  # all features of item 4 are there
    warm = dataset.interactions.take(torch.nonzero(dataset.interactions.item != cold).flatten())
    graph = toy_graph(replace(dataset, interactions=warm))
    torch.manual_seed(0)
    settings = {"ids": "mf", "content": "linear", "fusion": fusion, "item_graph": "none", "dim": D}
    model = GraphFusion(graph.schema, GraphFusionConfig(**settings)).eval()
    graph = model.prepare(graph)
    with torch.no_grad():
        before = model.encode(graph)["item"]
        expected = sum(encoder(graph.features[name].unit) for name, encoder in zip(model.kinds, model.content, strict=True)) / 2
        torch.testing.assert_close(before[cold], expected[cold])
        model.items += 1.0
        after = model.encode(graph)["item"]
    assert torch.equal(after[cold], before[cold])  # its untrained ID is no view
    others = torch.arange(I) != cold
    assert bool((after[others] != before[others]).any(1).all())


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
        ("light", "linear", "vision_language", "none"),
        ("light", "linear", "context", "none"),
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


@pytest.mark.parametrize(
    "settings",
    [{"dim": 16, "knn": 4, "neighbors": U, **combination} for combination in COMBINATIONS],  # all neighbours: no ties to break
    ids=["-".join(map(str, combination.values())) for combination in COMBINATIONS],
)
class TestCombinations(RecommenderContract):
    """The whole contract, for every combination."""

    model_class = GraphFusion

    @pytest.fixture(autouse=True)
    def _chosen(self, settings: dict[str, Any]) -> None:
        self.combination = settings

    def folds_in_users(self, model_class: type[AnyRecommender]) -> bool:
        """Vectors of users must come out of interactions with items."""
        settings = {"content": "none", **self.combination}
        return settings.get("ids") not in ("mf", "mcptr") or settings["content"] not in ("mcptr", {"text": "linear"})


class ByHand(nn.Module):
    """A fusion of another signature in a place that is called with tokens and mask; tokens that come back are averaged."""

    def __init__(self, fuse: nn.Module, call: Call) -> None:
        super().__init__()
        self.fuse, self.call = fuse, call

    def forward(self, tokens: Tensor, mask: Tensor, query: Tensor | None = None) -> Tensor:
        made = self.call(self.fuse, tokens, mask)
        return made if made.dim() == 2 else masked_mean(made, mask[:, -made.shape[1] :])


def cut(fuse: nn.Module, x: Tensor, mask: Tensor) -> Any:
    """The ID view reads the modalities, and they read it."""
    return fuse(x[:, :1], x[:, 1:], mask[:, :1], mask[:, 1:])


def ask(fuse: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    """The ID view asks, the modalities are what is asked."""
    found: Tensor = fuse(x[:, 1:], mask[:, 1:], hide_missing(x[:, 0], mask[:, 0]))
    return found


BY_HAND: dict[str, tuple[Callable[[], nn.Module], Call]] = {
    "cross_modal": (lambda: CrossModalFusion(D, D, left_head_dim=D // 4, right_head_dim=D // 4, residual=True), cut),
    "co_attention": (lambda: CoAttention(D), lambda *given: sum(cut(*given))),
    "mutual": (lambda: MutualAttentionFusion(D), lambda *given: sum(cut(*given))),
    "co_transformer": (lambda: CoTransformerLayer(D, D, num_heads=2), lambda *given: torch.cat(cut(*given), 1)),
    "multi_level": (lambda: MEncoder(D, 2, num_layers=2), lambda *given: torch.cat(cut(*given), 1)),
    "prefix": (lambda: PrefixGuidedAttention(D, 2), lambda fuse, x, m: fuse(x[:, 1:], m[:, 1:], x[:, :1], m[:, :1])),
    "correlation": (lambda: CorrelationAwareFusion(D), lambda fuse, x, m: fuse(x, m, x[:, 1:], m[:, 1:])),
    "set_attention": (lambda: SetAttention(D, num_heads=2, hides=False), lambda fuse, x, m: fuse(x, m)),
    "personalised": (lambda: PersonalisedAttention(D), ask),
    "behaviour_aware": (lambda: BehaviourAwareFusion(D, 2), ask),
    "side": (lambda: SideFusion(D, 2), ask),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_fusions_of_other_signatures_plug_in_by_hand(name: str) -> None:
    dataset, expected = checkerboard(U, I)
    dataset = with_mask(with_mask(dataset, "text", torch.tensor([2, 5, 8])), "image", torch.tensor([3, 5]))
    graph = toy_graph(dataset)
    torch.manual_seed(0)
    build, call = BY_HAND[name]
    fuse, config = ByHand(build(), call), GraphFusionConfig(dim=D, content="linear", item_graph="none")
    model = GraphFusion(graph.schema, config, {"fusion": lambda dim, num_tokens: fuse}).eval()
    views = model._views(graph)
    torch.testing.assert_close(model.encode(graph)["item"], fuse(torch.stack(views.item, 1), views.present))

    present = views.present.clone()
    present[4, 0] = False
    tokens = torch.stack(views.item, 1).detach().masked_fill(~present[..., None], torch.nan).requires_grad_()
    fused = fuse(tokens, present)
    (fused * torch.randn_like(fused)).sum().backward()
    assert tokens.grad is not None
    assert bool(torch.isfinite(fused).all())
    assert not bool(tokens.grad[~present].any())
    assert bool(tokens.grad[present.all(1)].any(-1).all())

    train(model, graph, dataset.interactions, epochs=30)
    assert share_ordered(score_all(model, graph), expected) > 0.95


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
        ({"fusion": "modality_aware", "ranking": "softmax"}, "modality_aware fusion scores single pairs"),
        ({"edge_dropout": 1.0}, "edge_dropout must be at least 0 and less than 1"),
        ({"cluster_weight": 0.1}, "cluster_weight needs clusters, but ids is 'light'"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GraphFusionConfig(**settings)


def test_parts_that_do_not_fit_are_refused() -> None:
    schema = toy_graph().schema
    with pytest.raises(ValueError, match="no view provides user vectors"):
        GraphFusion(schema, GraphFusionConfig(ids="none", content="linear"))
    with pytest.raises(ValueError, match="content names 'sound', but the modalities of the items are 'image', 'text'"):
        GraphFusion(schema, GraphFusionConfig(content={"sound": "light"}))
