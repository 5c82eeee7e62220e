"""Optional abilities of a model beyond the contract of :mod:`gmmrec.recommender`, one class per ability.

A model lists its abilities among its bases, ``class MARIO(Recommender[UserQuery, MARIOConfig], WeighsModalities)``, and implements
their methods. Parameter names are checked when the class is created; the types of ``encoded`` and ``query`` are up to the model.
Callers use :func:`offered` and never look for methods themselves.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor
from typing_extensions import Self

from gmmrec.errors import WrongTypeError
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.recommender import AnyRecommender


class Ability(ABC):  # noqa: B024  (subclasses declare the methods)
    """Base of all abilities, which checks that a class declaring one also has its methods."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if Ability in cls.__bases__:
            return  # an ability itself
        for ability in cls.__mro__:
            if Ability in ability.__bases__:
                for name in sorted(getattr(ability, "__abstractmethods__", ())):
                    _check_member(cls, ability, name)


A = TypeVar("A", bound=Ability)


def offered(model: AnyRecommender, ability: type[A]) -> A | None:
    """Return the model, typed as offering an ability, or None if it does not offer it."""
    return model if isinstance(model, ability) else None


def offers(model_class: type[AnyRecommender], ability: type[Ability]) -> bool:
    """Return True if a model class declares an ability."""
    return issubclass(model_class, ability)


# Construction


class AcceptsParts(Ability):
    """Custom modules instead of built-in ones.

    Used by ``fit(..., parts=...)`` and when a run trained that way is loaded. Without it, parts are refused.
    """

    @property
    @abstractmethod
    def custom_parts(self) -> Mapping[str, Any]:
        """Custom parts by role, each a class or function that builds one."""

    @classmethod
    @abstractmethod
    def with_parts(cls, schema: GraphSchema, config: Any, parts: Mapping[str, Any]) -> Self:
        """Build the model with custom parts by role, each a class or function that builds one.

        Raises:
            UsageError: A role is unknown.
        """


class CombinesModels(Ability):
    """A model that consists of trained models. Used when ensembles are built: it cannot be a member of one."""


# Explanations


class Attends(Ability):
    """Attention weights of individual tokens.

    Used by explanations, with precedence over the two abilities below. A model with none of the three cannot be explained.
    """

    @abstractmethod
    def attention(self, encoded: Any, query: Any, items: Tensor) -> dict[str, Tensor]:
        """Return the weights for B queries and one item each ``[B]``.

        Weights are given by modality, ``[B, T]``, or ``[B]`` for a single token; those of one softmax sum to 1. Names starting with
        ``user:`` belong to the user side; if these tokens are items, their rows are given under the same name plus ``_items``,
        padded with -1.
        """


class WeighsModalities(Ability):
    """Weights of whole modalities. Used by explanations of models without :class:`Attends`."""

    @abstractmethod
    def modality_weights(self, graph: MultimodalGraph, users: Tensor, items: Tensor) -> dict[str, Tensor]:
        """Return weights ``[B, C]``, or ``[B, C, d]`` if per dimension, for user rows ``[B]`` and item rows ``[B, C]``."""


class SplitsScores(Ability):
    """Scores that are sums over modalities. Used by explanations of models with neither of the two abilities above."""

    @abstractmethod
    def modality_scores(self, graph: MultimodalGraph, users: Tensor, items: Tensor) -> dict[str, Tensor]:
        """Return the contribution of every modality ``[B, C]``, for user rows ``[B]`` and item rows ``[B, C]``."""


# Outfits


class ScoresCompatibility(Ability):
    """A compatibility score of a whole outfit.

    Used when outfits are evaluated. Without it, compatibility is the mean score of the items, each completing the others.
    """

    @abstractmethod
    def compatibility(self, encoded: Any, query: Any) -> Tensor:
        """Return one score per outfit ``[B]``; higher is better."""


class StopsOutfits(Ability):
    """A score for adding no further item.

    Used when outfits are completed. Without it, outfits grow to the maximum size requested.
    """

    @abstractmethod
    def stop_score(self, encoded: Any, query: Any) -> Tensor | None:
        """Return the score of stopping here ``[B]``, on the scale of ``score``, or None if it was not learned."""


class GeneratesText(Ability):
    """Generated comments on items.

    Used when outfits are completed. Without it, the result has no ``comment`` column.
    """

    @property
    @abstractmethod
    def can_comment(self) -> bool:
        """True if the model was trained to write comments."""

    @abstractmethod
    def comment(self, encoded: Any, query: Any, items: Tensor) -> Tensor:
        """Return word ids ``[B, T]`` of comments on items ``[B]``, one per query, padded with 0. Outfits must not be empty."""


# Users and weights


class WarmStarts(Ability):
    """Model-specific initialisation from the weights of a finished run, possibly of another domain.

    Used by ``init_from``. Without it, the ID tables are filled with the vectors of users and items that both runs share.
    """

    @abstractmethod
    def start_from(self, source: AnyRecommender) -> bool:
        """Copy weights from ``source``; return False if the ID tables are still to be filled.

        Raises:
            UsageError: The source is of another kind or size.
        """


class ReadsHistories(Ability):
    """Histories of limited length, given in the query.

    Used by serving, which truncates histories to this length. Without it, a model whose query holds a history gets all of it, and
    one that completes outfits gets none.
    """

    @property
    @abstractmethod
    def history_length(self) -> int:
        """Maximum number of items read, the newest ones."""


class FoldsInUsers(Ability):
    """Scores for users unseen in training, from their interactions in the graph.

    Used by ``recommend(histories=...)``. A personalised model with neither this nor :class:`ReadsHistories` scores a new user as
    the trained users with the most similar histories; see :class:`gmmrec.ensemble.neighbours.NeighbourUsers`.
    """

    @property
    def folds_in_users(self) -> bool:
        """True unless the settings of this model rule it out."""
        return True


class ReadsUserFeatures(Ability):
    """Users represented by their features, too.

    Used by serving: without it, a user without interactions gets popular items, whatever features they have.
    """

    @property
    def reads_user_features(self) -> bool:
        """True unless the settings of this model rule it out."""
        return True


class IgnoresFeatures(Ability):
    """Scores that do not depend on the features of items.

    Used by serving, which never recommends an item that has neither training interactions nor features that the model reads.
    Without it, a model is taken to read the features of items, and a model of histories only if it is :class:`FeatureBased`.
    """

    @property
    def ignores_features(self) -> bool:
        """True unless the settings of this model rule it out."""
        return True


def ignores_features(model: AnyRecommender) -> bool:
    """Return whether a model declares that its scores do not depend on the features of items."""
    ignoring = offered(model, IgnoresFeatures)
    return ignoring is not None and ignoring.ignores_features


def reads_user_features(model: AnyRecommender) -> bool:
    """Return whether a model declares that it represents users by their features, too."""
    reading = offered(model, ReadsUserFeatures)
    return reading is not None and reading.reads_user_features


# Hints for the contract suite


class NonPersonalized(Ability):
    """The same ranking for every user, with or without a history. The contract suite then skips checks of personalisation."""


class FeatureBased(Ability):
    """Candidates represented by their features, not by their ID alone, in a model that reads histories.

    Serving then recommends items without training interactions, too. The contract suite expects that changing an item's features
    changes its score.
    """


class StandardizesScores(Ability):
    """Scores on a scale fitted to the training interactions of all items, in a model that reads histories.

    The contract suite then keeps training interactions fixed when it changes later ones.
    """


def _check_member(cls: type, ability: type, name: str) -> None:
    declared, actual = (inspect.getattr_static(owner, name) for owner in (ability, cls))
    if getattr(actual, "__isabstractmethod__", False):
        member = f"property {name}" if isinstance(declared, property) else f"method {name}({', '.join(_parameters(declared))})"
        raise WrongTypeError(f"{cls.__name__} declares {ability.__name__}, but has no {member}; implement it, or drop the ability")
    if isinstance(declared, property):
        if callable(actual):
            raise WrongTypeError(f"{cls.__name__}.{name} must be a property, as in {ability.__name__}; decorate it with @property")
        return
    if isinstance(declared, classmethod) and not isinstance(actual, classmethod):
        raise WrongTypeError(
            f"{cls.__name__}.{name} must be a class method, as in {ability.__name__}; decorate it with @classmethod"
        )
    names = _parameters(declared)
    parameters = _parameters(actual)
    extra = [p for p in list(parameters.values())[len(names) :] if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if list(parameters)[: len(names)] != list(names) or any(p.default is p.empty for p in extra):
        raise WrongTypeError(
            f"{cls.__name__}.{name} must take ({', '.join(names)}), as in {ability.__name__}, but takes "
            f"({', '.join(parameters)}); rename its parameters, and give extra ones a default"
        )


def _parameters(method: Any) -> dict[str, inspect.Parameter]:
    """Return the parameters after ``self``."""
    return dict(list(inspect.signature(getattr(method, "__func__", method)).parameters.items())[1:])
