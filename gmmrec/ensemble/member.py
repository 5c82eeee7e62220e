"""Members of an ensemble: descriptions of trained models, from which a saved ensemble is rebuilt."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from gmmrec.abilities import AcceptsParts, CombinesModels, offered
from gmmrec.ensemble.neighbours import NeighbourUsers, score_with_neighbours
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import GraphSchema
from gmmrec.models.lookup import build_model, name_of, part_paths, stored_model
from gmmrec.recommender import AnyRecommender, Encoded
from gmmrec.tasks.query import UserQuery

CELLS = 2**24
"""Scores of one member held at once: 64 MB."""


@dataclass(frozen=True)
class Member:
    """Constructor arguments of one trained model of an ensemble.

    Models that rank items in a context are queried without one.
    """

    model: str
    """Name of its class; see :func:`gmmrec.models.lookup.name_of`."""
    config: Mapping[str, Any]
    """Settings of the model."""
    schema: Mapping[str, Any]
    """Fields of the schema the model was built with."""
    model_class: type[AnyRecommender] | None = field(default=None, repr=False, compare=False, metadata={"stored": False})
    """The class itself, if its name must not be imported; never stored."""
    part_paths: Mapping[str, str] = field(default_factory=dict)
    """Import paths of the caller's parts the model was built with, by role."""
    parts: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False, metadata={"stored": False})
    """The caller's parts by role; never stored."""

    @classmethod
    def of(cls, model: AnyRecommender) -> "Member":
        """Describe a trained model.

        Raises:
            UsageError: The model is an ensemble itself, or does not rank items for users.
        """
        if offered(model, CombinesModels):
            raise UsageError(f"a {type(model).__name__} cannot be a member of an ensemble; use the runs it is made of")
        if not model.query_type.ranks_for_users:
            raise UsageError(
                f"a member must rank items for users, but {name_of(type(model))} answers {model.query_type.__name__}; "
                "use a run of another model"
            )
        built = offered(model, AcceptsParts)
        return cls(
            *(name_of(type(model)), asdict(model.config), asdict(model.schema), type(model)),
            part_paths=part_paths(model),
            parts={} if built is None else built.custom_parts,
        )

    def build(self) -> AnyRecommender:
        """Return the model with initial weights."""
        model_class = self.model_class or stored_model(self.model)
        return build_model(model_class, self.graph_schema, model_class.config_class(**self.config), self.parts)

    @property
    def graph_schema(self) -> GraphSchema:
        """Schema the model was built with."""
        return GraphSchema.from_dict(self.schema)


def member_scores(
    model: AnyRecommender, encoded: Encoded, query: UserQuery, candidates: Tensor, neighbours: NeighbourUsers | None = None
) -> Tensor:
    """Return the scores of a member ``[B, C]``, without a context; a member that folds in no new users takes their neighbours."""
    return score_with_neighbours(model, encoded, model.query_type.for_users(query.user), candidates, neighbours)
