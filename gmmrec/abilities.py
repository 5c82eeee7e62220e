"""All that a model may offer beyond the contract of :mod:`gmmrec.recommender`, one class per ability.

A model names its abilities among its bases, ``class MARIO(Recommender[UserQuery, MARIOConfig], WeighsModalities)``, and writes
their methods. Parameter names are compared when the class is made; the types of ``encoded`` and ``query`` are the model's own.
Callers ask with :func:`offered` and never look for methods themselves.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor
from typing_extensions import Self

from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.recommender import AnyRecommender


class Ability(ABC):  # noqa: B024  (its subclasses have the methods)
    """Base of all abilities: checks that a class which names one also has its methods."""

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
    """The model as one that has an ability, or None where it does not offer it."""
    return model if isinstance(model, ability) else None


def offers(model_class: type[AnyRecommender], ability: type[Ability]) -> bool:
    """Whether a class of models declares an ability."""
    return issubclass(model_class, ability)


# What a model is built from


class AcceptsParts(Ability):
    """Modules of the caller's own in place of built-in ones.

    Asked by ``fit(..., parts=...)`` and by loading a run that was trained so. Without it, parts are refused.
    """

    @property
    @abstractmethod
    def own_parts(self) -> Mapping[str, Any]:
        """The caller's own parts by role, each a class or function that builds one."""

    @classmethod
    @abstractmethod
    def with_parts(cls, schema: GraphSchema, config: Any, parts: Mapping[str, Any]) -> Self:
        """Build the model with parts by role, each a class or function that builds one.

        Raises:
            ValueError: A role is unknown.
        """


class CombinesModels(Ability):
    """A model made of trained models. Asked when ensembles are made: it cannot be a member of one."""


# What is shown of a score


class Attends(Ability):
    """Attention weights of single tokens.

    Asked by explanations, before the two abilities below. A model without any of the three cannot be explained.
    """

    @abstractmethod
    def attention(self, encoded: Any, query: Any, items: Tensor) -> dict[str, Tensor]:
        """Weights for B queries and one item each ``[B]``.

        By modality ``[B, T]``, or ``[B]`` where it has one token; what one softmax covers sums to 1. Names that begin with
        ``user:`` are of the user's side; where these tokens are items, their rows stand under the name with ``_items`` behind it,
        -1 in place of none.
        """


class WeighsModalities(Ability):
    """Weights of whole modalities. Asked by explanations of models that do not offer :class:`Attends`."""

    @abstractmethod
    def modality_weights(self, graph: MultimodalGraph, users: Tensor, items: Tensor) -> dict[str, Tensor]:
        """Weights ``[B, C]``, or ``[B, C, d]`` with one per dimension, for rows of users ``[B]`` and of items ``[B, C]``."""


class SplitsScores(Ability):
    """Scores that are sums over modalities. Asked by explanations of models that offer neither of the two above."""

    @abstractmethod
    def modality_scores(self, graph: MultimodalGraph, users: Tensor, items: Tensor) -> dict[str, Tensor]:
        """Contribution of every modality ``[B, C]``, for rows of users ``[B]`` and of items ``[B, C]``."""


# Outfits


class ScoresCompatibility(Ability):
    """A compatibility score of a whole outfit.

    Asked when outfits are evaluated. Without it, the score is the mean of the scores of the items, each completing the others.
    """

    @abstractmethod
    def compatibility(self, encoded: Any, query: Any) -> Tensor:
        """One number per outfit ``[B]``; higher is better."""


class EndsOutfits(Ability):
    """A score for adding no further item.

    Asked when outfits are completed. Without it, outfits end at the largest size that was asked for.
    """

    @abstractmethod
    def end_score(self, encoded: Any, query: Any) -> Tensor | None:
        """Score of stopping here ``[B]``, on the scale of ``score``; None where that was not learned."""


class GeneratesText(Ability):
    """A comment on an item.

    Asked when outfits are completed; without it, the answer has no column ``comment``.
    """

    @property
    @abstractmethod
    def can_comment(self) -> bool:
        """Whether this model was trained to write comments."""

    @abstractmethod
    def comment(self, encoded: Any, query: Any, items: Tensor) -> Tensor:
        """Word ids ``[B, T]`` of comments on items ``[B]``, one per query; 0 behind the last. Outfits must not be empty."""


# Where users and weights come from


class WarmStarts(Ability):
    """A way of its own to begin with the weights of a finished run, which may be of another domain.

    Asked by ``init_from``. Without it, the id tables are filled with the vectors of the users and items that both runs know.
    """

    @abstractmethod
    def start_from(self, source: AnyRecommender) -> bool:
        """Take over weights; False where these settings want the id tables filled after all.

        Raises:
            ValueError: The source is of another kind or size.
        """


class ReadsHistories(Ability):
    """Histories of limited length, told in the query.

    Asked by serving, which cuts histories to this length. Without it, a model that is asked with histories gets them whole, and one
    that completes outfits gets none.
    """

    @property
    @abstractmethod
    def history_length(self) -> int:
        """Number of items that are read at most, the newest ones."""


class FoldsInUsers(Ability):
    """Scores for users who were not there in training, from their interactions in the graph; with the default settings at least.

    Asked by ``recommend(histories=...)``, which logs a warning where neither this nor :class:`ReadsHistories` is offered: new users
    then get the same list, and so the contract suite expects.
    """


# What the contract suite must know


class NonPersonalized(Ability):
    """The same ranking for everybody. The contract suite then expects nothing to be learned about single users."""


class FeatureBased(Ability):
    """Candidates known by their features, not by their id alone, in a model that reads histories.

    The contract suite then expects that new features of an item change the item's own score.
    """


class StandardizesScores(Ability):
    """Scores on a scale that is fitted to the training interactions of all items, in a model that reads histories.

    The contract suite then leaves training interactions alone when it changes what came later.
    """


def _check_member(cls: type, ability: type, name: str) -> None:
    asked, own = (inspect.getattr_static(owner, name) for owner in (ability, cls))
    if getattr(own, "__isabstractmethod__", False):
        wanted = f"property {name}" if isinstance(asked, property) else f"method {name}({', '.join(_parameters(asked))})"
        raise TypeError(f"{cls.__name__} declares {ability.__name__}, but has no {wanted}; write it, or leave the ability out")
    if isinstance(asked, property):
        if callable(own):
            raise TypeError(f"{cls.__name__}.{name} must be a property, as in {ability.__name__}; write @property above it")
        return
    if isinstance(asked, classmethod) and not isinstance(own, classmethod):
        raise TypeError(f"{cls.__name__}.{name} must be a class method, as in {ability.__name__}; write @classmethod above it")
    names = _parameters(asked)
    found = _parameters(own)
    further = [p for p in list(found.values())[len(names) :] if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if list(found)[: len(names)] != list(names) or any(p.default is p.empty for p in further):
        raise TypeError(
            f"{cls.__name__}.{name} must take ({', '.join(names)}), as in {ability.__name__}, but takes ({', '.join(found)}); "
            "rename its parameters, and give further ones a default"
        )


def _parameters(method: Any) -> dict[str, inspect.Parameter]:
    """Parameters behind ``self``."""
    return dict(list(inspect.signature(getattr(method, "__func__", method)).parameters.items())[1:])
