"""Settings file of a new case: ``python -m tests.golden.new_case NAME MODEL --data.path shop --train.epochs 3``.

Every setting is written out, from flags and current defaults, so that new defaults do not change recorded rows.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from tests.golden import access
from tests.golden.cases import SETTINGS
from tests.golden.data import write_all

USUAL = (
    *("--data.path", "shop", "--train.epochs", "3", "--train.lr", "0.01", "--train.batch_size", "128"),
    *("--train.accelerator", "cpu", "--train.progress", "false", "--eval.bootstrap", "20", "--eval.ks", "[5, 10, 20]"),
)
"""Default flags of cases: small and quick."""


def write_case(name: str, model: str, arguments: Sequence[str]) -> None:
    """Write ``settings/NAME.yaml``, after a run that yields the model's default monitor."""
    settings = access.full_settings(model, [*USUAL, *arguments])
    with tempfile.TemporaryDirectory() as folder:
        write_all(Path(folder))
        settings = access.watching(settings, access.monitor(access.train(access.at(settings, Path(folder)))))
    text = yaml.safe_dump(settings, sort_keys=False)
    (SETTINGS / f"{name}.yaml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_case(sys.argv[1], sys.argv[2], sys.argv[3:])
