"""A knowledge graph of movies is divided, freed of mirror images and of entities of whom little is known, and given features."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gmmrec.data.load import load_dataset

SCRIPT = Path(__file__).resolve().parents[2] / "data_scripts" / "movie_knowledge.py"


def script():
    spec = importlib.util.spec_from_file_location("movie_knowledge", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_of_two_relations_that_mirror_each_other_the_larger_one_stays():
    facts = [("a", "directed_by", "b"), ("c", "directed_by", "b"), ("b", "directed", "a"), ("b", "directed", "d")]
    facts += [("a", "alike", "c"), ("c", "alike", "a"), ("e", "genre", "f"), ("f", "of_genre", "e"), ("x", "friend", "a")]
    frame = pd.DataFrame(facts, columns=["head", "relation", "tail"])
    kept = script().without_mirrors(frame)["relation"].unique().tolist()
    assert kept == ["directed", "alike", "genre", "friend"]  # half of directed_by mirrors directed, which is first by name


def test_the_folder_is_what_the_sources_say(tmp_path, monkeypatch):
    graph, content, out = tmp_path / "graph", tmp_path / "content", tmp_path / "out"
    graph.mkdir()
    content.mkdir()
    facts = [(f"film{i}", "actor", f"star{i % 3}") for i in range(18)]  # six facts a star
    facts += [(f"star{i % 3}", "played_in", f"film{i}") for i in range(18)]
    facts += [(f"film{i}", "writer", "nobody") for i in range(4)]  # one fact less than is asked for
    header = "head_id:token\trelation_id:token\ttail_id:token\n"
    (graph / "ml-100k.kg").write_text(header + "\n".join("\t".join(fact) for fact in [*facts, facts[0]]) + "\n")
    links = [f"{i}\tfilm{i}" for i in range(18)] + ["99\tunknown"]
    (graph / "ml-100k.link").write_text("item_id:token\tentity_id:token\n" + "\n".join(links) + "\n")
    map_of = {i: 100 + i for i in range(17)} | {99: 500}  # film17 has no counterpart, 99 stands in no fact
    pd.DataFrame({"item_id": map_of.keys(), "ml1m_movie_id": map_of.values()}).to_csv(graph / "ml1m_map.csv", index=False)
    movies = np.array([500, *range(116, 100, -1)])  # movie 100 has no features
    pd.DataFrame({"movie_id": [*movies, 100], "title": [f"Title {i}" for i in [*movies, 100]]}).to_csv(
        content / "movies.csv", index=False
    )
    np.savez(content / "image_features.npz", movie_id=movies, feat=np.stack([movies, movies + 1], 1).astype(np.float32))
    np.savez(content / "text_features.npz", movie_id=movies, title=(movies[:, None] * 2).astype(np.float32))
    monkeypatch.setattr(sys, "argv", ["movie_knowledge.py", str(graph), str(content), "--out", str(out)])
    script().main()

    dataset = load_dataset(out)
    triples, entity, relation = dataset.triples, dataset.vocabularies["entity"], dataset.vocabularies["relation"]
    found = zip(entity.ids(triples.head), relation.ids(triples.relation), entity.ids(triples.tail), strict=True)
    assert sorted(found) == sorted(facts[:18])  # neither the mirror image, nor the writer, nor the repeated fact
    assert triples.part.bincount().tolist() == [16, 1, 1]
    titles = dict(zip(entity.ids(), dataset.attributes["entity"]["title"], strict=True))
    assert (titles["film0"], titles["film16"], titles["film17"], titles["star0"]) == ("Title 100", "Title 116", "film17", "star0")
    image, text = dataset.features["image"], dataset.features["text"]
    films = entity.rows([f"film{i}" for i in range(1, 17)])
    assert sorted(image.present.nonzero().flatten().tolist()) == sorted(films.tolist())
    number = torch.arange(101.0, 117.0)
    assert torch.equal(image.values[films], torch.stack([number, number + 1], 1))
    assert torch.equal(text.values[films], 2 * number[:, None])
