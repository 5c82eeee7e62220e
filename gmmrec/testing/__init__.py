"""Contract suite that checks your own model in three lines, and toy data with known answers.

In a test file::

    from gmmrec.testing import RecommenderContract

    class TestMine(RecommenderContract):
        model_class = MyModel

Requires pytest: ``pip install "gmmrec[testing]"``. No other part of gmmrec imports this package.
"""

try:
    import pytest
except ModuleNotFoundError as error:
    if error.name != "pytest":
        raise
    raise ModuleNotFoundError(
        "gmmrec.testing needs pytest, which is not installed; run: pip install 'gmmrec[testing]'", name="pytest"
    ) from None

pytest.register_assert_rewrite("gmmrec.testing.contract", "gmmrec.testing.extremes", "gmmrec.testing.histories")

from gmmrec.testing.boards import I, U, permuted, toy_graph, with_mask  # noqa: E402
from gmmrec.testing.contract import RecommenderContract  # noqa: E402
from gmmrec.testing.knowledge import circle, graph_of, without  # noqa: E402
from gmmrec.testing.learning import score_all, share_ordered, train  # noqa: E402
from gmmrec.testing.queries import asked, training_batch  # noqa: E402
from gmmrec.testing.toy import checkerboard, rated_checkerboard, with_outfits  # noqa: E402

__all__ = [
    "I",
    "RecommenderContract",
    "U",
    "asked",
    "checkerboard",
    "circle",
    "graph_of",
    "permuted",
    "rated_checkerboard",
    "score_all",
    "share_ordered",
    "toy_graph",
    "train",
    "training_batch",
    "with_mask",
    "with_outfits",
    "without",
]
