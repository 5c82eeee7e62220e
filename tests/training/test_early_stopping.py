import pytest

from gmmrec.training.early_stopping import EarlyStopping


def test_patience_counts_validations_since_the_best():
    stopping = EarlyStopping(patience=2)
    seen = [
        (stopping.update(value, epoch), stopping.is_exhausted) for epoch, value in enumerate([0.2, 0.1, 0.3, 0.3, 0.29], start=1)
    ]
    assert seen == [(True, False), (False, False), (True, False), (False, False), (False, True)]
    assert (stopping.best_value, stopping.best_epoch) == (0.3, 3)


def test_small_gains_do_not_count():
    stopping = EarlyStopping(patience=3, min_delta=0.05)
    assert [stopping.update(value, 1) for value in (-1.0, -0.96, -0.9)] == [True, False, True]


def test_errors_are_minimised():
    stopping = EarlyStopping(patience=2, min_delta=0.05, mode="min")
    seen = [stopping.update(value, epoch) for epoch, value in enumerate((0.9, 0.86, 0.8, 0.8), start=1)]
    assert seen == [True, False, True, False]
    assert (stopping.best_value, stopping.best_epoch) == (0.8, 3)


def test_not_a_number_is_refused():
    with pytest.raises(ValueError, match="validation value of epoch 4 is not a number"):
        EarlyStopping(patience=3).update(float("nan"), 4)
