from typing import ClassVar

import pytest

from gmmrec.models import MODELS
from gmmrec.models.nova_bert import NOVABERT
from gmmrec.testing import RecommenderContract

RANK_ITEMS = {name: model for name, model in MODELS.items() if model.query_type.target == "item"}
"""Models that rank items. Models of other targets have their own suite, such as ``test_mkgformer.py``."""


SETTINGS = {
    "bert4rec": {"dim": 16},  # a Transformer of width 64 does not learn at the suite's learning rate
    "nova-bert": {"dim": 16},  # likewise
    "vlsnr": {"dim": 16},  # likewise
    "mm-rec": {"dim": 16},  # likewise
    "pog": {"dim": 16, "hidden_dim": 16},  # likewise
    "cmbf": {"encoder_layers": 0, "residual_input": True, "l2": 0.2},  # the defaults learn from some seeds only
    "mcptr": {"neighbors": 24},  # all of them, as ties between equally near ones are broken by row
    "mmgcn": {"dim": 16},  # at width 64 it overfits such a small data set
    "mmt-net": {"dim": 16},  # likewise
    "uvcan": {"dim": 8},  # likewise
    "mml": {"dim": 16, "num_layers": 1, "inner_steps": 1, "adapt_steps": 1},  # shortens the many tasks
    "nrpa": {"max_reviews": 30},  # all of them, as the selection depends on the rows
}
"""Non-default settings by model."""


def test_settings_belong_to_models() -> None:
    assert set(SETTINGS) <= set(RANK_ITEMS)


@pytest.mark.parametrize(
    ("model_class", "settings"), [pytest.param(model, SETTINGS.get(name, {}), id=name) for name, model in RANK_ITEMS.items()]
)
class TestEveryModel(RecommenderContract):
    """The full contract, for every model."""


class TestInvasiveNOVABERT(RecommenderContract):
    """The invasive variant, whose histories are read by another Transformer."""

    model_class = NOVABERT
    settings: ClassVar = {"dim": 16, "invasive": True}
