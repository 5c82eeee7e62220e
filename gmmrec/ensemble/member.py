"""Members of an ensemble: trained models, described so that a saved ensemble can rebuild them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from gmmrec.abilities import AcceptsParts, CombinesModels, offered
from gmmrec.graph.multimodal import GraphSchema
from gmmrec.models.lookup import build_model, name_of, part_paths, stored_model
from gmmrec.recommender import AnyRecommender, Encoded
from gmmrec.tasks.query import UserQuery

CELLS = 2**24
"""Scores of one member held at once: 64 MB."""


@dataclass(frozen=True)
class Member:
    """One trained model of an ensemble: all that its constructor needs.

    A model that ranks items in a context is asked without one.
    """

    model: str
    """Name of its class; see :func:`gmmrec.models.lookup.name_of`."""
    config: Mapping[str, Any]
    """Its settings."""
    schema: Mapping[str, Any]
    """Fields of the schema it was built with."""
    model_class: type[AnyRecommender] | None = field(default=None, repr=False, compare=False, metadata={"stored": False})
    """The class itself, where its name must not be imported; never stored."""
    part_paths: Mapping[str, str] = field(default_factory=dict)
    """Where parts of the caller's own that it was built with are defined, by role."""
    parts: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False, metadata={"stored": False})
    """These parts; never stored."""

    @classmethod
    def of(cls, model: AnyRecommender) -> "Member":
        """Describe a trained model.

        Raises:
            ValueError: The model is an ensemble itself, or does not rank items for users.
        """
        if offered(model, CombinesModels):
            raise ValueError(f"a {type(model).__name__} cannot be a member of an ensemble; name the runs that it is made of")
        if not model.query_type.ranks_for_users:
            raise ValueError(
                f"a member must rank items for users, but {name_of(type(model))} answers {model.query_type.__name__}; "
                "take a run of another model"
            )
        built = offered(model, AcceptsParts)
        return cls(
            *(name_of(type(model)), asdict(model.config), asdict(model.schema), type(model)),
            part_paths=part_paths(model),
            parts={} if built is None else built.own_parts,
        )

    def build(self) -> AnyRecommender:
        """Return the model with initial weights."""
        model_class = self.model_class or stored_model(self.model)
        return build_model(model_class, self.graph_schema, model_class.config_class(**self.config), self.parts)

    @property
    def graph_schema(self) -> GraphSchema:
        """The schema it was built with."""
        return GraphSchema.from_dict(self.schema)


def member_scores(model: AnyRecommender, encoded: Encoded, query: UserQuery, candidates: Tensor) -> Tensor:
    """Return a member's own scores ``[B, C]``; a context is left open where the model would take one."""
    return model.score(encoded, model.query_type.for_users(query.user), candidates)
