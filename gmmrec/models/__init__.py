"""MODELS: every model of the package, by the name used on the command line."""

from typing import Any

from gmmrec.models.freedom import FREEDOM
from gmmrec.models.lightgcn import LightGCN
from gmmrec.models.popularity import Popularity
from gmmrec.recommender import Recommender

MODELS: dict[str, type[Recommender[Any]]] = {
    "freedom": FREEDOM,
    "lightgcn": LightGCN,
    "popularity": Popularity,
}
