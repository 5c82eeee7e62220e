"""The table of models: names at once, classes on lookup."""

import pytest

from gmmrec.models import CARDS, MODELS
from gmmrec.models.lightgcn import LightGCN
from gmmrec.recommender import Recommender


@pytest.mark.parametrize("name", CARDS)
def test_rows_name_a_model_and_its_query(name):
    model_class = MODELS[name]
    assert issubclass(model_class, Recommender)
    assert CARDS[name].query == model_class.query_type.__name__
    assert MODELS.name_of(model_class) == name


def test_classes_of_other_modules_have_no_name():
    assert MODELS.name_of(type("LightGCN", (LightGCN,), {"__module__": "mine"})) is None
    assert MODELS.name_of(type("LightGCN", (LightGCN,), {"__module__": "gmmrec.models.lightgcn"})) is None


def test_names_are_sorted():
    assert list(CARDS) == sorted(CARDS)
    with pytest.raises(KeyError):
        MODELS["lihgtgcn"]
