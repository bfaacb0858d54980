"""Images and labels, as every source of images gives them."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from jarn_tf.digests import digest_of_arrays


@dataclasses.dataclass(frozen=True)
class Split:
    """Images uint8 [n, height, width, channels] in 0..255 and labels int32 [n]."""

    images: np.ndarray
    labels: np.ndarray

    def first(self, n: int | None) -> Split:
        """The first n examples; all where n is None."""
        return Split(self.images[:n], self.labels[:n])

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def floats(self) -> np.ndarray:
        """The images as float32 in [0, 1]."""
        return self.images.astype(np.float32) / np.float32(255)

    @property
    def digest(self) -> str:
        """SHA-256 of images and labels."""
        return digest_of_arrays(self.images, self.labels)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The last tenth of the training images is the validation split; the test split is apart."""

    train: Split
    validation: Split
    test: Split
    classes: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.train.images.shape[1:]

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the images and labels of all splits."""
        splits = (self.train, self.validation, self.test)
        return digest_of_arrays(*(part for s in splits for part in (s.images, s.labels)))
