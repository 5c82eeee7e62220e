"""Parts of a split: text in settings, tables and files, a code in tensors."""

from enum import Enum

from gmmrec.config import check_choice


class SplitPart(str, Enum):
    """What a row of a data set is used for.

    A part is text wherever people read or write it; tensors hold its :attr:`code`.

    >>> SplitPart("valid") is SplitPart.VALID, SplitPart.VALID == "valid", SplitPart.VALID.code, f"{SplitPart.VALID}"
    (True, True, 1, 'valid')
    >>> SplitPart("dev")
    Traceback (most recent call last):
    ...
    ValueError: part must be one of 'train', 'valid', 'test', 'support', but is 'dev'
    """

    TRAIN = "train"
    """Trains models; graphs are built from it alone."""
    VALID = "valid"
    """Selects models and decides when training stops."""
    TEST = "test"
    """Results are reported on it."""
    SUPPORT = "support"
    """Known history of users who are evaluated but never trained on."""

    @property
    def code(self) -> int:
        """Position in the order of declaration, as tensors hold it: 0 train, 1 valid, 2 test, 3 support."""
        return list(SplitPart).index(self)

    def __str__(self) -> str:
        return self.value

    @classmethod
    def _missing_(cls, value: object) -> None:
        check_choice([part.value for part in cls], part=value)


TRAIN, VALID, TEST, SUPPORT = (part.code for part in SplitPart)
"""Codes of the parts, for comparison with tensors of parts."""

GIVEN_PARTS = (SplitPart.TRAIN, SplitPart.VALID, SplitPart.TEST)
"""Parts that every split has and that a source may give, in the order of their codes."""

PART_LABELS: dict[str, int] = {
    **{part.value: part.code for part in GIVEN_PARTS},
    **{str(part.code): part.code for part in GIVEN_PARTS},
    "training": TRAIN,
    "validation": VALID,
    "val": VALID,
    "tune": VALID,
    "dev": VALID,
    "testing": TEST,
}
"""Code by label, in lower case, as public data sets spell the parts."""
