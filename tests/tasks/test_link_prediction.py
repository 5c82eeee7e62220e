import pytest
import torch

from gmmrec.data.interactions import Interactions
from gmmrec.data.split import Split
from gmmrec.data.triples import Triples
from gmmrec.tasks.inputs import BatchConfig, TaskInputs
from gmmrec.tasks.link_prediction import LinkPredictionTask
from gmmrec.testing import circle, graph_of

NOTHING = Interactions(torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long))
HEAD = torch.tensor([0, 0, 1, 0, 2])
RELATION = torch.tensor([0, 0, 1, 0, 1])
TAIL = torch.tensor([1, 2, 2, 3, 3])
PART = torch.tensor([0, 0, 0, 1, 2])


def task(**settings) -> LinkPredictionTask:
    split = Split(NOTHING, NOTHING, NOTHING, triples=Triples(HEAD, RELATION, TAIL, PART))
    return LinkPredictionTask(TaskInputs(split, 0, 0, BatchConfig(**settings)))


def test_every_training_triple_is_learned_from_both_ends() -> None:
    _, graph = graph_of(circle(4))
    found = [batch for _, batch in task(batch_size=4).batches(graph, torch.Generator().manual_seed(0))]
    assert [len(batch) for batch in found] == [4, 2]
    asked = {
        (head, relation, answer)
        for batch in found
        for head, relation, answer in zip(
            *(x.tolist() for x in (batch.query.head, batch.query.relation, batch.positive)), strict=True
        )
    }
    assert asked == {(0, 0, 1), (0, 0, 2), (1, 1, 2), (1, 2, 0), (2, 2, 0), (2, 3, 1)}  # relation + 2 is the inverse relation


def test_batches_contain_exactly_the_training_answers() -> None:
    _, graph = graph_of(circle(4))
    (batch,) = [batch for _, batch in task(num_negatives=40).batches(graph, torch.Generator().manual_seed(0))]
    (position,) = torch.nonzero((batch.query.head == 0) & (batch.query.relation == 0) & (batch.positive == 2)).flatten().tolist()
    answers = batch.answers[batch.answers[:, 0] == position, 1]
    assert answers.tolist() == [1, 2]  # 3 is a validation answer
    assert set(batch.negative[position].tolist()) == {0, 3}  # never training answers
    assert batch.to("cpu").answers is not None


def test_evaluation_queries_both_ends_and_filters_answers_of_all_parts() -> None:
    links = task().evaluation_tasks("valid")["link_prediction"]
    assert (links.query.head.tolist(), links.query.relation.tolist(), links.answer.tolist()) == ([0, 3], [0, 2], [3, 0])
    assert links.backwards.tolist() == [False, True]
    assert [links.known.take(torch.tensor([i])).values.tolist() for i in (0, 1)] == [[1, 2, 3], [0]]


def test_rankings_exclude_the_answers_of_other_parts() -> None:
    ranking = task().ranking("valid")
    (position,) = torch.nonzero(ranking.query.head == 0).flatten().tolist()
    assert ranking.relevant.take(torch.tensor([position])).values.tolist() == [3]
    assert ranking.excluded.take(torch.tensor([position])).values.tolist() == [1, 2]


def test_unusable_data_are_refused() -> None:
    with pytest.raises(ValueError, match="no training triples"):
        LinkPredictionTask(TaskInputs(Split(NOTHING, NOTHING, NOTHING), 0, 0))
    with pytest.raises(ValueError, match="set sampled: false"):
        task(sampled=True)
    split = Split(NOTHING, NOTHING, NOTHING, triples=Triples(HEAD, RELATION, TAIL, torch.zeros_like(PART)))
    with pytest.raises(ValueError, match="the test part has no triples"):
        LinkPredictionTask(TaskInputs(split, 0, 0)).evaluation_tasks("test")


def test_queries_that_every_entity_answers_are_left_out(caplog) -> None:
    _, graph = graph_of(circle(4))
    head = torch.tensor([0, 0, 0, 0, 1])
    triples = Triples(head, torch.zeros_like(head), torch.tensor([0, 1, 2, 3, 2]), torch.zeros_like(head))
    made = LinkPredictionTask(TaskInputs(Split(NOTHING, NOTHING, NOTHING, triples=triples), 0, 0))
    (batch,) = [batch for _, batch in made.batches(graph, torch.Generator().manual_seed(0))]
    assert len(batch) == 6  # five tails asked for their heads, and one head whose tail is not everything
    assert "4 of the 10 training examples are left out: their queries (0) have all 4 items" in caplog.text
