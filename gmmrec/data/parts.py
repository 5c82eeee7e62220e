"""Parts of a split: text in settings, tables and files, a code in tensors."""

from enum import Enum

from gmmrec.config import check_choice


class SplitPart(str, Enum):
    """Part of a split that a row of a data set belongs to.

    Parts are strings in settings and files; tensors hold their :attr:`code`.

    >>> SplitPart("valid") is SplitPart.VALID, SplitPart.VALID == "valid", SplitPart.VALID.code, f"{SplitPart.VALID}"
    (True, True, 1, 'valid')
    >>> SplitPart("dev")
    Traceback (most recent call last):
    ...
    gmmrec.errors.UsageError: part must be one of 'train', 'valid', 'test', 'support', but is 'dev'
    """

    TRAIN = "train"
    """Training part; graphs are built from it alone."""
    VALID = "valid"
    """Validation part, for model selection and early stopping."""
    TEST = "test"
    """Test part, for reported results."""
    SUPPORT = "support"
    """History of users who are evaluated but never trained on."""

    @property
    def code(self) -> int:
        """Code used in tensors: 0 train, 1 valid, 2 test, 3 support."""
        return list(SplitPart).index(self)

    def __str__(self) -> str:
        return self.value

    @classmethod
    def _missing_(cls, value: object) -> None:
        check_choice([part.value for part in cls], part=value)


TRAIN, VALID, TEST, SUPPORT = (part.code for part in SplitPart)
"""Codes of the parts, for comparison with tensors of parts."""

GIVEN_PARTS = (SplitPart.TRAIN, SplitPart.VALID, SplitPart.TEST)
"""Parts of every split, which a source may give, in the order of their codes."""

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
"""Part codes by label in lower case, as spelled in public data sets."""
