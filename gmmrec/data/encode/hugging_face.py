"""Hugging Face image and text encoders, from the hub or a local folder. Code that comes with a model is never run."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.data.encode.regions import regions
from gmmrec.errors import UsageError
from gmmrec.safety.documents import read_json

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_TOKENS = 512
"""Maximum number of tokens of a text."""

Identify = Callable[[nn.Module], str]


class HuggingFaceImages:
    """Vision model, pooled by the mean over its last feature map or patches, or the image features of CLIP-like models.

    The model's pooling layer is not used: transformers initializes it randomly if a checkpoint lacks one.

    Args:
        name: Model on the hub, or a folder.
        identify: Function from the model to a short text that changes with the weights.
        device: Device of the model.
    """

    def __init__(self, name: str, *, identify: Identify, device: torch.device | str = "cpu") -> None:
        self._processor = _load("AutoImageProcessor", name)
        self._model = _load("AutoModel", name).float().eval().to(device)
        self._device = device
        self.name = f"{name}@{identify(self._model)}"

    @torch.no_grad()
    def vectors(self, pictures: "Sequence[Image]") -> Tensor:
        """Return one vector per image ``[B, D]``."""
        pixels = self._pixels(pictures)
        if hasattr(self._model, "get_image_features"):
            return _tensor(self._model.get_image_features(pixel_values=pixels))
        return self._maps(pixels).mean((2, 3))

    @torch.no_grad()
    def regions(self, pictures: "Sequence[Image]", size: int) -> Tensor:
        """Return the last feature map or the patches, average-pooled to a coarser grid ``[B, size * size, D]``."""
        return regions(self._maps(self._pixels(pictures)), size)

    def _pixels(self, pictures: "Sequence[Image]") -> Tensor:
        pixels: Tensor = self._processor(images=list(pictures), return_tensors="pt")["pixel_values"]
        return pixels.to(self._device)

    def _maps(self, pixels: Tensor) -> Tensor:
        """Return the last feature map ``[B, D, H, W]``."""
        tower = getattr(self._model, "vision_model", self._model)
        hidden: Tensor = tower(pixel_values=pixels).last_hidden_state
        if hidden.dim() == 4:
            return hidden
        side = math.isqrt(hidden.shape[1])  # class and register tokens precede the patches, too few for another row and column
        if pixels.shape[-1] != pixels.shape[-2]:
            raise UsageError(f"{self.name} expects images that are not square; use an encoder with square input")
        patches: Tensor = hidden[:, -side * side :].transpose(1, 2).unflatten(2, (side, side))
        return patches


class HuggingFaceTexts:
    """Text model, for unit vectors pooled as in the model's ``1_Pooling`` configuration (mean by default), or token vectors.

    Args:
        name: Model on the hub, or a folder.
        identify: Function from the model to a short text that changes with the weights.
        device: Device of the model.
        label: Name for reports; ``name`` if not given.
    """

    def __init__(self, name: str, *, identify: Identify, device: torch.device | str = "cpu", label: str | None = None) -> None:
        self._tokenizer = _load("AutoTokenizer", name)
        model = _load("AutoModel", name)
        self._model = (model.get_encoder() if model.config.is_encoder_decoder else model).float().eval().to(device)
        self._device = device
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        text_config = model.config.get_text_config()
        self._longest = min(
            self._tokenizer.model_max_length, getattr(text_config, "max_position_embeddings", MAX_TOKENS), MAX_TOKENS
        )
        self._first_token = bool(_pooling(name).get("pooling_mode_cls_token"))
        self.name = f"{label or name}@{identify(self._model)}"

    @torch.no_grad()
    def vectors(self, texts: Sequence[str]) -> Tensor:
        """Return one unit vector per text ``[B, D]``."""
        batch = self._batch(texts, self._longest)
        batch.pop("special_tokens_mask")
        if hasattr(self._model, "get_text_features"):
            return F.normalize(_tensor(self._model.get_text_features(**batch)), dim=-1)
        hidden: Tensor = self._model(**batch).last_hidden_state  # [B, L, D]
        if self._first_token:
            return F.normalize(hidden[:, 0], dim=-1)
        weight = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        return F.normalize((hidden * weight).sum(1), dim=-1)

    @torch.no_grad()
    def tokens(self, texts: Sequence[str], count: int) -> tuple[Tensor, Tensor]:
        """Return the first ``count`` contextual token vectors, without special tokens, and their mask ``[B, count]``."""
        added = self._tokenizer.num_special_tokens_to_add()
        if count + added > self._longest:
            raise UsageError(f"tokens must be at most {self._longest - added} for {self.name}, but is {count}")
        batch = self._batch(texts, count + added)
        is_word = (batch.pop("special_tokens_mask") == 0) & (batch["attention_mask"] == 1)  # [B, L]
        tower = getattr(self._model, "text_model", self._model)
        hidden: Tensor = tower(**batch).last_hidden_state
        first = (~is_word).to(torch.uint8).argsort(dim=1, stable=True)[:, :count]  # words first, in order
        values = hidden.gather(1, first.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))
        mask = is_word.gather(1, first)
        missing = count - mask.shape[1]
        return F.pad(values, (0, 0, 0, missing)), F.pad(mask, (0, missing))

    def pieces(self, texts: Sequence[str], count: int) -> list[list[str]]:
        """Return the word pieces of the vectors of :meth:`tokens`: the first ``count`` of each text."""
        return [self._tokenizer.tokenize(text)[:count] for text in texts]

    def _batch(self, texts: Sequence[str], length: int) -> dict[str, Tensor]:
        batch = self._tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=length,
            return_special_tokens_mask=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        return {name: value.to(self._device) for name, value in batch.items()}


def _load(auto_class: str, name: str) -> Any:
    """Call ``from_pretrained``, and explain a failure in one sentence."""
    try:
        import transformers
    except ImportError:
        raise UsageError(
            f"the encoder {name!r} needs transformers, which is not installed; run: pip install 'gmmrec[encoders]'"
        ) from None
    try:
        return getattr(transformers, auto_class).from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"the encoder {name!r} cannot be loaded by {auto_class} ({reason}); give a vision model for images or a text model "
            "for texts, by its name on the Hugging Face hub or as a local folder, or one of the packaged encoders"
        ) from None


def _pooling(name: str) -> dict[str, Any]:
    """Return the pooling settings of sentence-transformers, empty if the model has none."""
    from transformers.utils import cached_file

    path = cached_file(
        name,
        "1_Pooling/config.json",
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    settings: dict[str, Any] = read_json(Path(path), "download the model again", dict) if path else {}
    return settings


def _tensor(output: Any) -> Tensor:
    """Return features of CLIP-like models: a tensor, or since transformers 5 the pooled part of an output."""
    features: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return features
