"""Multimodal graph recommendation on PyTorch Geometric.

The public names below are loaded on first access, so that ``import gmmrec`` (and every ``gmmrec`` command) starts fast.
"""

import sys
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from gmmrec.renamed import RenamedModules, missing_attribute

if TYPE_CHECKING:
    from gmmrec.data.dataset import Dataset
    from gmmrec.data.features import FeatureTable
    from gmmrec.data.interactions import Interactions
    from gmmrec.data.load import load_dataset
    from gmmrec.data.split import split_dataset
    from gmmrec.data.vocabulary import Vocabulary
    from gmmrec.evaluation.evaluator import evaluate
    from gmmrec.graph.build import build_graph
    from gmmrec.models import MODELS
    from gmmrec.recommender import Recommender
    from gmmrec.runs.combine import blend, rerank
    from gmmrec.runs.recipe import fit
    from gmmrec.runs.run import Run, load
    from gmmrec.training.trainer import Trainer

__version__ = version("gmmrec")
sys.meta_path.insert(0, RenamedModules())

_HOMES = {
    "Dataset": "gmmrec.data.dataset",
    "FeatureTable": "gmmrec.data.features",
    "Interactions": "gmmrec.data.interactions",
    "MODELS": "gmmrec.models",
    "Recommender": "gmmrec.recommender",
    "Run": "gmmrec.runs.run",
    "Trainer": "gmmrec.training.trainer",
    "Vocabulary": "gmmrec.data.vocabulary",
    "blend": "gmmrec.runs.combine",
    "build_graph": "gmmrec.graph.build",
    "evaluate": "gmmrec.evaluation.evaluator",
    "fit": "gmmrec.runs.recipe",
    "load": "gmmrec.runs.run",
    "load_dataset": "gmmrec.data.load",
    "rerank": "gmmrec.runs.combine",
    "split_dataset": "gmmrec.data.split",
}

__all__ = [
    "MODELS",
    "Dataset",
    "FeatureTable",
    "Interactions",
    "Recommender",
    "Run",
    "Trainer",
    "Vocabulary",
    "blend",
    "build_graph",
    "evaluate",
    "fit",
    "load",
    "load_dataset",
    "rerank",
    "split_dataset",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise missing_attribute("gmmrec", name)
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
