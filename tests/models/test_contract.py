import pytest

from gmmrec.models import MODELS
from tests.contract import RecommenderContract


@pytest.mark.parametrize("model_class", MODELS.values(), ids=MODELS)
class TestEveryModel(RecommenderContract):
    pass
