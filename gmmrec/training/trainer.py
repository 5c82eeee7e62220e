"""The training loop, which knows no model: it adds up the terms of a loss, steps, and keeps the best weights."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
from lightning_fabric import Fabric
from torch.optim import Optimizer
from tqdm import tqdm

from gmmrec.config import check_literals, check_non_negative, check_positive
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.recommender import AnyRecommender
from gmmrec.tasks.query import Batch
from gmmrec.training.early_stopping import EarlyStopping
from gmmrec.training.history import Epoch, History
from gmmrec.training.log import RunLog, TermLog, describe
from gmmrec.training.resume import STATE_FILE, TrainingState

__all__ = ["History", "TrainConfig", "Trainer"]

Batches = Callable[[MultimodalGraph, torch.Generator], Iterable[tuple[MultimodalGraph, Batch[Any]]]]
Validate = Callable[[AnyRecommender], float]

_STEERING = ("lr", "weight_decay", "optimizer", "schedule", "lr_decay", "clip_norm", "evaluate_every", "precision")  # of every step


@dataclass(frozen=True)
class TrainConfig:
    """How steps are taken, and when to stop."""

    lr: float = 1e-3
    """Learning rate."""
    weight_decay: float = 0.0
    """Weight decay of the optimizer: an L2 term on all weights for Adam, decoupled for AdamW."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """Adam or AdamW, with PyTorch's defaults."""
    schedule: Literal["constant", "cosine", "exponential"] = "constant"
    """How the learning rate changes from epoch to epoch; cosine falls to zero over `epochs`."""
    lr_decay: float = 0.999
    """What the learning rate is multiplied by after every epoch of the exponential schedule."""
    clip_norm: float = 0.0
    """Longest gradient (of all weights together); 0 for no limit."""
    epochs: int = 1000
    """Epochs at most."""
    patience: int = 20
    """Validations without an improvement after which training stops."""
    min_delta: float = 0.0
    """A validation value must exceed the best one by more than this to count as an improvement."""
    evaluate_every: int = 1
    """Epochs between two validations; the last epoch is always validated."""
    checkpoint_every: int = 1
    """Epochs between two writings of the training state to the run's folder; 0 for never."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Number format of the forward pass, as Lightning Fabric names it; weights are kept in 32 bits."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    progress: bool = True
    """Show a progress bar, if standard error is a terminal."""

    def __post_init__(self) -> None:
        check_positive(lr=self.lr, lr_decay=self.lr_decay, epochs=self.epochs, patience=self.patience)
        check_positive(evaluate_every=self.evaluate_every)
        check_non_negative(weight_decay=self.weight_decay, clip_norm=self.clip_norm, min_delta=self.min_delta)
        check_non_negative(checkpoint_every=self.checkpoint_every)
        check_literals(self)


class Trainer:
    """Fits models of any kind.

    Args:
        config: How steps are taken, and when to stop.
    """

    def __init__(self, config: TrainConfig = TrainConfig()) -> None:
        self.config = config
        self.fabric = Fabric(accelerator=config.accelerator, devices=1, precision=config.precision)

    @property
    def device(self) -> torch.device:
        """Where models are trained."""
        return self.fabric.device

    def fit(
        self,
        model: AnyRecommender,
        graph: MultimodalGraph,
        batches: Batches,
        validate: Validate | None,
        *,
        generator: torch.Generator,
        run_dir: Path | None = None,
        resume: bool = False,
    ) -> History:
        """Trains a model; it is left on :attr:`device`, in evaluation mode, with the weights of its best epoch.

        Args:
            model: A model without trainable weights is only validated.
            graph: The prepared graph. It is handed to ``begin_epoch`` and ``batches`` where it lies; what those return is moved to
                :attr:`device` (and moved once only, if it is the same graph in all epochs).
            batches: From the graph of the epoch and the generator to the epoch's steps: the graph of each, and its batch.
            validate: The value to watch, taken in evaluation mode without gradients and used as it is, not rounded; higher is
                better. Where it is None, all epochs are run and the last weights are kept.
            generator: Source of all draws of ``batches`` and ``begin_epoch``. Dropout draws from PyTorch's own generator.
            run_dir: Folder for ``history.csv``, the training state and, where TensorBoard is installed, its log.
            resume: Go on from the training state in ``run_dir``, bit for bit on a CPU.

        Raises:
            ValueError: A loss is not finite, an epoch has no batch, or the state to resume from cannot be used.
        """
        self.fabric.to_device(model)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            return History(best_value=None if validate is None else _look(model, validate))
        state = self._start(model, generator)
        state_file = None if run_dir is None else run_dir / STATE_FILE
        if resume:
            if state_file is None:
                raise ValueError("resuming needs a run folder, but none was given")
            state.load(state_file)
        elif state_file is not None:
            state_file.unlink(missing_ok=True)  # of an older run, which must not be gone on with
        history, place = state.history, _Placement(self.device)
        with RunLog(run_dir, history) as log, self._progress_bar() as bar:
            while len(history.epochs) < self.config.epochs and not state.stopping.is_exhausted:
                number = len(history.epochs) + 1
                bar.set_description(f"epoch {number}", refresh=False)
                begin = time.perf_counter()
                with torch.no_grad():
                    epoch_graph = model.begin_epoch(graph, generator)
                terms = self._steps(model, state.optimizer, batches(epoch_graph, generator), number, place, bar)
                seconds = time.perf_counter() - begin
                value = None
                if validate is not None and (number % self.config.evaluate_every == 0 or number == self.config.epochs):
                    value = _look(model, validate)
                    if state.stopping.update(value, number):
                        state.best = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
                history.epochs.append(Epoch(number, seconds, terms, value))
                log.append(history.epochs[-1])
                bar.set_postfix_str(describe(history.epochs[-1]), refresh=False)
                if state_file is not None and self.config.checkpoint_every and number % self.config.checkpoint_every == 0:
                    state.save(state_file)
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
        place: "_Placement",
        bar: "tqdm[NoReturn]",
    ) -> dict[str, float]:
        """One pass over the batches; the mean of every loss term."""
        for group in optimizer.param_groups:
            group["lr"] = self._lr(number)
        log = TermLog(number)
        model.train()
        for graph, batch in batches:
            optimizer.zero_grad(set_to_none=True)
            # The model itself is called, not a Fabric module around it: that would walk through graph and batch at every step.
            with self.fabric.autocast():
                terms = model.loss(place.graph(graph), batch.to(self.device))
            log.add(terms)
            self.fabric.backward(reduce(add, terms.values()))
            if self.config.clip_norm:
                self.fabric.clip_gradients(model, optimizer, max_norm=self.config.clip_norm, error_if_nonfinite=False)
            self.fabric.strategy.optimizer_step(optimizer)  # also scales back, in half precision
            bar.update()
        return log.means()

    def _start(self, model: AnyRecommender, generator: torch.Generator) -> TrainingState:
        config = self.config
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
        weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
        # One fused kernel for all weights; it cannot clip gradients that are scaled, so half precision does without.
        fused = config.precision != "16-mixed" and self.device.type in ("cpu", "cuda")
        optimizer = kind(weights, lr=config.lr, weight_decay=config.weight_decay, fused=fused)
        settings: dict[str, Any] = {"model": type(model).__name__, "model_settings": repr(model.config)}
        settings |= {name: getattr(config, name) for name in _STEERING}
        if config.schedule == "cosine":
            settings["epochs"] = config.epochs
        stopping = EarlyStopping(config.patience, config.min_delta)
        return TrainingState(model, optimizer, self.fabric.strategy.precision, generator, stopping, settings)

    def _lr(self, epoch: int) -> float:
        """Learning rate of an epoch, from 1; a function of the number alone, so that there is nothing to save."""
        if self.config.schedule == "cosine":
            return self.config.lr * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / self.config.epochs))
        return self.config.lr * (self.config.lr_decay ** (epoch - 1) if self.config.schedule == "exponential" else 1.0)

    def _progress_bar(self) -> "tqdm[NoReturn]":
        return tqdm(unit=" steps", disable=None if self.config.progress else True, leave=False)


class _Placement:
    """Moves graphs to a device; one that is asked for again and again is moved once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._last: tuple[MultimodalGraph, MultimodalGraph] | None = None

    def graph(self, graph: MultimodalGraph) -> MultimodalGraph:
        """The graph on the device: itself, if it is there."""
        if self._last is None or self._last[0] is not graph:
            is_there = graph.degree(graph.data.node_types[0]).device == self._device
            self._last = graph, graph if is_there else graph.to(self._device)
        return self._last[1]


def _look(model: AnyRecommender, validate: Validate) -> float:
    model.eval()
    with torch.no_grad():
        return float(validate(model))
