"""Figures of docs/concepts/fusion.md: every fusion module on a small example.

    python benchmarks/fusion_figures.py

Weights are those of the modules themselves with random parameters, so what counts is the pattern: what adds up to what, what a user
changes, what a missing token changes. Nothing is trained.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from fusion_example import (
    DIM,
    ITEMS,
    MISSING,
    REGIONS,
    TOKENS,
    USERS,
    WORDS,
    build,
    effects,
    example,
    hidden,
    plain_weights,
)
from gmmrec.nn.fusion.attribute import AttributeFusion
from gmmrec.nn.fusion.behaviour_aware import BehaviourAwareFusion
from gmmrec.nn.fusion.candidate_aware import CandidateAwareAttention
from gmmrec.nn.fusion.co_attention import CoAttention, CoAttentionFusion
from gmmrec.nn.fusion.co_transformer import CoTransformerLayer
from gmmrec.nn.fusion.concat import ConcatFusion
from gmmrec.nn.fusion.context import ContextFusion
from gmmrec.nn.fusion.correlation import CorrelationAwareFusion
from gmmrec.nn.fusion.cross_modal import CrossModalFusion
from gmmrec.nn.fusion.cross_stitch import CrossStitchFusion
from gmmrec.nn.fusion.gate import GateFusion
from gmmrec.nn.fusion.interest import InterestAttention
from gmmrec.nn.fusion.mean import MeanFusion, SumFusion
from gmmrec.nn.fusion.modality_aware import ModalityAwareFusion
from gmmrec.nn.fusion.multi_level import MEncoder
from gmmrec.nn.fusion.multi_order import MultiOrderFusion
from gmmrec.nn.fusion.multi_source import MultiSourceAttention
from gmmrec.nn.fusion.mutual import MutualAttentionFusion
from gmmrec.nn.fusion.personalised import PersonalisedAttention
from gmmrec.nn.fusion.prefix import PrefixGuidedAttention
from gmmrec.nn.fusion.region import RegionFusion
from gmmrec.nn.fusion.self_attention import SelfAttentionFusion
from gmmrec.nn.fusion.set_attention import SetAttention
from gmmrec.nn.fusion.side import SideFusion
from gmmrec.nn.fusion.vision_language import VisionLanguageFusion
from gmmrec.nn.transformer import TransformerLayer
from lab.heatmaps import Panel, save

FOLDER = Path(__file__).parents[1] / "docs" / "concepts" / "figures"
GATES: tuple[tuple[Literal["sigmoid", "softmax"], str], ...] = (
    ("sigmoid", "gate: each token by itself"),
    ("softmax", "attention: tokens compete"),
)
FORMS: tuple[Literal["add", "concat", "gate"], ...] = ("add", "concat", "gate")
GRANULARITIES: tuple[Literal["scalar", "vector"], ...] = ("scalar", "vector")


def simple() -> None:
    """Mean, sum, concatenation, gates, self-attention: no query."""
    _save("mean", [Panel("mean: equal shares", plain_weights(MeanFusion()), ITEMS, TOKENS, most=1.0)])
    _save("sum", [Panel("sum: every token counts 1", plain_weights(SumFusion()), ITEMS, TOKENS, most=1.0)])
    _save("concat", effects("concat", build(1, lambda: ConcatFusion(DIM, 4))))
    gates = [
        Panel(title, plain_weights(build(3, partial(GateFusion, DIM, gate=gate, hidden=DIM), 2)), ITEMS, TOKENS, most=1.0)
        for gate, title in GATES
    ]
    _save("gate", gates)
    self_attention_fusion = build(2, lambda: SelfAttentionFusion(DIM), 2.5)
    tokens = example(4)
    there = torch.tensor(MISSING)
    logits = self_attention_fusion.query(tokens) @ self_attention_fusion.key(tokens).mT / DIM**0.5
    attention = hidden(torch.where(there, logits, -torch.inf).softmax(-1), there[:, None] & there)
    received = hidden(self_attention_fusion(tokens, there, return_weights=True)[1], there)[None]
    _save(
        "self_attention",
        [
            Panel("self_attention: each row reads\nthe columns (rows sum to 1)", attention, TOKENS, TOKENS, most=1.0),
            Panel("weights: what a token\nreceives, on average", received, ["mean"], TOKENS, most=1.0),
        ],
    )
    fusion = build(22, lambda: VisionLanguageFusion(DIM, num_heads=2), 2.5)
    (layer,) = fusion.read.layers
    assert isinstance(layer, TransformerLayer)
    reads = layer.attention(tokens, tokens, there[None], return_weights=True)[1].mean(0)  # of 2 heads
    pooled = hidden(fusion(tokens, there, return_weights=True)[1], there)[None]
    _save(
        "vision_language",
        [
            Panel(
                "vision_language: each row reads\nthe columns (mean of 2 heads)",
                hidden(reads, there[:, None] & there),
                TOKENS,
                TOKENS,
                most=1.0,
            ),
            Panel("then additive pooling", pooled, ["weight"], TOKENS, most=1.0),
        ],
    )
    _save("cross_stitch", effects("cross_stitch", build(4, lambda: CrossStitchFusion(DIM, 4), 2)))
    _save("context", effects("context", build(5, lambda: ContextFusion(DIM, 4), 2)))


def of_users() -> None:
    """Modules that ask a user."""
    users = example(2, seed=7)
    item, mask = example(4).expand(2, 4, DIM), torch.tensor(MISSING).expand(2, 4)
    scalar, vector = (
        build(21, partial(ModalityAwareFusion, DIM, granularity=kind), 3)(item / 2, mask, users, return_weights=True)[1]
        for kind in GRANULARITIES
    )
    dims = [str(d + 1) for d in range(DIM)]
    _save(
        "modality_aware",
        [
            Panel("modality_aware: the same item\nfor two users", hidden(scalar, mask), USERS, TOKENS, most=1.0),
            Panel(
                "granularity vector: user A, a\nsoftmax for each dimension",
                hidden(vector[0], mask[0][:, None]),
                TOKENS,
                dims,
                most=1.0,
                digits=1,
            ),
        ],
    )
    behaviour_aware_fusion = build(7, lambda: BehaviourAwareFusion(DIM, 4), 2)
    shares = behaviour_aware_fusion(item, mask, users, return_weights=True)[1]
    gates = behaviour_aware_fusion.gates(users).sigmoid().view(2, 4, DIM)
    _save(
        "behaviour_aware",
        [
            Panel("behaviour_aware: what modalities\nshare, whoever asks", hidden(shares, mask), USERS, TOKENS, most=1.0),
            *(
                Panel(f"gates on what sets them\napart: {user}", hidden(gate, mask[0][:, None]), TOKENS, dims, most=1.0, digits=1)
                for user, gate in zip(USERS, gates, strict=True)
            ),
        ],
    )
    coattention_fusion = build(8, lambda: CoAttentionFusion(DIM, hidden=DIM, steps=3), 2.5)
    alone = coattention_fusion(item[:1], mask[:1], return_weights=True)[1]
    asked = coattention_fusion(item, mask, users, return_weights=True)[1]
    shares = hidden(torch.cat([alone, asked]), mask[:1])
    _save("co_attention", [Panel("co_attention: share of each token\nin what is remembered", shares, ["no query", *USERS], TOKENS)])
    steps = [str(step + 1) for step in range(3)]
    coattention = build(9, lambda: CoAttention(DIM, steps=3), 3)
    frames, tastes = ("frame 1", "frame 2", "sound", "(none)"), ("id", "profile")
    _, (of_user, of_video) = coattention(example(2, seed=3), example(4, seed=4), None, torch.tensor(MISSING), return_weights=True)
    _save(
        "co_attention_two_sides",
        [
            Panel("CoAttention: of the user,\nstep by step", of_user, [f"step {s}" for s in steps], tastes, most=1.0),
            Panel("of the video", hidden(of_video, torch.tensor(MISSING)), [f"step {s}" for s in steps], frames, most=1.0),
        ],
    )
    regions, seen = example(36, seed=5), torch.ones(36, dtype=torch.bool)
    seen[30:] = False
    weights = build(10, lambda: RegionFusion(DIM, hidden=DIM), 2.5)(regions, seen, 2 * users, return_weights=True)[1]
    weights = hidden(weights, seen).unflatten(-1, (6, 6))
    side = [str(n + 1) for n in range(6)]
    most = float(weights.nan_to_num().max())
    _save(
        "region",
        [
            Panel(f"region: where\n{user} looks", value, side, side, digits=None, most=most)
            for user, value in zip(USERS, weights, strict=True)
        ],
    )
    slots, applies = ("colour", "collar", "sleeve", "heel"), torch.tensor(MISSING)
    weights = build(11, lambda: AttributeFusion(DIM), 2.5)(example(4, seed=6), applies, users, return_weights=True)[1]
    _save("attribute", [Panel("attribute: a dress has no heel", hidden(weights, applies), USERS, slots, most=1.0)])
    texts, read = example(3, 5, seed=8), torch.tensor([[True] * 5, [True] * 5, [True] * 3 + [False] * 2])
    words, reviews = (build(seed, lambda: PersonalisedAttention(DIM), 3) for seed in (12, 13))
    fused, of_words = words(texts, read, users[:, None], return_weights=True)
    of_reviews = reviews(fused, None, users, return_weights=True)[1]
    names = [f"review {n}" for n in (1, 2, 3)]
    _save(
        "personalised",
        [
            *(
                Panel(f"personalised: words\nfor {user}", hidden(part, read), names, [f"word {n}" for n in range(1, 6)], most=1.0)
                for user, part in zip(USERS, of_words, strict=True)
            ),
            Panel("then reviews", of_reviews, USERS, names, most=1.0),
        ],
    )
    history, known = example(5, seed=9), torch.tensor([True] * 4 + [False])
    panels = []
    for beta in (1.0, 0.5):
        interest_attention = build(14, partial(InterestAttention, DIM, beta=beta), 4)
        weights = interest_attention(history, known, users, return_weights=True)[1]
        rows = [f"target {name} (sum {float(weight.sum()):.2f})" for name, weight in zip("AB", weights, strict=True)]
        title = f"interest, beta {beta:g}: weights\nof the items of a history"
        panels.append(Panel(title, hidden(weights, known), rows, [f"item {n}" for n in range(1, 5)] + ["(none)"], most=1.0))
    _save("interest", panels)
    multi_order_fusion = build(23, lambda: MultiOrderFusion(DIM), 2)
    for attention in (*multi_order_fusion.read.inside, multi_order_fusion.read.between):
        attention.logit.weight.mul_(3)
    _, found = multi_order_fusion.weigh(item[:1], mask[:1], users[:1])
    _, other = multi_order_fusion.weigh(item[:1], mask[:1], users[1:])
    orders = [f"order {k}" for k in range(3)]
    _save(
        "multi_order",
        [
            Panel("multi_order: tokens at three\ndepths, for user A", hidden(found.token[0], mask[0]), orders, TOKENS, most=1.0),
            Panel("for user B", hidden(other.token[0], mask[0]), orders, TOKENS, most=1.0),
            Panel("depths: the same\nquestion to all", torch.cat([found.order, other.order]), USERS, orders, most=1.0),
        ],
    )
    tokens, there = example(1, 3, seed=1), torch.tensor([[True, True, False]])
    weights = torch.cat(
        [build(15, partial(SideFusion, DIM, 3, form=form), 9)(tokens, there, users[:1], return_weights=True)[1] for form in FORMS]
    )
    columns = ("ID", "image", "text", "category")
    shown = hidden(weights, torch.tensor(MISSING))
    _save("side", [Panel("side: the ID vector is always there", shown, FORMS, columns, most=1.0, divide=1)])


def of_two_sides() -> None:
    """Modules in which two sets of tokens read each other."""
    words, regions = example(5, seed=10), example(4, seed=11)
    is_word, is_region = torch.tensor([True] * 4 + [False]), torch.tensor(MISSING)
    cross_modal_fusion = build(16, lambda: CrossModalFusion(DIM, DIM), 3)
    _, found = cross_modal_fusion(words, regions, is_word, is_region, return_weights=True)
    pairs = is_word[:, None] & is_region
    _save(
        "cross_modal",
        [
            Panel(
                "cross_modal: words read\nregions (mean of 2 heads)",
                hidden(found.left_cross[0].mean(0), pairs),
                WORDS,
                REGIONS,
                most=1.0,
            ),
            Panel("regions read words", hidden(found.right_cross[0].mean(0), pairs.T), REGIONS, WORDS, most=1.0),
            Panel(
                "then words read\nwhat they have become",
                hidden(found.left_self[0].mean(0), is_word[:, None] & is_word),
                WORDS,
                WORDS,
                most=1.0,
            ),
        ],
    )
    cotransformer_layer = build(17, lambda: CoTransformerLayer(DIM, DIM, num_heads=2), 3)
    _, (of_regions, of_words) = _split(cotransformer_layer(words, regions, is_word, is_region, return_weights=True))
    _save(
        "co_transformer",
        [
            Panel(
                "co_transformer: words read\nregions (mean of 2 heads)", hidden(of_regions.mean(0), pairs), WORDS, REGIONS, most=1.0
            ),
            Panel("regions read words", hidden(of_words.mean(0), pairs.T), REGIONS, WORDS, most=1.0),
        ],
    )
    clicks, has = example(4, 2, seed=12), torch.tensor([[True, True], [True, False], [True, True], [True, True]])
    candidates = example(2, 2, seed=13)
    weights = CandidateAwareAttention()(clicks, has, candidates, return_weights=True)[1]  # [C, M', N, M]
    _save(
        "candidate_aware",
        [
            Panel(
                f"{'candidate_aware: ' if not position else ''}candidate {'AB'[position]}\n(the second click has no picture)",
                hidden(weights[position].permute(0, 2, 1).reshape(4, 4), has.T.repeat(2, 1)),
                [f"its {a} to {b}s" for a in ("text", "image") for b in ("text", "image")],
                [f"click {n}" for n in range(1, 5)],
                most=1.0,
            )
            for position in range(2)
        ],
    )
    prefix_guided_attention = build(18, lambda: PrefixGuidedAttention(DIM, num_heads=2), 2.5)
    weights = prefix_guided_attention(regions, is_region, words, is_word, return_weights=True)[1].mean(0)
    mask = is_region[:, None] & torch.cat([is_word, is_region])
    columns = (*WORDS, *REGIONS)
    _save(
        "prefix",
        [
            Panel(
                "prefix: regions read words and regions in one softmax", hidden(weights, mask), REGIONS, columns, most=1.0, divide=5
            )
        ],
    )
    correlation_aware_fusion = build(19, lambda: CorrelationAwareFusion(DIM), 2)
    weights = correlation_aware_fusion(words, is_word, regions, is_region, return_weights=True)[1]
    _save(
        "correlation",
        [Panel("correlation: words read regions\nby plain similarity", hidden(weights, pairs), WORDS, REGIONS, most=1.0)],
    )
    _, _, found = build(24, lambda: MEncoder(DIM, 2, num_layers=2), 2)(words, regions, is_word, is_region, return_weights=True)
    panels = []
    for layer, (pgi, caf) in enumerate(zip(found.pgi, found.caf, strict=True), start=1):
        title = f"{'multi_level, ' if layer == 1 else ''}layer {layer}: regions read\nwords and regions (mean of 2 heads)"
        panels.append(Panel(title, hidden(pgi.mean(0), mask), REGIONS, columns, most=1.0, digits=1, divide=5))
        panels.append(Panel("then words gather\nwhat regions are now", hidden(caf, pairs), WORDS, REGIONS, most=1.0, digits=1))
    _save("multi_level", panels)
    set_attention = build(20, lambda: SetAttention(DIM, num_layers=1, num_heads=2), 2)
    outfit, there = example(4, seed=14), torch.tensor(MISSING)
    guess = torch.tensor([False, True, False, False])
    weights = set_attention(outfit, there, guess, return_weights=True)[1][0].mean(0)
    garments = ("coat", "? (hidden)", "boots", "(none)")
    shown = hidden(weights, there[:, None] & there)
    _save(
        "set_attention",
        [Panel("set_attention: a learned vector stands\nfor the item to be guessed", shown, garments, garments, most=1.0)],
    )


def of_garments() -> None:
    """Modules of outfits: two garments look at each other, and a state looks at both."""
    blouse, skirts, there = example(4, seed=15), example(2, 4, seed=16), torch.tensor(MISSING)
    mutual_attention_fusion = build(22, lambda: MutualAttentionFusion(DIM), 2.5)
    _, (of_blouse, of_skirts) = mutual_attention_fusion(
        blouse.expand(2, -1, -1), 1.5 * skirts, there.expand(2, -1), return_weights=True
    )
    parts, positions = ("collar", "sleeve", "print", "(none)"), ("waist", "pleats", "hem", "lace")
    _save(
        "mutual",
        [
            Panel("mutual: the same blouse\nbeside two skirts", hidden(of_blouse, there), ("skirt A", "skirt B"), parts, most=1.0),
            Panel("the skirts beside\nthe blouse", of_skirts, ("skirt A", "skirt B"), positions, most=1.0),
        ],
    )
    states = example(3, seed=17)
    multi_source_attention = build(23, lambda: MultiSourceAttention(DIM, 2), 2)
    sources = [blouse.expand(3, -1, -1), skirts[0].expand(3, -1, -1)]
    _, weights = multi_source_attention(sources, [there.expand(3, -1), None], states, return_weights=True)
    words = ("a silk ...", "... collar ...", "... with pleats")
    shown = hidden(weights.joint, torch.cat([there, torch.ones(4, dtype=torch.bool)]))
    _save(
        "multi_source",
        [
            Panel("multi_source: where a state looks, over both garments", shown, words, (*parts, *positions), most=1.0, divide=4),
            Panel("share of each garment", weights.sources, words, ("blouse", "skirt"), most=1.0),
        ],
    )


def _save(name: str, panels: Sequence[Panel]) -> None:
    save(FOLDER, name, panels)


def _split(result: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], tuple[Tensor, Tensor]]:
    """Both sides and both weights, in whichever way they are nested."""
    *sides, weights = result
    return tuple(sides), (weights[0], weights[1])


def main() -> None:
    """Draw all figures."""
    simple()
    of_users()
    of_two_sides()
    of_garments()
    for path in sorted(FOLDER.glob("*.png")):
        print(f"{path.name:28} {path.stat().st_size / 1000:6.1f} kB")


if __name__ == "__main__":
    main()
