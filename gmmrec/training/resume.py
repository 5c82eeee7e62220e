"""The whole training state in one file, written atomically: a killed run goes on as if it had not been.

Tensors and, in the header, JSON: the file is a plain safetensors file, and reading it runs no code.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from gmmrec.training.early_stopping import EarlyStopping
from gmmrec.training.history import Epoch, History

STATE_FILE = "training_state.safetensors"
_FORMAT = "gmmrec training state 1"


class HasState(Protocol):
    """What scales losses in half precision, and has a small state of plain numbers."""

    def state_dict(self) -> dict[str, Any]:
        """The state."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes a state over."""


@dataclass
class TrainingState:
    """Everything a run is made of between two epochs.

    Attributes:
        model: Its weights, and the device it is on.
        optimizer: Moments and step counts.
        precision: The state of loss scaling, where there is any.
        generator: Source of the order of the batches, of negatives and of dropped edges.
        stopping: The best value and the patience left.
        settings: What must be the same for a run to go on: name and settings of the model, settings that steer the steps.
        history: The epochs so far.
        best: The weights of the best epoch so far; empty before the first look.
    """

    model: nn.Module
    optimizer: Optimizer
    precision: HasState
    generator: torch.Generator
    stopping: EarlyStopping
    settings: Mapping[str, Any]
    history: History = field(default_factory=History)
    best: dict[str, Tensor] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Writes the state to a temporary file beside ``path``, forces it to disk and puts it in place in one step."""
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
        rest = {
            "settings": self.settings,
            "precision": self.precision.state_dict(),
            "stopping": asdict(self.stopping),
            "epochs": [asdict(epoch) for epoch in self.history.epochs],
        }
        partial = path.with_name(path.name + ".partial")
        save_file(unshared(tensors), partial, metadata={"format": _FORMAT, "state": json.dumps(rest)})
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)

    def load(self, path: Path) -> None:
        """Takes the state of a file over, the global random state of torch included.

        Raises:
            ValueError: The file is missing or damaged, or is the state of another model, other data or other settings.
        """
        groups, rest = _read(path)
        _check_settings(path, rest["settings"], json.loads(json.dumps(self.settings)))
        _check_shapes(path, groups["model"], self.model.state_dict())
        self.model.load_state_dict(groups["model"])
        device = _device(self.model)
        self.best = {name: value.to(device) for name, value in groups["best"].items()}
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in groups["optimizer"].items():
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        if rest["precision"]:
            self.precision.load_state_dict(rest["precision"])
        patience, min_delta = self.stopping.patience, self.stopping.min_delta  # these may be changed when going on
        self.stopping = EarlyStopping(**{**rest["stopping"], "patience": patience, "min_delta": min_delta})
        self.history.epochs[:] = [Epoch(**epoch) for epoch in rest["epochs"]]
        _restore_random_states(groups["random"], self.generator, device)


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
    """The same tensors, contiguous; where two share memory (tied weights), the second is a copy, as the file format demands."""
    seen: set[int] = set()
    result = {}
    for name, value in tensors.items():
        place = value.untyped_storage().data_ptr()
        result[name] = value.detach().clone() if place in seen else value.detach().contiguous()
        seen.add(place)
    return result


def _read(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    if not path.is_file():
        raise ValueError(f"there is no training state {path} to go on from; train without resuming first")
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "random": {}, "optimizer": {}}
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise ValueError(f"{path} is not a training state of this version of gmmrec; train anew without resuming")
            for key in file.keys():  # noqa: SIM118 (not a dictionary)
                group, name = key.split("/", 1)
                groups[group][name] = file.get_tensor(key)
        return groups, json.loads(metadata["state"])
    except (SafetensorError, OSError) as error:
        raise ValueError(f"the training state {path} is damaged ({error}); train anew without resuming") from None


def _check_settings(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name in dict.fromkeys((*wanted, *found)):
        if found.get(name) != wanted.get(name):
            raise ValueError(
                f"the training state {path} was written with {name} = {found.get(name)}, but {name} is {wanted.get(name)} now; "
                "use the same settings, or train anew without resuming"
            )


def _check_shapes(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    for name in dict.fromkeys((*wanted, *found)):
        shapes = [tuple(side[name].shape) if name in side else "missing" for side in (found, wanted)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"the training state {path} is of other data or of another model: weight {name!r} is {shapes[0]} there, "
                f"but {shapes[1]} here; train anew without resuming"
            )
