"""Toy triples with known answers."""

from dataclasses import replace

import torch

from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.data.interactions import Interactions
from gmmrec.data.split import Split, split_dataset
from gmmrec.data.triples import Triples
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.graph.build import build_graph
from gmmrec.graph.multimodal import MultimodalGraph


def circle(num_entities: int = 12, *, seed: int = 0) -> Dataset:
    """Return entities in a circle with the relations ``next`` and ``opposite``; one triple is for validation, one for testing.

    Entities have a ``name`` [N, 4] (missing for entity 1), ``words`` [N, 3, 4] (the last word of entity 2 is missing) and an
    ``image`` of two regions [N, 2, 5] (missing for entity 3); all encode the position on the circle.
    """
    generator = torch.Generator().manual_seed(seed)
    entity = torch.arange(num_entities)
    head, relation = entity.repeat(2), torch.arange(2).repeat_interleave(num_entities)
    tail = torch.cat([(entity + 1) % num_entities, (entity + num_entities // 2) % num_entities])
    part = torch.zeros(2 * num_entities, dtype=torch.long)
    part[2], part[num_entities - 1] = 1, 2
    angle = 2 * torch.pi * entity / num_entities
    position = torch.stack([angle.sin(), angle.cos()], 1)
    noise = 0.1 * torch.rand(num_entities, 3, generator=generator)
    name = torch.cat([position, noise[:, :2]], 1)
    words = torch.stack([name, name.roll(1, 1), noise.repeat(1, 2)[:, :4]], 1)
    image = torch.stack([torch.cat([position, noise], 1), torch.cat([noise, position], 1)], 1)
    has = {key: entity != missing for key, missing in (("name", 1), ("image", 3))}
    word = torch.ones(num_entities, 3, dtype=torch.bool)
    word[2, 2] = False
    features = {
        "name": FeatureTable("name", name, has["name"], "entity"),
        "words": FeatureTable("words", words, word, "entity"),
        "image": FeatureTable("image", image, has["image"][:, None].repeat(1, 2), "entity"),
    }
    vocabularies = {
        "user": Vocabulary([], name="user"),
        "item": Vocabulary([], name="item"),
        "entity": Vocabulary([f"e{i}" for i in range(num_entities)], name="entity"),
        "relation": Vocabulary(["next", "opposite"], name="relation"),
    }
    empty = torch.empty(0, dtype=torch.long)
    triples = Triples(head, relation, tail, part)
    return Dataset("circle", vocabularies, Interactions(empty, empty), features, triples=triples)


def graph_of(dataset: Dataset) -> tuple[Split, MultimodalGraph]:
    """Return the split of a data set and the graph of its training triples."""
    split = split_dataset(dataset)
    return split, build_graph(dataset, split)


def without(dataset: Dataset, *names: str) -> Dataset:
    """Return the data set with some modalities missing everywhere, though their columns exist."""
    hidden = {name: replace(dataset.features[name], mask=torch.zeros_like(dataset.features[name].mask)) for name in names}
    return replace(dataset, features={**dataset.features, **hidden})
