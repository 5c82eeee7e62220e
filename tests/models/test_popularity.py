import torch

from gmmrec.data.dataset import Dataset
from gmmrec.data.interactions import Interactions
from gmmrec.data.split import Split
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.graph.build import build_graph
from gmmrec.models.popularity import Popularity
from gmmrec.tasks.query import Batch, UserQuery


def model_and_encoded() -> tuple[Popularity, dict[str, torch.Tensor]]:
    train = Interactions(torch.tensor([0, 1, 2, 0, 1]), torch.tensor([1, 1, 1, 3, 0]))
    held_out = Interactions(torch.tensor([2, 0]), torch.tensor([2, 2]))
    vocabularies = {"user": Vocabulary(range(3), name="user"), "item": Vocabulary(range(4))}
    graph = build_graph(Dataset("five", vocabularies, train), Split(train, held_out, held_out))
    model = Popularity(graph.schema)
    return model, model.encode(graph)


def test_score_is_the_number_of_training_interactions() -> None:
    model, encoded = model_and_encoded()
    scores = model.score(encoded, UserQuery(torch.tensor([2, 0])), torch.arange(4))
    assert scores.tolist() == [[1, 3, 0, 1], [1, 3, 0, 1]]  # the two held-out interactions with item 2 do not count


def test_candidates_may_differ_by_query() -> None:
    model, encoded = model_and_encoded()
    scores = model.score(encoded, UserQuery(torch.tensor([0, 1])), torch.tensor([[1, 2], [3, 1]]))
    assert scores.tolist() == [[3, 0], [1, 3]]


def test_there_is_nothing_to_train() -> None:
    model, _ = model_and_encoded()
    assert list(model.parameters()) == []
    batch = Batch(UserQuery(torch.tensor([0])), torch.tensor([1]), torch.tensor([[2]]))
    assert model.loss(None, batch) == {}  # type: ignore[arg-type]
