import logging

import pytest
import torch

from gmmrec.training.history import Epoch, History
from gmmrec.training.log import RunLog, TermLog


def test_means_over_the_steps_that_had_the_term():
    log = TermLog(1)
    for step in range(250):  # flushed more than once
        log.add({"a": torch.tensor(float(step)), **({"b": torch.tensor(2.0)} if step < 3 else {})})
    assert log.means() == {"a": 124.5, "b": 2.0}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_term_that_is_not_finite_is_named(bad):
    log = TermLog(7)
    for step in range(1, 200):
        log.add({"a": torch.tensor(1.0), "b": torch.tensor(bad if step >= 130 else 1.0)})
    with pytest.raises(ValueError, match=rf"loss term 'b' is {bad} in step 130 of epoch 7; try"):
        log.add({"a": torch.tensor(1.0)})  # the second flush, long before a large epoch is over


def test_an_epoch_without_steps_or_terms():
    with pytest.raises(ValueError, match="epoch 2 has no batches"):
        TermLog(2).means()
    with pytest.raises(ValueError, match="the loss of step 1 of epoch 2 has no terms"):
        TermLog(2).add({})


def test_the_line_of_an_epoch_names_losses_and_the_metric(caplog):
    with caplog.at_level(logging.INFO), RunLog(None, History("recall@20")) as log:
        log.append(Epoch(1, 2.0, {"bpr": 0.5, "l2": 0.001}))
        log.append(Epoch(2, 2.0, {"bpr": 0.25, "l2": 0.002}, 0.107))
    assert caplog.messages == [
        "epoch 1: loss/bpr 0.5, loss/l2 0.001",
        "epoch 2: loss/bpr 0.25, loss/l2 0.002, val/recall@20 0.107",
    ]
