"""Training loop for every model: sum the loss terms, step, validate, keep the best weights."""

import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from pathlib import Path
from types import FunctionType
from typing import Any, Literal, NoReturn

import torch
from lightning_fabric import Fabric
from torch.optim import Optimizer
from tqdm import tqdm

from gmmrec.abilities import AcceptsParts, offered
from gmmrec.config import MAY_CHANGE, ON_RESUME, check_literals, check_non_negative, check_positive
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.recommender import AnyRecommender
from gmmrec.tasks.query import Batch
from gmmrec.training.early_stopping import EarlyStopping, Mode
from gmmrec.training.files import TrainingFiles
from gmmrec.training.history import Epoch, History
from gmmrec.training.log import RunLog, TermLog, describe
from gmmrec.training.resume import TrainingState, owner_of

__all__ = ["History", "TrainConfig", "Trainer"]

logger = logging.getLogger(__name__)

Batches = Callable[[MultimodalGraph, torch.Generator], Iterable[tuple[MultimodalGraph, Batch[Any]]]]
Validate = Callable[[AnyRecommender], float]
ShouldStop = Callable[[], bool]
"""Function asked after every epoch whether to stop there."""


class TrainingStopped(Exception):
    """A training stopped between two epochs because it was asked to; its state is saved if there are files.

    Attributes:
        epochs: Number of epochs so far.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__(f"training stopped after epoch {epochs}")
        self.epochs = epochs


_FIXED_ON_RESUME = ("lr", "weight_decay", "optimizer", "schedule", "lr_decay", "clip_norm", "evaluate_every", "precision")


@dataclass(frozen=True)
class TrainConfig:
    """Optimization and stopping."""

    lr: float = 1e-3
    """Learning rate."""
    weight_decay: float = 0.0
    """Weight decay of the optimizer: an L2 penalty on all weights for Adam, decoupled for AdamW."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """Optimizer, with PyTorch's default betas and epsilon."""
    schedule: Literal["constant", "cosine", "exponential"] = "constant"
    """Learning rate schedule, by epoch; cosine decays to zero over `epochs`."""
    lr_decay: float = 0.999
    """Factor of the learning rate after every epoch of the exponential schedule."""
    clip_norm: float = 0.0
    """Maximum global gradient norm; 0 for no clipping."""
    epochs: int = field(default=1000, metadata={ON_RESUME: lambda run: run.train.epochs if run.train.schedule == "cosine" else 0})
    """Maximum number of epochs."""
    patience: int = field(default=20, metadata=MAY_CHANGE)
    """Validations without an improvement after which training stops."""
    min_delta: float = field(default=0.0, metadata=MAY_CHANGE)
    """A validation value counts as an improvement only if it beats the best by more than this."""
    evaluate_every: int = 1
    """Epochs between validations; the last epoch is always validated."""
    checkpoint_every: int = field(default=1, metadata=MAY_CHANGE)
    """Epochs between checkpoints of the training state in the run folder; 0 for none."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Precision of the forward pass, in Lightning Fabric's terms; weights stay in 32 bits."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = field(default="auto", metadata=MAY_CHANGE)
    """Device to train on; auto uses a GPU if available."""
    progress: bool = field(default=True, metadata=MAY_CHANGE)
    """Show a progress bar if standard error is a terminal."""

    def __post_init__(self) -> None:
        check_positive(lr=self.lr, lr_decay=self.lr_decay, epochs=self.epochs, patience=self.patience)
        check_positive(evaluate_every=self.evaluate_every)
        check_non_negative(weight_decay=self.weight_decay, clip_norm=self.clip_norm, min_delta=self.min_delta)
        check_non_negative(checkpoint_every=self.checkpoint_every)
        check_literals(self)


class Trainer:
    """Trainer for models of every kind.

    Args:
        config: Optimization and stopping.
    """

    def __init__(self, config: TrainConfig = TrainConfig()) -> None:
        self.config = config
        self.fabric = Fabric(accelerator=config.accelerator, devices=1, precision=config.precision)

    @property
    def device(self) -> torch.device:
        """Device that models are trained on."""
        return self.fabric.device

    def fit(
        self,
        model: AnyRecommender,
        graph: MultimodalGraph,
        batches: Batches,
        validate: Validate | None,
        *,
        generator: torch.Generator,
        monitor: str = "value",
        mode: Mode = "max",
        run_dir: Path | TrainingFiles | None = None,
        resume: bool = False,
        should_stop: ShouldStop | None = None,
    ) -> History:
        """Train a model, and leave it on :attr:`device`, in evaluation mode, with the weights of its best epoch.

        Args:
            model: Model to train; one without trainable weights is only validated.
            graph: Prepared graph. ``begin_epoch`` and ``batches`` receive it on its own device; the graphs they return are moved to
                :attr:`device` (only once, if every epoch uses the same graph).
            batches: Function of the epoch's graph and the generator; yields the graph and the batch of each step.
            validate: Function that returns the validation value of the model, called in evaluation mode without gradients. The
                value is not rounded. None runs all epochs and keeps the last weights.
            generator: Random generator of ``batches`` and ``begin_epoch``. Dropout uses PyTorch's global generator.
            monitor: Name of the validation value in logs and in the history, such as ``"recall@20"``.
            mode: ``"max"`` if a higher validation value is better, ``"min"`` for errors.
            run_dir: Folder for ``history.csv``, the training state and, if TensorBoard is installed, its log; or their paths.
            resume: Resume from the training state in ``run_dir``; bit for bit on a CPU. A run that was stopped before its first
                state begins anew.
            should_stop: Function asked after every epoch; if it returns True, the state is saved and training stops.

        Raises:
            TrainingStopped: ``should_stop`` returned True.
            UsageError: A loss is not finite, an epoch has no batches, or the training state cannot be used.
        """
        self.fabric.to_device(model)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            return History(monitor, best_value=None if validate is None else _validation_value(model, validate))
        state = self._initial_state(model, generator, monitor, mode)
        files = TrainingFiles.of(run_dir) if isinstance(run_dir, Path) else run_dir
        if resume:
            if files is None:
                raise UsageError("resuming needs a run folder, but none was given")
            _restore(state, files)
        elif files is not None:
            files.state.unlink(missing_ok=True)  # left by an older run, which must not be resumed
        state.owner = "" if files is None else files.digest
        history, mover = state.history, _GraphMover(self.device)
        with RunLog(files, history) as log, self._progress_bar() as bar:
            while len(history.epochs) < self.config.epochs and not state.stopping.is_exhausted:
                number = len(history.epochs) + 1
                bar.set_description(f"epoch {number}", refresh=False)
                started = time.perf_counter()
                with torch.no_grad():
                    epoch_graph = model.begin_epoch(graph, generator)
                terms = self._steps(model, state.optimizer, batches(epoch_graph, generator), number, mover, bar)
                seconds = time.perf_counter() - started
                value = None
                if validate is not None and (number % self.config.evaluate_every == 0 or number == self.config.epochs):
                    value = _validation_value(model, validate)
                    if state.stopping.update(value, number):
                        state.best = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
                history.epochs.append(Epoch(number, seconds, terms, value))
                log.append(history.epochs[-1])
                bar.set_postfix_str(describe(history.epochs[-1], monitor), refresh=False)
                stopping = should_stop is not None and should_stop()
                due = self.config.checkpoint_every and number % self.config.checkpoint_every == 0
                if files is not None and (stopping or due):
                    state.save(files.state)
                if stopping:
                    raise TrainingStopped(number)
        if state.best:
            model.load_state_dict(state.best)
        model.eval()
        history.best_epoch = state.stopping.best_epoch or len(history.epochs)
        history.best_value, history.stopped_early = state.stopping.best_value, state.stopping.is_exhausted
        return history

    def _steps(
        self,
        model: AnyRecommender,
        optimizer: Optimizer,
        batches: Iterable[tuple[MultimodalGraph, Batch[Any]]],
        number: int,
        mover: "_GraphMover",
        bar: "tqdm[NoReturn]",
    ) -> dict[str, float]:
        """Run one pass over the batches and return the mean of each loss term."""
        for group in optimizer.param_groups:
            group["lr"] = self._lr(number)
        log = TermLog(number)
        model.train()
        for graph, batch in batches:
            optimizer.zero_grad(set_to_none=True)
            # Call the model directly: a Fabric module around it would traverse graph and batch at every step.
            with self.fabric.autocast():
                terms = model.loss(mover.to_device(graph), batch.to(self.device))
            log.add(terms)
            self.fabric.backward(reduce(add, terms.values()))
            if self.config.clip_norm:
                self.fabric.clip_gradients(model, optimizer, max_norm=self.config.clip_norm, error_if_nonfinite=False)
            self.fabric.strategy.optimizer_step(optimizer)  # unscales gradients in half precision
            bar.update()
        return log.means()

    def _initial_state(self, model: AnyRecommender, generator: torch.Generator, monitor: str, mode: Mode) -> TrainingState:
        config = self.config
        optimizer_class = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
        weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
        # One fused kernel for all weights. It cannot clip scaled gradients, so half precision does without.
        fused = config.precision != "16-mixed" and self.device.type in ("cpu", "cuda")
        optimizer = optimizer_class(weights, lr=config.lr, weight_decay=config.weight_decay, fused=fused)
        settings: dict[str, Any] = {"model": type(model).__name__, "model_settings": repr(model.config)}
        own = offered(model, AcceptsParts)
        if own is not None and own.custom_parts:
            settings["parts"] = {
                role: part.__qualname__ if isinstance(part, type | FunctionType) else "" for role, part in own.custom_parts.items()
            }
        settings |= {"monitor": monitor, "mode": mode}
        settings |= {name: getattr(config, name) for name in _FIXED_ON_RESUME}
        if config.schedule == "cosine":
            settings["epochs"] = config.epochs
        stopping = EarlyStopping(config.patience, config.min_delta, mode)
        precision = self.fabric.strategy.precision
        return TrainingState(model, optimizer, precision, generator, stopping, settings, History(monitor))

    def _lr(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 1. It depends on the number alone, so no scheduler state is saved."""
        if self.config.schedule == "cosine":
            return self.config.lr * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / self.config.epochs))
        return self.config.lr * (self.config.lr_decay ** (epoch - 1) if self.config.schedule == "exponential" else 1.0)

    def _progress_bar(self) -> "tqdm[NoReturn]":
        return tqdm(unit=" steps", disable=None if self.config.progress else True, leave=False)


def _restore(state: TrainingState, files: TrainingFiles) -> None:
    """Load the state of the run; a state that is missing, or of another run in the folder, means that this one has none yet."""
    if files.digest and owner_of(files.state) != files.digest:
        logger.warning("no epoch of this run was saved; it begins anew")
        return
    state.load(files.state)


class _GraphMover:
    """Cache of graphs on a device; a graph requested repeatedly is moved once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._last: tuple[MultimodalGraph, MultimodalGraph] | None = None

    def to_device(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Return the graph on the device; the graph itself if it is already there."""
        if self._last is None or self._last[0] is not graph:
            on_device = graph.degree(graph.data.node_types[0]).device == self._device
            self._last = graph, graph if on_device else graph.to(self._device)
        return self._last[1]


def _validation_value(model: AnyRecommender, validate: Validate) -> float:
    model.eval()
    with torch.no_grad():
        return float(validate(model))
