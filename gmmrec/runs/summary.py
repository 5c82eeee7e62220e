"""Report of a run: results of all its evaluation tasks, and its costs."""

import resource
import sys
from collections.abc import Mapping
from typing import Any

from gmmrec.evaluation.kinds import metric_name
from gmmrec.evaluation.results import Results
from gmmrec.evaluation.settings import EvalConfig
from gmmrec.runs.run import Part, Run
from gmmrec.training.history import History, value_name


def evaluate_run(run: Run, config: EvalConfig | None = None, **facts: Any) -> None:
    """Evaluate a run on all tasks of both parts, and fill in its report, including ``facts``."""
    found_by_part: dict[Part, dict[str, Results]] = {part: run.evaluate_all(part, config) for part in ("valid", "test")}
    for part, taken in found_by_part.items():
        run.main = next(iter(taken))
        for name, found in taken.items():
            (run.results if name == run.main else run.other_results.setdefault(name, {}))[part] = found
    run.report = {
        "model": run.config.model_name,
        "dataset": run.config.data.path,
        "test": all_means(found_by_part["test"]),
        "valid": all_means(found_by_part["valid"]),
        **details(found_by_part["test"]),
        **facts,
    }


def all_means(found: Mapping[str, Results]) -> dict[str, float]:
    """Return the mean of every metric of all evaluation tasks, by its name as ``monitor``."""
    return {metric_name(task, results, metric): mean for task, results in found.items() for metric, mean in results.mean().items()}


def details(found: Mapping[str, Results]) -> dict[str, Any]:
    """Return all other figures of the evaluation tasks: those of the main one, and those of the others by name."""
    (_, main), *others = found.items()
    first = {key: value for key, value in main.to_dict().items() if key != "metrics"}
    return first | {name: results.to_dict() for name, results in others}


def run_costs(history: History, evaluation_seconds: float) -> dict[str, Any]:
    """Return the costs of a run: seconds, and the peak memory of the process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {
        "timing": {
            "seconds_per_epoch": history.seconds_per_epoch,
            "epochs": len(history.epochs),
            "best_epoch": history.best_epoch,
            "evaluation_seconds": evaluation_seconds,
        },
        "best": {"epoch": history.best_epoch, value_name(history.monitor): history.best_value},
        "peak_rss_mib": round(peak, 1),
    }
