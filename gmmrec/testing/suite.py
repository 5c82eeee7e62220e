"""Test class of a model, with its class and settings."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch

from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.recommender import AnyRecommender, Recommender
from gmmrec.testing.queries import asking


class ModelSuite:
    """Tests of one model, ``model_class``, or of several: then a subclass is parametrised over ``model_class``.

    Both names are also fixtures, so that ``pytest.mark.parametrize`` can replace the attributes.
    """

    model_class: ClassVar[type[AnyRecommender]]
    """Class of the model, built as ``model_class(schema, config)``."""
    settings: ClassVar[Mapping[str, Any]] = {}
    """Settings that differ from the defaults."""

    def build(
        self, model_class: type[AnyRecommender], graph: MultimodalGraph, *, seed: int = 0
    ) -> tuple[AnyRecommender, MultimodalGraph]:
        """Return a new model in evaluation mode, and its prepared graph."""
        torch.manual_seed(seed)
        model = model_class(graph.schema, model_class.config_class(**self._chosen))
        with torch.no_grad():
            return model.eval(), model.prepare(graph)

    @pytest.fixture(name="model_class")
    def _model_class(self) -> type[AnyRecommender]:
        name, found = type(self).__name__, getattr(type(self), "model_class", None)
        if not (isinstance(found, type) and issubclass(found, Recommender)):
            what = "is missing" if found is None else f"is {found!r}"
            pytest.fail(
                f"{name}.model_class must be a subclass of gmmrec.Recommender, but {what}; write 'model_class = MyModel'", False
            )
        return found

    @pytest.fixture(name="settings")
    def _settings(self) -> Mapping[str, Any]:
        return type(self).settings

    @pytest.fixture(autouse=True)
    def _choose(self, model_class: type[AnyRecommender], settings: Mapping[str, Any]) -> None:
        self._chosen = settings
        try:
            asking(model_class.query_type)
        except ValueError as error:
            pytest.skip(str(error))
