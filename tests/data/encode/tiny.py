"""Small encoders with known results, and images of one colour."""

import hashlib

import numpy as np
import torch
from PIL import Image
from torch import nn


class MeanColour:
    """Encoder by the mean colour of an image or of its regions, which records the batch sizes of its calls."""

    name = "mean-colour"

    def __init__(self, stop_after=None):
        self.calls, self.stop_after = [], stop_after

    def vectors(self, pictures):
        if self.stop_after is not None and len(self.calls) == self.stop_after:
            raise KeyboardInterrupt
        self.calls.append(len(pictures))
        return torch.tensor(np.stack([np.asarray(picture).mean((0, 1)) / 255 for picture in pictures]))

    def regions(self, pictures, size):
        maps = torch.tensor(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2) / 255
        return nn.functional.adaptive_avg_pool2d(maps, size).flatten(2).transpose(1, 2)


class HashWords:
    """Encoder by the mean of word vectors drawn from the words' hashes; words that begin with ``?`` are unknown."""

    name = "hash-words"

    def __init__(self, dim=4):
        self.dim, self.batches = dim, []

    def word(self, word):
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")
        return torch.randn(self.dim, generator=torch.Generator().manual_seed(seed))

    def vectors(self, texts):
        self.batches.append(list(texts))
        return torch.stack([torch.stack([self.word(word) for word in text.split()]).mean(0) for text in texts])

    def tokens(self, texts, count):
        values, mask = torch.full((len(texts), count, self.dim), torch.nan), torch.zeros(len(texts), count, dtype=torch.bool)
        for row, text in enumerate(texts):
            for position, word in enumerate([word for word in text.split() if not word.startswith("?")][:count]):
                values[row, position], mask[row, position] = self.word(word), True
        return values, mask


def two_layer_net(dim=5):
    """Return a small convolutional network whose feature map is a quarter as wide as its input."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, dim, 3, stride=2, padding=1), nn.Dropout(0.9)
    )


def colour(row):
    """Return the colour of a row; all rows have different ones."""
    return (10 + row % 200, 255 - row % 200, (37 * row) % 256)


def save_picture(path, row, *, size=(12, 8), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour(row)).convert(mode).save(path)
    return path
