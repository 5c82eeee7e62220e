import copy
import io
import math
from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor

import gmmrec
from gmmrec.data.triples import Triples
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.evaluation.kinds import evaluate_task
from gmmrec.evaluation.settings import EvalConfig
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.mkgformer import MKGformer, MKGformerConfig
from gmmrec.tasks.inputs import BatchConfig, TaskInputs
from gmmrec.tasks.link_prediction import LinkPredictionTask
from gmmrec.tasks.query import LinkPredictionQuery
from gmmrec.testing import checkerboard, circle, graph_of, without

N = 12
SMALL = {"dim": 8, "num_heads": 2, "fusion_layers": 2, "dropout": 0.0, "init_std": 0.3}


def build(dataset=None, seed: int = 0, **settings) -> tuple[MKGformer, MultimodalGraph, LinkPredictionTask]:
    split, graph = graph_of(dataset or circle(N))
    torch.manual_seed(seed)
    model = MKGformer(graph.schema, MKGformerConfig(**{**SMALL, **settings})).eval()
    return model, model.prepare(graph), LinkPredictionTask(TaskInputs(split, 0, 0, BatchConfig(batch_size=100)))


def batch_of(task: LinkPredictionTask, graph: MultimodalGraph):
    ((_, batch),) = list(task.batches(graph, torch.Generator().manual_seed(0)))
    return batch


def train(model: MKGformer, graph: MultimodalGraph, task: LinkPredictionTask, steps: int = 60, lr: float = 0.02) -> list[float]:
    torch.manual_seed(1)
    batch, losses = batch_of(task, graph), []
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.stack(list(model.loss(graph, batch).values())).sum()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    model.eval()
    return losses


def all_queries() -> LinkPredictionQuery:
    return LinkPredictionQuery(torch.arange(N).repeat(4), torch.arange(4).repeat_interleave(N))


def score_all(model: MKGformer, graph: MultimodalGraph) -> Tensor:
    with torch.no_grad():
        return model.score(model.encode(graph), all_queries(), torch.arange(N))


# Invariants; those of the fusion itself are in tests/nn/fusion/test_multi_level.py


def test_sentence_is_entity_text_relation_and_mask() -> None:
    model, graph, _ = build()
    seen = []
    model.fuse.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0].shape, output[1].shape)))
    assert score_all(model, graph).shape == (4 * N, N)
    assert seen == [((4 * N, 1 + 1 + 3 + 2, 8), (4 * N, 2, 8))]  # a name, three words; two regions


def test_masked_values_are_never_read() -> None:
    scores = []
    for hidden in (0.0, 1000.0):
        model, graph, task = build()
        data = copy.copy(graph.data)
        for name in ("name", "words", "image"):  # written after the tables were validated
            data["entity"][name] = data["entity"][name].masked_fill(~data["entity"][f"{name}_mask"][..., None], hidden)
        graph = MultimodalGraph(data, graph.schema)
        train(model, graph, task, steps=2)
        scores.append(score_all(model, graph))
    assert torch.equal(*scores)


@pytest.mark.parametrize("name", ["image", "words"])
def test_more_padding_changes_nothing(name: str) -> None:
    dataset = circle(N)
    table = dataset.features[name]
    values = torch.cat([table.values, torch.zeros_like(table.values[:, :1])], 1)
    padded = replace(table, values=values, mask=torch.cat([table.mask, torch.zeros_like(table.mask[:, :1])], 1))
    model, graph, _ = build(dataset)
    other = graph_of(replace(dataset, features={**dataset.features, name: padded}))[1]
    torch.testing.assert_close(score_all(model, other), score_all(model, graph))


def test_scores_are_invariant_to_the_order_of_regions_but_not_of_words() -> None:
    dataset = circle(N)
    model, graph, _ = build(dataset)

    def reversed_scores(name: str) -> Tensor:
        table = dataset.features[name]
        other = replace(table, values=table.values.flip(1), mask=table.mask.flip(1))
        return score_all(model, graph_of(replace(dataset, features={**dataset.features, name: other}))[1])

    torch.testing.assert_close(reversed_scores("image"), score_all(model, graph), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(reversed_scores("words"), score_all(model, graph), atol=1e-3)


def test_without_fine_fusion_no_image_is_read() -> None:
    dataset = circle(N)
    model, graph, _ = build(dataset, use_caf=False)
    assert model.fuse is None
    blind = graph_of(without(dataset, "image"))[1]
    assert torch.equal(score_all(model, blind), score_all(model, graph))
    seeing, graph, _ = build(dataset)
    assert not torch.allclose(score_all(seeing, blind), score_all(seeing, graph))


def test_scores_cover_all_entities_and_training_triples_rank_first() -> None:
    model, graph, task = build(stage="links", objective="softmax", label_smoothing=0.0)
    losses = train(model, graph, task, steps=150)
    assert losses[-1] < 0.5 * losses[0]
    assert score_all(model, graph).shape == (4 * N, N)
    metrics = evaluate_task(model, graph, task.evaluation_tasks("valid")["link_prediction"], EvalConfig(bootstrap=0)).mean()
    batch = batch_of(task, graph)
    best = score_all(model, graph)[batch.query.relation * N + batch.query.head].argmax(1)
    assert float((best == batch.positive).float().mean()) == 1.0
    assert metrics["mean_rank"] < N / 2  # text and images encode positions on the circle


# The paper's equations


def test_scores_match_a_manual_forward_pass() -> None:
    model, graph, _ = build(vision_layers=0, text_layers=1, fusion_layers=1)
    model.double()
    data = copy.copy(graph.data)
    head, relation = 5, 3
    p = {name: value.detach() for name, value in model.named_parameters()}
    kinds, e = p["kinds"], p["entities"]

    def token(name: str, encoder: torch.nn.Module, kind: int, row: int) -> list[Tensor]:
        values = data["entity"][name][head].double().view(-1, data["entity"][name].shape[-1])
        linear = encoder.project
        return [linear(x / x.norm()) + (kinds[kind] + p["positions"][i] if kind else 0) for i, x in enumerate(values)]

    text = [e[head] + kinds[0], *token("name", model.read_text[0], 3, head), *token("words", model.read_text[1], 4, head)]
    text = model.text_norm(torch.stack([*text, p["relations"][relation] + kinds[1], p["mask"][0] + kinds[2]]))[None]
    layer = model.text_layers[0]
    prefix = layer.keys_and_values(text)
    text, _ = layer(text)
    vision = model.vision_norm(torch.stack(token("image", model.read_pictures[0], 0, head)))[None]
    words, _ = model.fuse(text, vision, prefix=prefix)
    hidden = model.answer[0](words[0, -1])
    hidden = model.answer[2](0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2))))
    expected = e @ hidden + p["offsets"]
    graph = MultimodalGraph(data, graph.schema)
    features = {name: replace_values(table) for name, table in graph.features.items()}
    graph.__dict__["features"] = features
    actual = model.score(model.encode(graph), LinkPredictionQuery(torch.tensor([head]), torch.tensor([relation])), torch.arange(N))
    torch.testing.assert_close(actual[0], expected, rtol=1e-5, atol=1e-6)


def replace_values(table):
    """Copy a table with values in float64."""
    double = copy.copy(table)
    object.__setattr__(double, "values", table.values.double())
    return double


def test_objectives_and_stages_match_their_definitions() -> None:
    dataset = circle(N)
    for objective in ("bce", "softmax"):
        model, graph, task = build(dataset, objective=objective, label_smoothing=0.0, entity_weight=0.5)
        batch = batch_of(task, graph)
        terms = model.loss(graph, batch)
        scores = model.score(model.encode(graph), batch.query, torch.arange(N))
        if objective == "softmax":
            expected = -scores.log_softmax(1)[torch.arange(len(batch)), batch.positive].mean()
        else:
            labels = torch.zeros(len(batch), N)
            for row, entity in batch.answers.tolist():
                labels[row, entity] = 1
            p = torch.sigmoid(scores)
            expected = -(labels * p.log() + (1 - labels) * (1 - p).log()).mean()
        torch.testing.assert_close(terms["links"], expected)
        assert set(terms) == {"links", "entities"}
        alone = MKGformer(graph.schema, replace(model.config, stage="entities"))
        alone.load_state_dict(model.state_dict())
        (entity_loss,) = alone.eval().loss(graph, batch).values()
        torch.testing.assert_close(terms["entities"], 0.5 * entity_loss)
        links = MKGformer(graph.schema, replace(model.config, stage="links"))
        assert set(links.loss(graph, batch)) == {"links"}


def smoothed(logits: Tensor, answer: int, smoothing: float) -> Tensor:
    """Cross-entropy with the share ``smoothing`` of the target spread over all entities."""
    target = torch.full((N,), smoothing / N)
    target[answer] += 1 - smoothing
    return -(target * logits.log_softmax(0)).sum()


def test_every_cross_entropy_is_smoothed() -> None:
    model, graph, task = build(objective="softmax", label_smoothing=0.3, entity_weight=0.5)
    batch = batch_of(task, graph)
    terms = model.loss(graph, batch)
    scores = model.score(model.encode(graph), batch.query, torch.arange(N))
    links = [smoothed(row, answer, 0.3) for row, answer in zip(scores, batch.positive.tolist(), strict=True)]
    torch.testing.assert_close(terms["links"], torch.stack(links).mean())
    torch.testing.assert_close(terms["entities"], 0.5 * entity_loss(model, graph, batch.query.head.unique(), 0.3))


def entity_loss(model: MKGformer, graph: MultimodalGraph, entities: Tensor, smoothing: float) -> Tensor:
    """Mean loss of describing entities, one at a time."""
    encoded, losses = model.encode(graph), []
    for row in entities.split(1):
        state = model._describe(1, encoded.text.at(row), encoded.pictures.at(row))[0]
        losses.append(smoothed(encoded["entity"] @ state + encoded.offset, int(row), smoothing))
    return torch.stack(losses).mean()


def test_an_entity_is_described_by_text_or_pictures() -> None:
    dataset, features = circle(N), {}
    for name, table in dataset.features.items():  # 2 has no text, 3 no picture, 4 neither
        gone = torch.tensor([3, 4] if name == "image" else [2, 4])
        mask, values = table.mask.clone(), table.values.clone()
        mask[gone], values[gone] = False, 0.0
        features[name] = replace(table, mask=mask, values=values)
    model, graph, task = build(replace(dataset, features=features), stage="entities", label_smoothing=0.1)
    batch = batch_of(task, graph)
    assert {2, 3, 4} < set(batch.query.head.tolist())
    rows = batch.query.head.unique()
    torch.testing.assert_close(model.loss(graph, batch)["entities"], entity_loss(model, graph, rows[rows != 4], 0.1))


def test_first_stage_learns_entities_from_descriptions() -> None:
    model, graph, task = build(stage="entities", label_smoothing=0.0)
    train(model, graph, task, steps=150)
    batch = batch_of(task, graph)
    with torch.no_grad():
        (loss,) = model.loss(graph, batch).values()
    assert float(loss) < 0.1


def test_second_stage_continues_the_first(tmp_path) -> None:
    settings = {**SMALL, "epochs": 2, "progress": False, "bootstrap": 0}
    first = gmmrec.fit(circle(N), "mkgformer", out=tmp_path / "first", stage="entities", **settings)
    model, _, _ = build(stage="links")
    assert model.start_from(first.model)
    assert torch.equal(model.entities, first.model.entities)
    second = gmmrec.fit(circle(N), "mkgformer", init_from=tmp_path / "first", stage="links", lr=1e-9, **settings)
    torch.testing.assert_close(second.model.entities, first.model.entities, atol=1e-6, rtol=0)
    other, _, _ = build(dim=4)
    with pytest.raises(ValueError, match="other sizes, layers or modalities"):
        other.start_from(first.model)


# The contract, for a model that ranks entities


@pytest.mark.parametrize("stage", ["joint", "links"])
def test_gradients_reach_every_parameter(stage) -> None:
    model, graph, task = build(stage=stage, max_tokens=3)
    batch = batch_of(task, graph)
    torch.stack(list(model.train().loss(graph, batch).values())).sum().backward()
    unreached = {name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())}
    assert {name for name in unreached if not name.startswith(("fuse.vision", "fuse.text"))} == set()
    assert all(name.endswith(("key.bias",)) for name in unreached), unreached


def test_same_seed_same_scores() -> None:
    def run() -> Tensor:
        model, graph, task = build(seed=7, dropout=0.2)
        train(model, graph, task, steps=3)
        return score_all(model, graph)

    assert torch.equal(run(), run())


def test_scores_are_the_same_in_chunks_and_per_query() -> None:
    model, graph, _ = build()
    query, whole = all_queries(), score_all(model, graph)
    with torch.no_grad():
        encoded = model.encode(graph)
        parts = [model.score(encoded, query, part) for part in torch.arange(N).split(5)]
        candidates = torch.stack([torch.randperm(N, generator=torch.Generator().manual_seed(i))[:4] for i in range(len(query))])
        alone = model.score(encoded, query.take(torch.tensor([17])), torch.arange(N))
        torch.testing.assert_close(model.score(encoded, query, candidates), whole.gather(1, candidates))
    torch.testing.assert_close(torch.cat(parts, 1), whole)
    torch.testing.assert_close(alone, whole[[17]])


def test_schema_config_and_weights_rebuild_the_model() -> None:
    model, graph, task = build()
    train(model, graph, task, steps=2)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    torch.manual_seed(99)
    rebuilt = MKGformer(model.schema, MKGformerConfig(**asdict(model.config)))
    rebuilt.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(score_all(rebuilt.eval(), graph), score_all(model, graph))


@pytest.mark.parametrize("missing", [("image",), ("name", "words"), ("image", "name", "words")], ids="+".join)
@pytest.mark.parametrize("dropped", [True, False], ids=["no column", "missing everywhere"])
def test_missing_modalities_are_accepted(missing, dropped) -> None:
    dataset = without(circle(N), *missing)
    if dropped:
        dataset = replace(dataset, features={name: table for name, table in dataset.features.items() if name not in missing})
    model, graph, task = build(dataset)
    train(model, graph, task, steps=2)
    assert bool(torch.isfinite(score_all(model, graph)).all())
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


def test_held_out_triples_do_not_leak() -> None:
    dataset = circle(N)
    scores = []
    for part in (dataset.triples.part, dataset.triples.part):
        triples = replace(
            dataset.triples, tail=torch.where(part > 0, (dataset.triples.tail + len(scores)) % N, dataset.triples.tail)
        )
        model, graph, task = build(replace(dataset, triples=triples))
        train(model, graph, task, steps=2)
        scores.append(score_all(model, graph))
    assert torch.equal(*scores)


def test_permuting_entities_permutes_scores() -> None:
    dataset = circle(N)
    new = torch.randperm(N, generator=torch.Generator().manual_seed(3))  # old row -> new row
    old = torch.argsort(new)
    triples = dataset.triples
    moved = replace(
        dataset,
        triples=Triples(new[triples.head], triples.relation, new[triples.tail], triples.part),
        features={name: replace(t, values=t.values[old], mask=t.mask[old]) for name, t in dataset.features.items()},
        vocabularies={**dataset.vocabularies, "entity": Vocabulary([f"e{i}" for i in old.tolist()], name="entity")},
    )
    model, graph, _ = build(dataset)
    other, other_graph, _ = build(moved)
    state = model.state_dict()
    other.load_state_dict({**state, "entities": state["entities"][old], "offsets": state["offsets"][old]})
    actual = score_all(other, other_graph).view(4, N, N)[:, new][:, :, new]
    torch.testing.assert_close(actual, score_all(model, graph).view(4, N, N), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 0}, "dim must be greater than 0"),
        ({"dim": 6, "num_heads": 4}, "num_heads must divide dim"),
        ({"stage": "third"}, "stage must be one of"),
        ({"objective": "hinge"}, "objective must be one of"),
        ({"label_smoothing": 2.0}, "label_smoothing must lie between"),
    ],
    ids=str,
)
def test_invalid_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        MKGformerConfig(**settings)


def test_invalid_data_is_refused() -> None:
    with pytest.raises(ValueError, match="the modalities of the entities are 'name', 'words', 'image'"):
        build(pictures=("photos",))
    with pytest.raises(ValueError, match="learns from descriptions of entities, but there are none"):
        build(replace(circle(N), features={}), stage="entities")
    toys, _ = checkerboard()
    with pytest.raises(ValueError, match="the data set has no training triples"):
        gmmrec.fit(toys, "mkgformer")
    with pytest.raises(ValueError, match="MKGformer needs triples"):
        MKGformer(gmmrec.build_graph(toys, gmmrec.split_dataset(toys)).schema)
