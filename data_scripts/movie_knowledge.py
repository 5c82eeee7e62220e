"""Makes a multimodal knowledge graph of movies: facts of MovieLens-100K's graph, posters and texts of MovieLens-1M.

The first argument is a folder with RecBole's ``ml-100k.kg``, ``ml-100k.link`` (gzipped or not) and ``ml1m_map.csv`` (``item_id``,
``ml1m_movie_id``); the second one with ``image_features.npz`` (``movie_id``, ``feat``), ``text_features.npz`` (``movie_id``,
``title``) and ``movies.csv`` (``movie_id``, ``title``).

What the new folder holds, in the package's own layout:

- ``triples.csv.gz``: head, relation, tail, split. Of two relations that say the same in opposite directions the smaller one (the
  later by name where they are equal) is left out: else a test fact could be read off its mirror image in training. So are entities
  other than movies that occur in few facts, of whom little can be known. A tenth of the facts validates, a tenth tests, at random;
- ``entities.csv``: entity, title (of movies);
- ``image_feat.npz`` and ``text_feat.npz``: of the entities that are movies with a poster and a title there.

    python data_scripts/movie_knowledge.py ml-100k ml1m-posters --out runs/content/movie-knowledge
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from gmmrec.data.parts import SplitPart

OVERLAP = 0.5
"""Share of the smaller relation's facts that the other one holds the other way round, from which on it is its mirror image."""


def without_mirrors(facts: pd.DataFrame) -> pd.DataFrame:
    """The facts without those of relations that mirror a larger one."""
    pairs = {str(name): set(zip(part["head"], part["tail"], strict=True)) for name, part in facts.groupby("relation")}
    order = sorted(pairs, key=lambda name: (-len(pairs[name]), name))
    kept: list[str] = []
    for name in order:
        mirrored = {(tail, head) for head, tail in pairs[name]}
        if all(len(mirrored & pairs[other]) < OVERLAP * len(mirrored) for other in kept):
            kept.append(name)
    found: pd.DataFrame = facts[facts["relation"].isin(kept)]
    return found


def main() -> None:
    """Reads both sources and writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graph", type=Path, help="folder with the facts, the links and the map of movies")
    parser.add_argument("content", type=Path, help="folder with posters' and texts' features")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument("--least", type=int, default=5, help="facts that an entity other than a movie needs (default 5)")
    parser.add_argument("--seed", type=int, default=0, help="of the split (default 0)")
    arguments = parser.parse_args()

    facts = table(arguments.graph, "kg", ["head", "relation", "tail"]).drop_duplicates()
    links = table(arguments.graph, "link", ["item", "entity"])
    facts = without_mirrors(facts)
    counts = pd.concat([facts["head"], facts["tail"]]).value_counts()
    known = set(counts.index[counts >= arguments.least]) | set(links["entity"])
    facts = facts[facts["head"].isin(known) & facts["tail"].isin(known)].reset_index(drop=True)
    part = np.full(len(facts), SplitPart.TRAIN.value, dtype=object)
    drawn = np.random.default_rng(arguments.seed).permutation(len(facts))
    tenth = len(facts) // 10
    part[drawn[:tenth]], part[drawn[tenth : 2 * tenth]] = SplitPart.VALID.value, SplitPart.TEST.value

    movie = pd.read_csv(arguments.graph / "ml1m_map.csv", dtype={"item_id": str}).rename(columns={"item_id": "item"})
    movie = links.merge(movie, on="item")[["entity", "ml1m_movie_id"]]
    titles = pd.read_csv(arguments.content / "movies.csv").set_index("movie_id")["title"]
    entities = pd.DataFrame({"entity": pd.unique(pd.concat([facts["head"], facts["tail"]]))})
    movie = movie[movie["entity"].isin(entities["entity"])]
    entities["title"] = entities["entity"].map(movie.set_index("entity")["ml1m_movie_id"].map(titles))

    arguments.out.mkdir(parents=True)
    facts.assign(split=part).to_csv(arguments.out / "triples.csv.gz", index=False)
    entities.to_csv(arguments.out / "entities.csv", index=False)
    for name, file, array in (("image", "image_features.npz", "feat"), ("text", "text_features.npz", "title")):
        with np.load(arguments.content / file, allow_pickle=False) as arrays:
            row = pd.Series(range(len(arrays["movie_id"])), index=arrays["movie_id"])
            found = movie[movie["ml1m_movie_id"].isin(row.index)]
            values = arrays[array][row[found["ml1m_movie_id"]].to_numpy()]
        np.savez_compressed(arguments.out / f"{name}_feat.npz", ids=found["entity"].to_numpy(dtype=np.str_), values=values)
    print(f"{len(facts):,} facts, {len(entities):,} entities, {facts['relation'].nunique()} relations, {len(movie):,} movies")


def table(folder: Path, ending: str, columns: list[str]) -> pd.DataFrame:
    """One of RecBole's files with columns of our own naming."""
    path = next(path for end in ("", ".gz") if (path := folder / f"ml-100k.{ending}{end}").is_file())
    found: pd.DataFrame = pd.read_csv(path, sep="\t", dtype=str).set_axis(columns, axis=1)
    return found


if __name__ == "__main__":
    main()
