"""MODELS: every model of the package, by the name used on the command line."""

from typing import Any

from gmmrec.models.lightgcn import LightGCN
from gmmrec.models.popularity import Popularity
from gmmrec.recommender import Recommender

MODELS: dict[str, type[Recommender[Any]]] = {
    "lightgcn": LightGCN,
    "popularity": Popularity,
}
