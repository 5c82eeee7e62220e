"""Models of files are planned without memory before they are built."""

from pathlib import Path

import pytest
import torch
from torch import nn

from gmmrec.errors import DataError
from gmmrec.models import MODELS
from gmmrec.runs.rebuild import SLACK, reading, rebuilt
from gmmrec.testing.boards import toy_graph
from gmmrec.testing.queries import board

RANK_ITEMS = {name: model for name, model in MODELS.items() if model.query_type.target == "item"}
PATH = Path("model.safetensors")


@pytest.mark.parametrize("name", RANK_ITEMS)
def test_every_model_can_be_planned(name):
    model_class = RANK_ITEMS[name]
    schema = toy_graph(board(model_class)[0]).schema
    weights = model_class(schema, model_class.config_class()).state_dict()
    again = rebuilt(lambda: model_class(schema, model_class.config_class()), weights, PATH)
    assert {name: value.shape for name, value in again.state_dict().items()} == {
        name: value.shape for name, value in weights.items()
    }
    assert not any(value.is_meta for value in (*again.parameters(), *again.buffers()))


class Layers(nn.Module):
    def __init__(self, count: int, width: int = 2) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(count))


def test_a_model_of_other_weights_is_refused_before_it_is_built():
    built = []

    def build(width: int = 10**9):
        built.append(torch.empty(0).device.type)
        return Layers(1, width)

    with pytest.raises(DataError, match=r"ask for \[1000000000, 1000000000\] float32 as weight 'layers.0.weight'"):
        rebuilt(build, Layers(1).state_dict(), PATH)
    assert built == ["meta"]


def test_endless_layers_are_refused():
    with pytest.raises(DataError, match="far more layers than it holds weights of"):
        rebuilt(lambda: Layers(10**12), Layers(1).state_dict(), PATH)
    deep = Layers(SLACK)  # as many as there are weights of
    assert len(rebuilt(lambda: Layers(SLACK), deep.state_dict(), PATH).layers) == SLACK


def test_errors_of_constructors_name_the_file():
    for error in (ZeroDivisionError, KeyError, RuntimeError, AssertionError):
        with pytest.raises(DataError, match=r"model\.safetensors holds impossible settings"), reading(PATH):
            raise error("x")


def test_other_types_of_weights_are_refused():
    weights = {name: value.double() for name, value in Layers(1).state_dict().items()}
    with pytest.raises(DataError, match=r"but it holds .* float64"):
        rebuilt(lambda: Layers(1), weights, PATH)
