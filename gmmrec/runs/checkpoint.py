"""Trained models on disk: one safetensors file of weights, with class, schema and settings in its header. No pickle."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gmmrec.config import to_plain
from gmmrec.ensemble.member import Member
from gmmrec.ensemble.table import ENSEMBLES
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import GraphSchema
from gmmrec.models.lookup import build_model, given_parts, name_of, part_paths, stored_model
from gmmrec.recommender import AnyRecommender
from gmmrec.runs.rebuild import reading, rebuilt
from gmmrec.safety.tensors import header_json, read_tensors
from gmmrec.safety.types import check_fields
from gmmrec.storage.atomic import write_tensors
from gmmrec.training.resume import unshared

REMEDY = "train the run again"
Given = type[AnyRecommender] | Sequence[type[AnyRecommender]] | None
"""Model classes that the caller allows a file to name."""


def save_model(model: AnyRecommender, path: Path) -> None:
    """Write weights, class, schema and settings to ``path``; together they rebuild the model without the data.

    Raises:
        UsageError: A custom part has no importable name.
    """
    names: dict[type, str] = {model_class: name for name, model_class in ENSEMBLES.items()}
    parts = part_paths(model)
    header = {
        "model": names.get(type(model)) or name_of(type(model)),
        "schema": json.dumps(to_plain(model.schema)),
        "config": json.dumps(to_plain(model.config)),
        **({"parts": json.dumps(parts)} if parts else {}),
    }
    tensors = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    write_tensors(path, unshared(tensors), header)


def load_model(path: Path, given: Given = None, parts: Mapping[str, Any] | None = None) -> AnyRecommender:
    """Rebuild a saved model, in evaluation mode.

    Args:
        path: File written by :func:`save_model`.
        given: Classes from outside that the file may name: of the model itself, or of members of an ensemble.
        parts: Custom parts that the model was built with, by role.

    Raises:
        UsageError: The file is not a saved model, or names a class or a part that was not given.
    """
    classes = (given,) if isinstance(given, type) else tuple(given or ())
    tensors, header = read_tensors(path, "a saved model", "train one with 'gmmrec train --out DIR'")
    if not {"model", "schema", "config"} <= set(header):
        raise UsageError(f"{path} holds tensors but no gmmrec model; train one with 'gmmrec train --out DIR'")
    name, values = header["model"], header_json(header, "config", path, REMEDY)
    schema = GraphSchema.from_dict(header_json(header, "schema", path, REMEDY), str(path))
    if name in ENSEMBLES:
        ensemble = ENSEMBLES[name]

        def member(stored: Mapping[str, Any]) -> Member:
            check_fields(Member, stored, f"{path}, a member")
            own = given_parts(path, stored["part_paths"], parts or {})
            return Member(**stored, model_class=stored_model(stored["model"], classes), parts=own)

        with reading(path):
            settings = ensemble.config_class.stored(values, member)

        def build() -> AnyRecommender:
            return ensemble(schema, settings)

    else:
        model_class = stored_model(name, classes)
        check_fields(model_class.config_class, values, f"{path}, settings of the model")
        stored_parts = header_json(header, "parts", path, REMEDY) if "parts" in header else {}
        own_parts = given_parts(path, stored_parts, parts or {})

        def build() -> AnyRecommender:
            return build_model(model_class, schema, model_class.config_class(**values), own_parts)

    model = rebuilt(build, tensors, path, planned=not classes)
    model.load_state_dict(tensors)
    return model.eval()
