"""Files that a training writes."""

from dataclasses import dataclass
from pathlib import Path

from typing_extensions import Self

STATE_FILE = "training_state.safetensors"


@dataclass(frozen=True)
class TrainingFiles:
    """Paths of the files that a training writes.

    Attributes:
        state: Training state.
        history: Table of the epochs.
        board: Folder of TensorBoard.
        digest: Text that a state must carry to be resumed: the run that it belongs to.
    """

    state: Path
    history: Path
    board: Path
    digest: str = ""

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Return the files of a folder under their usual names."""
        return cls(folder / STATE_FILE, folder / "history.csv", folder / "tensorboard")
