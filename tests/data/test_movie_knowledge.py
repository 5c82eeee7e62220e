"""Script that makes a knowledge graph of movies: split, removal of mirrored relations and rare entities, features."""

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


def test_the_larger_of_two_mirrored_relations_is_kept():
    triples = [("a", "directed_by", "b"), ("c", "directed_by", "b"), ("b", "directed", "a"), ("b", "directed", "d")]
    triples += [("a", "alike", "c"), ("c", "alike", "a"), ("e", "genre", "f"), ("f", "of_genre", "e"), ("x", "friend", "a")]
    frame = pd.DataFrame(triples, columns=["head", "relation", "tail"])
    kept = script().without_mirrors(frame)["relation"].unique().tolist()
    assert kept == ["directed", "alike", "genre", "friend"]  # half of directed_by mirrors directed, which is first by name


def test_the_folder_matches_the_sources(tmp_path, monkeypatch):
    graph, content, out = tmp_path / "graph", tmp_path / "content", tmp_path / "out"
    graph.mkdir()
    content.mkdir()
    raw_triples = [(f"film{i}", "actor", f"star{i % 3}") for i in range(18)]  # six triples per star
    raw_triples += [(f"star{i % 3}", "played_in", f"film{i}") for i in range(18)]
    raw_triples += [(f"film{i}", "writer", "nobody") for i in range(4)]  # one triple fewer than required
    header = "head_id:token\trelation_id:token\ttail_id:token\n"
    (graph / "ml-100k.kg").write_text(header + "\n".join("\t".join(triple) for triple in [*raw_triples, raw_triples[0]]) + "\n")
    alignment = [f"{i}\tfilm{i}" for i in range(18)] + ["99\tunknown"]
    (graph / "ml-100k.link").write_text("item_id:token\tentity_id:token\n" + "\n".join(alignment) + "\n")
    map_of = {i: 100 + i for i in range(17)} | {99: 500}  # film17 has no counterpart, 99 occurs in no triple
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
    loaded = zip(entity.ids(triples.head), relation.ids(triples.relation), entity.ids(triples.tail), strict=True)
    assert sorted(loaded) == sorted(raw_triples[:18])  # without the mirrored relation, the writer and the repeated triple
    assert triples.part.bincount().tolist() == [16, 1, 1]
    titles = dict(zip(entity.ids(), dataset.attributes["entity"]["title"], strict=True))
    assert (titles["film0"], titles["film16"], titles["film17"], titles["star0"]) == ("Title 100", "Title 116", "film17", "star0")
    image, text = dataset.features["image"], dataset.features["text"]
    films = entity.rows([f"film{i}" for i in range(1, 17)])
    assert sorted(image.present.nonzero().flatten().tolist()) == sorted(films.tolist())
    number = torch.arange(101.0, 117.0)
    assert torch.equal(image.values[films], torch.stack([number, number + 1], 1))
    assert torch.equal(text.values[films], 2 * number[:, None])
