from typing import ClassVar

import pytest

from gmmrec.models import MODELS
from gmmrec.models.nova_bert import NOVABERT
from gmmrec.testing import RecommenderContract

RANK_ITEMS = {name: model for name, model in MODELS.items() if model.query_type.target == "item"}
"""Models of other things have a suite of their own: see ``test_mkgformer.py``."""


SETTINGS = {
    "bert4rec": {"dim": 16},  # a Transformer of 64 does not learn at so high a rate
    "nova-bert": {"dim": 16},  # likewise
    "vlsnr": {"dim": 16},  # so it is with this
    "mm-rec": {"dim": 16},  # and with this
    "pog": {"dim": 16, "hidden_dim": 16},  # and so with this
    "mcptr": {"neighbors": 24},  # all there are: which of equally near ones are taken depends on the rows
    "mmgcn": {"dim": 16},  # at 64 it learns so small a set by heart
    "uvcan": {"dim": 8},  # likewise
    "mml": {"dim": 16, "num_layers": 1, "inner_steps": 1, "adapt_steps": 1},  # many tasks for so small a set
    "mmt-net": {"dim": 16},  # so does this
    "nrpa": {"max_reviews": 30},  # all there are: which of many are read depends on the rows
}
"""Settings other than the defaults, by model."""


def test_settings_are_of_models() -> None:
    assert set(SETTINGS) <= set(RANK_ITEMS)


@pytest.mark.parametrize(
    ("model_class", "settings"), [pytest.param(model, SETTINGS.get(name, {}), id=name) for name, model in RANK_ITEMS.items()]
)
class TestEveryModel(RecommenderContract):
    """The whole contract, for every model."""


class TestInvasiveNOVABERT(RecommenderContract):
    """Its histories are read by another Transformer."""

    model_class = NOVABERT
    settings: ClassVar = {"dim": 16, "invasive": True}
