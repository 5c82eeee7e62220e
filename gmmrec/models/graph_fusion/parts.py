"""Custom parts of GraphFusion: builders by role that replace the parts named in the settings.

=================== ========================================== ======================================= ==================
role                built as                                   called as                               replaces
=================== ========================================== ======================================= ==================
``fusion``          ``(dim, num_tokens)``                      ``(tokens [N, M, D], mask [N, M])``     ``fusion``
``encoder``         ``(dim, num_layers)``                      ``(ids, edges)``, pairs (user, item)    ``ids``
``content``         ``(num_users, feature_dim, dim,            ``(features [I, F])``, or as below      ``content``
                    num_layers)``
``content.image``   likewise                                   likewise                                ``content`` of one
                                                                                                       modality
``decoder``         ``(dim)``                                  ``(queries, candidates)``, to scores    ``decoder``
=================== ========================================== ======================================= ==================

A fusion is built separately for items and for users if they have more than one view; for users the mask is None. A content
encoder with a parameter ``preference`` ``[U, P]`` also provides views of users: it is called as
``(preference, features, present, ids, edges)`` and returns a pair (users, items); see :mod:`gmmrec.nn.encoder`.
"""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from torch import Tensor, nn

from gmmrec.errors import UsageError
from gmmrec.nn.encoder.by_name import contents

Builder: TypeAlias = Callable[..., Any]
"""Class or function that builds a part."""
NO_PARTS: Mapping[str, Builder] = MappingProxyType({})
OWN = "own"
"""Name of a custom part in place of a built-in one's."""
ARGUMENTS = {
    "fusion": "dim, num_tokens",
    "encoder": "dim, num_layers",
    "content": "num_users, feature_dim, dim, num_layers",
    "decoder": "dim",
}
"""Arguments of builders by role."""


class OwnParts:
    """Builders by role.

    Args:
        builders: Builders by role.
        modalities: Modalities of the items.

    Raises:
        UsageError: A role is unknown, or its value is not a builder.
    """

    def __init__(self, builders: Mapping[str, Builder], modalities: tuple[str, ...]) -> None:
        roles = [*ARGUMENTS, *(f"content.{name}" for name in modalities)]
        for role, builder in builders.items():
            if role not in roles:
                raise UsageError(f"GraphFusion has no part {role!r}; its roles are {', '.join(roles)}")
            if isinstance(builder, nn.Module) or not callable(builder):
                made = f"{role}({ARGUMENTS[role.partition('.')[0]]})"
                raise UsageError(
                    f"the part {role!r} must be a class or a function that is called as {made}, but is an object of type "
                    f"{type(builder).__name__}; give its class, or a function that returns it"
                )
        self.builders = dict(builders)
        self._built: set[str] = set()

    def __contains__(self, role: str) -> bool:
        return role in self.builders

    def contents(self, modalities: tuple[str, ...], content: str | Mapping[str, str]) -> dict[str, str]:
        """Return the kind of content encoder of every modality that has one; :data:`OWN` for custom encoders."""
        named = contents(modalities, content)
        kinds = {name: OWN if self.content_role(name) in self else named.get(name) for name in modalities}
        return {name: kind for name, kind in kinds.items() if kind is not None}

    def content_role(self, modality: str) -> str:
        """Return the role that builds the encoder of a modality."""
        own = f"content.{modality}"
        return own if own in self else "content"

    def build(self, role: str, *arguments: int) -> Any:
        """Build a part.

        Raises:
            UsageError: The builder takes other arguments, or builds no module.
        """
        self._built.add(role)
        builder, expected = self.builders[role], ARGUMENTS[role.partition(".")[0]]
        name = getattr(builder, "__qualname__", type(builder).__name__)
        try:
            inspect.signature(builder).bind(*arguments)
        except TypeError as error:
            raise UsageError(f"the part {role!r} is built as {name}({expected}), but {name}: {error}; let it take these") from None
        built = builder(*arguments)
        if not (isinstance(built, nn.Module) or (role == "decoder" and callable(built))):
            raise UsageError(f"the part {role!r} must be an nn.Module, but {name} built an object of type {type(built).__name__}")
        return built

    def check_used(self) -> None:
        """Refuse parts that the settings leave unused.

        Raises:
            UsageError: A part was not built.
        """
        unused = [role for role in self.builders if role not in self._built]
        if unused:
            why = {
                "fusion": "no node has more than one view; set content",
                "content": "no modality is left for it; give data with one",
            }
            raise UsageError(f"the part {unused[0]!r} is not used, as {why[unused[0]]}, or leave it out")


def preference_of(encoder: nn.Module) -> Tensor | None:
    """Return the user preferences of a content encoder; None if it encodes features only."""
    return dict(encoder.named_parameters(recurse=False)).get("preference")
