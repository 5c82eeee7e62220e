from gmmrec.ensemble.blend import Blend
from gmmrec.models import MODELS
from gmmrec.tasks import TASKS


def test_every_query_that_a_model_answers_has_a_task() -> None:
    assert {model.query_type for model in (*MODELS.values(), Blend)} <= set(TASKS)
