"""Every kind of exam and who takes it: from a model, a graph and an exam to results."""

from gmmrec.evaluation.choices import evaluate_choices
from gmmrec.evaluation.evaluator import EvalConfig, default_groups, evaluate
from gmmrec.evaluation.links import evaluate_links, link_groups
from gmmrec.evaluation.metrics import ERRORS, LOWER_IS_BETTER, parse_metric
from gmmrec.evaluation.rating import evaluate_ratings, rating_groups
from gmmrec.evaluation.results import Results
from gmmrec.evaluation.sets import evaluate_sets
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.recommender import AnyRecommender
from gmmrec.tasks.questions import Choices, Exam, Links, Mask, Ratings, Sets

RANKING = "ranking"
"""Name of the exam that ranks everything."""


def take_exam(model: AnyRecommender, graph: MultimodalGraph, exam: Exam, config: EvalConfig) -> Results:
    """What a trained model, on the device of its graph, achieves in an exam, with the groups that every report shows."""
    if isinstance(exam, Ratings):
        groups = rating_groups(graph, exam)
        return evaluate_ratings(model, graph, exam, clip=config.clip_ratings, groups=groups, bootstrap=config.bootstrap)
    if isinstance(exam, Choices):
        return evaluate_choices(model, graph, exam, chunk_size=config.chunk_size, bootstrap=config.bootstrap)
    if isinstance(exam, Links):
        groups = link_groups(graph, exam)
        return evaluate_links(model, graph, exam, chunk_size=config.chunk_size, groups=groups, bootstrap=config.bootstrap)
    if isinstance(exam, Sets):
        return evaluate_sets(model, graph, exam, chunk_size=config.chunk_size, bootstrap=config.bootstrap)
    return evaluate(
        model,
        graph,
        exam,
        metrics=config.metrics,
        ks=config.ks,
        groups=default_groups(graph, exam),
        chunk_size=config.chunk_size,
        candidate_chunk=config.candidate_chunk,
        bootstrap=config.bootstrap,
        num_sampled=config.num_sampled,
        sampled_by=config.sampled_by,
    )


def watch(model: AnyRecommender, graph: MultimodalGraph, exam: Exam, monitor: str, config: EvalConfig) -> float:
    """One metric of an exam, higher is better (an error gets a minus sign); nothing else is computed of a ranking.

    Raises:
        ValueError: The exam has no such metric.
    """
    metric = monitor.rpartition("/")[2]
    if not isinstance(exam, Ratings | Choices | Sets | Links):
        name, k = parse_metric(metric)
        return evaluate(model, graph, exam, metrics=(name,), ks=(k,), bootstrap=0).mean()[metric]
    found = take_exam(model, graph, exam, config).mean()
    if metric not in found:
        raise ValueError(f"monitor {monitor!r} names no metric of this exam; it has {', '.join(found)}")
    return -found[metric] if metric in LOWER_IS_BETTER else found[metric]


def exam_of(monitor: str) -> str:
    """The name of the exam that a metric belongs to; a bare name is a metric of the ranking, or an error of ratings.

    Raises:
        ValueError: A bare name is neither.

    >>> exam_of("recall@20"), exam_of("rmse"), exam_of("impressions/auc")
    ('ranking', 'ratings', 'impressions')
    """
    exam, slash, metric = monitor.rpartition("/")
    if slash:
        return exam
    if metric in ERRORS:
        return "ratings"
    parse_metric(metric)
    return RANKING


def mask_of(config: EvalConfig, part: str) -> Mask:
    """What is not ranked in the questions of a part: the validation items cannot be left out of the validation itself."""
    return "train" if part == "valid" and config.mask == "train+valid" else config.mask
