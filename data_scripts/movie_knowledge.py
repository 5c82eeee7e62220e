"""Make a multimodal knowledge graph of movies: triples for MovieLens-100K, posters and texts of MovieLens-1M.

The first argument is a folder with RecBole's ``ml-100k.kg``, ``ml-100k.link`` (gzipped or not) and ``ml1m_map.csv`` (``item_id``,
``ml1m_movie_id``); the second one with ``image_features.npz`` (``movie_id``, ``feat``), ``text_features.npz`` (``movie_id``,
``title``) and ``movies.csv`` (``movie_id``, ``title``).

The new folder holds, in the package's own layout:

- ``triples.csv.gz``: head, relation, tail, split. Of two inverse relations, the smaller one (the later by name if they are equal)
  is dropped, since a test triple could be inferred from its inverse in training. Entities other than movies that occur in few
  triples are dropped, too. A random tenth of the triples is for validation, and a tenth for test;
- ``entities.csv``: entity, title (of movies);
- ``image_feat.npz`` and ``text_feat.npz``: features of the entities that are movies with a poster and a title in MovieLens-1M.

    python data_scripts/movie_knowledge.py ml-100k ml1m-posters --out runs/content/movie-knowledge
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from gmmrec.data.parts import SplitPart

OVERLAP = 0.5
"""Minimum share of the smaller relation's triples whose inverse the other relation holds, for the two to count as inverse."""


def without_mirrors(triples: pd.DataFrame) -> pd.DataFrame:
    """Return the triples without those of relations that are inverse to a larger one."""
    pairs = {str(name): set(zip(group["head"], group["tail"], strict=True)) for name, group in triples.groupby("relation")}
    order = sorted(pairs, key=lambda name: (-len(pairs[name]), name))
    kept: list[str] = []
    for name in order:
        mirrored = {(tail, head) for head, tail in pairs[name]}
        if all(len(mirrored & pairs[other]) < OVERLAP * len(mirrored) for other in kept):
            kept.append(name)
    remaining: pd.DataFrame = triples[triples["relation"].isin(kept)]
    return remaining


def main() -> None:
    """Read both sources and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graph", type=Path, help="folder with the triples, the alignment and the map of movies")
    parser.add_argument("content", type=Path, help="folder with features of posters and texts")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument(
        "--least", type=int, default=5, help="minimum number of triples of an entity other than a movie (default 5)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the split (default 0)")
    arguments = parser.parse_args()

    triples = table(arguments.graph, "kg", ["head", "relation", "tail"]).drop_duplicates()
    alignment = table(arguments.graph, "link", ["item", "entity"])
    triples = without_mirrors(triples)
    counts = pd.concat([triples["head"], triples["tail"]]).value_counts()
    known = set(counts.index[counts >= arguments.least]) | set(alignment["entity"])
    triples = triples[triples["head"].isin(known) & triples["tail"].isin(known)].reset_index(drop=True)
    part = np.full(len(triples), SplitPart.TRAIN.value, dtype=object)
    drawn = np.random.default_rng(arguments.seed).permutation(len(triples))
    tenth = len(triples) // 10
    part[drawn[:tenth]], part[drawn[tenth : 2 * tenth]] = SplitPart.VALID.value, SplitPart.TEST.value

    movie = pd.read_csv(arguments.graph / "ml1m_map.csv", dtype={"item_id": str}).rename(columns={"item_id": "item"})
    movie = alignment.merge(movie, on="item")[["entity", "ml1m_movie_id"]]
    titles = pd.read_csv(arguments.content / "movies.csv").set_index("movie_id")["title"]
    entities = pd.DataFrame({"entity": pd.unique(pd.concat([triples["head"], triples["tail"]]))})
    movie = movie[movie["entity"].isin(entities["entity"])]
    entities["title"] = entities["entity"].map(movie.set_index("entity")["ml1m_movie_id"].map(titles))

    arguments.out.mkdir(parents=True)
    triples.assign(split=part).to_csv(arguments.out / "triples.csv.gz", index=False)
    entities.to_csv(arguments.out / "entities.csv", index=False)
    for name, file, array in (("image", "image_features.npz", "feat"), ("text", "text_features.npz", "title")):
        with np.load(arguments.content / file, allow_pickle=False) as arrays:
            row = pd.Series(range(len(arrays["movie_id"])), index=arrays["movie_id"])
            covered = movie[movie["ml1m_movie_id"].isin(row.index)]
            values = arrays[array][row[covered["ml1m_movie_id"]].to_numpy()]
        np.savez_compressed(arguments.out / f"{name}_feat.npz", ids=covered["entity"].to_numpy(dtype=np.str_), values=values)
    print(f"{len(triples):,} triples, {len(entities):,} entities, {triples['relation'].nunique()} relations, {len(movie):,} movies")


def table(folder: Path, ending: str, columns: list[str]) -> pd.DataFrame:
    """Read one of RecBole's files with the given column names."""
    path = next(path for end in ("", ".gz") if (path := folder / f"ml-100k.{ending}{end}").is_file())
    frame: pd.DataFrame = pd.read_csv(path, sep="\t", dtype=str).set_axis(columns, axis=1)
    return frame


if __name__ == "__main__":
    main()
