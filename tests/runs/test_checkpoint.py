import json
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import save_file

from gmmrec.data.split import Split
from gmmrec.graph.build import build_graph
from gmmrec.models import MODELS
from gmmrec.runs.checkpoint import load_model, save_model
from gmmrec.tasks.query import RatingQuery
from gmmrec.testing import checkerboard, rated_checkerboard


def toy_graph(dataset):
    nothing = dataset.interactions.take(torch.empty(0, dtype=torch.long))
    return build_graph(dataset, Split(dataset.interactions, nothing, nothing))


@pytest.mark.parametrize("name", sorted(name for name, model in MODELS.items() if model.query_type.target == "item"))
def test_a_saved_model_is_rebuilt_without_the_data(name, tmp_path):
    board = rated_checkerboard if MODELS[name].query_type is RatingQuery else checkerboard
    graph = toy_graph(board()[0])
    model = MODELS[name](graph.schema, MODELS[name].config_class())
    graph = model.prepare(graph)
    save_model(model, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert (loaded.schema, loaded.config) == (model.schema, model.config)
    assert not loaded.training
    with torch.no_grad():
        expected, found = model.eval().encode(graph), loaded.encode(graph)
    for ours, theirs in zip(expected.tensors(), found.tensors(), strict=True):
        assert torch.equal(ours.to_dense(), theirs.to_dense())


def test_a_file_without_a_model_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(ValueError, match=r"there is no file .*model\.safetensors"):
        load_model(path)
    path.write_text("hello")
    with pytest.raises(ValueError, match="is damaged or not a saved model"):
        load_model(path)
    save_file({"x": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="holds tensors but no gmmrec model"):
        load_model(path)
    schema = json.dumps(asdict(toy_graph(checkerboard()[0]).schema))
    save_file({"x": torch.ones(1)}, path, metadata={"model": "abc", "schema": schema, "config": "{}"})
    with pytest.raises(ValueError, match="class abc, which comes from outside gmmrec"):
        load_model(path)
