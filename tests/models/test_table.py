"""The table of models: names first, classes when they are looked up."""

import pytest

from gmmrec.models import CARDS, MODELS
from gmmrec.models.lightgcn import LightGCN
from gmmrec.recommender import Recommender


@pytest.mark.parametrize("name", CARDS)
def test_every_row_names_a_model_and_its_query(name):
    model_class = MODELS[name]
    assert issubclass(model_class, Recommender)
    assert CARDS[name].query == model_class.query_type.__name__
    assert MODELS.name_of(model_class) == name


def test_a_class_of_another_module_has_no_name():
    assert MODELS.name_of(type("LightGCN", (LightGCN,), {"__module__": "mine"})) is None
    assert MODELS.name_of(type("LightGCN", (LightGCN,), {"__module__": "gmmrec.models.lightgcn"})) is None


def test_names_are_in_order():
    assert list(CARDS) == sorted(CARDS)
    with pytest.raises(KeyError):
        MODELS["lihgtgcn"]
