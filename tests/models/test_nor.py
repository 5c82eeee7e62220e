"""NOR against a reference implementation, pair by pair and word by word, and its invariants."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.data.interactions import Interactions
from gmmrec.data.outfits import Outfits
from gmmrec.data.ragged import RaggedLists
from gmmrec.data.reviews import Reviews
from gmmrec.data.split import Split
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.graph.build import build_graph
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.nor import NOR, UNKNOWN, NORConfig
from gmmrec.tasks.inputs import TaskInputs
from gmmrec.tasks.outfit import OutfitTask
from gmmrec.tasks.query import Batch, OutfitQuery

I, T, W = 11, 4, 6  # noqa: E741
WORDS = ("", "<unknown>", "a", "blue", "red", "shirt", "skirt")
ALL = [{}, {"use_ids": True}, {"mutual": False}, {"share": True, "unit_features": False}]


def toy(*, seed: int = 0, text: bool = True, pad: float = 0.0) -> MultimodalGraph:
    """Items with 2 x 2 regions, some of them missing, and an image vector; item 0 has neither, item 1 no regions."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(I, T, generator=generator) < 0.8
    mask[:2], mask[2:4] = False, True
    regions = torch.randn(I, T, 5, generator=generator).masked_fill(~mask[..., None], pad)
    features = {
        "regions": FeatureTable("regions", regions, mask),
        "image": FeatureTable("image", torch.randn(I, 3, generator=generator), torch.arange(I) > 0),
    }
    vocabularies = {"user": Vocabulary(["anna"], name="user"), "item": Vocabulary(range(I), name="item")}
    log = Interactions(torch.zeros(I, dtype=torch.long), torch.arange(I))
    reviews = Reviews(torch.zeros(0, W, dtype=torch.int32), WORDS) if text else None
    every = torch.arange(2, len(WORDS)).repeat(2)[None]  # twice, so that all are known
    outfits = Outfits(RaggedLists.from_sequences([torch.tensor([0, 1])]), torch.zeros(1, dtype=torch.long), text=every)
    return build_graph(Dataset("toy", vocabularies, log, features, reviews=reviews), Split(log, log, log, outfits=outfits))


def build(graph: MultimodalGraph, **settings: object) -> NOR:
    torch.manual_seed(0)
    model = NOR(graph.schema, NORConfig(**{"dim": 6, "attention_hidden": 5, "word_dim": 3, "state_dim": 4, **settings}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.6)
    return model.double().eval()


def double(graph: MultimodalGraph) -> MultimodalGraph:
    """Cast feature tables to float64, so that both implementations compute in float64."""
    for table in graph.features.values():
        object.__setattr__(table, "values", table.values.double())
    return graph


def outfits() -> OutfitQuery:
    """Outfits of two, one, three and no garments."""
    rows = torch.tensor([[2, 5, 0], [7, 0, 0], [3, 0, 4], [9, 9, 9]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]]).bool()
    return OutfitQuery(torch.full((4,), -1), rows, mask)


def a_batch() -> Batch[OutfitQuery]:
    text = torch.tensor([[2, 3, 5, 0], [0, 0, 0, 0], [4, 6, 2, 3], [0, 0, 0, 0]], dtype=torch.int32)
    negative = torch.tensor([[1, 0], [2, 3], [8, 9], [4, 5]])
    return Batch(outfits(), torch.tensor([6, 10, 1, 8]), negative, text=text)


class Slow:
    """Reference implementation on single garments."""

    signs = torch.tensor([-1.0, 1.0]).double()

    def __init__(self, model: NOR, graph: MultimodalGraph) -> None:
        self.model, self.graph, self.w = model, graph, dict(model.named_parameters())

    def regions(self, item: int) -> Tensor:
        """Return the present regions ``[n, d]``."""
        rows = []
        for name, encoder in zip(self.model.names, self.model.encoders, strict=True):
            table = self.graph.features[name]
            values, mask = table.values[item].reshape(-1, table.dim), table.mask[item].reshape(-1)
            for value, is_present in zip(values, mask, strict=True):
                if is_present:
                    unit = value / value.norm() if self.model.config.unit_features else value
                    rows.append(encoder.project.weight @ unit + encoder.project.bias)
        return torch.stack(rows) if rows else torch.zeros(0, self.model.config.dim).double()

    def view(self, tokens: Tensor, other: Tensor, side: str) -> tuple[Tensor, Tensor]:
        part = getattr(self.model.fuse, side)
        if not len(tokens):
            return torch.zeros(part.project.out_features).double(), tokens[:, 0]
        guide = other.mean(0) if len(other) else torch.zeros(tokens.shape[1]).double()
        weights = torch.full((len(tokens),), 1 / len(tokens)).double()
        if part.attend:
            e = [part.logit.weight[0] @ torch.tanh(part.token.weight @ f + part.guide.weight @ guide) for f in tokens]
            weights = torch.stack(e).softmax(0)
        c = sum(a * f for a, f in zip(weights, tokens, strict=True))
        return (part.project.weight @ c + part.project.bias).clamp(min=0), weights

    def pair(self, given: int, item: int) -> tuple[Tensor, Tensor]:
        top, bottom = self.regions(given), self.regions(item)
        one, other = self.view(top, bottom, "left")[0], self.view(bottom, top, "right")[0]
        if self.model.config.use_ids:
            one, other = torch.cat([one, self.w["given"][given]]), torch.cat([other, self.w["candidate"][item]])
        return one, other

    def probabilities(self, given: int, item: int) -> Tensor:
        one, other = self.pair(given, item)
        h = self.w["of_given.weight"] @ one + self.w["of_candidate.weight"] @ other + self.w["of_given.bias"]
        return (self.w["relation.weight"] @ h.clamp(min=0) + self.w["relation.bias"]).softmax(0)

    def comment(self, given: list[int], item: int, text: list[int]) -> Tensor:
        """Compute the negative log-likelihood of a text and its end."""
        write = self.model.write
        sources = [torch.cat([self.regions(g) for g in given]), self.regions(item)]
        pairs = [self.pair(g, item) for g in given]
        views = torch.cat([sum(p[side] for p in pairs) / len(pairs) for side in (0, 1)])
        state = torch.tanh(write.start.weight @ views + write.start.bias)
        total, previous = torch.zeros(()).double(), 0
        for word in text:
            contexts, logits = [], []
            for s, f in enumerate(sources):
                if len(f):
                    e = [
                        write.look.logit[s].weight[0]
                        @ torch.tanh(write.look.token[s].weight @ x + write.look.state[s].weight @ state)
                        for x in f
                    ]
                    contexts.append(sum(a * x for a, x in zip(torch.stack(e).softmax(0), f, strict=True)))
                    logits.append(state @ write.look.source.weight.T @ contexts[-1])
            context = sum(b * z for b, z in zip(torch.stack(logits).softmax(0), contexts, strict=True))
            state = write.cell(torch.cat([write.words[previous], context])[None], state[None])[0]
            total = total - (write.output.weight @ state + write.output.bias).log_softmax(0)[word]
            if word == 0:
                break
            previous = word
        return total


def members(query: OutfitQuery) -> list[list[int]]:
    return [row[mask].tolist() for row, mask in zip(query.outfit, query.outfit_mask, strict=True)]


@pytest.mark.parametrize("settings", ALL, ids=str)
def test_scores_match_the_reference(settings) -> None:
    graph = double(toy())
    model, query = build(graph, **settings), outfits()
    slow = Slow(model, graph)
    with torch.no_grad():
        actual = model.score(model.encode(graph), query, torch.arange(I))
        candidates = torch.randperm(I, generator=torch.Generator().manual_seed(1))[:8].view(4, 2)
        torch.testing.assert_close(model.score(model.encode(graph), query, candidates), actual.gather(1, candidates))
        for row, given in zip(actual, members(query), strict=True):
            for item in range(I):
                expected = sum(float(slow.probabilities(g, item).log() @ slow.signs) for g in given) / max(1, len(given))
                assert float(row[item]) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("settings", ALL, ids=str)
def test_losses_and_gradients_match_the_reference(settings) -> None:
    graph = double(toy())
    model, batch = build(graph, comment_weight=0.5, **settings), a_batch()
    slow, matching, comment = Slow(model, graph), torch.zeros(()).double(), torch.zeros(()).double()
    for row, given in enumerate(members(batch.query)):
        for g in given:
            costs = [-slow.probabilities(g, item)[int(n == 0)].log() for n, item in enumerate(batch.candidates[row].tolist())]
            matching = matching + sum(costs) / len(given)
        if given and bool(batch.text[row].any()):
            comment = comment + slow.comment(given, int(batch.positive[row]), batch.text[row].tolist())
    expected = {"matching": matching / 4, "comment": 0.5 * comment / 4}
    terms = model.loss(graph, batch)
    for name in ("matching", "comment"):
        torch.testing.assert_close(terms[name], expected[name])
        gradients, expected_gradients = (
            torch.autograd.grad(term, list(model.parameters()), allow_unused=True, retain_graph=True)
            for term in (terms[name], expected[name])
        )
        for (label, parameter), one, other in zip(model.named_parameters(), gradients, expected_gradients, strict=True):
            zeros = torch.zeros_like(parameter)
            torch.testing.assert_close(
                zeros if one is None else one, zeros if other is None else other, msg=lambda m, label=label: f"{label}: {m}"
            )


def test_probabilities_sum_to_one_and_weights_have_the_right_shapes() -> None:
    graph = toy()
    model, query, items = build(graph).float(), outfits().take(slice(0, 3)), torch.tensor([4, 8, 1])
    encoded = model.encode(graph)
    left = model._side(encoded, query.outfit[:, 0], "given")
    probabilities = model._own_pairs(left, encoded, items[:, None]).softmax(-1)
    assert probabilities.shape == (3, 1, 2)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(3, 1))
    alone = OutfitQuery(query.user, query.outfit[:, :1], query.outfit_mask[:, :1])
    torch.testing.assert_close(model.score(encoded, alone, items[:, None]).sigmoid(), probabilities[..., 1])
    actual = model.attention(encoded, query, items)
    assert {name: tuple(value.shape) for name, value in actual.items()} == {
        "regions": (3, T),
        "image": (3,),
        "user:regions": (3, 3 * T),
        "user:image": (3, 3),
    }


def test_attention_sums_to_one_over_present_tokens() -> None:
    graph = toy()
    model, query, items = build(graph).float(), outfits().take(slice(0, 3)), torch.tensor([4, 8, 3])
    encoded = model.encode(graph)
    actual = model.attention(encoded, query, items)
    regions, image = (graph.features[name].mask for name in ("regions", "image"))
    present = {"regions": regions[items], "image": image[items]}
    present |= {"user:regions": (regions[query.outfit] & query.outfit_mask[..., None]).flatten(1)}
    present |= {"user:image": image[query.outfit] & query.outfit_mask}
    for name, value in actual.items():
        assert bool((value[present[name]] > 0).all())
        assert bool((value[~present[name]] == 0).all())
    torch.testing.assert_close(actual["regions"].sum(1) + actual["image"], torch.ones(3))
    # the third outfit has a garment without any region or image, whose weight of one third is lost
    torch.testing.assert_close(actual["user:regions"].sum(1) + actual["user:image"].sum(1), torch.tensor([1.0, 1.0, 2 / 3]))
    maps = model.image_attention(encoded, query, items, a_batch().text[:3])
    torch.testing.assert_close(maps.sum(2), torch.ones(3, 4))


def test_equal_regions_have_uniform_weights() -> None:
    graph = toy()
    values = graph.features["regions"].values
    values[3] = values[3, :1]
    model = build(graph).float()
    query = OutfitQuery(torch.tensor([-1]), torch.tensor([[3]]), torch.ones(1, 1, dtype=torch.bool))
    weights = model.attention(model.encode(graph), query, torch.tensor([4]))["user:regions"]
    torch.testing.assert_close(weights, weights[:, :1].expand(-1, T))
    assert bool((weights > 0).all())


def test_region_weights_depend_on_the_candidate() -> None:
    graph = toy()
    query = OutfitQuery(torch.full((2,), -1), torch.tensor([[3], [3]]), torch.ones(2, 1, dtype=torch.bool))

    def weights(model: NOR) -> Tensor:
        return model.attention(model.encode(graph), query, torch.tensor([4, 8]))["user:regions"]

    model = build(graph).float()
    one, other = weights(model)
    assert not torch.allclose(one, other)
    with torch.no_grad():
        model.fuse.left.guide.weight.zero_()
    torch.testing.assert_close(*weights(model))
    one, other = weights(build(graph, mutual=False).float())
    assert torch.equal(one, other)
    assert len(one.unique()) == 1


def test_padding_changes_nothing() -> None:
    graph, query = toy(), outfits()
    model = build(graph).float()
    encoded = model.encode(graph)
    wide = OutfitQuery(
        query.user,
        torch.cat([torch.full((4, 2), 5), query.outfit], 1),
        torch.cat([torch.zeros(4, 2, dtype=torch.bool), query.outfit_mask], 1),
    )
    torch.testing.assert_close(model.score(encoded, wide, torch.arange(I)), model.score(encoded, query, torch.arange(I)))
    batch = a_batch()
    for name, term in model.loss(graph, replace(batch, query=wide)).items():
        torch.testing.assert_close(term, model.loss(graph, batch)[name])
    longer = torch.nn.functional.pad(batch.text, (0, 3))
    longer[2] = 0  # its text fills the row, so its end is not predicted
    shorter = batch.text.clone()
    shorter[2] = 0
    torch.testing.assert_close(
        model.loss(graph, replace(batch, text=longer))["comment"], model.loss(graph, replace(batch, text=shorter))["comment"]
    )


def test_missing_comments_cost_nothing_and_give_finite_gradients() -> None:
    graph, batch = toy(), a_batch()
    model = build(graph).float()
    for text in (None, torch.zeros_like(batch.text)):
        terms = model.loss(graph, replace(batch, text=text))
        assert terms["comment"].item() == 0
        torch.stack(list(terms.values())).sum().backward()
        assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())
    empty = replace(batch, query=replace(batch.query, outfit_mask=torch.zeros_like(batch.query.outfit_mask)))
    assert {name: term.item() for name, term in model.loss(graph, empty).items()} == {"matching": 0.0, "comment": 0.0}


def test_words_affect_only_themselves_and_later_positions() -> None:
    graph, batch = toy(), a_batch()
    model = build(graph).float()
    scene = model._scene(model.encode(graph), batch.query.outfit[2:3], batch.query.outfit_mask[2:3], batch.positive[2:3])
    before, maps = model.write(scene, batch.text[2:3])[0], model.write.image_attention(scene, batch.text[2:3])[0]
    for position in range(4):
        changed = batch.text[2:3].clone()
        changed[0, position] = 5
        after, changed_maps = model.write(scene, changed)[0], model.write.image_attention(scene, changed)[0]
        assert torch.equal(after[:position], before[:position])
        assert bool((after[position:] != before[position:]).all())
        assert torch.equal(changed_maps[: position + 2], maps[: position + 2])  # attention precedes the word
        assert bool((changed_maps[position + 2 :] != maps[position + 2 :]).any(1).all())


@torch.no_grad()
def test_comment_is_the_best_of_its_beam_and_its_loss_equals_the_score() -> None:
    graph, query, items = toy(), outfits().take(slice(0, 3)), torch.tensor([4, 8, 3])
    model = build(graph).float()
    model.write.output.bias[UNKNOWN] += 2.0  # generated unless forbidden
    encoded = model.encode(graph)
    scene = model._scene(encoded, query.outfit, query.outfit_mask, items)
    assert bool((model.write.search(scene, 4).chosen == UNKNOWN).any())
    actual = model.write.search(scene, 4, forbidden=[UNKNOWN])
    assert torch.equal(model.comment(encoded, query, items, max_words=4), actual.chosen[:, 0].clamp(min=0))
    model.write.output.bias[UNKNOWN] = -torch.inf
    num_texts = 0
    for position in range(3):
        text, has_words = (
            actual.chosen[:, position].clamp(min=0),
            actual.lengths[:, position] > 0,
        )  # the loss ignores texts without words
        torch.testing.assert_close(actual.score[has_words, position], -model.write(scene, text).sum(1)[has_words])
        num_texts += int(has_words.sum())
    assert num_texts > 3


def test_both_losses_reach_the_regions() -> None:
    graph = toy()
    model = build(graph).float()
    for name in ("matching", "comment"):
        model.zero_grad()
        model.loss(graph, a_batch())[name].backward()
        assert all(bool(p.grad.any()) for p in model.encoders.parameters())
        assert (name == "comment") == bool(model.write.output.weight.grad is not None)


def test_masked_values_are_never_read() -> None:
    batch = a_batch()
    clean, corrupted = toy(), toy()
    missing = ~corrupted.features["regions"].mask
    corrupted.data["item"]["regions"] = corrupted.data["item"]["regions"].masked_fill(missing[..., None], 1000.0)
    model = build(clean).float()
    for name, term in model.loss(clean, batch).items():
        assert torch.equal(term, model.loss(corrupted, batch)[name])


def matching_pairs() -> tuple[MultimodalGraph, Split]:
    """Red and blue shirts (0 … 5) and skirts (6 … 10) that match if their colours agree; one of four regions shows the colour."""
    graph, generator = toy(), torch.Generator().manual_seed(2)
    values, mask = graph.data["item"]["regions"], graph.data["item"]["regions_mask"]
    mask[:] = True
    values[:] = 0.1 * torch.randn(I, T, 5, generator=generator)
    for item in range(I):
        position = int(torch.randint(T, (), generator=generator))
        values[item, position, item % 2] += 1.0
        values[item, position, 2 + (item < 6)] += 1.0
    rows = [torch.tensor([top, bottom]) for top in range(6) for bottom in range(6, I) if (top + bottom) % 2 == 0]
    words = [[4, 5, 6] if int(row[0]) % 2 else [3, 5, 6] for row in rows]
    empty = Interactions(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long))
    sets = Outfits(RaggedLists.from_sequences(rows), torch.zeros(len(rows), dtype=torch.long), text=torch.tensor(words))
    return graph, Split(empty, empty, empty, outfits=sets)


def test_learns_matches_and_comments() -> None:
    graph, split = matching_pairs()
    torch.manual_seed(0)
    model = NOR(graph.schema, NORConfig(dim=16, attention_hidden=16, word_dim=8, state_dim=16))
    task, generator = OutfitTask(TaskInputs(split, 1, I)), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        for _, batch in task.batches(graph, generator):
            optimizer.zero_grad()
            torch.stack(list(model.loss(graph, batch).values())).sum().backward()
            optimizer.step()
    model.eval()
    query = OutfitQuery(torch.full((6,), -1), torch.arange(6)[:, None], torch.ones(6, 1, dtype=torch.bool))
    with torch.no_grad():
        encoded = model.encode(graph)
        scores = model.score(encoded, query, torch.arange(6, I))
        comments = model.comment(encoded, query, 6 + torch.arange(6) % 2, max_words=4)
    same = (torch.arange(6)[:, None] + torch.arange(6, I)) % 2 == 0
    assert bool(scores.sigmoid()[same].min() > 0.6)
    assert bool(scores.sigmoid()[~same].max() < 0.4)
    assert comments[:, :3].tolist() == [[4, 5, 6] if top % 2 else [3, 5, 6] for top in range(6)]


def test_invalid_use_is_refused() -> None:
    graph = toy(text=False)
    model = build(graph)
    assert model.write is None
    with pytest.raises(ValueError, match="no comment decoder; train it on outfits with text"):
        model.comment(model.encode(graph), outfits(), torch.arange(4))
    bare = replace(graph.schema, feature_dims={}, feature_nodes={})
    with pytest.raises(ValueError, match="NOR needs at least one modality"):
        NOR(bare)
