"""Parts of a split: strings in files and messages, codes in tensors."""

import json

import pytest
import torch

from gmmrec.data.interactions import Interactions
from gmmrec.data.parts import GIVEN_PARTS, PART_LABELS, SUPPORT, TEST, TRAIN, VALID, SplitPart
from gmmrec.data.split import Split


def log(*items: int) -> Interactions:
    return Interactions(torch.zeros(len(items), dtype=torch.long), torch.tensor(items))


def test_codes_are_those_of_stored_tensors():
    assert [part.code for part in SplitPart] == [TRAIN, VALID, TEST, SUPPORT] == [0, 1, 2, 3]
    assert [part.code for part in GIVEN_PARTS] == [0, 1, 2]


def test_a_part_is_a_plain_string_in_messages_and_files():
    assert f"{SplitPart.TEST}" == str(SplitPart.TEST) == "%s" % SplitPart.TEST == "test"  # noqa: UP031
    assert json.dumps({"part": SplitPart.TEST}) == '{"part": "test"}'
    assert {"test": 1}[SplitPart.TEST] == 1


@pytest.mark.parametrize(
    ("labels", "code"),
    [("train training 0", 0), ("valid validation val tune dev 1", 1), ("test testing 2", 2), ("support 3 holdout", None)],
)
def test_labels_of_public_data_sets(labels, code):
    assert {PART_LABELS.get(label) for label in labels.split()} == {code}


def test_the_part_of_a_split_by_name():
    split = Split(log(1), log(2), log(3), support=log(4))
    assert [split.part(part).item.tolist() for part in SplitPart] == [[1], [2], [3], [4]]
    assert split.part("valid") is split.valid
    with pytest.raises(ValueError, match="part must be one of 'train', 'valid', 'test', 'support', but is 'dev'"):
        split.part("dev")
    with pytest.raises(ValueError, match="this split has no support part"):
        Split(log(1), log(2), log(3)).part(SplitPart.SUPPORT)
