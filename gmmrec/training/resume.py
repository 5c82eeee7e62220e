"""Training state: one file, written atomically, from which a killed run resumes as if it had never stopped.

The file is plain safetensors, with JSON in its header; reading it runs no code.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gmmrec.errors import UsageError
from gmmrec.safety.tensors import header_json, read_header, read_tensors
from gmmrec.safety.types import check_fields
from gmmrec.storage.atomic import checksum, write_tensors
from gmmrec.training.early_stopping import EarlyStopping
from gmmrec.training.history import Epoch, History

REMEDY = "start over without resuming"
_FORMAT = "gmmrec training state 3"


class HasState(Protocol):
    """A loss scaler for half precision, with a small state of plain numbers."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a state."""


@dataclass
class TrainingState:
    """Complete state of a training between two epochs.

    Attributes:
        model: Weights, and the device they are on.
        optimizer: Moments and step counts.
        precision: State of loss scaling, if any.
        generator: Source of batch order, negatives and dropped edges.
        stopping: Best value and remaining patience.
        settings: Settings that must not change on resuming: name and settings of the model, monitor, settings of the steps.
        history: Epochs so far.
        best: Weights of the best epoch so far; empty before the first validation.
        owner: Run that the state belongs to.
    """

    model: nn.Module
    optimizer: Optimizer
    precision: HasState
    generator: torch.Generator
    stopping: EarlyStopping
    settings: Mapping[str, Any]
    history: History = field(default_factory=History)
    best: dict[str, Tensor] = field(default_factory=dict)
    owner: str = ""

    def save(self, path: Path) -> None:
        """Write the state whole or not at all, with a checksum."""
        groups: dict[str, Mapping[str, Tensor]] = {
            "model": self.model.state_dict(),
            "best": self.best,
            "random": _random_states(self.generator, _device(self.model)),
            "optimizer": {
                f"{index}.{name}": value
                for index, state in self.optimizer.state_dict()["state"].items()
                for name, value in state.items()
            },
        }
        tensors = {f"{group}/{name}": value for group, named in groups.items() for name, value in named.items()}
        header = {
            "settings": self.settings,
            "precision": self.precision.state_dict(),
            "stopping": asdict(self.stopping),
            "epochs": [asdict(epoch) for epoch in self.history.epochs],
        }
        plain, state = unshared(tensors), json.dumps(header)
        about = {"format": _FORMAT, "owner": self.owner, "state": state, "checksum": checksum(plain, self.owner + state)}
        write_tensors(path, plain, about)

    def load(self, path: Path) -> None:
        """Restore the state from a file, including torch's global random state.

        Raises:
            UsageError: The file is missing or damaged, or belongs to another model, other data or other settings.
        """
        groups, header = _read(path)
        _check_settings(path, header["settings"], json.loads(json.dumps(self.settings)))
        _check_shapes(path, groups["model"], self.model.state_dict())
        if groups["best"]:
            _check_shapes(path, groups["best"], self.model.state_dict())
        self.model.load_state_dict(groups["model"])
        device = _device(self.model)
        self.best = {name: value.to(device) for name, value in groups["best"].items()}
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in groups["optimizer"].items():
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = value
        _check_moments(path, state, self.optimizer)
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        if header["precision"]:
            self.precision.load_state_dict(header["precision"])
        patience, min_delta = self.stopping.patience, self.stopping.min_delta  # may change on resuming
        self.stopping = EarlyStopping(**{**header["stopping"], "patience": patience, "min_delta": min_delta})
        self.history.epochs[:] = [Epoch(**epoch) for epoch in header["epochs"]]
        try:
            _restore_random_states(groups["random"], self.generator, device)
        except (KeyError, TypeError, RuntimeError) as error:
            raise UsageError(f"the training state {path} is damaged (its random states: {error}); {REMEDY}") from None


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _random_states(generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
    states = {"generator": generator.get_state(), "cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _restore_random_states(states: Mapping[str, Tensor], generator: torch.Generator, device: torch.device) -> None:
    generator.set_state(states["generator"])
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, contiguous; of two that share memory (tied weights), the second is copied, as safetensors requires."""
    seen: set[int] = set()
    result = {}
    for name, value in tensors.items():
        address = value.untyped_storage().data_ptr()
        result[name] = value.detach().clone() if address in seen else value.detach().contiguous()
        seen.add(address)
    return result


def _read(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    if not path.is_file():
        raise UsageError(f"there is no training state {path} to resume from; start the run without resuming")
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "random": {}, "optimizer": {}}
    tensors, metadata = read_tensors(path, "a training state", REMEDY)
    if metadata.get("format") != _FORMAT:
        raise UsageError(f"{path} is not a training state of this version of gmmrec; {REMEDY}")
    if metadata.get("checksum") != checksum(tensors, metadata.get("owner", "") + metadata.get("state", "")):
        raise UsageError(f"the training state {path} is damaged: its content is not what was written; {REMEDY}")
    header = header_json(metadata, "state", path, REMEDY)
    kinds = {"settings": dict, "precision": dict, "stopping": dict, "epochs": list}
    if not all(isinstance(header.get(name), kind) for name, kind in kinds.items()):
        raise UsageError(f"the training state {path} is damaged (its header lacks {', '.join(kinds)}); {REMEDY}")
    check_fields(EarlyStopping, header["stopping"], f"the training state {path}")
    for epoch in header["epochs"]:
        check_fields(Epoch, epoch, f"the training state {path}")
    for key, tensor in tensors.items():
        group, _, name = key.partition("/")
        number, _, rest = name.partition(".")
        if group not in groups or (group == "optimizer" and not (number.isdecimal() and len(number) < 9 and rest)):
            raise UsageError(f"the training state {path} is damaged (it holds the unknown {key[:60]!r}); {REMEDY}")
        groups[group][name] = tensor
    return groups, header


def owner_of(path: Path) -> str | None:
    """Return the run that a training state belongs to; None if there is no state.

    Raises:
        UsageError: The file is damaged.
    """
    return None if (metadata := _metadata(path)) is None else metadata.get("owner", "")


def epochs_of(path: Path) -> int | None:
    """Return the number of epochs in a training state; None if there is no state.

    Raises:
        UsageError: The file is damaged.
    """
    if (metadata := _metadata(path)) is None:
        return None
    epochs = header_json(metadata, "state", path, REMEDY).get("epochs")
    if not isinstance(epochs, list):
        raise UsageError(f"the training state {path} is damaged (it has no list of epochs); {REMEDY}")
    return len(epochs)


def _metadata(path: Path) -> dict[str, str] | None:
    if not path.is_file():
        return None
    return read_header(path, "a training state", REMEDY)


def _check_settings(path: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    for name in dict.fromkeys((*expected, *found)):
        if found.get(name) != expected.get(name):
            raise UsageError(
                f"the training state {path} was written with {name} = {found.get(name)}, but {name} is {expected.get(name)} now; "
                "use the same settings, or start over without resuming"
            )


def _check_moments(path: Path, state: Mapping[int, Mapping[str, Tensor]], optimizer: Optimizer) -> None:
    """Refuse moments of parameters that do not exist, or of another shape than theirs."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, named in state.items():
        for name, value in named.items():
            if index >= len(parameters) or (value.dim() and value.shape != parameters[index].shape):
                raise UsageError(
                    f"the training state {path} is damaged ({name[:40]!r} of parameter {index} has no place); {REMEDY}"
                )


def _check_shapes(path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    for name in dict.fromkeys((*expected, *found)):
        shapes = [tuple(side[name].shape) if name in side else "missing" for side in (found, expected)]
        if shapes[0] != shapes[1]:
            raise UsageError(
                f"the training state {path} belongs to other data or another model: weight {name!r} is {shapes[0]} there, "
                f"but {shapes[1]} here; start over without resuming"
            )
