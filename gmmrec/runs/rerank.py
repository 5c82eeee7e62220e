"""Two finished runs in a row: the first finds candidates, the second ranks them."""

from pathlib import Path

from gmmrec.config import check_positive
from gmmrec.ensemble.blend import merge
from gmmrec.ensemble.two_stage import TwoStage
from gmmrec.runs.run import Run, check_same, judge


def rerank(fast: Run | str | Path, slow: Run | str | Path, *, top: int = 200, out: str | Path | None = None) -> Run:
    """Lets one trained run put another's best items in order; see :class:`gmmrec.ensemble.two_stage.TwoStage` for how.

    Args:
        fast: A finished run, or its folder: it scores the whole catalogue.
        slow: Another of the same data set and split: it scores the best ``top`` of those items that a user does not know yet.
        top: Candidates a user. Make it much larger than the lists that are asked for.
        out: Folder for the run, if it is to be kept; it does not need the two runs any more.

    Returns:
        A run whose model is a :class:`~gmmrec.ensemble.two_stage.TwoStage`, evaluated like any other.

    Raises:
        ValueError: The runs are not of the same data and split, one is made of several runs itself, or ``top`` is below 1.
    """
    check_positive(top=top)
    names = [str(run) if not isinstance(run, Run) else name for name, run in (("the fast run", fast), ("the slow run", slow))]
    first, second = (run if isinstance(run, Run) else Run.load(run) for run in (fast, slow))
    check_same(names[0], first, names[1], second)

    graph = merge([first.graph, second.graph])
    model = TwoStage.of(first.model, second.model, graph.schema, top)
    facts = {"runs": names, "models": [model.config.fast.model, model.config.slow.model], "top": top}
    config = {"model_name": "two-stage", **facts, **{section: first.config[section] for section in ("data", "split", "eval")}}
    made = Run(model, graph, first.split, first.vocabularies, first.attributes, config, tokens=first.tokens)
    judge(made, rerank=facts)
    if out is not None:
        made.save(out)
    return made
