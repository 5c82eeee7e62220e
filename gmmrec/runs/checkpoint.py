"""A trained model on disk: one safetensors file with the weights, and name, schema and settings in its header. No pickle."""

import json
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from gmmrec.ensemble.blend import Blend
from gmmrec.ensemble.two_stage import TwoStage
from gmmrec.graph.multimodal import GraphSchema
from gmmrec.models import MODELS
from gmmrec.recommender import AnyRecommender

MIXTURES: dict[str, type[AnyRecommender]] = {"blend": Blend, "two-stage": TwoStage}


def save_model(model: AnyRecommender, path: Path) -> None:
    """Writes weights, name, schema and settings to ``path``; together they rebuild the model without the data."""
    mixtures = {model_class: name for name, model_class in MIXTURES.items()}
    header = {
        "model": mixtures.get(type(model)) or MODELS.name_of(type(model)) or type(model).__qualname__,
        "schema": json.dumps(asdict(model.schema)),
        "config": json.dumps(asdict(model.config)),
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, path, metadata=header)


def load_model(path: Path, model_class: type[AnyRecommender] | None = None) -> AnyRecommender:
    """Rebuilds a saved model, in evaluation mode.

    Args:
        path: What :func:`save_model` wrote.
        model_class: Needed for a class of your own, which the table of models does not know.

    Raises:
        ValueError: The file is not a saved model, or its class is unknown.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (a safe_open is no mapping)
    except (SafetensorError, FileNotFoundError) as error:
        raise ValueError(f"{path} is not a saved model ({error}); train one with 'gmmrec train --out DIR'") from error
    if "model" not in header:
        raise ValueError(f"{path} holds tensors but no gmmrec model; train one with 'gmmrec train --out DIR'")
    if model_class is None:
        name = header["model"]
        if name not in MIXTURES and name not in MODELS:
            raise ValueError(f"{path} holds a {name!r}, which is none of gmmrec's models; pass model_class=")
        model_class = MIXTURES[name] if name in MIXTURES else MODELS[name]
    model = model_class(schema_from_json(header["schema"]), model_class.config_class(**json.loads(header["config"])))
    model.load_state_dict(tensors)
    return model.eval()


def schema_from_json(text: str) -> GraphSchema:
    """A schema from the JSON of its fields.

    >>> text = '{"num_nodes": {"user": 2}, "feature_dims": {}, "feature_nodes": {}, "relations": [["a", "b", "c"]]}'
    >>> schema_from_json(text).relations
    (('a', 'b', 'c'),)
    """
    fields = json.loads(text)
    relations = tuple((source, name, target) for source, name, target in fields.pop("relations"))
    return GraphSchema(relations=relations, **fields)
