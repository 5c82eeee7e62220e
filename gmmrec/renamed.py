"""Renamed names, and the error that gives the new one."""

from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import NoReturn

from gmmrec.errors import UsageError

RENAMED: dict[str, str] = {
    # metrics: an evaluation task, as it stands in front of its metrics
    "blanks/": "fill_in_the_blank/",
    "links/": "link_prediction/",
    "ratings/": "rating/",
    # settings
    "split.facts": "split.triples",
    # attributes of a run
    "Run.eval_config": "Run.config.eval",
    "Run.exams": "Run.other_results",
    # modules
    "gmmrec.blending": "gmmrec.runs.combine",
    "gmmrec.checkpoint": "gmmrec.runs.checkpoint",
    "gmmrec.data.errors": "gmmrec.errors",
    "gmmrec.data.lists": "gmmrec.data.ragged",
    "gmmrec.data.sources": "gmmrec.data.formats",
    "gmmrec.evaluation.choices": "gmmrec.evaluation.candidates",
    "gmmrec.evaluation.exams": "gmmrec.evaluation.kinds",
    "gmmrec.evaluation.links": "gmmrec.evaluation.link_prediction",
    "gmmrec.evaluation.sets": "gmmrec.evaluation.compatibility",
    "gmmrec.evaluation.weights": "gmmrec.ensemble.weights",
    "gmmrec.experiment": "gmmrec.runs.recipe",
    "gmmrec.explain.outfit_page": "gmmrec.report.outfits",
    "gmmrec.explain.overlay": "gmmrec.report.overlay",
    "gmmrec.explain.picture": "gmmrec.report.picture",
    "gmmrec.nn.encoder.knowledge": "gmmrec.models.graph_fusion.knowledge",
    "gmmrec.nn.encoder.neighbour_generator": "gmmrec.models.mml.neighbour_generator",
    "gmmrec.nn.encoder.review": "gmmrec.models.nrpa.review",
    "gmmrec.nn.encoder.semantic_extraction": "gmmrec.models.saers.semantic_extraction",
    "gmmrec.nn.fusion.prediction": "gmmrec.models.mml.prediction",
    "gmmrec.nn.meta": "gmmrec.models.mml.meta",
    "gmmrec.nn.moments": "gmmrec.models.mmt_net.moments",
    "gmmrec.nn.sequence.adaptive": "gmmrec.models.mml.adaptive",
    "gmmrec.nn.standardize": "gmmrec.models.mmt_net.standardize",
    "gmmrec.nn.triplet": "gmmrec.models.pog.triplet",
    "gmmrec.reranking": "gmmrec.runs.combine",
    "gmmrec.run": "gmmrec.runs.run",
    "gmmrec.serving.links": "gmmrec.serving.link_prediction",
    "gmmrec.tasks.link": "gmmrec.tasks.link_prediction",
    "gmmrec.tasks.questions": "gmmrec.tasks.evaluation_tasks",
    "gmmrec.two_stage": "gmmrec.ensemble.two_stage",
    # classes in modules that stayed; the module ends with ``refuse_old_names``
    "gmmrec.data.outfits.Blanks": "gmmrec.data.outfits.FillInTheBlank",
    "gmmrec.serving.outfit.EndsOutfits": "gmmrec.abilities.StopsOutfits",
    "gmmrec.serving.outfit.WritesComments": "gmmrec.abilities.GeneratesText",
    "gmmrec.tasks.query.LinkQuery": "gmmrec.tasks.query.LinkPredictionQuery",
}
"""New names by old ones: metrics (``"TASK/"`` for all of a task), settings (``"train.lr"``), other flags (``"--knn"``),
attributes (``"Run.exams"``), and modules by their whole path."""


def new_name(name: str) -> str | None:
    """Return the new name of an old one, None of any other; a setting may be named without its section.

    >>> new_name("links/mrr"), new_name("recall@20")
    ('link_prediction/mrr', None)
    """
    if name in RENAMED:
        return RENAMED[name]
    task, slash, metric = name.rpartition("/")
    if slash and task + slash in RENAMED:
        return RENAMED[task + slash] + metric
    settings = (new for old, new in RENAMED.items() if old.count(".") == 1 and old[0].islower() and old.endswith(f".{name}"))
    return next((new.rpartition(".")[2] for new in settings if not new.startswith("gmmrec.")), None)


def refuse_renamed(name: str) -> None:
    """Refuse a name that was renamed.

    Raises:
        UsageError: The name is an old one; the message gives the new one.

    >>> refuse_renamed("recall@20")
    >>> refuse_renamed("links/mrr")
    Traceback (most recent call last):
    ...
    gmmrec.errors.UsageError: 'links/mrr' is now called 'link_prediction/mrr'
    """
    if (new := new_name(name)) is not None:
        raise UsageError(f"{name!r} is now called {new!r}")


def missing_attribute(owner: str, name: str) -> AttributeError:
    """Return the error for an attribute that a module or a class does not have.

    >>> missing_attribute("gmmrec", "experiment")
    AttributeError("'gmmrec.experiment' is now called 'gmmrec.runs.recipe'")
    """
    old = f"{owner}.{name}"
    if old in RENAMED:
        return AttributeError(f"{old!r} is now called {RENAMED[old]!r}")
    return AttributeError(f"{owner!r} has no attribute {name!r}")


def refuse_old_names(module: str) -> Callable[[str], NoReturn]:
    """Return the ``__getattr__`` of a module with renamed classes.

    It is assigned unless ``TYPE_CHECKING``: otherwise type checkers would let every misspelt name pass. The error of an old name is
    an ``ImportError``, as Python replaces the message of an ``AttributeError`` in ``from module import name``.
    """

    def refuse(name: str) -> NoReturn:
        error = missing_attribute(module, name)
        if f"{module}.{name}" in RENAMED:
            raise ImportError(str(error), name=module)
        raise error

    return refuse


class RenamedModules(MetaPathFinder):
    """Import hook that finds no module, and names the new place of those that have moved."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Return nothing.

        Raises:
            ModuleNotFoundError: The module has moved.
        """
        if fullname in RENAMED:
            raise ModuleNotFoundError(f"{fullname!r} is now called {RENAMED[fullname]!r}", name=fullname)
